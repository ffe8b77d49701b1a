"""One line of results: what was run, on what, and what came out. The schema is documented in docs/eval.md.

Keys are only ever added within a schema version: a reader ignores those that it does not know. What is there must be of
the right type, or the line is refused: a report must not be drawn from half-understood numbers.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Any

from ggufrope.errors import InputError
from ggufrope.evals.notes import Note, read_notes

__all__ = [
    "SCHEMA",
    "DepthScore",
    "ExampleScore",
    "FileFacts",
    "MachineFacts",
    "PositionMean",
    "Result",
    "RuntimeFacts",
    "TokenCounts",
    "from_json",
]

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A GGUF.

    Attributes:
        name: without its directory.
        size: bytes, all shards together.
        architecture: ``general.architecture``.
        method: what the file says its RoPE scaling is.
        params: that method's parameters.
        quantization: ``F16``, ``Q4_K_M``, ...: ``general.file_type``, or else the types of the matrices.
        context: tokens that it aims at.
        trained: tokens that the model was trained for.
        header: sha256 of the header.
        weights: sha256 of the beginning of every tensor.
    """

    name: str
    size: int
    architecture: str
    method: str
    params: dict[str, Any]
    quantization: str
    context: int
    trained: int
    header: str
    weights: str


@dataclass(frozen=True, slots=True)
class RuntimeFacts:
    """What computed.

    Attributes:
        backend: ``cpu``, ``cuda``, ...
        fingerprint: of llama.cpp's commit, the patches and the backend; the same on every machine.
        threads: that were asked for; None: as many as llama.cpp takes.
        flash_attn: whether flash attention was on; None: left to llama.cpp.
    """

    backend: str
    fingerprint: str
    threads: int | None
    flash_attn: bool | None


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """Where: no names of hosts or people."""

    cpu: str
    cores: int
    os: str


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """Tokens that were really decoded, and those that naive generation would have decoded."""

    evaluated: int
    asked: int


@dataclass(frozen=True, slots=True)
class DepthScore:
    """Mean score of ``n`` questions whose answer stands at ``depth``, and its 95% interval."""

    depth: float
    n: int
    score: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ExampleScore:
    """One question; ``output`` is cut to 200 characters."""

    name: str
    depth: float | None
    score: float
    output: str


@dataclass(frozen=True, slots=True)
class PositionMean:
    """Mean over positions ``start`` ≤ p < ``end`` of all texts; ``n`` of them. None: not finite, or one text only."""

    start: int
    end: int
    n: int
    mean: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Result:
    """One cell of a grid. Answers have ``score`` and ``examples``, positions have ``unit`` and ``by_position``.

    Attributes:
        kind: ``answers`` or ``positions``.
        task: its name; ``options`` are its options, files among them by name and sha256.
        cell: sha256 of everything that decides the result.
        kv_type: type of the KV cache.
        length: tokens of one example.
        n: examples (answers) or texts (positions).
        seconds: wall time of this cell.
        finished: ISO time, UTC.
        score: mean score, 0 to 1.
        mean: mean over all positions; ``unit`` says of what.
        low: of the 95% interval of ``score`` or ``mean``; ``high`` likewise.
        interval: what kind of interval that is.
        top1: share of positions where the baseline's likeliest token is the file's (``kl``).
        baseline: what was compared with (``kl``).
        notes: what a person should know, one sentence each; ``note_codes``: a ``NoteCode`` for each, None in lines of
            versions that wrote none.
    """

    kind: str
    task: str
    options: dict[str, Any]
    cell: str
    file: FileFacts
    kv_type: str
    length: int
    seed: int
    n: int
    runtime: RuntimeFacts
    machine: MachineFacts
    ggufrope: str
    seconds: float
    tokens: TokenCounts
    finished: str
    low: float | None
    high: float | None
    interval: str
    score: float | None = None
    by_depth: tuple[DepthScore, ...] | None = None
    examples: tuple[ExampleScore, ...] | None = None
    unit: str | None = None
    mean: float | None = None
    by_position: tuple[PositionMean, ...] | None = None
    baseline: FileFacts | None = None
    top1: float | None = None
    notes: tuple[str, ...] = ()
    note_codes: tuple[str, ...] | None = None
    schema: int = field(default=SCHEMA)

    @property
    def coded_notes(self) -> tuple[Note, ...]:
        """The notes with their codes, whatever version wrote the line."""
        return read_notes(self.notes, self.note_codes)

    def as_json(self) -> dict[str, Any]:
        """The object of one line: the schema first, absent parts left out, numbers that are not finite as None."""
        value: dict[str, Any] = _plain(self)
        absent = _ABSENT[self.kind] | {k for k in _OPTIONAL if value[k] is None}
        return {"schema": self.schema, **{k: v for k, v in value.items() if k not in absent}}


_ABSENT = {
    "answers": frozenset({"unit", "mean", "by_position", "baseline", "top1"}),
    "positions": frozenset({"score", "by_depth", "examples"}),
}
_OPTIONAL = ("by_depth", "baseline", "top1", "note_codes")
_NEEDED = {"answers": ("score", "low", "high", "examples"), "positions": ("unit", "by_position")}


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
    if result.kind not in _NEEDED:
        raise _WrongError(f"kind is {result.kind!r}, not answers or positions")
    for name in _NEEDED[result.kind]:
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
    found = {}
    for f in fields(kind):
        if f.name in value:
            found[f.name] = _read(hints[f.name], value[f.name], prefix + f.name)
        elif f.default is MISSING:
            raise _WrongError(f"{prefix}{f.name} is missing")
    return kind(**found)


_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false", dict: "an object"}


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
