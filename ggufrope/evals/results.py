"""What a result says: what was run, on what, and what came out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

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
    "TextMean",
    "TokenCounts",
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
class TextMean:
    """Mean over the ``n`` scored positions of one text. None: not finite.

    Attributes:
        tokens: the first 16 hex digits of the sha256 of the text's token ids, little-endian 32-bit: results with equal
            ones read the same text, and their difference is paired.
    """

    tokens: str
    n: int
    mean: float | None


@dataclass(frozen=True, slots=True)
class Result:
    """One cell of a grid. Which of the fields that can be None a result has, its kind of task says.

    Attributes:
        kind: ``TaskKind.name``: ``answers``, ``positions``.
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
        by_text: mean of each text, in the order of the file; None in lines of versions that kept none.
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
    by_text: tuple[TextMean, ...] | None = None
    baseline: FileFacts | None = None
    top1: float | None = None
    notes: tuple[str, ...] = ()
    note_codes: tuple[str, ...] | None = None
    schema: int = field(default=SCHEMA)

    @property
    def coded_notes(self) -> tuple[Note, ...]:
        """The notes with their codes, whatever version wrote the line."""
        return read_notes(self.notes, self.note_codes)
