"""``ggufrope convert`` as one call: check the request, prepare its source, plan, and write unless it is a dry run."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ggufrope.convert.prepared import Prepared, from_gguf
from ggufrope.convert.request import ConvertRequest, check_request
from ggufrope.convert.saving import Progress, Saved, outputs
from ggufrope.errors import GgufropeError, NotHonouredError, ParameterError, UnsupportedModelError
from ggufrope.files import check_output
from ggufrope.gguf import drop_ahead, move_into_place, recover

if TYPE_CHECKING:
    from ggufrope.calibrate.measure import Progress as Tokens
    from ggufrope.convert.conversion import Conversion

__all__ = ["ConvertRequest", "Converted", "carry_out"]

_WEIGHTS = re.compile(r"[^\s'\"]*\bweights\.gguf")  # see ``from_checkpoint``


@dataclass(frozen=True, slots=True)
class Converted:
    """A conversion that was carried out, or planned in a dry run.

    Attributes:
        plan: None when a Hugging Face directory needed nothing but llama.cpp's own conversion.
        notes: what a person should know, one sentence each.
        changes: ``Conversion.changes``, read before the source itself changed.
        saved: the result; None after a dry run.
        compared: see ``Prepared.compared``.
    """

    plan: Conversion | None
    notes: tuple[str, ...]
    changes: tuple[tuple[str, Any, Any], ...] = ()
    saved: Saved | None = None
    compared: str = ""


def carry_out(request: ConvertRequest, progress: Progress | None = None, reading: Tokens | None = None) -> Converted:
    """Convert.

    Args:
        request: what to do.
        progress: called with bytes done and in all.
        reading: called with tokens done and in all while heads are scored.

    Raises:
        GgufropeError: see ``errors``; nothing was written or lost.
    """
    check_request(request)
    try:
        return _carry_out(request, progress, reading)
    except (NotHonouredError, ParameterError, UnsupportedModelError) as error:  # which methods and tables raise
        raise _named(error, request).about(request.source) from error
    except GgufropeError as error:
        raise _named(error, request) from error


def _named(error: GgufropeError, request: ConvertRequest) -> GgufropeError:
    """``error`` with the source's name in place of the temporary file that a directory's weights are in."""
    message = _WEIGHTS.sub(lambda _: str(request.source), str(error)) if request.from_directory else str(error)
    return error if message == str(error) else type(error)(message)


def _carry_out(request: ConvertRequest, progress: Progress | None, reading: Tokens | None) -> Converted:
    with _prepared(request, reading) as ready:
        if request.edits_source:
            drop_ahead(ready.file.header, force=request.force)
        from ggufrope.convert.conversion import plan  # late: the kernel is at work meanwhile

        notes, conversion = (*ready.notes, *_about_files(request, ready)), ready.conversion
        if ready.method is not None:
            conversion = plan(ready.file, ready.method, ready.params, request.context, request.require_patched)
        changes = tuple(conversion.changes()) if conversion else ()
        saved = None if request.dry_run else _save(request, ready, conversion, progress)
    notes = (*notes, *(conversion.notes if conversion else ()))
    return Converted(conversion, notes, changes, saved, ready.compared)


def _prepared(request: ConvertRequest, reading: Tokens | None) -> AbstractContextManager[Prepared]:
    """The source; at the context's end a temporary file that was not moved is removed."""
    if request.from_directory:
        from ggufrope.convert.from_checkpoint import from_directory  # numpy and more, which --in-place has no time for

        return from_directory(request)
    return nullcontext(from_gguf(request, reading))


def _about_files(request: ConvertRequest, ready: Prepared) -> tuple[str, ...]:
    """What is to be said of parameters from files; another model's are refused."""
    if request.heads is None and request.table is None:
        return ()
    from ggufrope.convert.bound_files import about_files

    return about_files(request, ready.file)


def _save(
    request: ConvertRequest, ready: Prepared, conversion: Conversion | None, progress: Progress | None
) -> Saved | None:
    from ggufrope.convert.conversion import write, write_in_place

    if conversion is not None and request.in_place:
        return write_in_place(conversion, force=request.force, progress=progress)
    if request.output is None:  # refused by check_request
        return None
    if ready.temporary:
        if conversion is not None:
            write_in_place(conversion, progress=progress)  # the weights are ours alone: no second copy of them
        recover(request.output)  # or an old file's journal would speak of the new one
        move_into_place(ready.file.path, request.output)
        return Saved(request.output, False, "", False)
    if conversion is None:
        return None
    for name in outputs(conversion.source, request.output):
        check_output(name, [request.source], overwrite=request.overwrite)
    return write(conversion, request.output, progress)
