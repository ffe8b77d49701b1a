"""Padding for the next edit: where tensor data starts, and the key that fills the header up to there.

GGUF knows no gap between header and data: data starts where the header ends, rounded up to the alignment. So
spare space must be an entry of its own, the last one: ``ggufrope.padding``, an array of zero bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from .keys import PADDING
from .values import ValueType, encode_string

#: Data moves by multiples of this: file systems share, insert and remove whole blocks only.
BLOCK = 4096
#: Left free in new headers. Converting to the method with the largest keys takes about half of it.
SLACK = 16 << 10

_EMPTY_BYTES = len(encode_string(PADDING)) + struct.calcsize("<IIQ")


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the data of a result starts: at ``base``, or as many blocks behind it as the header needs.

    Attributes:
        base: The data offset of the file that the data comes from. As the new one differs from it by whole blocks, the
            data can be shared with that file, or moved inside it, without being copied.
        stay: Stop at ``base`` if the header fits at all; otherwise, ``SLACK`` bytes must be left to spare.
    """

    base: int
    stay: bool = False

    def padding(self, length: int, alignment: int) -> bytes:
        """The padding entry behind a header of ``length`` bytes; empty when it ends at the right place without one."""
        size = self.base - length
        if self.stay and 0 <= size < alignment:
            return b""
        if not (self.stay and size >= _EMPTY_BYTES):
            step = max(BLOCK, alignment)
            size += step * max(0, -(-(_EMPTY_BYTES + SLACK - size) // step))
        return padding_entry(size)


def padding_entry(length: int) -> bytes:
    """A padding entry that takes ``length`` bytes in all, at least 40."""
    count = length - _EMPTY_BYTES
    return encode_string(PADDING) + struct.pack("<IIQ", ValueType.ARRAY, ValueType.UINT8, count) + bytes(count)
