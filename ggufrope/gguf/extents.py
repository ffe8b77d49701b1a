"""Inserting and removing whole blocks of a file without moving its data: Linux's ``fallocate`` on ext4 and XFS."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from typing import Any

_COLLAPSE, _INSERT = 0x08, 0x20  # FALLOC_FL_*_RANGE in linux/falloc.h
_WRITE = 0x02  # SYNC_FILE_RANGE_WRITE

#: What a system answers that cannot do this to this file.
UNSUPPORTED = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.ENOTTY}


def insert_range(descriptor: int, length: int) -> None:
    """Move all of a file ``length`` bytes back; a hole remains in front.

    Raises:
        OSError: ``errno`` is in ``UNSUPPORTED`` where the system cannot do it.
    """
    _fallocate(descriptor, _INSERT, 0, length)


def collapse_range(descriptor: int, start: int, length: int) -> None:
    """Remove ``length`` bytes at ``start``; raises what ``insert_range`` raises."""
    _fallocate(descriptor, _COLLAPSE, start, length)


def start_writing(descriptor: int, start: int, length: int) -> None:
    """Ask the system to begin writing a range to disk, so that a later sync has less to wait for; no promise."""
    if sys.platform == "linux" and (call := getattr(_libc(), "sync_file_range", None)):
        call(descriptor, _int64(start), _int64(length), _WRITE)


def holes(descriptor: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    """(start, end) of every range between ``start`` and ``end`` that takes no space on disk; nothing where unknown."""
    if not hasattr(os, "SEEK_HOLE"):
        return
    size = os.fstat(descriptor).st_size
    end = min(end, size)
    while start < end:
        hole = os.lseek(descriptor, start, os.SEEK_HOLE)
        if hole >= end:
            return
        try:
            start = os.lseek(descriptor, hole, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            start = size  # there is no data behind it
        yield hole, min(start, end)


def _fallocate(descriptor: int, mode: int, start: int, length: int) -> None:
    if sys.platform != "linux":
        raise OSError(errno.EOPNOTSUPP, "this system cannot insert space into a file")
    libc = _libc()
    call = getattr(libc, "fallocate64", None) or libc.fallocate  # musl's off_t has 64 bits everywhere
    if call(descriptor, mode, _int64(start), _int64(length)):
        from ctypes import get_errno

        code = get_errno()
        raise OSError(code, os.strerror(code))


def _libc() -> Any:
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


def _int64(value: int) -> Any:
    import ctypes

    return ctypes.c_int64(value)
