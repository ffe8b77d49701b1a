"""Factors for each head and pair in any transformers model: its own attention and rotary modules, asked head by head.

While a layer with factors runs, its rotation is done as ``attention_hooks.py`` says, with the cos and sin that the
model's rotary module gives when its frequencies are divided by a head's factors.

``head_ratios.py`` rotates the projections of six classes by formulas written out; the tests hold both together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ggufrope.errors import ParameterError, UnsupportedModelError
from ggufrope.reference.attention_hooks import (
    CosSin,
    RotaryCall,
    attentions,
    decoder_layers,
    rotate_by_head,
    set_rotation,
)
from ggufrope.reference.rotary import rotaries

__all__ = ["HeadsInAttention"]

_REMEDY = "compare with a GGUF (--reference FILE.gguf), or take a base method"


class HeadsInAttention:
    """Factors on a loaded model, from construction until ``remove``."""

    def __init__(self, model: Any, factors: Sequence[Tensor], scales: Sequence[float] = ()) -> None:
        """Hook ``model``, a transformers causal model.

        Args:
            model: what is hooked.
            factors: for each layer, ``(n_head_kv, rot_dim/2)`` or ``(n_head_kv, 1)``; further ones, of layers that
                predict further tokens and which transformers does not load, must be 1. They may carry a gradient.
            scales: for each layer what multiplies cos and sin beside the model's own scale; empty: 1.

        Raises:
            UnsupportedModelError: an attention class that rotates in another way.
            ParameterError: another number of layers.
        """
        layers = decoder_layers(model)
        if len(factors) < len(layers) or any(bool((rows != 1.0).any()) for rows in factors[len(layers) :]):
            raise ParameterError(f"head ratios for {len(factors)} layers, the model has {len(layers)}; give as many")
        self._seen: dict[str, RotaryCall] = {}
        self._factors = factors
        self._scales = scales
        self._rotated: set[int] = set()
        self._handles: list[Any] = []
        kinds = tuple(getattr(model.get_decoder().config, "layer_types", None) or ())
        for rotary in rotaries(model):
            self._handles.append(rotary.module.register_forward_hook(self._remember, with_kwargs=True))
        for index, layer in enumerate(layers):
            if self._changes(index):
                self._hook(layer, index, kinds[index] if kinds else "")
        self._proved = False
        self._prove(model)
        self._proved = True

    def remove(self) -> None:
        """Give the model its own rotation back."""
        for handle in self._handles:
            handle.remove()

    def _changes(self, index: int) -> bool:
        """Whether a layer has any factor or scale of its own."""
        scaled = bool(self._scales) and self._scales[index] != 1.0
        return scaled or bool((self._factors[index] != 1.0).any())

    def _hook(self, layer: nn.Module, index: int, kind: str) -> None:
        """Watch the attention of a layer: while it runs, its file's functions that rotate ask it."""
        rotate = partial(self._rotate, index, kind)
        for module in attentions(layer):
            self._handles.append(module.register_forward_pre_hook(lambda *_: set_rotation(rotate)))
            self._handles.append(module.register_forward_hook(lambda *_: set_rotation(None), always_call=True))

    def _remember(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], _result: Any) -> None:
        # at every call: frequencies may depend on the length
        call = RotaryCall.of(module, args, kwargs)
        self._seen[call.rotary.kind] = call

    def _rotate(self, index: int, kind: str, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        call = self._seen[kind if kind in self._seen else ""]
        cos_sin = partial(self._cos_sin, call, self._scales[index] if self._scales else 1.0)
        try:
            turned = rotate_by_head(original, args, kwargs, self._factors[index], cos_sin)
        except ValueError as error:
            raise ValueError(f"layer {index}: {error}") from None
        self._rotated.add(index)
        return turned

    def _cos_sin(self, call: RotaryCall, times: float, row: Tensor, like: Tensor) -> CosSin:
        """What the rotary module answers with its frequencies divided by ``row``, ``times`` a scale."""
        wanted = call.rotary.frequencies.double() / row
        if not self._proved and bool((row != 1.0).any()) and not call.listens(wanted):
            raise ValueError(f"{type(call.rotary.module).__name__} does not take other frequencies")
        cos, sin = call.cos_sin(wanted, like)
        return (cos, sin) if times == 1.0 else (cos * times, sin * times)

    def _prove(self, model: Any) -> None:
        """Raise UnsupportedModelError unless every layer with factors rotates by them."""
        wanted = {index for index in range(len(self._factors)) if self._changes(index)}
        try:
            with torch.no_grad():
                model(input_ids=torch.tensor([[1, 2, 1, 2, 1]]), use_cache=False)
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            self.remove()
            raise UnsupportedModelError(self._unable(model, str(error))) from None
        if self._rotated != wanted:
            self.remove()
            layers = ", ".join(map(str, sorted(wanted - self._rotated)[:4]))
            raise UnsupportedModelError(self._unable(model, f"layers {layers} do not rotate by apply_rotary_pos_emb"))

    @staticmethod
    def _unable(model: Any, why: str) -> str:
        said = why.split("\n", maxsplit=1)[0]
        return f"the reference cannot give heads of '{model.config.model_type}' factors of their own: {said}; {_REMEDY}"
