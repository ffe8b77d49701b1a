"""The KV cache and the attention of FILE's side: what may be asked for, and whether it fits."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ggufrope.errors import UsageError
from ggufrope.inference.kv_types import CacheWords, KvCache
from ggufrope.modelfile.facts import KeySource
from ggufrope.planning.memory import CacheLayout, NoLayoutError, cache_layout
from ggufrope.rope.model import ModelRope

__all__ = ["choose_cache", "require_length", "require_memory"]

_LONGEST = 2**31 - 1  # llama.cpp's positions


_WORDS = CacheWords(
    unknown="--kv-type {kv_type}: validate knows {known}; choose one of these",
    flash_off="--kv-type {kv_type} --flash-attn off: llama.cpp quantizes V only with flash attention; "
    "omit --flash-attn, or use --kv-type f32 or f16",
)


def choose_cache(kv_type: str = "f32", flash_attn: bool | None = None) -> KvCache:
    """See ``KvCache.choose``; refusals name the options of ``validate``."""
    return KvCache.choose(kv_type, flash_attn, _WORDS)


def require_length(length: int) -> None:
    """Refuse lengths that nothing can have.

    Raises:
        UsageError: no positions, or more than llama.cpp counts.
    """
    if not 1 <= length <= _LONGEST:
        limit = "at least one position is needed" if length < 1 else f"llama.cpp counts up to {_LONGEST} positions"
        raise UsageError(f"--length {length}: {limit}; give another")


def require_memory(source: KeySource, model: ModelRope, length: int, caches: Sequence[KvCache]) -> None:
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


def _bytes(source: KeySource, layout: CacheLayout, cache: KvCache) -> int:
    for size in {size for head in layout.heads for size in head if size % cache.type.block}:
        raise UsageError(
            f"--kv-type {cache.kv_type}: {source.path} has heads of {size} dimensions, which are no multiple of "
            f"{cache.type.block}; take f32 or f16"
        )
    return cache.type.nbytes(sum(cells * (k + v) for cells, k, v in layout.widths))


def _memory() -> int | None:
    """Bytes of main memory; None where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows, and where the name is unknown
        return None
