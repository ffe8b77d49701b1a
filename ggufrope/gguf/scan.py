"""A bounds-checked forward reader: nothing is read or allocated before it is known to lie inside the file.

It keeps one window of the file in memory and jumps over what it is told to skip, so a header with a vocabulary of
hundreds of thousands of strings is walked in a fraction of a second. Plain reads rather than a memory map: a file that
shrinks under a map kills the process, and every page touched counts as resident.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NoReturn

from ..errors import GgufError

WINDOW = 1 << 20
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")

TRUNCATED = "the file is truncated or corrupt: fetch it again"


class Scanner:
    """Reads little-endian values one after the other from ``read(offset, length) -> bytes``.

    Attributes:
        pos: Offset of the next byte.
        where: What is being read, for error messages; the caller keeps it up to date.
    """

    def __init__(self, read: Callable[[int, int], bytes], size: int, label: str) -> None:
        self._read = read
        self._window = b""
        self._base = 0
        self.size = size
        self.label = label
        self.where = "the header"
        self.pos = 0

    def fail(self, problem: str, remedy: str = TRUNCATED) -> NoReturn:
        """Raise a ``GgufError`` that names the file, the place, what was found and what to do."""
        raise GgufError(f"{self.label}: {self.where} {problem}; {remedy}")

    def u32(self) -> int:
        """Next unsigned 32-bit integer."""
        start = self._take(4)
        value: int = _U32.unpack_from(self._window, start)[0]
        return value

    def u64(self) -> int:
        """Next unsigned 64-bit integer."""
        start = self._take(8)
        value: int = _U64.unpack_from(self._window, start)[0]
        return value

    def bytes(self, length: int) -> bytes:
        """Next ``length`` bytes. Callers bound ``length``; the file's end is checked here."""
        start = self._take(length)
        return self._window[start : start + length]

    def text(self, limit: int) -> str:
        """Next string of at most ``limit`` bytes, which must be UTF-8."""
        length = self.u64()
        if length > limit:
            self.fail(f"has a name of {length} bytes, more than the {limit} allowed")
        data = self.bytes(length)
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            self.fail(f"has a name that is not UTF-8 ({data[:40]!r})")

    def skip(self, length: int) -> None:
        """Step over ``length`` bytes without reading them."""
        self._check(length)
        self.pos += length

    def skip_strings(self, count: int) -> None:
        """Step over ``count`` strings, reading only their lengths."""
        if count > (self.size - self.pos) // 8:
            self.fail(f"claims {count} strings, more than the file can hold")
        length_at = _U64.unpack_from
        while count:
            at = self._take(8)
            window, first, left = self._window, at, count
            try:
                for left in range(count - 1, -1, -1):  # noqa: B007  # read below, after a break-off
                    at += 8 + length_at(window, at)[0]
                count = 0
            except (struct.error, OverflowError):  # the next one begins behind the window
                count = left + 1
            # _take moved past the first length already
            self.skip(at - first - 8)

    def _check(self, length: int) -> None:
        if length > self.size - self.pos:
            self.fail(f"needs {length} bytes at offset {self.pos}, but the file ends at {self.size}")

    def _take(self, length: int) -> int:
        """Make the next ``length`` bytes part of the window, step over them, and return where they start in it."""
        self._check(length)
        start = self.pos - self._base
        if start < 0 or start + length > len(self._window):
            want = min(max(length, WINDOW), self.size - self.pos)
            self._window, self._base, start = self._read(self.pos, want), self.pos, 0
            if len(self._window) < want:
                self.fail("could not be read to its end", "the file shrank meanwhile: wait until it is complete")
        self.pos += length
        return start
