"""The one table of types that K and V are cached in, and the one rule for flash attention."""

from __future__ import annotations

from dataclasses import dataclass

from ggufrope.errors import UsageError
from ggufrope.gguf.ggml_types import F16, F32, GGML_TYPES

__all__ = ["KV_TYPES", "CacheWords", "KvCache", "KvType"]


@dataclass(frozen=True, slots=True)
class KvType:
    """A type of cached K and V.

    Attributes:
        name: as on the command line.
        ggml_type: its number in ``enum ggml_type``.
    """

    name: str
    ggml_type: int

    @property
    def block(self) -> int:
        """Elements that are stored together; a head's K and V must be whole blocks."""
        return GGML_TYPES[self.ggml_type].block

    @property
    def quantized(self) -> bool:
        """Whether it is stored in blocks; llama.cpp then needs flash attention for V."""
        return self.block > 1

    def nbytes(self, elements: int) -> int:
        """Bytes of so many elements, in whole blocks."""
        return elements // self.block * GGML_TYPES[self.ggml_type].nbytes


#: By name, the most exact first.
KV_TYPES = {kind.name: kind for kind in (KvType("f32", F32), KvType("f16", F16), KvType("q8_0", 8), KvType("q4_0", 2))}


@dataclass(frozen=True, slots=True)
class CacheWords:
    """How a refusal names the caller's options: templates with ``{kv_type}``, and ``{known}`` for all of them."""

    unknown: str = "kv_type {kv_type!r}: unknown; one of {known}"
    flash_off: str = "kv_type {kv_type}: llama.cpp needs flash attention for a quantized V; leave it on"


@dataclass(frozen=True, slots=True)
class KvCache:
    """How a context keeps K and V and attends to them; the default is the most exact way.

    Attributes:
        kv_type: a key of ``KV_TYPES``, for K and V.
        flash_attn: llama.cpp's fused attention; it casts K and V of an F32 cache to F16.
    """

    kv_type: str = "f32"
    flash_attn: bool = False

    @classmethod
    def choose(cls, kv_type: str, flash_attn: bool | None = None, words: CacheWords | None = None) -> KvCache:
        """A cache with flash attention as asked; None: on only where a quantized V needs it.

        It is off for other types, because on a CPU it took eight times as long for few tokens, and sums in F16 there.

        Raises:
            UsageError: an unknown type, or a quantized V without flash attention; in the caller's ``words``.
        """
        words = CacheWords() if words is None else words
        if kv_type not in KV_TYPES:
            raise UsageError(words.unknown.format(kv_type=kv_type, known=", ".join(KV_TYPES)))
        needed = KV_TYPES[kv_type].quantized
        if needed and flash_attn is False:
            raise UsageError(words.flash_off.format(kv_type=kv_type))
        return cls(kv_type, needed if flash_attn is None else flash_attn)

    @property
    def type(self) -> KvType:
        """The type's row of the table."""
        return KV_TYPES[self.kv_type]

    def __str__(self) -> str:
        return f"{self.kv_type.upper()} KV cache, flash attention {'on' if self.flash_attn else 'off'}"
