"""Decoding with frequencies that follow the length: K is cached un-rotated, every step rotates all of it anew.

What a runtime that re-rotates its cache must reproduce. At each step the current row is the one that serves the
length (see ``LengthDecoder``); the new queries, the new keys and **all cached keys** are rotated with it and with its
attention scale. Hidden states of earlier tokens stay what they were when those tokens were read: values, and keys
before rotation, are never recomputed. So across a switch this is not a full prefill at the new row, except on a
one-layer model.

How: transformers gets cos = 1 and sin = 0, queries are rotated as they leave their projection, and keys on their way
out of the cache. The attention itself stays transformers' own.

::

    model = load_reference(path, ReferenceSpec("none"), dtype="float64")        # any type in PROJECTIONS
    rows = LengthRows.from_divisors(points, divisors, scales, base=10000.0)     # as in ggufrope.length_*
    decoder = LengthDecoder(model, rows)
    first = decoder(prompt)            # (len(prompt), n_vocab) log-probabilities; one batch, one row
    for token in more:
        step = decoder([token])        # (1, n_vocab)
    decoder.clear()                    # an empty cache: short rows again
    decoder.reorder(ratios)            # from now on other position divisors, for what is cached, too
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from transformers import DynamicCache

from ggufrope.errors import ParameterError, UnsupportedModelError, UsageError
from ggufrope.reference.head_ratios import PROJECTIONS, neutral, rotate
from ggufrope.reference.head_scores import outlier_counts
from ggufrope.reference.rows import LengthRows

__all__ = ["LengthDecoder"]


class LengthDecoder:
    """One sequence on a transformers model, whose rotation it takes over.

    The row of a step is the one that serves L = 1 + the largest position in the cache after the step, or the ``hint``
    if that is longer; it never falls back to an earlier one until the cache is empty.

    Attributes:
        rows: what the rows are.
        row: index of the current one.
        positions: of the cached tokens, ``(length,)``.
    """

    rows: LengthRows
    row: int
    positions: Tensor

    def __init__(self, model: Any, rows: LengthRows, ratios: tuple[tuple[float, ...], ...] = ()) -> None:
        """Hook ``model``, as ``load_reference`` gives it (load it without head ratios of its own).

        Args:
            model: a transformers causal model of a type in ``PROJECTIONS``.
            rows: frequencies and attention scales by length; the model's own rope settings do not matter.
            ratios: Ms-PoE's position divisors, one row per layer with one entry per KV head; empty: all 1.

        Raises:
            UnsupportedModelError: another type of model.
            ParameterError: ratios of the wrong shape.
        """
        config, layers = model.config, model.base_model.layers
        if config.model_type not in PROJECTIONS or getattr(config, "qk_layernorm", False):
            raise UnsupportedModelError(f"no decoding reference for {config.model_type}")
        n_kv, n_head = config.num_key_value_heads, config.num_attention_heads
        ratios = ratios or ((1.0,) * n_kv,) * len(layers)
        if [len(r) for r in ratios] != [n_kv] * len(layers):
            raise ParameterError(f"head ratios: {len(layers)} layers of {n_kv} KV heads are needed")
        self.rows, self._model = rows, model
        self._frequencies = torch.tensor(rows.frequencies, dtype=torch.float64)
        self._of_keys = [torch.tensor(r, dtype=torch.float64) for r in ratios]
        self._batch = torch.empty(0)
        self._handles: list[Any] = []
        self._queries: dict[int, Tensor] = {}
        self._scalings = [float(layer.self_attn.scaling) for layer in layers]
        for index, layer in enumerate(layers):
            attention, query = layer.self_attn, PROJECTIONS[config.model_type][0]
            hook = self._query_rotation(index, n_head // n_kv, int(attention.head_dim))
            self._handles.append(attention.register_forward_pre_hook(neutral, with_kwargs=True))
            self._handles.append(attention.get_submodule(query).register_forward_hook(hook))
        self.clear()

    def __call__(self, ids: Sequence[int], hint: int = 0) -> npt.NDArray[np.float64]:
        """Read ``ids`` as one batch behind what was read before: log-probabilities ``(len(ids), n_vocab)``.

        Args:
            ids: tokens.
            hint: a length that is known to come; the row that serves it is used already now.
        """
        if not ids:
            raise UsageError("no tokens to read")
        start = len(self.positions)
        self._batch = torch.arange(start, start + len(ids), dtype=torch.float64)
        self.positions = torch.cat((self.positions, self._batch))
        self.row = max(self.row, self.rows.row(max(len(self.positions), hint)))
        with torch.no_grad():
            out = self._model(
                input_ids=torch.tensor([list(ids)]),
                position_ids=self._batch.long()[None],
                past_key_values=self._cache,
                use_cache=True,
            )
        found: npt.NDArray[np.float64] = torch.log_softmax(out.logits[0].double(), dim=-1).numpy()
        return found

    def clear(self) -> None:
        """Empty the cache."""
        self._cache = _UnrotatedCache(self._rotated)
        self.positions = torch.empty(0, dtype=torch.float64)
        self.row = 0

    def forget(self, start: int, end: int) -> None:
        """Drop positions ``start`` ≤ p < ``end`` and move what is behind them back: a context shift."""
        if not 0 <= start < end <= len(self.positions):
            raise UsageError(f"cannot forget {start} to {end} of {len(self.positions)} positions")
        kept = torch.cat((torch.arange(start), torch.arange(end, len(self.positions))))
        for layer in self._cache.layers:
            layer.keys, layer.values = layer.keys[:, :, kept], layer.values[:, :, kept]
        self.positions = torch.arange(len(kept), dtype=torch.float64)
        if not len(kept):
            self.clear()

    def reorder(self, ratios: Sequence[Sequence[float]]) -> None:
        """Other position divisors: cached keys are rotated by them from the next step on, exactly.

        Values, and keys before rotation, stay what the former ones made of them.

        Raises:
            ParameterError: ratios of the wrong shape.
        """
        if [len(r) for r in ratios] != [len(r) for r in self._of_keys]:
            raise ParameterError(f"head ratios: {len(self._of_keys)} layers of {len(self._of_keys[0])} are needed")
        self._of_keys = [torch.tensor([*r], dtype=torch.float64) for r in ratios]

    def counts(self) -> Tensor:
        """Of the last token read: how many keys stand out, ``(layers, heads)``; see ``outlier_counts``."""
        if not len(self.positions):
            raise UsageError("nothing was read yet: no scores")
        keys = [layer.keys[0].transpose(0, 1) for layer in self._cache.layers]
        return torch.stack([outlier_counts(self._queries[i], k, self._scalings[i]) for i, k in enumerate(keys)])

    def remove(self) -> None:
        """Give the model its own rotation back."""
        for handle in self._handles:
            handle.remove()

    def _rotated(self, keys: Tensor, layer: int) -> Tensor:
        """``keys``: all of a layer's, un-rotated, ``(1, n_kv, length, head_dim)``."""
        return self._turn(keys.transpose(1, 2), self.positions, self._of_keys[layer]).transpose(1, 2)

    def _turn(self, x: Tensor, positions: Tensor, ratios: Tensor) -> Tensor:
        return rotate(x, positions, self._frequencies[self.row], ratios, self.rows.scales[self.row])

    def _query_rotation(self, layer: int, group: int, head_dim: int) -> Callable[[nn.Module, Any, Tensor], Tensor]:
        def hook(_module: nn.Module, _args: Any, output: Tensor) -> Tensor:
            heads = output.reshape(*output.shape[:2], -1, head_dim)
            ratios = self._of_keys[layer].repeat_interleave(group)
            n = len(ratios)  # a fused projection has keys and values behind them
            self._queries[layer] = heads[0, -1, :n]
            queries = self._turn(heads[:, :, :n], self._batch, ratios)
            return torch.cat((queries, heads[:, :, n:]), dim=2).reshape(output.shape)

        return hook


class _UnrotatedCache(DynamicCache):  # type: ignore[misc]  # transformers has no types
    """Keeps keys as they are and hands all of a layer's out through ``rotated``."""

    def __init__(self, rotated: Callable[[Tensor, int], Tensor]) -> None:
        super().__init__()
        self._rotated = rotated

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any) -> Any:
        keys, values = super().update(key_states, value_states, layer_idx, *args, **kwargs)
        return self._rotated(keys, layer_idx), values
