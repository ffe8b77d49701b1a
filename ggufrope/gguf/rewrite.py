"""Writing an edited copy of a GGUF file: a new header, then the tensor data, copied without passing through Python."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import GgufError
from ..files import write_all
from .header import Header
from .lock import lock
from .output import copy_range, replacing
from .reading import FileStamp
from .recovery import recover
from .rewrite_plan import Copy, Edits, RewritePlan, plan_rewrite

if TYPE_CHECKING:
    from typing_extensions import Unpack

Progress = Callable[[int, int], None]


def rewrite(
    header: Header, out: str | os.PathLike[str], *, progress: Progress | None = None, **edits: Unpack[Edits]
) -> None:
    """Write an edited copy of ``header``'s file to ``out``, which appears only when it is complete.

    Args:
        header: The source, from ``read_header``.
        out: Must not be the source; an existing file is replaced and keeps its permissions.
        progress: Called with (bytes written, bytes in total) after every part.
        **edits: See ``Edits``.

    Raises:
        OutputError: the result cannot be written; the source and any old output are untouched.
        GgufError: the source cannot be read, or changed meanwhile.
    """
    write_plan(header, plan_rewrite(header, **edits), out, progress=progress)


def write_plan(
    header: Header,
    plan: RewritePlan,
    out: str | os.PathLike[str],
    *,
    progress: Progress | None = None,
    replace_source: bool = False,
) -> None:
    """Carry out a plan that ``plan_rewrite`` made for ``header``; see ``rewrite``.

    Args:
        header: The source.
        plan: What to write.
        out: Where to.
        progress: See ``rewrite``.
        replace_source: ``out`` is the source; it is replaced once the copy is complete.
    """
    written = 0

    def report(count: int) -> None:
        nonlocal written
        written += count
        if progress is not None:
            progress(written, plan.size)

    recover(Path(out))  # what is replaced shall be a whole file, in case that this is interrupted
    with header.open() as source:
        lock(source, alone=replace_source)
        with replacing(Path(out), None if replace_source else header.path, plan.size, like=source) as file:
            for piece in (plan.header, *plan.body):
                if isinstance(piece, Copy):
                    copy_range(source, file, piece.start, piece.length, report)
                else:
                    write_all(file, piece)
                    report(len(piece))
            file.truncate(plan.size)  # it may end in a hole
            if FileStamp.of(source) != header.stamp:
                raise GgufError(f"{header.path}: the file changed while it was copied; wait until it is complete")
