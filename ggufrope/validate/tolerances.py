"""How far FILE and reference may be apart, part by part, and how each number was measured.

A part is what makes FILE's side less exact than float32 arithmetic: the types of its matrices, a smaller KV cache,
flash attention. The limits of a run are put together from its parts: errors that know nothing of each other add up in
mean KL, and in squares in |Δ log p|.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["TOLERANCES", "Limits", "Tolerance", "limits", "parts", "weights_name", "why_not"]

_STEADY = 2048


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What one part adds.

    Attributes:
        name: e.g. ``F16 weights``, ``Q8_0 KV cache``.
        max_abs: of |Δ log p| over all positions and the whole vocabulary, up to 2048 positions; see ``limits``. None:
            it is not looked at, because it is no larger after a mistake than without one.
        mean_kl: of the mean KL(reference ‖ FILE), in nats: a small error everywhere moves it first. None: the part
            cannot be judged at all, because it moves this as much as a mistake does.
        measured: what was seen, on what.
        notices: the smallest mistake beyond the limit, on the demo model; where there is no limit, why.
        stored: torch's name of the type that the reference rounds its matrices to, or None.
    """

    name: str
    max_abs: float | None
    mean_kl: float | None
    measured: str
    notices: str
    stored: str | None = None


#: A file with any other type, or several, is reported and not judged, unless the caller gives a limit.
TOLERANCES = {
    t.name: t
    for t in (
        Tolerance(
            "F32 weights",
            2e-2,
            1e-6,
            "stories260K, 12 methods, 2000 tokens: 3e-5 to 3e-4, mean KL to 7e-11. The demo model, whose "
            "attention is sharp, 512 to 2000 tokens: 3e-4 to 1.3e-2, to 3e-8; against exact angles the reference's own "
            "float32 is 1e-2 off there. Random phi2: 3e-3, 1e-7, as llama.cpp looks GELU up in an F16 table.",
            "one head's ratio off by 0.1%: 1e-1, 7e-6",
        ),
        Tolerance(
            "F16 weights",
            5e-1,
            4e-5,
            "stories260K: 1.8e-2 to 3.8e-2, mean KL to 2.6e-6; demo model: 4e-2 to 2.2e-1, to 1.2e-5. All of it is "
            "llama.cpp's F16 arithmetic: stories260K's F16 weights expanded to F32 agree to 7e-5, and another batch "
            "size alone moves F16 by 2e-2. Against an F32 GGUF, whose weights are not rounded: the same.",
            "one head's ratio off by 1%: 8e-1, 5e-4",
            "float16",
        ),
        Tolerance(
            "BF16 weights",
            2.0,
            3e-3,
            "stories260K: 1.1e-1 to 2.3e-1, mean KL to 1.7e-4; demo model: 6e-1 to 9e-1, to 8e-4",
            "two heads' ratios swapped: 14, 2e-1",
            "bfloat16",
        ),
        Tolerance(
            "Q8_0 weights",
            None,
            3e-2,
            "7 methods, 512, 1024 and 2000 tokens. stories260K: 0.7 to 0.8, mean KL 1.6e-3 to 2e-3; demo model: 1.4 to "
            "6.4, 4e-3 to 1.1e-2. English text on stories260K: 0.7, 8e-4",
            "two heads' ratios swapped: 14, 2e-1; not 10% on one head (2, 9e-3)",
        ),
        Tolerance(
            "Q4_K_M weights",
            None,
            None,
            "as Q8_0. stories260K: 2.7 to 3.8, 3e-2 to 4e-2; demo model: 10 to 18, 0.4 to 0.83. English text on "
            "stories260K: 6, 2.5e-2",
            "swapping two heads' ratios moves mean KL from 0.74 to 0.87 on the demo model: no limit separates them",
        ),
        Tolerance(
            "Q8_0 weights as stored",
            None,
            2e-2,
            "as Q8_0 weights. stories260K: 0.4 to 0.6, mean KL 7e-4 to 9e-4; demo model: 1.1 to 7.0, 2e-3 to 6.5e-3",
            "two heads' ratios swapped: 14, 2e-1; not 10% on one head (2, 6e-3)",
        ),
        Tolerance(
            "Q4_K_M weights as stored",
            None,
            4e-2,
            "as Q8_0 weights. stories260K: 0.4 to 0.9, 7e-4 to 1e-3; demo model: 2.3 to 7.8, 5e-3 to 1.5e-2",
            "two heads' ratios swapped: 16, 3e-1; not 10% on one head (6, 2e-2)",
        ),
        Tolerance(
            "F16 KV cache",
            8e-1,
            6e-5,
            "7 methods, 512, 1024 and 2000 tokens, F32 weights. stories260K: 3e-2 to 7e-2, mean KL to 8e-6; demo "
            "model: 5e-2 to 3.9e-1, 7e-6 to 2.6e-5",
            "one head's ratio off by 1%: 8e-1, 5e-4",
        ),
        Tolerance(
            "Q8_0 KV cache",
            None,
            3e-2,
            "as F16, flash attention on. Demo model: 1.1 to 9.0, 3e-3 to 1.3e-2. (Heads of stories260K have 8 "
            "dimensions, too few for a block.)",
            "two heads' ratios swapped: 14, 2e-1; not 10% on one head (3, 9e-3)",
        ),
        Tolerance(
            "Q4_0 KV cache",
            None,
            None,
            "as Q8_0. Demo model: 12 to 20, 0.5 to 1.0",
            "swapping two heads' ratios moves mean KL from 0.68 to 0.79 on the demo model: no limit separates them",
        ),
        Tolerance(
            "flash attention",
            8e-1,
            6e-5,
            "as F16 KV cache, since it casts K and V to F16 (F32 and F16 caches give the same bits). stories260K: 3e-2 "
            "to 1e-1, mean KL to 8e-6; demo model: 6e-2 to 3.6e-1, 7e-6 to 1.7e-5",
            "one head's ratio off by 1%: 8e-1, 5e-4",
        ),
    )
}

