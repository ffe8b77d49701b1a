"""A source made ready to be converted: an opened GGUF, and the method with the parameters that it gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ggufrope.modelfile.model_file import ModelFile

if TYPE_CHECKING:
    from ggufrope.calibrate.measure import Progress
    from ggufrope.convert.conversion import Conversion
    from ggufrope.convert.request import ConvertRequest

__all__ = ["Prepared", "from_gguf"]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A source, and what ``conversion.plan`` is to be called with for it, or was called with already.

    Attributes:
        file: the GGUF.
        method: the method's name; None where the file is right as it is, or ``conversion`` says what is done.
        params: the method's parameters by field name.
        notes: what a person should know, one sentence each.
        temporary: the file is the weights of a directory, written for this conversion alone.
        conversion: the plan, where finding the source's method was making it.
        compared: of a directory, with what its rotation was compared, or why not; empty for what replaces it.
    """

    file: ModelFile
    method: str | None
    params: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    temporary: bool = False
    conversion: Conversion | None = None
    compared: str = ""


def from_gguf(request: ConvertRequest, progress: Progress | None = None) -> Prepared:
    """Open the source of a request, a GGUF; with ``texts``, measure its heads first.

    Args:
        request: what to convert.
        progress: called with tokens done and in all while heads are scored.

    Raises:
        GgufropeError: see ``errors``.
    """
    file = ModelFile.open(request.source)
    return _calibrated(request, file, progress) if request.texts else Prepared(file, request.method, request.params)


def _calibrated(request: ConvertRequest, file: ModelFile, progress: Progress | None) -> Prepared:
    """The request's method with ratios that are measured on its source."""
    from ggufrope.calibrate import CalibrateRequest, Ordering, calibrate

    taken = request.calibrated
    given = {k: request.params[k] for k in taken if request.params.get(k) is not None}
    ordering = Ordering(order=given.pop("head_order", "code"), **given)
    done = calibrate(CalibrateRequest(file, request.texts, ordering=ordering), progress)
    agreement, _ = done.stability()
    params = {**request.params, **dict.fromkeys(taken), "head_ratios": done.ratios}
    note = f"head order '{ordering.order}' from {done.measured} prompts, whose mean rank correlation is {agreement:.2f}"
    return Prepared(file, request.method, params, (note,))
