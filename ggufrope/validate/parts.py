"""The parts of a run that make FILE's side less exact than float32 arithmetic. A tolerance belongs to each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["CacheType", "FlashAttention", "Part", "Weights", "run_parts"]


@dataclass(frozen=True, slots=True)
class Weights:
    """The matrices of a GGUF.

    Attributes:
        kind: ``F16``, ``Q4_K_M``, ...: what ``llama-quantize`` calls a mixture; where it has no name, its types.
        as_stored: the reference has the same quantized matrices.
    """

    kind: str
    as_stored: bool = False

    @classmethod
    def of(cls, types: Sequence[str], as_stored: bool = False) -> Weights:
        """The part for ``weight_types``; ``as_stored`` says something of quantized mixtures only."""
        kinds = set(types)
        mixture = next((m for m in _MIXTURES if m.needed <= kinds <= m.needed | m.others), None)
        return cls("+".join(types)) if mixture is None else cls(mixture.kind, as_stored)

    def __str__(self) -> str:
        return f"{self.kind} weights" + " as stored" * self.as_stored


@dataclass(frozen=True, slots=True)
class CacheType:
    """FILE's KV cache, in a type such as ``Q8_0``."""

    kind: str

    def __str__(self) -> str:
        return f"{self.kind} KV cache"


@dataclass(frozen=True, slots=True)
class FlashAttention:
    """Flash attention on FILE's side."""

    def __str__(self) -> str:
        return "flash attention"


Part = Weights | CacheType | FlashAttention


@dataclass(frozen=True, slots=True)
class _Mixture:
    """Types that a file of one ``kind`` must have, and others that it may have besides."""

    kind: str
    needed: frozenset[str]
    others: frozenset[str]


#: What llama-quantize falls back to where rows are no multiple of 256, and what it leaves alone, is part of a mixture.
_PLAIN = frozenset({"F32", "F16"})
_MIXTURES = (
    _Mixture("Q8_0", frozenset({"Q8_0"}), _PLAIN),
    _Mixture("Q4_K_M", frozenset({"Q4_K", "Q6_K"}), _PLAIN | {"Q5_0", "Q8_0"}),
    _Mixture("Q4_K_M", frozenset({"Q5_0", "Q8_0"}), _PLAIN),  # rows too short for k-quants
)


def run_parts(weights: Iterable[Weights], kv_type: str, flash_attn: bool) -> tuple[Part, ...]:
    """The parts of a run.

    Args:
        weights: of each side that is a GGUF.
        kv_type: of FILE's cache, such as ``q8_0``.
        flash_attn: on FILE's side.
    """
    sides = sorted(set(weights), key=str)
    if len(sides) > 1:
        sides = [side for side in sides if side != Weights("F32")]  # the arithmetic is counted with the others
    cache = [] if kv_type == "f32" else [CacheType(kv_type.upper())]
    return (*sides, *cache, *([FlashAttention()] if flash_attn else []))
