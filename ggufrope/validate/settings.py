"""What a file claims to do, in the reference's terms."""

from __future__ import annotations

from ggufrope.codec import Decoded
from ggufrope.reference import ReferenceSpec

__all__ = ["reference_spec"]

_PER_HEAD = "ms-poe"


def reference_spec(decoded: Decoded) -> ReferenceSpec:
    """The setting that the file's ``ggufrope.method``, ``params`` and ``head_factors`` ask for.

    Only names and parameters are passed on, so that the reference computes every frequency by itself; the head ratios
    are data. A file without our keys claims to be what its ``config.json`` says, and so does plain ``ms-poe``, which
    keeps the model's own scaling.

    Raises:
        ParameterError: a method or parameter that the reference does not have.
    """
    ratios = decoded.table.head_ratios
    if not decoded.ours:
        return ReferenceSpec(head_ratios=ratios)
    head, _, base = decoded.method.partition("+")
    if head != _PER_HEAD:
        return ReferenceSpec(head, decoded.params, ratios)
    if not base:
        return ReferenceSpec(head_ratios=ratios)
    return ReferenceSpec(base, decoded.params.get("base", {}), ratios)
