"""Where downloads and builds are kept, and a lock so that two builds do not step on each other."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ggufrope.errors import OutputError
from ggufrope.files import hold, try_lock

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
        file = path.open("ab+")
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror}; set GGUFROPE_CACHE to a directory you can write to") from error
    with file:
        if not try_lock(file):
            if waiting is not None:
                waiting()
            hold(file)
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
