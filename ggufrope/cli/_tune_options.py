"""Options of ``ggufrope tune``, as a request."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ggufrope.errors import UsageError

if TYPE_CHECKING:
    from ggufrope.tune.tune_request import TuneRequest

__all__ = ["make_tune_request"]

_LONGEST = 4096  # of a length that nobody gave
#: Options that are files and belong to tasks: ``--data F`` is ``--set data=F``.
_TASK_FILES = ("data", "haystack", "wording")


def make_tune_request(file: Path, options: dict[str, Any]) -> TuneRequest:
    """What the options ask for.

    Raises:
        UsageError: one that makes no sense.
        GgufError: the file is none that llama.cpp loads.
    """
    from ggufrope.methods import check_name
    from ggufrope.modelfile.model_file import ModelFile
    from ggufrope.tune.tune_request import Start, TuneRequest, goal_of

    model, start = ModelFile.open(file), options.pop("start")
    if start is not None:
        check_name(start)
    settings = _settings(options)
    given = options.pop("lengths")
    return TuneRequest(
        file=model,
        goals=tuple(map(goal_of, options.pop("goals"))),
        lengths=given or (_default_length(model),),
        depths=_depths(options.pop("depths")),
        settings=settings,
        start=None if start is None else Start(start),
        chat_template=_template(options),
        **options,
    )


def _default_length(model: Any) -> int:
    return _LONGEST if model.unrotated else min(model.decoded.context, _LONGEST)


def _depths(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--depths {text}: expected numbers separated by commas") from None


def _settings(options: dict[str, Any]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for text in options.pop("settings"):
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"--set {text}: not NAME=VALUE; give it so")
        if name in settings:
            raise UsageError(f"--set {name}: given twice; once is enough")
        settings[name] = value
    for name in _TASK_FILES:
        if (path := options.pop(name)) is not None:
            if name in settings:
                raise UsageError(f"--{name}: was also given with --set; give it once")
            settings[name] = path
    return settings


def _template(options: dict[str, Any]) -> Path | str | None:
    given, none = options.pop("chat_template"), options.pop("no_chat_template")
    if none:
        if given is not None:
            raise UsageError("--chat-template cannot be combined with --no-chat-template; drop one")
        return "none"
    return Path(given) if given not in (None, "default") else given
