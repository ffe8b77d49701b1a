"""A base method as transformers' own rope settings (``config.rope_parameters``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import PreTrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from ggufrope.reference.declared import entries, of_kind
from ggufrope.reference.spec import ReferenceSpec

__all__ = [
    "frequencies_of",
    "ntk_base",
    "original_context",
    "own_factors",
    "rope_parameters",
    "rot_dim",
    "trained_frequencies",
]

#: Of parameters that transformers wants to be told.
_DEFAULTS: dict[str, dict[str, Any]] = {
    **{name: {"factor": 1.0} for name in ("linear", "ntk", "yarn")},
    "llama3": {"factor": 1.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
}

#: Types that llama.cpp's converter stores as factors of the model.
_STORED = ("llama3", "proportional")


def rot_dim(config: PreTrainedConfig) -> int:
    """How many dimensions of a head are rotated."""
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    rope = config.rope_parameters
    share = 1.0 if rope.get("rope_type") == "proportional" else rope.get("partial_rotary_factor", 1.0)
    return int(head_dim * share)


def ntk_base(base: float, factor: float, dim: int) -> float:
    """NTK-aware base: the slowest of ``dim/2`` pairs turns ``factor`` times slower, the fastest as before.

    From base'^((d-2)/d) = factor · base^((d-2)/d); YaRN (arXiv 2309.00071), section 3.1.
    """
    return float((base ** ((dim - 2) / dim) * factor) ** (dim / (dim - 2)))


def original_context(config: PreTrainedConfig, spec: ReferenceSpec) -> int:
    """The context before scaling: the parameter's, the one that the config's scaling declares, or the config's own.

    A llama3 model was trained for its whole context with that scaling.
    """
    rope = config.rope_parameters
    declared = None if rope.get("rope_type") in _STORED else rope.get("original_max_position_embeddings")
    return int(spec.params.get("original_context") or declared or config.max_position_embeddings)


def rope_parameters(config: PreTrainedConfig, spec: ReferenceSpec) -> dict[str, Any]:
    """What ``config.rope_parameters`` must be for ``spec``'s base method.

    The frequencies of a llama3 model count as the model's own (``own_factors``). ``config`` has one setting for all
    layers; see ``declared.flat``.
    """
    own = dict(config.rope_parameters)
    rotated = () if own.get("rope_type") == "proportional" else ("partial_rotary_factor",)
    kept = {k: own[k] for k in ("rope_theta", *rotated) if k in own}
    given: dict[str, Any] = {k: list(v) if isinstance(v, tuple) else v for k, v in spec.params.items() if v is not None}
    original = original_context(config, spec)
    for name in ("original_context", "dynamic", "granularity", "short_attention_factor"):  # for the caller, by length
        given.pop(name, None)
    if spec.method is None:
        return own
    given = {**_DEFAULTS.get(spec.method, {}), **given}
    if spec.method == "none" and "freq_base" in given:
        kept["rope_theta"] = given["freq_base"]
    if spec.method in ("none", "clex"):
        return {**kept, "rope_type": "default"}
    if spec.method == "dynamic-ntk":
        return {**kept, "rope_type": "dynamic", "factor": given.get("slope", 1.0)}
    if spec.method == "ntk":
        kept["rope_theta"] = ntk_base(kept["rope_theta"], given["factor"], rot_dim(config))
        return {**kept, "rope_type": "default"}
    if spec.method == "linear":
        return {**kept, "rope_type": "linear", **given}
    return {**kept, "rope_type": spec.method, "original_max_position_embeddings": original, **given}


def own_factors(config: PreTrainedConfig, spec: ReferenceSpec) -> Any:
    """Divisors that belong to the trained model and stay under a base method, ``(rot_dim/2,)``; None: there are none.

    Those of Llama 3.1, and the infinite ones of pairs that Gemma 4 does not rotate. llama.cpp's converter stores them
    as ``rope_freqs.weight`` (for some families only, which ``spec.own_factors`` says), and a method multiplies in.
    """
    kind = config.rope_parameters["rope_type"]
    if spec.method is None or not spec.own_factors or kind not in _STORED:
        return None
    scaled, _ = ROPE_INIT_FUNCTIONS[kind](config)
    plain = config.rope_parameters["rope_theta"] ** (-torch.arange(len(scaled), dtype=torch.float64) / len(scaled))
    return plain / scaled.double()


def trained_frequencies(config: PreTrainedConfig, spec: ReferenceSpec) -> dict[str, torch.Tensor]:
    """Radians per token before any method, ``(rot_dim/2,)``, by kind of layer: the base's, or the model's own factors'.

    Args:
        config: see ``declared.text_of``.
        spec: whose ``own_factors`` count.
    """
    found = {}
    for kind, rope in entries(config).items():
        one = of_kind(config, kind)
        if spec.own_factors and rope.get("rope_type") in _STORED:
            found[kind] = ROPE_INIT_FUNCTIONS[rope["rope_type"]](one)[0].double()
        else:
            pairs = rot_dim(one) // 2
            found[kind] = torch.as_tensor(rope["rope_theta"] ** (-torch.arange(pairs, dtype=torch.float64) / pairs))
    return found


def frequencies_of(trained: Mapping[str, torch.Tensor], kind: str) -> torch.Tensor:
    """Of a kind of layers; nothing where there is none for it."""
    return trained.get(kind, trained.get("", torch.empty(0)))
