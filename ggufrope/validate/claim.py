"""What a file claims to do, in the reference's terms."""

from __future__ import annotations

from ggufrope.errors import NotHonouredError
from ggufrope.methods import METHODS, Traits
from ggufrope.methods.head_order import STATIC
from ggufrope.modelfile.decoded import Decoded
from ggufrope.reference import ReferenceSpec
from ggufrope.rope.length_rows import row_for

__all__ = ["reference_spec", "require_static", "served_as"]


def reference_spec(decoded: Decoded) -> ReferenceSpec:
    """The setting that the file's ``ggufrope.method``, ``params`` and ``head_factors`` ask for.

    Only names and parameters are passed on, so that the reference computes every frequency by itself; the head ratios
    are data. A file without our keys claims to be what its ``config.json`` says, and so does a method that keeps
    the scaling which the model has.

    Raises:
        ParameterError: a method or parameter that the reference does not have.
        NotHonouredError: the file's head order follows the prompt.
    """
    require_static(decoded)
    ratios = decoded.table.head_ratios
    if not decoded.ours:
        return ReferenceSpec(head_ratios=ratios)
    head, _, base = decoded.method.partition("+")
    traits = METHODS[head].traits if head in METHODS else Traits()  # unknown ones are the reference's to refuse
    if base and traits.puts_on_top:
        return ReferenceSpec(base, decoded.params.get("base", {}), ratios)
    if traits.keeps_scaling:
        return ReferenceSpec(head_ratios=ratios)
    return ReferenceSpec(head, decoded.params, ratios)


def require_static(decoded: Decoded) -> None:
    """Refuse a head order that follows the prompt.

    Raises:
        NotHonouredError: it does.
    """
    if decoded.head_order != STATIC:
        raise NotHonouredError(
            f"heads are ordered anew for each prompt ({decoded.head_order}); validate compares orders that are in "
            "the file: convert it with --calibrate TEXT instead"
        )


def served_as(decoded: Decoded, length: int) -> int | None:
    """The length whose frequencies serve a text of ``length`` tokens: the point of its row. None: the text's own."""
    return row_for(decoded.table.length_points, length).point if decoded.by_length else None
