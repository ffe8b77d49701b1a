"""Whether the disk can take what is about to be written: said before anything starts. And folders on it."""

from __future__ import annotations

import shutil
from pathlib import Path

from ggufrope.errors import OutputError
from ggufrope.text import size

__all__ = ["made_folder", "require_space"]

#: Left free for everybody else.
_MARGIN = 200_000_000


def require_space(folder: Path, need: int, what: str) -> None:
    """Refuse what does not fit.

    Args:
        folder: where it will be written; need not exist yet.
        need: bytes; 0 always fits.
        what: for the message.

    Raises:
        OutputError: too little is free; says how much is needed, and how much there is.
    """
    free = shutil.disk_usage(_existing(folder)).free
    if need and need + _MARGIN > free:
        raise OutputError(
            f"{folder}: {what} need {size(need + _MARGIN)}, and {size(free)} are free; nothing was written: free some "
            "space, or set XDG_CACHE_HOME to a directory on another disk"
        )


def made_folder(path: Path) -> Path:
    """A folder of the cache, made if it is not there.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be made ({error.strerror}); set XDG_CACHE_HOME to another directory"
        ) from None
    return path


def _existing(folder: Path) -> Path:
    """``folder``, or the nearest directory above it that is there."""
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    return there
