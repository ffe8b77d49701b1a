"""Where downloads and builds are kept, and a lock so that two builds do not step on each other."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ggufrope.errors import OutputError

__all__ = ["cache_dir", "locked", "replace_dir"]


def cache_dir() -> Path:
    r"""Directory of everything that can be made again: ``$GGUFROPE_CACHE``, else the platform's cache directory.

    Not created here. Linux and the BSDs: ``$XDG_CACHE_HOME/ggufrope`` or ``~/.cache/ggufrope``; macOS:
    ``~/Library/Caches/ggufrope``; Windows: ``%LOCALAPPDATA%\ggufrope``.
    """
    if override := os.environ.get("GGUFROPE_CACHE"):
        return Path(override).expanduser().absolute()
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg).expanduser().absolute() / "ggufrope"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "ggufrope"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "ggufrope"
    return Path.home() / ".cache" / "ggufrope"


@contextmanager
def locked(path: Path, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold an exclusive lock on ``path`` (created if missing); the operating system drops it when the process ends.

    Args:
        path: The lock file. It stays behind, empty.
        waiting: Called once, if another process holds the lock.

    Raises:
        OutputError: The cache directory cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror}; set GGUFROPE_CACHE to a directory you can write to") from error
    with file:
        if not _try_lock(file):
            if waiting is not None:
                waiting()
            _wait_lock(file)
        yield


def replace_dir(new: Path, final: Path) -> None:
    """Move the finished directory ``new`` to ``final``; what was there before is gone afterwards, never mixed in."""
    if final.exists():
        stale = final.with_name(f".{final.name}.old-{os.getpid()}")
        final.rename(stale)
        new.rename(final)
        remove_tree(stale)
    else:
        final.parent.mkdir(parents=True, exist_ok=True)
        new.rename(final)


def remove_tree(path: Path) -> None:
    """Delete a directory of ours if it is there. What cannot be deleted (in use on Windows) is left behind."""
    import shutil

    shutil.rmtree(path, ignore_errors=True)


if sys.platform == "win32":
    import msvcrt
    import time

    def _try_lock(file: IO[str]) -> bool:
        file.seek(0)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _wait_lock(file: IO[str]) -> None:
        while not _try_lock(file):
            time.sleep(0.5)

else:
    import fcntl

    def _try_lock(file: IO[str]) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def _wait_lock(file: IO[str]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX)
