"""What a person should know of a planned conversion, one sentence each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ggufrope.gguf import keys
from ggufrope.methods.fitted import FittedMethod
from ggufrope.modelfile.edited import EditedSource
from ggufrope.modelfile.encoded import Edit
from ggufrope.rope.model import ModelRope
from ggufrope.rope.stock import StockRope
from ggufrope.rope.table import RopeTable

__all__ = ["conversion_notes"]


def conversion_notes(
    mended: EditedSource, fitted: FittedMethod, edit: Edit, *, of_converter: bool = False
) -> Iterator[str]:
    """Notes on a conversion.

    Args:
        mended: the file, with its repairs.
        fitted: the method that it gets.
        edit: what changes.
        of_converter: the file is what llama.cpp's converter wrote just now: its scaling is none that people know of.
    """
    model, current, keeps_scaling = fitted.model, mended.stock, fitted.keeps_scaling
    points = edit.set[keys.LENGTH_POINTS].value if keys.LENGTH_POINTS in edit.set else ()
    by_length = len(points) > 1
    if mended.source.converted:
        yield "the file was converted before; this starts again from its recorded original"
    yield from fitted.method.notes(model)
    if model.has_windows and by_length:
        yield f"{sum(model.sliding)} sliding-window layers keep their rotation at every length"
    elif model.has_windows and not keeps_scaling:
        yield from _of_windows(fitted)
    if model.own_factors:
        yield f"the model's own {keys.ROPE_FREQS} stays and multiplies into the new factors"
    if not (keeps_scaling or of_converter):
        untouched = not edit.remove and all(k in keys.OURS for k in edit.set)
        yield from _of_what_is_replaced(model, current, kept=untouched or bool(len(points) and current.long))
    if by_length:
        yield (
            f"{len(points)} rows of factors, for lengths to {_listed(points)}; when a text "
            "reaches the next one, cached keys are re-rotated"
        )
    elif keys.ROPE_LONG in edit.tensors or current.long:
        yield "short or long factors are chosen by the allocated context, not by the length in use"
    if fitted.context < (before := mended.model.train_ctx):
        yield f"the context shrinks from {before} to {fitted.context} tokens (--context sets a longer one)"


def _of_windows(fitted: FittedMethod) -> Iterator[str]:
    """What one row for all lengths does in layers with a sliding window."""
    windows, plain = fitted.table.of_sliding, RopeTable.identity(fitted.model.of_sliding)
    if fitted.table.without_heads().without_sliding().close_to(RopeTable.identity(fitted.model).without_sliding()):
        return
    does = "keep their rotation" if windows.close_to(plain) else "are scaled too"
    yield f"{sum(fitted.model.sliding)} sliding-window layers {does}, as is {fitted.model.arch}'s rule"


def _of_what_is_replaced(model: ModelRope, current: StockRope, *, kept: bool) -> Iterator[str]:
    if current.scaling_type and not kept:
        yield f"replaces the file's {current.scaling_type} scaling (factor {current.factor:g})"
    if current.factor != 1.0 and current.original_ctx is None:
        yield (
            f"the file does not say what its context was before scaling; {model.original_ctx} is assumed "
            "(--original-context sets it)"
        )


def _listed(points: Sequence[int]) -> str:
    shown = [str(p) for p in points]
    return ", ".join(shown if len(shown) <= 4 else (*shown[:2], "...", shown[-1]))
