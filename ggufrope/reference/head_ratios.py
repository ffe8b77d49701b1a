"""Ms-PoE on a transformers model: every KV head, with its group of query heads, sees positions divided by its ratio.

Ms-PoE (arXiv 2403.04797), section 3.2: the position p of head h becomes p / r_h before the rotation. Positions only
enter through p · frequency, so this composes with any base scaling: angle = p · frequency_i / r_h, and the base's
attention factor multiplies cos and sin as before.

Ratios may be for slow pairs only (``from_wavelength``): then pair i has a divisor of its own, see ``part_factors``.

Deviation: with grouped queries one cached K serves several query heads, and q·k depends on the distance alone only if
both were rotated by one ratio, so a ratio belongs to a KV head and query head h takes that of KV head ``h // group``.

How: transformers hands one pair of cos and sin to all layers, without a head axis. A layer with ratios gets cos = 1 and
sin = 0 instead, and its projections are rotated here, as soon as they are computed. So the attention itself stays
transformers' own, and un-rotated queries and keys are at hand for scoring heads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ggufrope.errors import ParameterError, UnsupportedModelError
from ggufrope.reference.spec import ReferenceSpec

__all__ = ["PROJECTIONS", "HeadRotation", "neutral", "part_factors", "rotate"]

#: By ``model_type``: the submodules of ``self_attn`` whose outputs are about to be rotated. A fused projection holds
#: queries, keys and values, in this order.
PROJECTIONS: dict[str, tuple[str, ...]] = {
    "llama": ("q_proj", "k_proj"),
    "mistral": ("q_proj", "k_proj"),
    "qwen2": ("q_proj", "k_proj"),
    "qwen3": ("q_norm", "k_norm"),
    "phi": ("q_proj", "k_proj"),
    "phi3": ("qkv_proj",),
}


def part_factors(ratios: Sequence[float], frequencies: Tensor, from_wavelength: float) -> Tensor:
    """What divides the frequency of each pair of heads with these ratios, ``(heads, rot_dim/2)``, or ``(heads, 1)``.

    By parts, as YaRN (arXiv 2309.00071, section 3.2): with wavelength λ, a pair keeps its frequency where λ ≤ W, has
    that of the ratio where λ ≥ 2W, and mixes both frequencies in between, by log2(λ/W).

    Args:
        ratios: of the heads.
        frequencies: ``(rot_dim/2,)`` radians per token that the model was trained with.
        from_wavelength: W in tokens; 0: the ratio is for all pairs.
    """
    rows = torch.tensor(ratios, dtype=torch.float64)[:, None]
    if not from_wavelength:
        return rows
    octaves = (2 * torch.pi / frequencies.double()).log2() - math.log2(from_wavelength)
    share = octaves.clamp(0.0, 1.0)
    return 1 / (1 - share + share / rows)


def rotate(x: Tensor, positions: Tensor, frequencies: Tensor, ratios: Tensor, scale: float) -> Tensor:
    """Rotate pairs (i, i + rot_dim/2) of each head by position · frequency / ratio.

    Args:
        x: ``(batch, length, heads, head_dim)``; dimensions from rot_dim on pass through.
        positions: ``(length,)``.
        frequencies: ``(rot_dim/2,)`` radians per token.
        ratios: ``(heads,)``, or ``(heads, rot_dim/2)`` where pairs differ.
        scale: multiplies cos and sin.

    Angles are as precise as ``x``. In float32, as in transformers and the authors' program, 2000 radians are known to
    1e-4 only; a float64 model has exact ones.
    """
    n = len(frequencies)
    heads = []
    for head, ratio in enumerate(ratios.to(x.dtype)):  # one head at a time: O(length · rot_dim), not times heads
        angle = positions.to(x.dtype)[:, None] / ratio * frequencies.to(x.dtype)
        cos, sin = angle.cos() * scale, angle.sin() * scale
        first, second, rest = x[:, :, head, :n], x[:, :, head, n : 2 * n], x[:, :, head, 2 * n :]
        heads.append(torch.cat((first * cos - second * sin, second * cos + first * sin, rest), dim=-1))
    return torch.stack(heads, dim=2)


class HeadRotation:
    """Per-head ratios on a loaded model, from construction until ``remove``."""

    def __init__(
        self,
        model: Any,
        ratios: tuple[tuple[float, ...], ...],
        trained: Tensor | None = None,
        from_wavelength: float = 0.0,
    ) -> None:
        """Hook ``model`` (a transformers causal model of a type in ``PROJECTIONS``).

        Args:
            model: what is hooked.
            ratios: for each layer one for each KV head.
            trained: ``part_factors``' frequencies; needed with ``from_wavelength``.
            from_wavelength: see ``part_factors``.

        Raises:
            UnsupportedModelError: another type of model.
            ParameterError: ratios of the wrong shape.
        """
        config, layers = model.config, model.base_model.layers
        if config.model_type not in PROJECTIONS or getattr(config, "qk_layernorm", False):
            raise UnsupportedModelError(
                f"the reference has no Ms-PoE for {config.model_type}; it has {', '.join(PROJECTIONS)} "
                "(without qk_layernorm)"
            )
        n_kv = config.num_key_value_heads
        if len(ratios) != len(layers) or any(len(row) != n_kv for row in ratios):
            raise ParameterError(
                f"head ratios: {len(ratios)} layers of {sorted({len(r) for r in ratios})}, "
                f"the model has {len(layers)} of {n_kv} KV heads"
            )
        ReferenceSpec(head_ratios=ratios)  # checks the values
        self._group = config.num_attention_heads // n_kv
        self._positions = self._frequencies = torch.empty(0)
        self._scale = 1.0
        self._handles = [model.base_model.rotary_emb.register_forward_hook(self._remember, with_kwargs=True)]
        for layer, row in zip(layers, ratios, strict=True):
            if any(ratio != 1.0 for ratio in row):
                factors = part_factors(row, torch.empty(0) if trained is None else trained, from_wavelength)
                self._hook(layer.self_attn, PROJECTIONS[config.model_type], factors)

    def remove(self) -> None:
        """Give the model its own rotation back."""
        for handle in self._handles:
            handle.remove()

    def _hook(self, attention: nn.Module, names: tuple[str, ...], ratios: Tensor) -> None:
        of_queries = ratios.repeat_interleave(self._group, dim=0)
        self._handles.append(attention.register_forward_pre_hook(neutral, with_kwargs=True))
        if len(names) == 1:
            hooks = [self._rotation(torch.cat((of_queries, ratios)), int(attention.head_dim))]
        else:
            hooks = [self._rotation(r, int(attention.head_dim)) for r in (of_queries, ratios)]
        for name, hook in zip(names, hooks, strict=True):
            self._handles.append(attention.get_submodule(name).register_forward_hook(hook))

    def _remember(self, rotary: Any, args: tuple[Any, ...], kwargs: dict[str, Any], _result: Any) -> None:
        # read at every call: LongRoPE's frequencies depend on the length
        self._positions = kwargs.get("position_ids", args[-1])[0]
        self._frequencies, self._scale = rotary.inv_freq, float(rotary.attention_scaling)

    def _rotation(self, ratios: Tensor, head_dim: int) -> Callable[[nn.Module, Any, Tensor], Tensor]:
        def hook(_module: nn.Module, _args: Any, output: Tensor) -> Tensor:
            heads = output.reshape(*output.shape[:2], -1, head_dim)
            n = len(ratios)  # a fused projection has the values behind them
            rotated = rotate(heads[:, :, :n], self._positions, self._frequencies, ratios, self._scale)
            return torch.cat((rotated, heads[:, :, n:]), dim=2).reshape(output.shape)

        return hook


def neutral(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], Any]:
    """Pre-hook of an attention module: rotate by nothing there, because the projections are rotated already."""
    """A pre-hook on a layer's attention: its own rotation becomes one by nothing."""
    cos, sin = kwargs["position_embeddings"]
    return args, {**kwargs, "position_embeddings": (torch.ones_like(cos), torch.zeros_like(sin))}
