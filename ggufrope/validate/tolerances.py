"""How far runtime and reference may be apart, by the type of the file's matrices, and how each number was measured."""

from __future__ import annotations

from dataclasses import dataclass

from ggufrope.gguf import Header
from ggufrope.gguf.ggml_types import GGML_TYPES

__all__ = ["TOLERANCES", "Limits", "Tolerance", "limits", "weight_types"]

_STEADY = 2048


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Two limits that must both hold, for files whose matrices are all of one type.

    Attributes:
        name: that type.
        max_abs: of |Δ log p| over all positions and the whole vocabulary, up to 2048 positions; see ``limits``.
        mean_kl: of the mean KL(reference ‖ runtime), in nats: a small error everywhere moves it first.
        stored: torch's name of the type that the reference rounds its matrices to, or None.
        measured: what was seen, on what.
    """

    name: str
    max_abs: float
    mean_kl: float
    stored: str | None
    measured: str


#: A file with any other type, or several, is reported and not judged, unless the caller gives a limit.
TOLERANCES = {
    t.name: t
    for t in (
        Tolerance(
            "F32",
            2e-2,
            1e-6,
            None,
            "stories260K, 12 methods, 2000 tokens: max |Δ| 3e-5 to 3e-4, mean KL to 7e-11. The demo model, whose "
            "attention is sharp, 1024 and 2000 tokens: 1e-3 to 5e-3, to 1e-8; against exact angles the reference's own "
            "float32 is 1e-2 off there. Random phi2: 3e-3, 1e-7, as llama.cpp looks GELU up in an F16 table. "
            "One head's ratio off by 0.1% on the demo model: 1e-1, 7e-6.",
        ),
        Tolerance(
            "F16",
            5e-1,
            4e-5,
            "float16",
            "stories260K: 1.8e-2 to 2.9e-2, mean KL to 1.3e-6; demo model: 7e-2 to 2.2e-1, to 1.2e-5. All of it is "
            "llama.cpp's F16 arithmetic: stories260K's F16 weights expanded to F32 agree to 7e-5, and another batch "
            "size alone moves F16 by 2e-2. One head's ratio off by 1% on the demo model: 8e-1, 5e-4.",
        ),
        Tolerance(
            "BF16",
            2.0,
            3e-3,
            "bfloat16",
            "stories260K: 1.1e-1 to 2.2e-1, mean KL to 8e-5; demo model: 6e-1 to 9e-1, to 8e-4. Two heads' ratios "
            "swapped on the demo model: 14, 2e-1.",
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What one comparison is held to.

    Attributes:
        name: where they come from.
        max_abs: largest |Δ log p| allowed.
        mean_kl: largest mean KL allowed; None for any.
    """

    name: str
    max_abs: float
    mean_kl: float | None = None


def limits(weights: str, length: int, given: float | None = None) -> Limits | None:
    """The limits for ``length`` positions of a file with these ``weight_types``; None when it is not to be judged.

    Beyond 2048 positions the limit on |Δ log p| grows in proportion: in float32 both sides know an angle of p radians
    to p · 6e-8 only. ``given``, a limit on |Δ log p| from the caller, replaces everything.
    """
    if given is not None:
        return Limits("--tolerance", given)
    if (named := TOLERANCES.get(weights)) is None:
        return None
    return Limits(f"{named.name} weights", named.max_abs * max(1.0, length / _STEADY), named.mean_kl)


def weight_types(header: Header) -> str:
    """Types of the file's matrices, e.g. ``F16`` or ``Q4_K+Q6_K``."""
    kinds = {GGML_TYPES[t.ggml_type].name for t in header.tensors if len([n for n in t.shape if n > 1]) > 1}
    return "+".join(sorted(kinds))
