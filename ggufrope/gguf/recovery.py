"""What becomes of an edit in place that did not reach its end: undone, or finished where that is the only way.

Every step may itself be interrupted: the next attempt finds one of the same states again. ``docs/files.md`` lists them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from ..errors import GgufError, OutputError
from ..files import explain, write_all
from .extents import collapse_range, holes
from .journal import MOVED, MOVING, UNDOING, Change, Journal, forget_unfinished, journal_path
from .lock import lock
from .reading import fingerprint, read_some


def recover(path: Path) -> bool:
    """Bring a file whose edit was interrupted into order, and say so through the logger ``ggufrope``.

    Waits for an edit that is still running.

    Returns:
        Whether there was anything to do.

    Raises:
        GgufError: the journal does not belong to the file, or is damaged; both are left as they are.
        OutputError: the file or its directory cannot be written.
    """
    target = Path(os.path.realpath(path))
    if not os.path.exists(journal_path(target)):  # noqa: PTH110  # False for impossible names, too
        return False
    try:
        with target.open("r+b", buffering=0) as file:
            lock(file, alone=True)
            forget_unfinished(target)
            journal = Journal.read(target)
            if journal is None:  # it was running, and is done
                return True
            undone = settle(file, journal)
            journal.remove()
    except OSError as error:
        raise OutputError(
            f"{explain(error, path, 0)} (an interrupted edit of the file must be undone first)"
        ) from error
    import logging

    what = "undone: the file is as it was before" if undone else "finished"
    logging.getLogger("ggufrope").warning("%s: an edit of this file had been interrupted; it was %s", path, what)
    return True


def settle(file: BinaryIO, journal: Journal) -> bool:
    """Undo or finish the edit, durably; return whether it was undone. The journal is left to the caller to remove.

    Raises:
        GgufError: the file is in no state that this edit could have left.
        OSError: the system refused.
    """
    change = journal.change
    size = os.fstat(file.fileno()).st_size
    moved = MOVING in journal.marks and UNDOING not in journal.marks and change.shift
    if moved and change.shift < 0 and (size == change.middle_size + change.shift or _close(file, journal)):
        _require_same(file, journal, change.shift)
        _write(file, 0, change.new_head)
        os.fsync(file.fileno())
        return False
    if moved and change.shift > 0 and size == change.middle_size + change.shift and not _close(file, journal):
        raise _stranger(file, journal)
    least, most = min(change.kept, change.old_size), max(change.middle_size, change.old_size)
    if not least <= os.fstat(file.fileno()).st_size <= most:
        raise _stranger(file, journal)
    _require_same(file, journal, 0)
    if moved:
        os.fsync(file.fileno())
        journal = journal.mark(UNDOING)  # from here on the file's size says nothing about where the data is
    _write(file, change.head_start, change.old_head)
    _write(file, change.kept, change.old_tail)
    file.truncate(change.old_size)
    os.utime(file.name, ns=change.old_times)
    os.fsync(file.fileno())
    return True


def _close(file: BinaryIO, journal: Journal) -> bool:
    """Remove the hole that an insertion made, or that a removal was moving through the file; False if there is none.

    A power failure may catch the kernel between two of the extents that it moves. The hole then lies between those that
    have moved and those that have not, and removing it there gives the file without it, as from any other place.
    """
    change, descriptor = journal.change, file.fileno()
    length, size = abs(change.shift), os.fstat(descriptor).st_size
    if MOVED in journal.marks and change.shift > 0:
        _require_same(file, journal, change.shift)
        collapse_range(descriptor, 0, length)
        return True
    starts = [start for start, end in holes(descriptor, 0, size) if end - start >= length]
    if not starts or (change.holed and starts[0] != 0):
        return False
    collapse_range(descriptor, starts[0], length)
    return True


def _require_same(file: BinaryIO, journal: Journal, shift: int) -> None:
    """Check that this is the file that the journal was written for."""
    for start, length, digest in journal.change.samples:
        if fingerprint(read_some(file, start + shift, length)).hex() != digest:
            raise _stranger(file, journal)


def _stranger(file: BinaryIO, journal: Journal) -> GgufError:
    return GgufError(
        f"{file.name}: {journal.path.name} beside it tells of an interrupted edit, but of another file; if this one is "
        f"whole, delete {journal.path}, else put back the file that was edited"
    )


def _write(file: BinaryIO, start: int, data: bytes) -> None:
    file.seek(start)
    write_all(file, data)


def sample(file: BinaryIO, start: int, end: int) -> tuple[tuple[int, int, str], ...]:
    """A little of the data at either end; see ``Change.samples``."""
    spans = {start: min(_SAMPLE_BYTES, end - start), max(end - _SAMPLE_BYTES, start): min(_SAMPLE_BYTES, end - start)}
    return tuple((at, size, fingerprint(read_some(file, at, size)).hex()) for at, size in spans.items() if size > 0)


_SAMPLE_BYTES = 64 << 10

__all__ = ["Change", "recover", "sample", "settle"]
