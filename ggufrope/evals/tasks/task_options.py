"""A task's options: its dataclass fields, set from text, and written down with a result."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import typing
from collections.abc import Mapping
from dataclasses import Field
from pathlib import Path
from typing import Any, TypeVar

from ggufrope.errors import UsageError
from ggufrope.files import read_bytes
from ggufrope.text import did_you_mean

__all__ = ["at_least_one", "make", "one_in", "options", "record"]

_T = TypeVar("_T")
_SWITCH = {"true": True, "false": False}


def options(cls: type[Any]) -> dict[str, Field[Any]]:
    """The options of a task by name, as dataclass fields with ``help`` in their metadata.

    An option that names a file has ``kind`` in it; and ``parts`` (``records``: a line each, or ``text``) where a part
    of the file is such a file, too.
    """
    return {field.name: field for field in dataclasses.fields(cls)}


def make(cls: type[_T], given: Mapping[str, Any]) -> _T:
    """The task with options ``given``: values, or text that is read as what the option is.

    Raises:
        UsageError: an option that the task does not have, or text that is not what it is.
    """
    kinds, values = typing.get_type_hints(cls), {}
    build: Any = cls
    for given_name, value in given.items():
        name = given_name.replace("-", "_")
        if name not in options(cls):
            hint = did_you_mean(name, options(cls), f"it has {', '.join(options(cls))}")
            raise UsageError(f"{build.name}: unknown option '{given_name}': {hint}")
        values[name] = _read(build.name, name, value, kinds[name]) if isinstance(value, str) else value
    task: _T = build(**values)
    return task


def record(task: object) -> dict[str, Any]:
    """The options that are set, ready for JSON: files by name and sha256, so that they may stand anywhere.

    With them goes the task's ``edition``, if it is not the first.

    Raises:
        InputError: a file that cannot be read.
    """
    pairs = ((name, getattr(task, name)) for name in options(type(task)))
    kept = {name: _file(value) if isinstance(value, Path) else value for name, value in pairs if value is not None}
    edition = getattr(task, "edition", 1)
    return kept if edition == 1 else {**kept, "edition": edition}


def at_least_one(task: str, **counts: int | None) -> None:
    """Raise UsageError unless every given count is 1 or more."""
    for name, count in counts.items():
        if count is not None and count < 1:
            raise UsageError(f"{task}: {name} is {count}; 1 is the fewest")


def one_in(*counts: Any) -> float:
    """The chance of one in the product of ``counts``; 0 where a line of results has no such numbers."""
    whole = all(isinstance(count, int) and count > 0 for count in counts)
    return 1 / math.prod(counts) if whole else 0.0


def _file(path: Path) -> dict[str, str]:
    return {"name": path.name, "sha256": hashlib.sha256(read_bytes(path)).hexdigest()}


def _read(task: str, name: str, text: str, kind: Any) -> Any:
    """``text`` as a value of the type ``kind``."""
    kinds = typing.get_args(kind) or (kind,)
    if Path in kinds:
        return Path(text)
    if bool in kinds:
        if text.lower() not in _SWITCH:
            raise UsageError(f"{task}: {name} is '{text}'; true or false is needed")
        return _SWITCH[text.lower()]
    number = int if int in kinds else float
    try:
        return number(text)
    except ValueError:
        what = "a whole number" if number is int else "a number"
        raise UsageError(f"{task}: {name} is '{text}'; {what} is needed") from None
