"""``ggufrope convert`` as one call: any source, checked, planned, and written unless it is a dry run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ggufrope.convert import checkpoint
from ggufrope.convert.saving import Progress, Saved, outputs
from ggufrope.errors import InputError, UsageError
from ggufrope.files import check_output
from ggufrope.gguf import drop_ahead, move_into_place
from ggufrope.methods import METHODS, check_name, front_method
from ggufrope.modelfile.model_file import ModelFile

if TYPE_CHECKING:
    from ggufrope.calibrate.measure import Progress as Tokens
    from ggufrope.convert.conversion import Conversion

__all__ = ["ConvertRequest", "Converted", "carry_out"]


@dataclass(frozen=True, slots=True)
class ConvertRequest:
    """What a person asked for; see ``ggufrope convert --help``.

    ``heads`` is the file that ``params["head_ratios"]`` came from; ``texts`` what to calibrate on first.
    """

    source: Path
    output: Path | None
    method: str | None
    params: Mapping[str, Any] = field(default_factory=dict)
    context: int | None = None
    outtype: str | None = None
    require_patched: bool = False
    dry_run: bool = False
    overwrite: bool = False
    in_place: bool = False
    force: bool = False
    heads: Path | None = None
    texts: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Converted:
    """A conversion that was carried out, or planned in a dry run.

    Attributes:
        plan: None when a Hugging Face directory needed nothing but llama.cpp's own conversion.
        notes: what a person should know, one sentence each.
        changes: ``Conversion.changes``, read before the source itself changed.
        saved: the result; None after a dry run.
    """

    plan: Conversion | None
    notes: tuple[str, ...]
    changes: tuple[tuple[str, Any, Any], ...] = ()
    saved: Saved | None = None


def carry_out(request: ConvertRequest, progress: Progress | None = None, reading: Tokens | None = None) -> Converted:
    """Convert.

    Args:
        request: what to do.
        progress: called with bytes done and in all.
        reading: called with tokens done and in all while heads are scored.

    Raises:
        GgufropeError: see ``errors``; nothing was written or lost.
    """
    if not request.source.exists():
        raise InputError(f"{request.source}: no such file or directory")
    if request.method is not None:
        check_name(request.method)
    _check_target(request)
    if checkpoint.is_checkpoint(request.source):
        return _from_directory(request, progress)
    _check_options(request)
    file = ModelFile.open(request.source)
    request, order_notes = _with_order(request, file, reading)
    done = _from_gguf(request, file, progress)
    return replace(done, notes=(*order_notes, *done.notes))


def _check_target(request: ConvertRequest) -> None:
    if request.in_place and (request.output or checkpoint.is_checkpoint(request.source)):
        odd = "no -o" if request.output else "a GGUF, not a directory"
        raise UsageError(f"--in-place edits SRC itself: it takes {odd}")
    if request.force and not request.in_place:
        raise UsageError("--force goes with --in-place; to replace an output give --overwrite")
    if request.output is None and not request.dry_run and not request.in_place:
        raise UsageError("no output given: add -o OUT.gguf, --in-place, or --dry-run to see what would change")
    if request.output is not None and not request.dry_run:
        reads = (request.source, *request.texts, *((request.heads,) if request.heads else ()))
        check_output(request.output, reads, overwrite=request.overwrite)


def _check_options(request: ConvertRequest) -> None:
    """Refuse what no GGUF could be converted with, before one is opened."""
    if request.texts and not _calibrated(request.method):
        able = [cls.name for cls in METHODS.values() if cls.traits.calibrated]
        raise UsageError(
            f"--calibrate measures the head order of --method {' or '.join(f'{n} (or {n}+BASE)' for n in able)}"
        )
    if request.texts and request.heads:
        raise UsageError("--calibrate cannot be combined with --head-ratios: both set the ratio of every head")
    if request.method is None:
        raise UsageError("no method given: add --method M (`ggufrope methods` lists them)")
    if request.outtype:
        raise UsageError("--outtype is for Hugging Face directories; `ggufrope quantize` changes a GGUF's type")


def _calibrated(method: str | None) -> tuple[str, ...]:
    """The parameters that ``--calibrate`` takes for a method; none where it has nothing to measure."""
    return front_method(method).traits.calibrated if method else ()


def _with_order(
    request: ConvertRequest, file: ModelFile, reading: Tokens | None
) -> tuple[ConvertRequest, tuple[str, ...]]:
    """The request with ratios measured on its source, or given ones checked against it; and what to say of that."""
    if not request.texts:
        return request, _checked(request.heads, file)
    taken = _calibrated(request.method)
    from ggufrope.calibrate import CalibrateRequest, Ordering, calibrate

    given = {k: request.params[k] for k in taken if request.params.get(k) is not None}
    ordering = Ordering(order=given.pop("head_order", "code"), **given)
    done = calibrate(CalibrateRequest(file, request.texts, ordering=ordering), reading)
    agreement, _ = done.stability()
    params = {**request.params, **dict.fromkeys(taken), "head_ratios": done.ratios}
    said = f"head order '{ordering.order}' from {done.measured} prompts, whose mean rank correlation is {agreement:.2f}"
    return replace(request, params=params), (said,)


def _checked(heads: Path | None, model: ModelFile) -> tuple[str, ...]:
    if heads is None:
        return ()
    from ggufrope.calibrate import require_same_model

    return require_same_model(heads, model)


def _from_gguf(request: ConvertRequest, file: ModelFile, progress: Progress | None) -> Converted:
    in_place = request.in_place and not request.dry_run
    if in_place:
        drop_ahead(file.header, force=request.force)
    from ggufrope.convert.conversion import plan, write, write_in_place  # late: the kernel is at work meanwhile

    conversion = plan(file, str(request.method), request.params, request.context, request.require_patched)
    changes, saved = tuple(conversion.changes()), None
    if in_place:
        saved = write_in_place(conversion, force=request.force, progress=progress)
    elif request.output is not None and not request.dry_run:
        for name in outputs(conversion.source, request.output):
            check_output(name, [request.source], overwrite=request.overwrite)
        saved = write(conversion, request.output, progress)
    return Converted(conversion, conversion.notes, changes, saved)


def _from_directory(request: ConvertRequest, progress: Progress | None) -> Converted:
    import tempfile  # late: --in-place has no milliseconds to spare

    from ggufrope.convert.conversion import write_in_place
    from ggufrope.convert.from_checkpoint import planned

    # what is converted for a dry run without an output has to lie somewhere meanwhile
    out = request.output or Path(tempfile.gettempdir()) / "dry-run.gguf"
    arguments = (request.method, request.params, request.context, request.outtype or "auto", request.require_patched)
    if request.texts:
        raise UsageError("--calibrate runs a GGUF: convert the directory first, then calibrate the result")
    with planned(request.source, out, *arguments) as (weights, conversion, notes):
        all_notes = (*notes, *_checked(request.heads, weights), *(conversion.notes if conversion else ()))
        changes = tuple(conversion.changes()) if conversion else ()
        if request.dry_run:
            return Converted(conversion, all_notes, changes)
        if conversion is not None:
            write_in_place(conversion, progress=progress)  # the weights are ours alone: no second copy of them
        move_into_place(weights.path, out)
        return Converted(conversion, all_notes, changes, Saved(out, False, "", False))
