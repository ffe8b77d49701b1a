"""What is measured on the real models, the most informative first: one table, and the cells that it stands for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ggufrope.errors import UsageError
from ggufrope.evals.results import Result
from ggufrope.text import did_you_mean
from real_models.method_recipes import METHODS, Recipe
from real_models.pinned_models import MODELS, PinnedModel

__all__ = [
    "BY_PARTS",
    "FULL",
    "PARTS",
    "REQUANTIZED",
    "SMOKE",
    "DeclaredCell",
    "Piece",
    "cells",
    "declared",
    "model_of",
]

FULL = "F16"  # what the published file says, written out: its own baseline
FIVE = (0.0, 0.25, 0.5, 0.75, 1.0)
THREE = (0.0, 0.5, 1.0)
DOCUMENTS = "nq-open-oracle.jsonl.gz"
#: Types that every model is quantized to.
REQUANTIZED = ("Q8_0", "Q4_K_M", "Q3_K_M", "Q2_K")
BY_PARTS = "seq-w64"  # the default of ggufrope convert, where one ms-poe stands for all
ORDERS = ("seq", "seq-w64", "seq-w256", "seq-w1024")
LONGER = ("ntk2", "yarn2", "dyn2")


@dataclass(frozen=True, slots=True)
class Piece:
    """Cells that answer one question.

    Attributes:
        part: name for ``--part``; pieces of a name belong together.
        model: of ``MODELS``.
        task: of ``ggufrope eval``.
        lengths: tokens.
        methods: of ``METHODS``.
        weights: types; ``FULL`` first if it is there.
        kv: types of the KV cache.
        depths: where answers stand; empty for tasks without.
        limit: texts in each cell.
        data: a file of the data directory, without which the piece is left out; empty for none.
        options: of the task, by name, as --set takes them.
    """

    part: str
    model: str
    task: str
    lengths: tuple[int, ...]
    methods: tuple[str, ...]
    weights: tuple[str, ...] = (FULL,)
    kv: tuple[str, ...] = ("f16",)
    depths: tuple[float, ...] = FIVE
    limit: int = 20
    data: str = ""
    options: tuple[tuple[str, str], ...] = ()


#: First what decides whether the middle comes back; then its cost; then weights and caches; then the other models.
#: 20 texts where a choice rests on them; fewer where a model scores nothing either way, where a difference is seen
#: without an interval (published Ms-PoE, no scaling beyond the context), or where a text takes minutes.
GRID = (
    Piece("middle", "smollm2", "kv-retrieval", (1024,), ("none", *ORDERS, "seq-w4096", "code")),
    Piece("loss", "smollm2", "ppl", (1024,), ("none", *ORDERS, "seq-w4096"), depths=()),
    Piece("middle", "smollm2", "kv-retrieval", (1024,), ("code-w64", "uni15-w64", "per-prompt", "rank", "uni15")),
    Piece("middle", "smollm2", "kv-retrieval", (1024,), ("yarn2", "ntk2", "dyn2", "seq-w2048", "seq-w512")),
    Piece("loss", "smollm2", "ppl", (1024,), ("code", "code-w64", "uni15", "uni15-w64", *LONGER), depths=()),
    Piece("weights", "smollm2", "kv-retrieval", (1024,), ("none", BY_PARTS), REQUANTIZED, limit=10),
    Piece("weights", "smollm2", "ppl", (1024,), ("none", BY_PARTS), REQUANTIZED, depths=(), limit=10),
    Piece("weights", "smollm2", "kv-retrieval", (1024,), ("none",), ("Q4_1",), limit=10),
    Piece("cache", "smollm2", "kv-retrieval", (1024,), ("none", BY_PARTS), kv=("q8_0", "q4_0"), limit=10),
    Piece("cache", "smollm2", "ppl", (1024,), ("none", BY_PARTS), kv=("q8_0", "q4_0"), depths=(), limit=10),
    Piece("orders", "smollm2", "kv-retrieval", (1024,), ("rank-w64",)),
    Piece("longer", "smollm2", "kv-retrieval", (2048,), ("none", BY_PARTS, "uni15-w64"), limit=10),
    Piece("longer", "smollm2", "kv-retrieval", (4096, 8192), ("none", BY_PARTS), limit=5),
    Piece("needles", "smollm2", "niah", (4096,), ("none", "seq", BY_PARTS, "uni15-w64"), limit=8),
    Piece("qwen", "qwen2.5-coder", "kv-retrieval", (1024,), ("none", "seq", BY_PARTS, "seq-w256")),
    Piece("qwen", "qwen2.5-coder", "kv-retrieval", (1024,), ("uni15-w64", "uni15"), limit=10),
    Piece("qwen", "qwen2.5-coder", "kv-retrieval", (2048,), ("none", BY_PARTS, "uni15-w64"), limit=5),
    Piece("qwen", "qwen2.5-coder", "ppl", (1024,), ("none", "seq", BY_PARTS), depths=(), limit=10),
    Piece("gemma", "gemma3", "niah", (2048,), ("none", "seq", BY_PARTS, "uni15-w64"), limit=10),
    Piece("gemma", "gemma3", "ppl", (1024,), ("none", "seq", BY_PARTS), depths=(), limit=10),
    Piece(
        "documents",
        "smollm2",
        "mdqa",
        (2048,),
        ("none", "seq", BY_PARTS),
        depths=THREE,
        limit=10,
        data=DOCUMENTS,
        options=(("question_first", "true"),),  # else it answers nearly nothing: docs/eval.md
    ),
    Piece(
        "documents", "qwen2.5-coder", "mdqa", (2048,), ("none", "seq", BY_PARTS), depths=THREE, limit=6, data=DOCUMENTS
    ),
    Piece("qwen-weights", "qwen2.5-coder", "kv-retrieval", (1024,), ("none",), REQUANTIZED, limit=6),
    Piece("qwen-weights", "qwen2.5-coder", "kv-retrieval", (1024,), ("none",), ("Q4_K_M",), ("q4_0",), limit=6),
    Piece("beyond", "smollm2", "ppl", (16384,), ("none", *LONGER), depths=(), limit=3),
    Piece("beyond", "smollm2", "niah", (16384,), ("none", *LONGER), limit=2),
)

#: A short run on the smallest model, to see that everything works; no part of the page.
SMOKE = (
    Piece("smoke", "smollm2", "kv-retrieval", (512,), ("none", "seq", "seq-w64"), depths=THREE, limit=3),
    Piece("smoke", "smollm2", "ppl", (256,), ("none", "seq-w64"), depths=(), limit=3),
)

PARTS = tuple(dict.fromkeys(piece.part for piece in (*GRID, *SMOKE)))


@dataclass(frozen=True, slots=True)
class DeclaredCell:
    """One line of the results to be: a ``piece`` with one method, type of weights, type of cache and length."""

    piece: Piece
    method: Recipe
    weights: str
    kv: str
    length: int

    @property
    def model(self) -> PinnedModel:
        """Whose file it is."""
        return MODELS[self.piece.model]

    @property
    def file(self) -> tuple[PinnedModel, Recipe, str]:
        """What ``derived_files.Workshop`` makes for it."""
        return self.model, self.method, self.weights

    @property
    def name(self) -> str:
        """For people."""
        kv = "" if self.kv == "f16" else f", KV {self.kv}"
        what = f"{self.piece.task} at {self.length}: {self.method.label}, {self.weights}{kv}"
        return f"{self.model.title}, {what}"

    @property
    def tokens(self) -> int:
        """About how many are read: what the time goes by."""
        asked = len(self.piece.depths)
        if self.piece.data:  # another text for each question
            return self.piece.limit * asked * self.length
        return self.piece.limit * (self.length + asked * _TOKENS.get(self.piece.task, 0))

    def measured_by(self, result: Result) -> bool:
        """Whether a line is this cell's: same file, task, length and places, and no fewer texts."""
        same = (result.file.architecture, result.file.quantization, result.task, result.kv_type, result.length)
        mine = (self.model.architecture, self.weights, self.piece.task, self.kv, self.length)
        depths = tuple(sorted(d.depth for d in result.by_depth or ()))
        enough = result.options.get("limit", 0) >= self.piece.limit
        chosen = all(json.dumps(result.options.get(name)) == value for name, value in self.piece.options)
        places = depths == self.piece.depths
        return same == mine and places and enough and chosen and self.method.made(result.file)


#: Of a question with its answer, beside the text that all questions share; counted on SmolLM2.
_TOKENS = {"kv-retrieval": 110, "niah": 60}


def cells(pieces: Sequence[Piece]) -> Iterator[DeclaredCell]:
    """In the order in which they are measured: what is compared stands together."""
    for piece in pieces:
        for length in piece.lengths:
            for weights in piece.weights:
                for method in piece.methods:
                    for kv in piece.kv:
                        yield DeclaredCell(piece, METHODS[method], weights, kv, length)


def declared(part: str | None = None) -> list[DeclaredCell]:
    """The cells of a part, or of everything but the smoke run.

    Raises:
        UsageError: there is no such part.
    """
    if part is not None and part not in PARTS:
        hint = did_you_mean(part, PARTS, f"it is one of {', '.join(PARTS)}")
        raise UsageError(f"--part: unknown part '{part}': {hint}")
    return list(cells([p for p in (*GRID, *SMOKE) if p.part == part] if part else GRID))


def model_of(result: Result) -> PinnedModel | None:
    """Whose line it is; None for other models'."""
    return next((m for m in MODELS.values() if m.architecture == result.file.architecture), None)
