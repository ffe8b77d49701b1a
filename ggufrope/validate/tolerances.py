"""How far runtime and reference may be apart, by the type of the file's matrices, and how each number was measured."""

from __future__ import annotations

from dataclasses import dataclass

from ggufrope.gguf import Header
from ggufrope.gguf.ggml_types import GGML_TYPES

__all__ = ["TOLERANCES", "Limits", "Tolerance", "limits", "tolerance_for", "weight_types"]

_STEADY = 2048
_GELU = frozenset({"phi2"})  # of the architectures that the reference knows


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Two limits that must both hold, for files whose matrices are all of one type.

    Attributes:
        name: that type, and what else sets such files apart.
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
            1e-3,
            1e-8,
            None,
            "stories260K with every method, 2000 pseudo-random tokens: max |Δ| 3e-5 to 3e-4, mean KL 2e-12 to 7e-11; "
            "Ms-PoE over 6000: 1.4e-3 and 7e-10. Random llama, qwen2, qwen3 and phi3 models with none, ms-poe and "
            "ms-poe+yarn, 600 tokens: 3e-5 to 4e-4, mean KL up to 2e-10.",
        ),
        Tolerance(
            "F32 with GELU",
            1e-2,
            1e-6,
            None,
            "a random phi2 model with none, ms-poe and ms-poe+yarn, 600 tokens: max |Δ| 2.3e-3 to 3.0e-3, mean KL "
            "1.2e-7. llama.cpp's CPU backend looks GELU up in an F16 table; rounded alike, mean KL is 2e-9.",
        ),
        Tolerance(
            "F16",
            1e-1,
            5e-6,
            "float16",
            "stories260K, four methods, 1000 and 2000 tokens: max |Δ| 1.8e-2 to 2.9e-2, mean KL 0.8e-6 to 1.3e-6. All "
            "of it is llama.cpp's F16 arithmetic: the same weights expanded to F32 agree to 7e-5, and another batch "
            "size alone moves F16 by 2e-2. One head's ratio off by 1%: max |Δ| 4e-1.",
        ),
        Tolerance(
            "BF16",
            6e-1,
            2.5e-4,
            "bfloat16",
            "the same: max |Δ| 1.1e-1 to 2.2e-1, mean KL 5e-5 to 8e-5. Two heads' ratios swapped: 1.4 and 1e-3.",
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


def tolerance_for(weights: str, arch: str) -> Tolerance | None:
    """The tolerance for a file with these ``weight_types``; None when there is none."""
    return TOLERANCES.get(f"{weights} with GELU" if weights == "F32" and arch in _GELU else weights)


def limits(named: Tolerance | None, length: int, given: float | None = None) -> Limits | None:
    """What ``length`` positions are held to; None when they are not to be judged.

    Beyond 2048 positions the limit on |Δ log p| grows in proportion: in float32 both sides know an angle of p radians
    to p · 6e-8 only. ``given``, a limit on |Δ log p| from the caller, replaces everything.
    """
    if given is not None:
        return Limits("--tolerance", given)
    if named is None:
        return None
    return Limits(f"{named.name} weights", named.max_abs * max(1.0, length / _STEADY), named.mean_kl)


def weight_types(header: Header) -> str:
    """Types of the file's matrices, e.g. ``F16`` or ``Q4_K+Q6_K``."""
    kinds = {GGML_TYPES[t.ggml_type].name for t in header.tensors if len([n for n in t.shape if n > 1]) > 1}
    return "+".join(sorted(kinds))
