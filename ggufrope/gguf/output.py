"""Writing a file that appears only when it is complete, and copying ranges as fast as the system can."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from ..errors import GgufError, OutputError
from ..text import size as human_size
from .extents import holes, start_writing
from .lock import lock, try_lock
from .reading import read_some
from .slack import BLOCK

CHUNK = 64 << 20  # between two progress reports
_BUFFER = 4 << 20
_WORTH_WRITING = 1 << 20
_SUFFIX = ".ggufrope-tmp"
# what a kernel or file system answers when it does not do this kind of copy between these two files
_UNSUPPORTED = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF, errno.ENOTSOCK}
_UNSUPPORTED.add(errno.EIO)  # the last means tells whether reading or writing failed


@contextlib.contextmanager
def replacing(out: Path, source: Path | None, size: int, like: BinaryIO) -> Iterator[BinaryIO]:
    """Give a new file that takes the place of ``out`` once it is complete and on disk.

    It has the permissions of the file it replaces, or of ``like``, and the times of ``like``. Until then, and for good
    when anything is raised, ``out`` stays as it was. A symlink is followed: the file it points to is replaced.

    Args:
        out: Where the result goes.
        source: The file that must not be overwritten; None when it may.
        size: Bytes that will be written, for the message when there is no space.
        like: The open file that the result comes from.

    Raises:
        OutputError: ``out`` is the source or not a regular file, or the system refused to write.
    """
    import tempfile  # late: an edit in place does without

    try:
        target, model = _target(out), os.fstat(like.fileno())
        mode = _check_target(out, target, source, model.st_mode)
        prefix = f".{target.name[:40]}."
        _remove_abandoned(target.parent, prefix)
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=prefix, suffix=_SUFFIX)
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb", buffering=0) as file:
                lock(file, alone=True)
                yield file
                os.fsync(file.fileno())
            temporary.chmod(mode)
            os.utime(temporary, ns=(model.st_atime_ns, model.st_mtime_ns))
            temporary.replace(target)
        except BaseException:  # KeyboardInterrupt too: never leave a partial file behind
            temporary.unlink(missing_ok=True)
            raise
        sync_directory(target.parent)
    except OSError as error:
        raise OutputError(explain(error, out, size)) from error


def move_into_place(file: Path, out: Path) -> None:
    """Give a finished file of the same file system the name ``out``, once it is on disk; see ``replacing``.

    Raises:
        OutputError: the system refused.
    """
    try:
        target = _target(out)
        with file.open("r+b") as finished:
            os.fsync(finished.fileno())
        file.replace(target)
        sync_directory(target.parent)
    except OSError as error:
        raise OutputError(explain(error, out, 0)) from error


def write_all(file: BinaryIO, data: bytes) -> None:
    """Write all of ``data`` to an unbuffered file, which may take it in several parts."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def copy_range(source: BinaryIO, out: BinaryIO, start: int, length: int, report: Callable[[int], None]) -> None:
    """Append ``length`` bytes of ``source`` to ``out``, by the fastest means that works.

    Holes are stepped over, also at the end: the caller sets the final size. ``report`` gets the size of each part.

    Raises:
        GgufError: the source ends too early.
        OSError: the system refused to write.
    """
    end = start + length
    for begin, after in [*holes(source.fileno(), start, end), (end, end)]:
        _copy(source, out, start, begin - start, report)
        if after > begin:
            out.seek(after - begin, os.SEEK_CUR)
            report(after - begin)
        start = after


def _copy(source: BinaryIO, out: BinaryIO, start: int, length: int, report: Callable[[int], None]) -> None:
    means, done = [_by_copy_file_range, _by_sendfile, _by_buffer], 0
    while done < length:
        # blocks can be shared between files, but whole ones only: copy what comes before the first one on its own
        part = min(CHUNK, length - done, -(start + done) % BLOCK or CHUNK)
        try:
            count = means[0](source, out, start + done, part)
        except OSError as error:
            if error.errno not in _UNSUPPORTED or len(means) == 1:
                raise
            count = 0
        if count:
            done += count
            if count >= _WORTH_WRITING:
                start_writing(out.fileno(), out.tell() - count, count)
            report(count)
        elif len(means) > 1:
            means.pop(0)
        else:
            raise GgufError(f"{source.name}: the file shrank while it was copied; wait until it is complete")


def _by_copy_file_range(source: BinaryIO, out: BinaryIO, start: int, length: int) -> int:
    """In the kernel; shares the blocks where the file system can."""
    if not hasattr(os, "copy_file_range"):  # only Linux has it
        return 0
    return os.copy_file_range(source.fileno(), out.fileno(), length, offset_src=start)


def _by_sendfile(source: BinaryIO, out: BinaryIO, start: int, length: int) -> int:
    if not hasattr(os, "sendfile"):  # Windows
        return 0
    return os.sendfile(out.fileno(), source.fileno(), start, length)


def _by_buffer(source: BinaryIO, out: BinaryIO, start: int, length: int) -> int:
    data = read_some(source, start, min(length, _BUFFER))
    write_all(out, data)
    return len(data)


def _target(out: Path) -> Path:
    return Path(os.path.realpath(out))  # Path.resolve raises RuntimeError for a symlink loop before Python 3.13


def _check_target(out: Path, target: Path, source: Path | None, default: int) -> int:
    """Refuse what must not be replaced; return the permission bits that the result gets."""
    if not target.exists():
        if not target.parent.is_dir():
            raise OutputError(f"{out}: {target.parent} is not a directory; create it first")
        return stat.S_IMODE(default) & 0o777
    if source and target.samefile(source):
        raise OutputError(f"{out}: is the same file as the source {source}; choose another output")
    if not target.is_file():
        kind = "a directory" if target.is_dir() else "not a regular file"
        raise OutputError(f"{out}: is {kind}; give the name of the file to write")
    return stat.S_IMODE(target.stat().st_mode) & 0o777


def _remove_abandoned(directory: Path, prefix: str) -> None:
    """Delete temporary files of processes that were killed; those of running ones are locked."""
    for path in directory.iterdir():
        if path.name.startswith(prefix) and path.name.endswith(_SUFFIX):
            with contextlib.suppress(OSError), path.open("rb") as file:
                if try_lock(file, alone=True):
                    path.unlink()


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable, where the system can."""
    with contextlib.suppress(OSError):  # Windows and some network file systems cannot, and the file itself is synced
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def explain(error: OSError, out: Path, size: int) -> str:
    """Say in one sentence why ``out`` cannot be written, and what helps; ``size`` is what would have been written."""
    import shutil

    directory, needed = _target(out).parent, human_size(size)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        with contextlib.suppress(OSError):
            free = human_size(shutil.disk_usage(directory).free)
            return (
                f"{out}: no space left: {needed} needed, {free} free in {directory}; make room or choose another disk"
            )
    found = {
        errno.EACCES: f"no permission to write in {directory}; choose another directory or change its permissions",
        errno.EPERM: f"no permission to write in {directory}; choose another directory or change its permissions",
        errno.EROFS: f"{directory} is read-only; choose another directory",
        errno.EFBIG: f"{needed} are more than the file system or `ulimit -f` allows; choose another disk or raise it",
        errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    }.get(error.errno or 0, f"{error.strerror or error}; choose another output")
    return f"{out}: cannot be written: {found}"
