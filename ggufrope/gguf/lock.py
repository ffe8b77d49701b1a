"""Who may touch a file: readers together, an editor alone, and no editor while a server has it mapped.

The locks are the operating system's, on the file itself: they end with the process that holds them, whatever becomes
of it. Programs other than ggufrope do not ask for them; those that map a file are found in ``/proc``.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from pathlib import Path
from typing import BinaryIO

from ..errors import GgufError

#: How long another ggufrope process is waited for. Copies of large models take longer: then better say so.
WAIT_SECONDS = 10.0
_POLL_SECONDS = 0.05
_BUSY = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK}


def lock(file: BinaryIO, *, alone: bool) -> None:
    """Hold a lock on an open file until it is closed, waiting for other ggufrope processes if need be.

    Args:
        file: The file.
        alone: An editor's lock, which excludes all others; otherwise a reader's.

    Raises:
        GgufError: another process held on to it for more than ``WAIT_SECONDS``.
    """
    end = time.monotonic() + WAIT_SECONDS
    while not try_lock(file, alone):
        if time.monotonic() > end:
            raise GgufError(f"{file.name}: another ggufrope process is using the file; try again when it is done")
        time.sleep(_POLL_SECONDS)


def mapped_by(path: Path) -> list[str]:
    """Names of the running processes that have ``path`` mapped, each with its number; empty where nobody can tell.

    Only Linux tells, and only about the processes that this user may look at.
    """
    if sys.platform != "linux":
        return []
    status = path.stat()
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    # btrfs and overlays show other device numbers there; the name is right unless the file was renamed
    wanted = (f" {device} {status.st_ino} ".encode(), f" {os.path.realpath(path)}\n".encode())
    return [found for process in Path("/proc").glob("[0-9]*") if (found := _maps(process, wanted))]


def _maps(process: Path, wanted: tuple[bytes, bytes]) -> str:
    try:
        text = (process / "maps").read_bytes()
        if any(mark in text for mark in wanted):
            return f"{(process / 'comm').read_text().strip()} (process {process.name})"
    except OSError:  # it ended meanwhile, or is somebody else's
        pass
    return ""


if sys.platform == "win32":
    import msvcrt

    _FAR = 1 << 62  # behind any file's end: Windows refuses reads of a locked range

    def try_lock(file: BinaryIO, alone: bool) -> bool:
        """``lock`` without waiting: whether the lock was to be had."""
        if not alone:  # there are no readers' locks in msvcrt
            return True
        here = file.tell()
        file.seek(_FAR)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            file.seek(here)
        return True

else:
    import fcntl

    def try_lock(file: BinaryIO, alone: bool) -> bool:
        """``lock`` without waiting: whether the lock was to be had."""
        try:
            fcntl.flock(file, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno not in _BUSY  # some network file systems have no locks at all
        return True
