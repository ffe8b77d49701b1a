"""The KV cache and the attention of FILE's side: what may be asked for, and whether it fits."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ggufrope.errors import UsageError
from ggufrope.gguf.ggml_types import GGML_TYPES
from ggufrope.modelfile.original import Source
from ggufrope.planning.memory import CacheLayout, NoLayoutError, cache_layout
from ggufrope.rope.model import ModelRope

__all__ = ["CACHE_TYPES", "Cache", "require_length", "require_room"]

#: Types of the cache: name → id of ggml's type.
CACHE_TYPES = {"f32": 0, "f16": 1, "q8_0": 8, "q4_0": 2}
_LONGEST = 2**31 - 1  # llama.cpp's positions


@dataclass(frozen=True, slots=True)
class Cache:
    """How FILE's side keeps and attends to what it has read.

    Attributes:
        kv_type: a key of ``CACHE_TYPES``, for K and V.
        flash_attn: llama.cpp's fused attention; it casts K and V of an F32 cache to F16.
    """

    kv_type: str = "f32"
    flash_attn: bool = False

    def __post_init__(self) -> None:
        if self.kv_type not in CACHE_TYPES:
            raise UsageError(f"--kv-type {self.kv_type}: validate knows {', '.join(CACHE_TYPES)}")
        if self.quantized and not self.flash_attn:
            raise UsageError(
                f"--kv-type {self.kv_type} --flash-attn off: llama.cpp quantizes V only with flash attention; "
                "leave --flash-attn away, or take --kv-type f32 or f16"
            )

    @classmethod
    def of(cls, kv_type: str = "f32", flash_attn: bool | None = None) -> Cache:
        """``flash_attn`` None: off, but on where ``kv_type`` needs it.

        Raises:
            UsageError: an unknown type, or flash attention off though the type needs it.
        """
        return cls(kv_type, kv_type in ("q8_0", "q4_0") if flash_attn is None else flash_attn)

    @property
    def quantized(self) -> bool:
        """Whether K and V are stored in blocks."""
        return GGML_TYPES[CACHE_TYPES[self.kv_type]].block > 1

    @property
    def options(self) -> dict[str, Any]:
        """For ``llama_cpp.Llama``."""
        kind = CACHE_TYPES[self.kv_type]
        return {"type_k": kind, "type_v": kind, "flash_attn": self.flash_attn}

    def __str__(self) -> str:
        return f"{self.kv_type.upper()} KV cache, flash attention {'on' if self.flash_attn else 'off'}"


def require_length(length: int) -> None:
    """Refuse lengths that nothing can have.

    Raises:
        UsageError: no positions, or more than llama.cpp counts.
    """
    if not 1 <= length <= _LONGEST:
        limit = "at least one position is needed" if length < 1 else f"llama.cpp counts up to {_LONGEST} positions"
        raise UsageError(f"--length {length}: {limit}")


def require_room(source: Source, model: ModelRope, length: int, caches: Sequence[Cache]) -> None:
    """Refuse what llama.cpp could not allocate, before it fills the machine's memory trying to.

    Args:
        source: FILE's keys.
        model: its facts.
        length: positions.
        caches: of FILE's side, and of the reference's where that is a GGUF.

    Raises:
        UsageError: heads that a quantized cache cannot hold, or more bytes than the machine has.
    """
    try:
        layout = cache_layout(source, model, length, full_window=True)
    except NoLayoutError:
        return  # what cannot be counted is left to llama.cpp
    needed = sum(_bytes(source, layout, cache) for cache in caches)
    present = _memory()
    if present is not None and needed > present:
        raise UsageError(
            f"--length {length}: the KV cache takes {needed / 1e9:.0f} GB, this machine has {present / 1e9:.0f} GB; "
            "compare fewer positions, or take a smaller --kv-type"
        )


def _bytes(source: Source, layout: CacheLayout, cache: Cache) -> int:
    kind = GGML_TYPES[CACHE_TYPES[cache.kv_type]]
    for size in {size for head in layout.heads for size in head if size % kind.block}:
        raise UsageError(
            f"--kv-type {cache.kv_type}: {source.path} has heads of {size} dimensions, which are no multiple of "
            f"{kind.block}; take f32 or f16"
        )
    return sum(cells * (k + v) for cells, k, v in layout.widths) // kind.block * kind.nbytes


def _memory() -> int | None:
    """Bytes of main memory; None where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows, and where the name is unknown
        return None
