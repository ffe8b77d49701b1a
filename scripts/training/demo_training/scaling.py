"""The demo model under position scaling, by transformers' own code where it has the method.

Only Ms-PoE is written out here (one ratio per KV head, arXiv 2403.04797): the card's figures must not depend on the
package that they are a yardstick for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama import modeling_llama

FIRST_LAYER = 2  # Ms-PoE leaves the first two layers alone


def rope_parameters(config: LlamaConfig, method: str, factor: float) -> dict[str, Any]:
    """The ``rope_parameters`` of ``none``, ``linear``, ``ntk`` or ``yarn``.

    Raises:
        ValueError: an unknown method.
    """
    theta = float(config.rope_parameters["rope_theta"])
    if method == "none":
        return {"rope_type": "default", "rope_theta": theta}
    if method == "ntk":
        return {"rope_type": "default", "rope_theta": theta * factor ** (config.head_dim / (config.head_dim - 2))}
    if method == "linear":
        return {"rope_type": "linear", "rope_theta": theta, "factor": factor}
    if method == "yarn":
        original = config.max_position_embeddings
        return {
            "rope_type": "yarn",
            "rope_theta": theta,
            "factor": factor,
            "original_max_position_embeddings": original,
        }
    raise ValueError(f"unknown method {method!r}")


def load_scaled(directory: Path, method: str, factor: float) -> LlamaForCausalLM:
    """The model in float32, its rope scaled."""
    config = LlamaConfig.from_pretrained(directory)
    config.rope_parameters = rope_parameters(config, method, factor)
    model = LlamaForCausalLM.from_pretrained(directory, config=config, dtype=torch.float32)
    return model.eval()


def _rotate(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1) -> tuple[Tensor, Tensor]:
    """Rotate q [B, heads, T, D] and k [B, kv heads, T, D] by cos and sin of [B, T, D] or [B, kv heads, T, D]."""
    if cos.ndim == 3:
        cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
    group = q.shape[1] // cos.shape[1] if cos.shape[1] > 1 else 1
    cos_q, sin_q = cos.repeat_interleave(group, 1), sin.repeat_interleave(group, 1)
    half = modeling_llama.rotate_half
    return q * cos_q + half(q) * sin_q, k * cos + half(k) * sin


@contextmanager
def ms_poe(model: LlamaForCausalLM, ratios: list[float]) -> Iterator[None]:
    """Divide positions by ``ratios[h]`` for KV head h, in the layers from ``FIRST_LAYER`` on."""
    divide = torch.tensor(ratios)[:, None, None]  # [kv heads, 1, 1]
    inv_freq = model.model.rotary_emb.inv_freq

    def per_head(module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        positions = kwargs["position_ids"][:, None, :, None]  # [B, 1, T, 1]
        angles = positions * inv_freq / divide  # [B, kv heads, T, D/2]
        angles = torch.cat([angles, angles], -1)
        return args, {**kwargs, "position_embeddings": (angles.cos(), angles.sin())}

    original = modeling_llama.apply_rotary_pos_emb
    hooks = [
        layer.self_attn.register_forward_pre_hook(per_head, with_kwargs=True)
        for layer in model.model.layers[FIRST_LAYER:]
    ]
    modeling_llama.apply_rotary_pos_emb = _rotate
    try:
        yield
    finally:
        modeling_llama.apply_rotary_pos_emb = original
        for hook in hooks:
            hook.remove()
