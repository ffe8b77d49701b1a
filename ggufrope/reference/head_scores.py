"""How position-aware a head is, and which ratio that gives it: Ms-PoE's ordering (arXiv 2403.04797), from the paper
and the behaviour of its authors' program.

A head's score is the share of keys that get more than three times the mean attention from the last token of the
prompt, with queries and keys as they are before the rotation. Scores of layer l come from hidden states that the layers
below produced under their own new order, so ``PromptOrder`` takes the layers one after the other, as they run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ggufrope.errors import ParameterError, UnsupportedModelError
from ggufrope.reference.head_ratios import PROJECTIONS, neutral, rotate

__all__ = ["OrderSpec", "PromptOrder", "outlier_counts", "ratios_of_heads"]

OUTLIER = 3.0  #: times the mean


def outlier_counts(query: Tensor, keys: Tensor, scale: float) -> Tensor:
    """How many keys get more than three times the mean attention: ``(heads,)``, whole numbers.

    Args:
        query: ``(heads, head_dim)``, one token's, before the rotation.
        keys: ``(length, kv_heads, head_dim)``, before the rotation; ``heads`` is a multiple of ``kv_heads``.
        scale: what q·k is multiplied by.
    """
    group = query.shape[0] // keys.shape[1]
    shared = keys.repeat_interleave(group, dim=1)
    attention = torch.einsum("hd,nhd->hn", query, shared).mul(scale).softmax(dim=-1)
    return (attention > OUTLIER * attention.mean(dim=-1, keepdim=True)).sum(dim=-1)


def ratios_of_heads(scores: Tensor, low: float, high: float, order: str = "code", spacing: str = "code") -> Tensor:
    """The ratio of each head, ``(heads,)`` in float64.

    Args:
        scores: ``(heads,)``; of equal ones the first counts as higher.
        low: smallest ratio.
        high: largest ratio, which ``code`` spacing does not reach.
        order: ``code``: head h takes ratio number argsort(-scores)[h], as the authors' program and Algorithm 1 do;
            ``rank``: the head with the highest score takes the smallest ratio and so on, as the paper's text says;
            ``reverse``: head 0 takes the largest (the program's ``head_type="normal"``).
        spacing: ``code``: i/H; ``paper``: i/(H-1).

    Raises:
        ParameterError: another order or spacing.
    """
    if order not in ("code", "rank", "reverse") or spacing not in ("code", "paper"):
        raise ParameterError(f"order '{order}', spacing '{spacing}': not among code, rank, reverse and code, paper")
    n = len(scores)
    steps = low + (high - low) * torch.arange(n, dtype=torch.float64) / (n if spacing == "code" else max(n - 1, 1))
    best_first = torch.argsort(-scores.double(), stable=True)
    if order == "code":
        return steps[best_first]
    if order == "reverse":
        return steps.flip(0)
    ratios = torch.empty_like(steps)
    ratios[best_first] = steps
    return ratios


@dataclass(frozen=True, slots=True)
class OrderSpec:
    """What ``PromptOrder`` is asked to do; see ``ratios_of_heads``.

    Attributes:
        group: how the heads of a query group make one score: ``mean`` or ``max``.
    """

    first_layer: int = 2
    low: float = 1.2
    high: float = 1.8
    order: str = "code"
    spacing: str = "code"
    group: str = "mean"

    def __post_init__(self) -> None:
        if self.group not in ("mean", "max"):
            raise ParameterError(f"group '{self.group}'; it is mean or max")
        ratios_of_heads(torch.zeros(1), self.low, self.high, self.order, self.spacing)


class PromptOrder:
    """Per-prompt head order on a loaded model, from construction until ``remove``. Takes one text at a time.

    The first ``prompt`` tokens are the prompt: its last token scores the heads. What follows is what decoding would
    give, since the order stays and attention is causal.

    Attributes:
        counts: of the last run, by layer: ``(heads,)``, how many keys stood out.
        ratios: of the last run, by layer from ``first_layer`` on: ``(kv_heads,)``.
    """

    def __init__(self, model: Any, prompt: int, spec: OrderSpec | None = None) -> None:
        """Hook ``model``, a transformers causal model without other hooks.

        Raises:
            UnsupportedModelError: a type of model that is not in ``PROJECTIONS``.
        """
        config = model.config
        if config.model_type not in PROJECTIONS or getattr(config, "qk_layernorm", False):
            raise UnsupportedModelError(f"the reference has no Ms-PoE for {config.model_type}")
        self.spec, self.prompt = spec or OrderSpec(), prompt
        self.counts: dict[int, Tensor] = {}
        self.ratios: dict[int, Tensor] = {}
        self._n_head, self._n_kv = config.num_attention_heads, config.num_key_value_heads
        self._positions = self._frequencies = self._queries = torch.empty(0)
        self._scale = 1.0
        self._handles = [model.base_model.rotary_emb.register_forward_hook(self._remember, with_kwargs=True)]
        names = PROJECTIONS[config.model_type]
        for layer, block in enumerate(model.base_model.layers):
            attention = block.self_attn
            if layer >= self.spec.first_layer:
                self._handles.append(attention.register_forward_pre_hook(neutral, with_kwargs=True))
            hooks = (self._fused,) if len(names) == 1 else (self._keep_queries, self._keys)
            for name, make in zip(names, hooks, strict=True):
                hook = make(layer, int(attention.head_dim), float(attention.scaling))
                self._handles.append(attention.get_submodule(name).register_forward_hook(hook))

    def remove(self) -> None:
        """Give the model its own rotation back."""
        for handle in self._handles:
            handle.remove()

    def _remember(self, rotary: Any, args: tuple[Any, ...], kwargs: dict[str, Any], _result: Any) -> None:
        self._positions = kwargs.get("position_ids", args[-1])[0]
        self._frequencies, self._scale = rotary.inv_freq, float(rotary.attention_scaling)

    def _keep_queries(self, _layer: int, head_dim: int, _scaling: float) -> Callable[[Any, Any, Tensor], None]:
        def hook(_module: Any, _args: Any, output: Tensor) -> None:
            self._queries = output.view(*output.shape[:2], -1, head_dim)  # the same memory: rotated with the keys

        return hook

    def _keys(self, layer: int, head_dim: int, scaling: float) -> Callable[[Any, Any, Tensor], None]:
        def hook(_module: Any, _args: Any, output: Tensor) -> None:
            self._order(layer, self._queries, output.view(*output.shape[:2], -1, head_dim), scaling)

        return hook

    def _fused(self, layer: int, head_dim: int, scaling: float) -> Callable[[Any, Any, Tensor], None]:
        def hook(_module: Any, _args: Any, output: Tensor) -> None:
            heads = output.view(*output.shape[:2], -1, head_dim)
            self._order(layer, heads[:, :, : self._n_head], heads[:, :, self._n_head :][:, :, : self._n_kv], scaling)

        return hook

    def _order(self, layer: int, queries: Tensor, keys: Tensor, scaling: float) -> None:
        """Score the layer's heads, then rotate queries and keys where they are."""
        counts = outlier_counts(queries[0, self.prompt - 1], keys[0, : self.prompt], scaling)
        self.counts[layer] = counts
        if layer < self.spec.first_layer:
            return
        grouped = counts.view(self._n_kv, -1)
        scores = grouped.sum(dim=1) if self.spec.group == "mean" else grouped.amax(dim=1)
        ratios = ratios_of_heads(scores, self.spec.low, self.spec.high, self.spec.order, self.spec.spacing)
        self.ratios[layer] = ratios
        for heads, r in ((queries, ratios.repeat_interleave(self._n_head // self._n_kv)), (keys, ratios)):
            heads.copy_(rotate(heads, self._positions, self._frequencies, r, self._scale))