#: Types that a quantized file of this name may be a mixture of: what llama-quantize falls back to where rows are no
#: multiple of 256, and what it leaves alone.
_PLAIN = {"F32", "F16"}
_MIXTURES = {
    "Q8_0": ({"Q8_0"}, _PLAIN),
    "Q4_K_M": ({"Q4_K", "Q6_K"}, _PLAIN | {"Q5_0", "Q8_0"}),
    "Q4_K_M without k-quants": ({"Q5_0", "Q8_0"}, _PLAIN),
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What one comparison is held to.

    Attributes:
        name: where they come from.
        max_abs: largest |Δ log p| allowed; None for any.
        mean_kl: largest mean KL allowed; None for any.
    """

    name: str
    max_abs: float | None
    mean_kl: float | None = None


def limits(names: Sequence[str], length: int, given: float | None = None) -> Limits | None:
    """The limits for ``length`` positions of a run with these ``parts``; None when it is not to be judged.

    Beyond 2048 positions the limit on |Δ log p| grows in proportion: in float32 both sides know an angle of p radians
    to p · 6e-8 only. ``given``, a limit on |Δ log p| from the caller, replaces everything.
    """
    if given is not None:
        return Limits("--tolerance", given)
    found = [TOLERANCES.get(name) for name in names]
    known = [t for t in found if t is not None and t.mean_kl is not None]
    if len(known) < len(found):
        return None
    squares = [None if t.max_abs is None else t.max_abs**2 for t in known]
    max_abs = None if None in squares else sum(s for s in squares if s) ** 0.5 * max(1.0, length / _STEADY)
    return Limits(" + ".join(names), max_abs, sum(t.mean_kl for t in known if t.mean_kl))


def why_not(names: Sequence[str]) -> str:
    """Why a run with these ``parts`` is not judged; empty when it is."""
    for name in names:
        found = TOLERANCES.get(name)
        if found is None:
            return f"there is no set limit for {name}"
        if found.mean_kl is None:
            stored = f"{name} as stored" in TOLERANCES
            remedy = "; --as-stored and a Hugging Face directory judge the rest" if stored else ""
            return f"{name} alone may be as far off as a mistake would be{remedy}"
    return ""


def parts(weights: Iterable[str], kv_type: str, flash_attn: bool) -> list[str]:
    """Names of the parts of a run.

    Args:
        weights: ``weights_name`` of each side that is a GGUF.
        kv_type: of FILE's cache.
        flash_attn: on FILE's side.
    """
    found = sorted({f"{name} weights" if " as " not in name else name for name in weights})
    if len(found) > 1 and "F32 weights" in found:
        found.remove("F32 weights")  # the arithmetic is counted with the others
    cache = [] if kv_type == "f32" else [f"{kv_type.upper()} KV cache"]
    return [*found, *cache, *(["flash attention"] if flash_attn else [])]


def weights_name(types: str, as_stored: bool = False) -> str:
    """The name in ``TOLERANCES``, without ``weights``, for ``weight_types``; the types themselves where there is none.

    ``as_stored``: the reference has the file's own quantized matrices.
    """
    kinds = set(types.split("+"))
    name = next((n for n, (needed, more) in _MIXTURES.items() if needed <= kinds <= needed | more), types)
    name = name.partition(" ")[0]
    return f"{name} weights as stored" if as_stored and name in _MIXTURES else name
