"""``ggufrope convert`` as one call: any source, checked, planned, and written unless it is a dry run."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ggufrope import hf
from ggufrope.convert import Plan, plan, write
from ggufrope.errors import InputError, OutputError, UsageError
from ggufrope.methods import check_name

__all__ = ["Request", "carry_out", "check_output"]


@dataclass(frozen=True, slots=True)
class Request:
    """What a person asked for; see ``ggufrope convert --help``."""

    source: Path
    output: Path | None
    method: str | None
    params: Mapping[str, Any] = field(default_factory=dict)
    context: int | None = None
    outtype: str | None = None
    require_patched: bool = False
    dry_run: bool = False
    overwrite: bool = False


def carry_out(request: Request, progress: Callable[[int, int], None] | None = None) -> tuple[Plan | None, list[str]]:
    """Convert.

    Args:
        request: what to do.
        progress: called with bytes done and in all.

    Returns:
        The plan (None when a Hugging Face directory needed nothing but llama.cpp's own conversion), and notes.

    Raises:
        GgufropeError: see ``errors``; nothing was written or lost.
    """
    if not request.source.exists():
        raise InputError(f"{request.source}: no such file or directory")
    if request.method is not None:
        check_name(request.method)
    if request.output is None and not request.dry_run:
        raise UsageError("no output given: add -o OUT.gguf, or --dry-run to see what would change")
    if request.output is not None and not request.dry_run:
        check_output(request.output, request.source, request.overwrite)
    return _from_directory(request, progress) if hf.is_checkpoint(request.source) else _from_gguf(request, progress)


def check_output(output: Path, source: Path, overwrite: bool) -> None:
    """Refuse an output that would harm a file, before any work is done.

    Raises:
        OutputError: ``output`` is the source, exists without ``overwrite``, or its directory does not.
    """
    if output.exists() and source.exists() and output.samefile(source):
        raise OutputError(f"{output}: output and source are the same file; give another name with -o")
    if output.exists() and not overwrite:
        raise OutputError(f"{output}: exists already; give another name, or --overwrite to replace it")
    if not output.parent.is_dir():
        raise OutputError(f"{output}: its directory does not exist; create {output.parent} first")


def _from_gguf(request: Request, progress: Callable[[int, int], None] | None) -> tuple[Plan, list[str]]:
    if request.method is None:
        raise UsageError("no method given: add --method M (`ggufrope methods` lists them)")
    if request.outtype:
        raise UsageError("--outtype is for Hugging Face directories; `ggufrope quantize` changes a GGUF's type")
    made = plan(request.source, request.method, request.params, request.context, request.require_patched)
    if not request.dry_run and request.output is not None:
        write(made, request.output, progress)
    return made, list(made.notes)


def _from_directory(request: Request, progress: Callable[[int, int], None] | None) -> tuple[Plan | None, list[str]]:
    from ggufrope.from_hf import planned

    out = request.output or Path(tempfile.gettempdir()) / "dry-run.gguf"
    asked = (request.method, request.params, request.context, request.outtype or "auto", request.require_patched)
    with planned(request.source, out, *asked) as (weights, made, notes):
        if not request.dry_run:
            if made is None:
                weights.replace(out)
            else:
                write(made, out, progress)
        return made, [*notes, *(made.notes if made else ())]
