"""Writing a file that appears only when it is complete, and copying ranges as fast as the system can."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from .. import files
from ..errors import GgufError, OutputError
from ..files import check_output, explain, real_path, sync_directory, write_all
from .extents import holes, start_writing
from .reading import read_some
from .slack import BLOCK

CHUNK = 64 << 20  # between two progress reports
_BUFFER = 4 << 20
_WORTH_WRITING = 1 << 20
# what a kernel or file system answers when it does not do this kind of copy between these two files
_UNSUPPORTED = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF, errno.ENOTSOCK}
_UNSUPPORTED.add(errno.EIO)  # the last means tells whether reading or writing failed


@contextlib.contextmanager
def replacing(out: Path, source: Path | None, size: int, like: BinaryIO) -> Iterator[BinaryIO]:
    """Give a new file that takes the place of ``out`` once it is complete and on disk.

    As ``files.replacing``; it has the permissions of the file it replaces, or of ``like``, and a time of its own: slack
    keeps sizes the same, so nothing but the time tells ``make``, ``cp -u`` and ``rsync`` that a file is another.

    Args:
        out: Where the result goes.
        source: The file that must not be overwritten; None when it may.
        size: Bytes that will be written, for the message when there is no space.
        like: The open file that the result comes from.

    Raises:
        OutputError: ``out`` is the source or not a regular file, or the system refused to write.
    """
    check_output(out, [source] if source else [])
    with files.replacing(out, mode=os.fstat(like.fileno()).st_mode, size=size) as file:
        yield file


def move_into_place(file: Path, out: Path) -> None:
    """Give a finished file of the same file system the name ``out``, once it is on disk; see ``replacing``.

    Raises:
        OutputError: the system refused.
    """
    try:
        target = real_path(out)
        with file.open("r+b") as finished:
            os.fsync(finished.fileno())
        file.replace(target)
        sync_directory(target.parent)
    except OSError as error:
        raise OutputError(explain(error, out, 0)) from error


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
