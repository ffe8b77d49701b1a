"""JSON Lines files of examples that others published."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from ggufrope.errors import InputError
from ggufrope.evals.tasks.haystack import as_json, unpacked
from ggufrope.files import stamp

__all__ = ["read_records"]

T = TypeVar("T")


def read_records(path: Path, read: Callable[[dict[str, Any]], T]) -> tuple[T, ...]:
    """One object for each line that is not empty.

    Args:
        path: UTF-8, gzip or plain.
        read: makes it from a line's JSON object; raises KeyError, TypeError or ValueError with what is wrong.

    Raises:
        InputError: unreadable, or a line that is not what is needed; names the line.
    """
    return _read(path, stamp(path), read)


@lru_cache(maxsize=4)
def _read(path: Path, _stamp: tuple[int, int], read: Callable[[dict[str, Any]], T]) -> tuple[T, ...]:
    records = []
    for number, line in enumerate(unpacked(path).split("\n"), 1):
        if line.strip():
            records.append(_record(f"{path}: line {number}", line, read))
    if not records:
        raise InputError(f"{path}: no examples in it; JSON Lines are needed, an object on each line")
    return tuple(records)


def _record(where: str, line: str, read: Callable[[dict[str, Any]], T]) -> T:
    try:
        value = as_json(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON ({error}); an object on each line is needed") from None
    if not isinstance(value, dict):
        raise InputError(f"{where}: an object is needed, found {type(value).__name__}")
    try:
        return read(value)
    except KeyError as error:
        raise InputError(f"{where}: no {error.args[0]!r}; it has {', '.join(value) or 'nothing'}") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{where}: {error}; docs/eval.md has the format") from None
