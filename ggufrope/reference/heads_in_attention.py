"""Factors for each head and pair in any transformers model: its own attention and rotary modules, asked head by head.

transformers' attention classes rotate by one function of their file, ``apply_rotary_pos_emb(q, k, cos, sin)`` or
``(x, cos, sin)``, with one cos and sin for all heads. While a layer with factors runs, that function is called once for
each head, with the cos and sin that the model's rotary module gives when its frequencies are divided by the head's
factors. So how pairs lie in a head, which dimensions rotate and what is done before and after stays the class's own.

``head_ratios.py`` rotates the projections of six classes by formulas written out; the tests hold both together.
"""

from __future__ import annotations

import copy
import inspect
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial, wraps
from typing import Any

import torch
from torch import Tensor, nn

from ggufrope.errors import ParameterError, UnsupportedModelError
from ggufrope.reference.rotary import Rotary, rotaries

__all__ = ["HeadsInAttention"]

_ROTATES = "apply_rotary_pos_emb"
#: ``rotate``: what stands for the rotation in the layer that this thread is in; None elsewhere.
_RUNNING = threading.local()
_REMEDY = "compare with a GGUF (--reference FILE.gguf), or take a base method"


class HeadsInAttention:
    """Factors on a loaded model, from construction until ``remove``."""

    def __init__(self, model: Any, factors: Sequence[Tensor]) -> None:
        """Hook ``model``, a transformers causal model.

        Args:
            model: what is hooked.
            factors: for each layer, ``(n_head_kv, rot_dim/2)`` or ``(n_head_kv, 1)``; further ones, of layers that
                predict further tokens and which transformers does not load, must be 1.

        Raises:
            UnsupportedModelError: an attention class that rotates in another way.
            ParameterError: another number of layers.
        """
        layers = _layers(model)
        if len(factors) < len(layers) or any(bool((rows != 1.0).any()) for rows in factors[len(layers) :]):
            raise ParameterError(f"head ratios for {len(factors)} layers, the model has {len(layers)}; give as many")
        self._seen: dict[str, tuple[Any, Rotary, tuple[Any, ...], dict[str, Any]]] = {}
        self._factors = factors
        self._rotated: set[int] = set()
        self._handles: list[Any] = []
        kinds = tuple(getattr(model.get_decoder().config, "layer_types", None) or ())
        for rotary in rotaries(model):
            self._handles.append(rotary.module.register_forward_hook(self._remember, with_kwargs=True))
        for index, layer in enumerate(layers):
            if bool((factors[index] != 1.0).any()):
                self._hook(layer, index, kinds[index] if kinds else "")
        self._proved = False
        self._prove(model)
        self._proved = True

    def remove(self) -> None:
        """Give the model its own rotation back."""
        for handle in self._handles:
            handle.remove()

    def _hook(self, layer: nn.Module, index: int, kind: str) -> None:
        """Watch the attention of a layer: while it runs, its file's functions that rotate ask it."""
        rotate = partial(self._rotate, index, kind)

        def enter(*_: Any) -> None:
            _RUNNING.rotate = rotate

        def leave(*_: Any) -> None:
            _RUNNING.rotate = None

        for name, module in layer.named_modules():
            file = sys.modules.get(type(module).__module__)
            if "att" in name.rpartition(".")[2] and file is not None and _watch(file):
                self._handles.append(module.register_forward_pre_hook(enter))
                self._handles.append(module.register_forward_hook(leave, always_call=True))

    def _remember(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], _result: Any) -> None:
        # at every call: frequencies may depend on the length
        kind = next((a for a in (*args[2:], *kwargs.values()) if isinstance(a, str)), "")
        self._seen[kind] = (module, Rotary(module, kind), args, kwargs)

    def _rotate(self, index: int, kind: str, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        given = inspect.signature(original).bind(*args, **kwargs)
        given.apply_defaults()
        values = given.arguments
        vectors = [name for name in list(values)[:2] if isinstance(values[name], Tensor) and name != "cos"]
        axis = 1 if values.get("unsqueeze_dim", 1) == 1 else 2
        turned = tuple(self._by_head(original, values, name, axis, index, kind) for name in vectors)
        self._rotated.add(index)
        return turned if len(vectors) > 1 else turned[0]

    def _by_head(
        self, original: Callable[..., Any], values: dict[str, Any], name: str, axis: int, index: int, kind: str
    ) -> Tensor:
        """One of Q and K, rotated head by head."""
        if values[name].shape[3 - axis] != values["cos"].shape[-2]:
            raise ValueError(f"layer {index} does not have its tokens where {_ROTATES} has them elsewhere")
        heads, rows = values[name].split(1, dim=axis), _rows_for(self._factors[index], values[name].shape[axis], index)
        out = []
        for head, row in zip(heads, rows, strict=True):
            cos, sin = self._cos_sin(kind, row, values["cos"])
            both = {n: head for n in list(values)[:2] if isinstance(values[n], Tensor) and n != "cos"}
            done = original(**{**values, **both, "cos": cos, "sin": sin})
            out.append(done[0] if isinstance(done, tuple) else done)
        return torch.cat(out, dim=axis)

    def _cos_sin(self, kind: str, row: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """What the rotary module answers with its frequencies divided by ``row``."""
        module, rotary, args, kwargs = self._seen[kind if kind in self._seen else ""]
        changed, wanted = copy.copy(module), rotary.frequencies.double() / row
        changed._buffers = {name: buffer.clone() for name, buffer in module._buffers.items() if buffer is not None}
        Rotary(changed, rotary.kind).put(wanted)
        if hasattr(changed, "rope_init_fn"):  # Phi-3.5-MoE's module asks it at every call
            changed.rope_init_fn = lambda *_, **__: (wanted.float(), rotary.scale)
        forward = inspect.unwrap(type(module).forward)
        cos, sin = forward(changed, *args, **kwargs)
        if not self._proved and bool((row != 1.0).any()) and torch.equal(sin, forward(module, *args, **kwargs)[1]):
            raise ValueError(f"{type(module).__name__} does not take other frequencies")
        return cos.to(like.dtype).reshape(like.shape), sin.to(like.dtype).reshape(like.shape)

    def _prove(self, model: Any) -> None:
        """Raise UnsupportedModelError unless every layer with factors rotates by them."""
        wanted = {i for i, rows in enumerate(self._factors) if bool((rows != 1.0).any())}
        try:
            with torch.no_grad():
                model(input_ids=torch.tensor([[1, 2, 1, 2, 1]]), use_cache=False)
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            self.remove()
            raise UnsupportedModelError(self._unable(model, str(error))) from None
        if self._rotated != wanted:
            self.remove()
            layers = ", ".join(map(str, sorted(wanted - self._rotated)[:4]))
            raise UnsupportedModelError(self._unable(model, f"layers {layers} do not rotate by {_ROTATES}"))

    @staticmethod
    def _unable(model: Any, why: str) -> str:
        said = why.split("\n", maxsplit=1)[0]
        return f"the reference cannot give heads of '{model.config.model_type}' factors of their own: {said}; {_REMEDY}"


def _layers(model: Any) -> Any:
    lists = (m for n, m in model.get_decoder().named_modules() if n.rpartition(".")[2] in ("layers", "h"))
    return next(m for m in lists if isinstance(m, nn.ModuleList))


def _rows_for(rows: Tensor, n_heads: int, layer: int) -> Tensor:
    """The row of each of ``n_heads`` heads: query heads share that of their KV head.

    Raises:
        ValueError: they cannot be told apart.
    """
    if n_heads % len(rows) == 0:
        return rows.repeat_interleave(n_heads // len(rows), dim=0)
    if bool((rows == rows[:1]).all()):
        return rows[:1].expand(n_heads, -1)
    raise ValueError(f"layer {layer} rotates {n_heads} heads, and there are factors for {len(rows)}")


def _watch(file: Any) -> bool:
    """Have the functions of a file that rotate ask what runs, from now on; whether there are any.

    They stay so: without a layer that runs they are what they were, and they hold no model.
    """
    named = {n: f for n, f in vars(file).items() if n.startswith(_ROTATES) and "vision" not in n and callable(f)}
    for name, original in named.items():
        if not hasattr(original, "watched"):
            setattr(file, name, _watched(original))
    return bool(named)


def _watched(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        rotate = getattr(_RUNNING, "rotate", None)
        return original(*args, **kwargs) if rotate is None else rotate(original, *args, **kwargs)

    call.watched = True  # type: ignore[attr-defined]  # functions take attributes
    return call
