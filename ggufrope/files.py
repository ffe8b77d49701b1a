"""Reading text, writing files whole or not at all, and locks: what every part of the package does with files.

Errors are ``InputError`` and ``OutputError``, one line each: which file, what was found, what helps.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ggufrope.errors import GgufropeError, InputError, OutputError
from ggufrope.text import size as human_size

__all__ = [
    "check_output",
    "decoded",
    "explain",
    "hold",
    "read_bytes",
    "read_json",
    "read_text",
    "real_path",
    "replacing",
    "stamp",
    "sync_directory",
    "try_lock",
    "write_all",
    "write_bytes",
]

_SUFFIX = ".ggufrope-tmp"
_MODE = 0o644  # of a new file, where nothing else is known
_POLL_SECONDS = 0.05
_BUSY = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK}


# --- reading ----------------------------------------------------------------------------------------------------------


def read_bytes(path: Path, error: type[GgufropeError] = InputError) -> bytes:
    """A file's bytes.

    Raises:
        InputError: it cannot be read; ``error`` in its place if given.
    """
    try:
        return path.read_bytes()
    except OSError as problem:
        raise error(f"{path}: cannot be read ({problem.strerror or problem}); check its name and permissions") from None


def stamp(path: Path) -> tuple[int, int]:
    """What tells a file from its earlier content, for caches: when it was changed, in nanoseconds, and its size.

    Raises:
        InputError: there is no such file.
    """
    try:
        state = path.stat()
    except OSError as problem:
        raise InputError(f"{path}: cannot be read ({problem.strerror}); check its name and permissions") from None
    return state.st_mtime_ns, state.st_size


def decoded(
    path: Path, data: bytes, *, empty: str = "", encoding: str = "utf-8", error: type[GgufropeError] = InputError
) -> str:
    """``data`` as text.

    Args:
        path: where it comes from, for messages.
        data: of a text file.
        empty: what to give in place of nothing but white space; without, that is a text like others.
        encoding: ``utf-8``, or ``utf-8-sig`` to leave out a mark in front.
        error: what to raise.

    Raises:
        InputError: it is not UTF-8, or empty; ``error`` in its place if given.
    """
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as problem:
        raise error(f"{path}: not UTF-8 text (byte {problem.start}); convert or unpack it first") from None
    if empty and not text.strip():
        raise error(f"{path}: is empty; {empty}")
    return text


def read_text(path: Path, *, empty: str = "", error: type[GgufropeError] = InputError) -> str:
    """A UTF-8 text file; its lines end as Python's do, whatever system wrote it.

    Raises:
        InputError: it cannot be read, is not UTF-8, or is empty; see ``decoded``.
    """
    text = decoded(path, read_bytes(path, error), empty=empty, error=error)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_json(path: Path, error: type[GgufropeError] = InputError) -> Any:
    """What a JSON file says.

    Raises:
        InputError: it cannot be read, is not UTF-8 or not JSON; ``error`` in its place if given.
    """
    import json

    text = read_text(path, error=error)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise error(f"{path}: not JSON ({problem}); correct it there, or make the file again") from None


# --- writing ----------------------------------------------------------------------------------------------------------


def check_output(output: Path, reads: Iterable[Path] = (), *, overwrite: bool = True) -> None:
    """Refuse an output that would harm a file or could not be written, before any work is done.

    Args:
        output: what will be written. A symlink stands for what it points to.
        reads: files that are read meanwhile.
        overwrite: whether ``output`` may be replaced.

    Raises:
        OutputError: ``output`` is one of ``reads``, no regular file, exists without ``overwrite``, or has no directory.
    """
    try:
        if not output.exists():
            _check_directory(output)
            return
        same = next((path for path in reads if path.exists() and output.samefile(path)), None)
    except OSError as error:
        raise OutputError(explain(error, output, 0)) from None
    if same is not None:
        other = "one that is" if str(same) == str(output) else f"{same}, which is"
        raise OutputError(f"{output}: is the same file as {other} read here; give another name")
    if not output.is_file():
        kind = "a directory, not a regular file" if output.is_dir() else "not a regular file"
        raise OutputError(f"{output}: is {kind}; give the name of the file to write")
    if not overwrite:
        raise OutputError(f"{output}: exists already; give another name, or --overwrite to replace it")


def _check_directory(output: Path) -> None:
    directory = real_path(output).parent if output.is_symlink() else output.parent
    if directory.is_dir():
        return
    if directory.exists():
        raise OutputError(f"{output}: {directory} is not a directory; give another name")
    raise OutputError(f"{output}: its directory does not exist; create {directory} first")


@contextlib.contextmanager
def replacing(out: Path, *, mode: int = _MODE, size: int = 0) -> Iterator[BinaryIO]:
    """Give a new file, unbuffered, that takes the place of ``out`` once it is complete and on disk.

    It has the permissions of the file that it replaces. Until then, and for good when anything is raised, ``out`` stays
    as it was. A symlink is followed: the file it points to is replaced. The new file is locked meanwhile; what a killed
    process left behind goes with the next one that writes here. Another program may write it, by its ``name``.

    Args:
        out: where the result goes.
        mode: permission bits where there is nothing to replace.
        size: bytes that will be written, for the message when there is no space.

    Raises:
        OutputError: the system refused to write.
    """
    try:
        target = real_path(out)
        if target.exists():
            mode = target.stat().st_mode
        file = _temporary(target)
        temporary = Path(file.name)
        try:
            with file:
                yield file
                os.fsync(file.fileno())
            temporary.chmod(stat.S_IMODE(mode) & 0o777)
            temporary.replace(target)
        except BaseException:  # KeyboardInterrupt too: never leave a partial file behind
            temporary.unlink(missing_ok=True)
            raise
        sync_directory(target.parent)
    except OSError as error:
        raise OutputError(explain(error, out, size)) from error


def write_bytes(out: Path, data: bytes) -> None:
    """Make ``data`` the content of ``out``, in one step; see ``replacing``.

    Raises:
        OutputError: the system refused to write.
    """
    with replacing(out, size=len(data)) as file:
        write_all(file, data)


def write_all(file: BinaryIO, data: bytes) -> None:
    """Write all of ``data`` to an unbuffered file, which may take it in several parts."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _temporary(target: Path) -> BinaryIO:
    """A new file beside ``target``, locked, so that nobody takes it for abandoned."""
    import tempfile  # late: an edit in place does without

    prefix = f".{target.name[:40]}."
    _remove_abandoned(target.parent, prefix)
    while True:
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=prefix, suffix=_SUFFIX)
        os.close(descriptor)
        file = Path(name).open("r+b", buffering=0)  # noqa: SIM115  # the caller's to close
        hold(file)
        if Path(name).exists():  # another process may have swept it away before it was locked
            return file
        file.close()


