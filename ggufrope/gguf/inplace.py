"""Editing a file where it lies: its header is overwritten, and its data stays or moves by whole blocks without a copy.

``plan_rewrite`` decides what the result is, here as for a copy. If that is the old data with another header before it
and other tensors behind it, nothing but those is written.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ..errors import GgufError, OutputError
from ..files import explain, write_all
from .extents import UNSUPPORTED, collapse_range, holes, insert_range
from .header import Header
from .journal import MOVED, MOVING, Change, Journal, journal_path
from .lock import lock, mapped_by
from .reading import FileStamp, open_source, read_at
from .recovery import sample, settle
from .rewrite import Progress, write_plan
from .rewrite_plan import Copy, Edits, RewritePlan, plan_rewrite
from .slack import BLOCK, Layout

if TYPE_CHECKING:
    from typing_extensions import Unpack

_MAX_TAIL = 64 << 20  # more than any tensor of ours; what is longer is not worth a journal
_COMPARED = 64 << 10


@dataclass(frozen=True, slots=True)
class Edited:
    """What ``edit_in_place`` did.

    Attributes:
        how: One sentence about it.
        restored: See ``RewritePlan.restored``.
    """

    how: str
    restored: bool


class _NeedsCopyError(Exception):
    """The edit cannot be made in place, for the reason given."""


def edit_in_place(
    header: Header, *, force: bool = False, progress: Progress | None = None, **edits: Unpack[Edits]
) -> Edited:
    """Change ``header``'s file itself. Whatever happens meanwhile, it is the old or the new one afterwards.

    Where the new header does not fit into the old one's place and the system cannot insert space, a copy is written
    and takes the file's place. ``layout`` in ``edits`` means nothing here.

    Args:
        header: The file, from ``read_header``.
        force: Go on although the file has several names, or is mapped by a running program.
        progress: Told about a copy, if one has to be made.
        **edits: See ``Edits``.

    Raises:
        OutputError: the file cannot be written, has several names or is in use; it is as it was.
        GgufError: the file cannot be read, or changed meanwhile.
    """
    target = Path(os.path.realpath(header.path))
    if not force:
        _refuse_shared(header.path)
    plan = _plan(header, edits)
    try:
        how = _edit(header, target, plan)
    except _NeedsCopyError as reason:
        write_plan(header, plan, target, progress=progress, replace_source=True)
        how = f"rewritten, since {reason}"
    except OSError as error:
        raise OutputError(explain(error, header.path, plan.size)) from error
    return Edited(how, plan.restored)


def _plan(header: Header, edits: Edits) -> RewritePlan:
    """The plan whose data starts where the file's does, or as many blocks behind it as slack needs."""
    if not edits.get("restore"):
        edits["layout"] = Layout(header.data_offset, stay=True)
    return plan_rewrite(header, **edits)


def _edit(header: Header, target: Path, plan: RewritePlan) -> str:
    with _writable(header.path, target) as file:
        lock(file, alone=True)
        if journal_path(target).exists() or FileStamp.of(file) != header.stamp or not _is_named(file, target):
            raise GgufError(f"{header.path}: another process changed the file meanwhile; try again")
        change = _change(file, header, plan)
        journal = Journal.create(target, change)
        try:
            _carry_out(file, journal, change)
        except BaseException as error:
            undone = settle(file, Journal.read(target) or journal)  # with the marks that it has by now
            if undone and isinstance(error, OSError) and change.shift and error.errno in UNSUPPORTED:
                raise _NeedsCopyError(f"the system cannot insert space into it ({error.strerror})") from None
            if undone or not isinstance(error, OSError):
                raise
        finally:
            journal.remove()
    if not change.shift:
        return "the new header fits into the old one's place"
    verb, where = ("inserted", "behind") if change.shift > 0 else ("removed", "from")
    return f"{abs(change.shift) >> 10} KiB {verb} {where} the header"


