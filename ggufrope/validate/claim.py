"""What a file claims to do, in the reference's terms."""

from __future__ import annotations

from ggufrope.errors import NotHonouredError
from ggufrope.modelfile.codec import Decoded
from ggufrope.reference import ReferenceSpec
from ggufrope.rope.length_rows import row_for

__all__ = ["reference_spec", "require_static", "served_as"]

_PER_HEAD = "ms-poe"


def reference_spec(decoded: Decoded) -> ReferenceSpec:
    """The setting that the file's ``ggufrope.method``, ``params`` and ``head_factors`` ask for.

    Only names and parameters are passed on, so that the reference computes every frequency by itself; the head ratios
    are data. A file without our keys claims to be what its ``config.json`` says, and so does plain ``ms-poe``, which
    keeps the model's own scaling.

    Raises:
        ParameterError: a method or parameter that the reference does not have.
        NotHonouredError: the file's head order follows the prompt.
    """
    require_static(decoded)
    ratios = decoded.table.head_ratios
    if not decoded.ours:
        return ReferenceSpec(head_ratios=ratios)
    head, _, base = decoded.method.partition("+")
    if head != _PER_HEAD:
        return ReferenceSpec(head, decoded.params, ratios)
    if not base:
        return ReferenceSpec(head_ratios=ratios)
    return ReferenceSpec(base, decoded.params.get("base", {}), ratios)


def require_static(decoded: Decoded) -> None:
    """Refuse a head order that follows the prompt.

    Raises:
        NotHonouredError: it does.
    """
    if decoded.head_order != "static":
        raise NotHonouredError(
            f"heads are ordered anew for each prompt ({decoded.head_order}); validate compares orders that are in "
            "the file: convert it with --calibrate TEXT instead"
        )


def served_as(decoded: Decoded, length: int) -> int | None:
    """The length whose frequencies serve a text of ``length`` tokens: the point of its row. None: the text's own."""
    return row_for(decoded.table.length_points, length).point if decoded.by_length else None