def _remove_abandoned(directory: Path, prefix: str) -> None:
    """Delete temporary files of processes that were killed; those of running ones are locked."""
    for path in directory.iterdir():
        if path.name.startswith(prefix) and path.name.endswith(_SUFFIX):
            with contextlib.suppress(OSError), path.open("rb") as file:
                if try_lock(file):
                    path.unlink()


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable, where the system can."""
    with contextlib.suppress(OSError):  # Windows and some network file systems cannot, and the file itself is synced
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def real_path(out: Path) -> Path:
    """``out`` with symlinks followed, as far as they lead."""
    return Path(os.path.realpath(out))  # Path.resolve raises RuntimeError for a symlink loop before Python 3.13


def explain(error: OSError, out: Path, size: int) -> str:
    """Say in one sentence why ``out`` cannot be written, and what helps; ``size`` is what would have been written."""
    import shutil

    directory, needed = real_path(out).parent, human_size(size)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        with contextlib.suppress(OSError):
            free = human_size(shutil.disk_usage(directory).free)
            return f"{out}: no space left: {needed} needed, {free} free in {directory}; free space or use another disk"
    found = {
        errno.EACCES: f"no permission to write in {directory}; choose another directory or change its permissions",
        errno.EPERM: f"no permission to write in {directory}; choose another directory or change its permissions",
        errno.EROFS: f"{directory} is read-only; choose another directory",
        errno.EFBIG: f"{needed} are more than the file system or `ulimit -f` allows; choose another disk or raise it",
        errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    }.get(error.errno or 0, f"{error.strerror or error}; choose another output")
    return f"{out}: cannot be written: {found}"


# --- locks ------------------------------------------------------------------------------------------------------------


def hold(file: BinaryIO, *, alone: bool = True, patience: float | None = None) -> bool:
    """Wait for a lock on an open file, which is then held until the file is closed.

    The locks are the operating system's, on the file itself: they end with the process that holds them, whatever
    becomes of it.

    Args:
        file: the file.
        alone: a lock that excludes all others; otherwise one that only excludes those.
        patience: seconds to wait for at most; None: as long as it takes.

    Returns:
        Whether the lock was to be had in that time.
    """
    end = None if patience is None else time.monotonic() + patience
    while not try_lock(file, alone=alone):
        if end is not None and time.monotonic() > end:
            return False
        time.sleep(_POLL_SECONDS)
    return True


if sys.platform == "win32":
    import msvcrt

    _FAR = 1 << 62  # behind any file's end: Windows refuses reads of a locked range

    def try_lock(file: BinaryIO, *, alone: bool = True) -> bool:
        """``hold`` without waiting: whether the lock was to be had."""
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

    def try_lock(file: BinaryIO, *, alone: bool = True) -> bool:
        """``hold`` without waiting: whether the lock was to be had."""
        try:
            fcntl.flock(file, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno not in _BUSY  # some network file systems have no locks at all
        return True
