"""The commands that reproduce results, from what every line of results records."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, TypeVar

from ggufrope.evals.results import Result
from ggufrope.report.entries import base_name, identity
from ggufrope.report.study import Group, beyond, beyond_baseline, texts

__all__ = ["command_lines"]

_T = TypeVar("_T")
_FILES = {"data", "haystack", "wording", "text"}  # options of `ggufrope eval` itself


def command_lines(group: Group) -> list[str]:
    """The commands that reproduce a group's results, and nothing else; files by their names, without directories.

    A command runs all files × types of the KV cache × lengths that it names. Where results do not fill such a grid, or
    were measured against several baselines, there are several commands.
    """
    return [shlex.join(["ggufrope", "eval", *_words(grid)]) for grid in _grids(list(group.cells.values()))]


def _grids(results: list[Result]) -> list[list[Result]]:
    """Results in parts: in each, every file was measured with the same types of the KV cache and the same lengths."""
    rows = _together(results, lambda r: (_setting(r), identity(r.file), r.kv_type))
    files = _together(rows, lambda row: (_setting(row[0]), identity(row[0].file), _lengths(row)))
    grids = _together(files, lambda f: (_setting(f[0][0]), _lengths(f[0]), tuple(row[0].kv_type for row in f)))
    return [[result for file in grid for row in file for result in row] for grid in grids]


def _together(items: Iterable[_T], key: Callable[[_T], Hashable]) -> list[list[_T]]:
    """Items with the same key in a list each, in the order in which keys come up."""
    parts: dict[Hashable, list[_T]] = {}
    for item in items:
        parts.setdefault(key(item), []).append(item)
    return list(parts.values())


def _setting(result: Result) -> tuple[Hashable, ...]:
    """What has one value in a command, and may have several in a group."""
    return identity(result.baseline) if result.baseline else None, _limit(result), _threads(result)


def _lengths(results: Sequence[Result]) -> tuple[int, ...]:
    return tuple(sorted({r.length for r in results}))


def _words(results: Sequence[Result]) -> list[str]:
    first = results[0]
    words = [*dict.fromkeys(_path(base_name(r.file)) for r in results), "--task", first.task]
    words += ["--lengths", ",".join(map(str, _lengths(results)))]
    if depths := sorted(d.depth for d in first.by_depth or ()):  # as a line has them, in whatever order they were given
        words += ["--depths", ",".join(repr(depth).removesuffix(".0") for depth in depths)]
    words += ["--limit", str(_limit(first)), "--seed", str(first.seed)]
    words += ["--kv-type", ",".join(dict.fromkeys(r.kv_type for r in results))]
    words += [word for name, value in first.options.items() for word in _option_words(name, value)]
    if first.baseline:
        words += ["--baseline", _path(base_name(first.baseline))]
    if (threads := _threads(first)) is not None:
        words += ["--threads", str(threads)]
    if any(beyond(r) or beyond_baseline(r) for r in results):
        words += ["--beyond-context"]
    return [*words, "-o", "results/"]


def _limit(result: Result) -> int:
    asked = result.options.get("limit")
    return asked if isinstance(asked, int) else texts(result)


def _threads(result: Result) -> int | None:
    """Their number where it decides a result: flash attention's sums depend on it, others do not."""
    return result.runtime.threads if result.runtime.flash_attn else None


def _option_words(name: str, value: Any) -> list[str]:
    if name in ("limit", "edition") or value is None:
        return []
    if name == "chat_template":
        return _template_words(value)
    if isinstance(value, dict) and isinstance(value.get("name"), str):
        path = _path(value["name"])
        return [f"--{name}", path] if name in _FILES else ["--set", f"{name}={path}"]
    return ["--set", f"{name}={value if isinstance(value, str) else json.dumps(value)}"]


def _template_words(recorded: Any) -> list[str]:
    """For ``none``, ``the model's own`` (which is what `eval` takes by itself), or a file by name and sha256."""
    match recorded:
        case "none":
            return ["--no-chat-template"]
        case {"name": str(name)}:
            return ["--chat-template", _path(name)]
        case _:
            return []


def _path(name: str) -> str:
    """A file's name as a word that is never taken for an option, or for the word ``default`` of --chat-template."""
    return f"./{name}" if name.startswith("-") or name == "default" else name
