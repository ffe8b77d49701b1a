"""Letting the kernel begin what an edit in place will make it do, while the rest of the program is still being loaded.

To insert or remove blocks at a file's start, Linux drops all that lies behind them from the page cache: 55 ms for each
GB that was there, by far the longest part of such an edit. It may as well be dropped before, on another core. Nothing
is lost by that but the cache, and nothing is dropped that a program has mapped or that is not on disk yet.
"""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path
from typing import BinaryIO

from .header import Header
from .keys import PADDING

#: Name of the thread, for whoever has to wait for it.
THREAD = "ggufrope-drop-ahead"
_PIECE = 1 << 30  # between two looks at whether the program has ended; each waits for Python's lock
_READ_AGAIN = 1 << 20  # at either end of the data: its first and last bytes are read to recognise it
_LEAST_GROWTH = 256  # a conversion adds more: it records a hash, among others
_FILE_SYSTEMS = {b"ext4", b"xfs"}  # those that insert blocks, see ``extents``


def drop_ahead(header: Header, *, force: bool = False, moves: bool | None = None) -> bool:
    """Start to drop ``header``'s file from the page cache, in a thread, if an edit in place will make its data move.

    Args:
        header: The file that is about to be edited in place, with a few hundred bytes of keys more than it has.
        force: See ``edit_in_place``.
        moves: Whether data will move, if that is known; otherwise it is taken to where there is no slack at all.

    Returns:
        Whether that was started.
    """
    if moves is None:
        moves = PADDING not in header and header.data_offset - header.info_end < _LEAST_GROWTH
    start, end = header.data_offset + _READ_AGAIN, header.file_size - _READ_AGAIN
    if not moves or start >= end or not hasattr(os, "posix_fadvise"):
        return False
    try:
        if not os.access(header.path, os.W_OK) or (header.path.stat().st_nlink > 1 and not force):
            return False  # it will be refused
        if _file_system(header.stamp.device) not in _FILE_SYSTEMS:
            return False
        file = header.path.open("rb", buffering=0)
    except OSError:
        return False
    threading.Thread(target=_drop, args=(file, start, end), name=THREAD, daemon=True).start()
    return True


def _drop(file: BinaryIO, start: int, end: int) -> None:
    with file, contextlib.suppress(OSError):  # it is only to save time
        for stop in range(end, start, -_PIECE):  # the kernel itself begins at the other end
            begin = max(start, stop - _PIECE)
            os.posix_fadvise(file.fileno(), begin, stop - begin, os.POSIX_FADV_DONTNEED)


def _file_system(device: int) -> bytes:
    """The kind of file system that a device holds, as Linux calls it; empty where nobody tells."""
    wanted = f"{os.major(device)}:{os.minor(device)}".encode()
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        mount, _, kind = line.partition(b" - ")  # man 5 proc: the third field is the device
        if mount.split(b" ", 3)[2] == wanted:
            return kind.split(b" ", 1)[0]
    return b""