def _writable(path: Path, target: Path) -> BinaryIO:
    try:
        return target.open("r+b", buffering=0)
    except PermissionError as error:
        problem = f"no permission to change the file ({error.strerror})"
        raise OutputError(f"{path}: {problem}; write a copy with -o, or change its permissions") from error


def _change(file: BinaryIO, header: Header, plan: RewritePlan) -> Change:
    """What has to be written to the file to make it the planned one."""
    old_size, start = header.stamp.size, header.data_offset
    shift = len(plan.header) - start
    data, *rest = plan.body or (b"",)
    if not header.tensors:
        raise _NeedsCopyError("it holds no tensors that could stay in place")
    if not isinstance(data, Copy) or data.start != start or shift % max(BLOCK, header.alignment):
        raise _NeedsCopyError("its data does not stay in one piece")
    kept = start + data.length
    tail = b"".join(read_at(file, p.start, p.length) if isinstance(p, Copy) else p for p in _limited(rest))
    if old_size - kept > _MAX_TAIL:
        raise _NeedsCopyError(f"more than {_MAX_TAIL >> 20} MiB at its end change")
    holed = any(end - begin >= BLOCK for begin, end in holes(file.fileno(), 0, old_size))
    if shift < 0 and holed:
        raise _NeedsCopyError("it is a sparse file, in which space cannot be removed safely")
    times = os.fstat(file.fileno())
    at, old, new = _difference(read_at(file, 0, start), plan.header) if not shift else (0, b"", plan.header)
    return Change(
        old_size=old_size,
        old_times=(times.st_atime_ns, times.st_mtime_ns),
        shift=shift,
        kept=kept,
        head_start=at,
        old_head=old or (read_at(file, 0, start) if shift else b""),
        new_head=new,
        old_tail=read_at(file, kept, old_size - kept),
        new_tail=tail,
        holed=holed,
        samples=sample(file, start, kept),
    )


def _carry_out(file: BinaryIO, journal: Journal, change: Change) -> None:
    file.seek(change.kept)
    write_all(file, change.new_tail)
    file.truncate(change.middle_size)
    if change.shift:
        os.fsync(file.fileno())
        journal.mark(MOVING)
        if change.shift > 0:
            insert_range(file.fileno(), change.shift)
        else:
            collapse_range(file.fileno(), 0, -change.shift)
        os.fsync(file.fileno())
        journal.mark(MOVED)
    file.seek(change.head_start)
    write_all(file, change.new_head)
    os.fsync(file.fileno())


def _limited(rest: list[Copy | bytes]) -> list[Copy | bytes]:
    if sum(piece.length if isinstance(piece, Copy) else len(piece) for piece in rest) > _MAX_TAIL:
        raise _NeedsCopyError(f"more than {_MAX_TAIL >> 20} MiB at its end change")
    return rest


def _difference(old: bytes, new: bytes) -> tuple[int, bytes, bytes]:
    """Where two headers of one length differ: an offset, and what either has there, to the nearest ``_COMPARED``."""
    differing = [at for at in range(0, len(old), _COMPARED) if old[at : at + _COMPARED] != new[at : at + _COMPARED]]
    if not differing:
        return 0, b"", b""
    first, last = differing[0], differing[-1] + _COMPARED
    return first, old[first:last], new[first:last]


def _is_named(file: BinaryIO, target: Path) -> bool:
    """Whether ``target`` still names the open file: another process may have replaced it before the lock was ours."""
    return os.path.samestat(target.stat(), os.fstat(file.fileno()))


def _refuse_shared(path: Path) -> None:
    with open_source(path) as file:
        names = os.fstat(file.fileno()).st_nlink
    if names > 1:
        raise OutputError(
            f"{path}: has {names} names (hard links), and an edit in place would change them all; "
            "write a copy with -o, or give --force"
        )
    if users := mapped_by(path):
        raise OutputError(
            f"{path}: {', '.join(users[:3])} has the file in use, and would read garbage; "
            "stop it, write a copy with -o, or give --force"
        )
