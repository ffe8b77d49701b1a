"""A result as a line of JSON, and back. The schema is documented in docs/eval.md.

Keys are only ever added within a schema version: a reader ignores those that it does not know. What is there must be of
the right type, or the line is refused: no report is made from half-understood numbers.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from ggufrope.errors import InputError
from ggufrope.evals.results import SCHEMA, Result
from ggufrope.evals.tasks import kinds

__all__ = ["from_json", "to_json"]

#: Left out where there are none.
_OPTIONAL = ("by_depth", "by_text", "baseline", "top1", "note_codes")


def to_json(result: Result) -> dict[str, Any]:
    """The object of one line: the schema first, parts of other kinds left out, numbers that are not finite as None."""
    value: dict[str, Any] = _plain(result)
    others = frozenset[str]().union(*(kind.parts for kind in kinds().values())) - kinds()[result.kind].parts
    absent = others | {name for name in _OPTIONAL if value[name] is None}
    return {"schema": result.schema, **{k: v for k, v in value.items() if k not in absent}}


def from_json(value: object, where: str) -> Result:
    """The result in one decoded line.

    Args:
        value: what ``json.loads`` made of it.
        where: file and line, for messages.

    Raises:
        InputError: not a result, of another schema, or with a key missing or of the wrong type.
    """
    if not isinstance(value, dict) or "schema" not in value:
        raise InputError(f'{where}: not a line of results (no "schema"); name another directory with -o')
    if value["schema"] != SCHEMA:
        raise InputError(
            f"{where}: results of schema {value['schema']!r}, this ggufrope reads {SCHEMA}; "
            "write to another directory with -o, or use the version that wrote them"
        )
    try:
        result: Result = _read(Result, value, "")
        _complete(result)
    except _WrongError as wrong:
        raise InputError(f"{where}: {wrong}; restore the file, or write to another directory with -o") from None
    return result


class _WrongError(Exception):
    """What is wrong with a value, without saying where."""


def _complete(result: Result) -> None:
    if result.kind not in kinds():
        raise _WrongError(f"kind is {result.kind!r}, not {' or '.join(kinds())}")
    for name in kinds()[result.kind].required:
        if getattr(result, name) is None:
            raise _WrongError(f"{name} is missing")
    if result.note_codes is not None and len(result.note_codes) != len(result.notes):
        raise _WrongError(f"{len(result.notes)} notes have {len(result.note_codes)} note_codes")


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value) if f.name != "schema"}
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _read(kind: Any, value: Any, name: str) -> Any:
    """``value`` as the annotation ``kind``, all the way down."""
    if is_dataclass(kind):
        return _object(kind, value, name)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):  # X | None is all there is
        return None if value is None else _read(arguments[0], value, name)
    if origin is tuple:
        if not isinstance(value, list):
            raise _WrongError(f"{name} is {_shown(value)}, not a list")
        return tuple(_read(arguments[0], item, f"{name}[{i}]") for i, item in enumerate(value))
    wanted = {float: (int, float)}.get(kind, origin or kind)
    if not isinstance(value, wanted) or (isinstance(value, bool) and kind is not bool):
        raise _WrongError(f"{name} is {_shown(value)}, not {_WORDS[origin or kind]}")
    return float(value) if kind is float else value


def _object(kind: Any, value: Any, name: str) -> Any:
    if not isinstance(value, dict):
        raise _WrongError(f"{name} is {_shown(value)}, not an object")
    hints, prefix = typing.get_type_hints(kind), f"{name}." if name else ""
    values = {}
    for f in fields(kind):
        if f.name in value:
            values[f.name] = _read(hints[f.name], value[f.name], prefix + f.name)
        elif f.default is MISSING:
            raise _WrongError(f"{prefix}{f.name} is missing")
    return kind(**values)


_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false", dict: "an object"}


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
