"""Options of ``ggufrope eval``: lists of lengths, depths and types, task options, and what they make together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ggufrope.cli._option_groups import option_group
from ggufrope.errors import UsageError
from ggufrope.text import did_you_mean

if TYPE_CHECKING:
    from ggufrope.evals.grid import Order

__all__ = ["eval_options", "make_order"]

_FILE = click.Path(path_type=Path)
#: Options that are files and belong to the task: ``--data F`` is ``--set data=F``.
_TASK_FILES = {
    "data": "Data of the task: lost-in-the-middle's files and such, for kv-retrieval, mdqa, ruler-qa.",
    "haystack": "UTF-8 text to hide needles in; default: generated sentences.",
    "wording": "JSON file with other wordings of needles and questions.",
    "text": "UTF-8 text to evaluate, for ppl and kl.",
}


def eval_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add every option to a command."""
    for option in reversed(_declared()):
        command = option(command)
    return command


def _declared() -> list[Callable[[Any], Any]]:
    return [*_task_options(), *_grid_options(), *_prompt_options()]


def _task_options() -> list[Callable[[Any], Any]]:
    option = option_group("Task")
    return [
        option("--task", metavar="NAME", help="The task to run; required. --list-tasks shows all."),
        option("--list-tasks", is_flag=True, help="Show the tasks with their own options, and do nothing else."),
        option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="One of the task's own options."),
        *(option(f"--{name}", type=_FILE, metavar="FILE", help=text) for name, text in _TASK_FILES.items()),
        option("--baseline", type=_FILE, metavar="FILE", help="The model that kl compares with, with an f16 KV cache."),
    ]


def _grid_options() -> list[Callable[[Any], Any]]:
    option = option_group("Grid")
    return [
        option(
            "--lengths",
            metavar="N,N,...",
            help="Lengths of the prompts in tokens; default: the smallest of the files' contexts.",
        ),
        option(
            "--depths",
            metavar="D,D,...",
            help="Positions of the answer in the prompt, from 0 (start) to 1 (end); default: nine, evenly spaced.",
        ),
        option(
            "--kv-type",
            metavar="T,T,...",
            default="f16",
            show_default=True,
            help="Types of the KV cache: f32, f16, q8_0, q4_0.",
        ),
        option("--limit", type=int, default=20, show_default=True, metavar="N", help="Samples in each cell."),
        option("--seed", type=int, default=0, show_default=True, metavar="N", help="Random seed."),
        option("--beyond-context", is_flag=True, help="Allow lengths beyond a file's context."),
    ]


def _prompt_options() -> list[Callable[[Any], Any]]:
    option = option_group("Prompts and threads")
    return [
        option(
            "--chat-template",
            metavar="FILE|default",
            help="Chat template for every prompt; 'default': the model's own, which it must have. Without this option: "
            "the model's own, if it has one.",
        ),
        option("--no-chat-template", is_flag=True, help="Use no chat template."),
        option("--threads", type=int, metavar="N", help="CPU threads; default: as many as there are cores."),
    ]


def make_order(files: tuple[Path, ...], options: dict[str, Any]) -> Order:
    """The order that the options ask for.

    Raises:
        UsageError: a list that is none, an option that is given twice, no task.
    """
    from ggufrope.evals.grid import Order
    from ggufrope.inference.kv_types import KV_TYPES

    if not options["task"]:
        raise UsageError("no task given: --task NAME; --list-tasks shows all")
    return Order(
        files=files,
        task=options["task"],
        settings=_settings(options),
        lengths=_numbers("--lengths", options["lengths"], int, "whole numbers"),
        depths=_numbers("--depths", options["depths"], float, "numbers"),
        kv_types=_names("--kv-type", options["kv_type"], KV_TYPES),
        chat_template=_template(options),
        **{name: options[name] for name in ("limit", "seed", "threads", "baseline", "beyond_context")},
    )


def _settings(options: dict[str, Any]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for text in options["settings"]:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"--set {text}: not NAME=VALUE")
        if name in settings:
            raise UsageError(f"--set {name}: given twice")
        settings[name] = value
    for name in _TASK_FILES:
        if options[name] is not None:
            if name in settings:
                raise UsageError(f"--{name}: was also given with --set; give it once")
            settings[name] = options[name]
    return settings


def _template(options: dict[str, Any]) -> Path | str | None:
    given = options["chat_template"]
    if options["no_chat_template"]:
        if given is not None:
            raise UsageError("--chat-template cannot be combined with --no-chat-template; drop one")
        return "none"
    return Path(given) if given not in (None, "default") else given


def _numbers(name: str, text: str | None, kind: type[Any], words: str) -> tuple[Any, ...]:
    if text is None:
        return ()
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{name} {text}: expected {words} separated by commas") from None


def _names(name: str, text: str, known: Iterable[str]) -> tuple[str, ...]:
    values = tuple(part.strip().lower() for part in text.split(","))
    for value in values:
        if value not in known:
            hint = did_you_mean(value, known, f"it is one of {', '.join(known)}")
            raise UsageError(f"{name}: unknown type '{value}': {hint}")
    return values
