"""A base method as transformers' own rope settings (``config.rope_parameters``)."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from ggufrope.errors import UnsupportedModelError
from ggufrope.reference.spec import ReferenceSpec

__all__ = ["ntk_base", "original_context", "own_factors", "rope_parameters", "rot_dim"]


def rot_dim(config: PreTrainedConfig) -> int:
    """How many dimensions of a head are rotated."""
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(head_dim * config.rope_parameters.get("partial_rotary_factor", 1.0))


def ntk_base(base: float, factor: float, dim: int) -> float:
    """NTK-aware base: the slowest of ``dim/2`` pairs turns ``factor`` times slower, the fastest as before.

    From base'^((d-2)/d) = factor · base^((d-2)/d); YaRN (arXiv 2309.00071), section 3.1.
    """
    return float((base ** ((dim - 2) / dim) * factor) ** (dim / (dim - 2)))


def original_context(config: PreTrainedConfig, spec: ReferenceSpec) -> int:
    """The context before scaling: the parameter's, the one that the config's scaling declares, or the config's own."""
    declared = config.rope_parameters.get("original_max_position_embeddings")
    return int(spec.params.get("original_context") or declared or config.max_position_embeddings)


def rope_parameters(config: PreTrainedConfig, spec: ReferenceSpec) -> dict[str, Any]:
    """What ``config.rope_parameters`` must be for ``spec``'s base method.

    The frequencies of a llama3 model count as the model's own (``own_factors``).
    """
    own = dict(config.rope_parameters)
    kept = {k: own[k] for k in ("rope_theta", "partial_rotary_factor") if k in own}
    given: dict[str, Any] = {k: list(v) if isinstance(v, tuple) else v for k, v in spec.params.items() if v is not None}
    original = original_context(config, spec)
    for name in ("original_context", "dynamic", "granularity"):  # which row serves is for the caller to say
        given.pop(name, None)
    if spec.method is None:
        return own
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
    """Divisors that belong to the trained model and stay under any base method: Llama 3.1's. None when it has none.

    A tensor of shape ``(rot_dim/2,)``. llama.cpp stores them as ``rope_freqs.weight`` and multiplies the method's in.

    Raises:
        UnsupportedModelError: LongRoPE over a llama3 model, which nobody has defined.
    """
    if spec.method is None or config.rope_parameters["rope_type"] != "llama3":
        return None
    if spec.method == "longrope":
        raise UnsupportedModelError("longrope over a model with llama3 frequencies has no reference")
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config)
    dim = rot_dim(config)
    plain = config.rope_parameters["rope_theta"] ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    return plain / scaled.double()
