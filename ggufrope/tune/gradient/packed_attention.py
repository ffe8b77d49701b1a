"""Attention over a packed text: the prefix causally, and the questions behind it by a mask for their rows alone.

A mask for all rows would be n x n, and half of what it computes is thrown away.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from ggufrope.tune.gradient.packing import PackedMask

__all__ = ["PACKED", "takes_packed"]

#: The name under which transformers' classes find it.
PACKED = "ggufrope_packed"


def takes_packed(attention: nn.Module) -> bool:
    """Whether a class looks its attention up in transformers' table, so that it may be this one."""
    return hasattr(sys.modules[type(attention).__module__], "ALL_ATTENTION_FUNCTIONS")


def _packed(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: PackedMask, **options: Any
) -> tuple[Tensor, None]:
    """As transformers calls it: ``(1, heads, n, head_dim)`` of each, answers ``(1, n, heads, head_dim)``."""
    mask, n = attention_mask, attention_mask.n_prefix
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    done = [_attend(query[:, :, :n], key[:, :, :n], value[:, :, :n], mask.prefix, options)]
    if mask.rest is not None:
        done.append(_attend(query[:, :, n:], key, value, mask.rest, options))
    return torch.cat(done, dim=2).transpose(1, 2).contiguous(), None


def _attend(query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None, options: dict[str, Any]) -> Tensor:
    scale, cap, sinks = options.get("scaling"), options.get("softcap"), options.get("s_aux")
    if cap is None and sinks is None:
        return scaled_dot_product_attention(query, key, value, seen, is_causal=seen is None, scale=scale)
    scores = query @ key.transpose(2, 3) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if cap is not None:
        scores = torch.tanh(scores / cap) * cap
    if seen is None:
        seen = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    scores = scores.masked_fill(~seen, torch.finfo(scores.dtype).min)
    if sinks is not None:  # gpt-oss: a score for nothing
        nothing = sinks.reshape(1, -1, 1, 1).expand(1, -1, scores.shape[2], 1).to(scores.dtype)
        scores = torch.cat((scores, nothing), dim=-1)
    return (
        torch.softmax(scores, dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(value.dtype)[
            ..., : key.shape[2]
        ]
        @ value
    )


AttentionInterface.register(PACKED, _packed)
