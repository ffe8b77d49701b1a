"""How transformers' own model turns Q and K, watched while it runs.

Every function that a modeling file applies rotations with (``apply_rotary_pos_emb`` and its kin) is wrapped for one
forward pass, and what each decoder layer hands to it is kept. So nothing is assumed about configurations, rotary
modules, layer types or layers without positions: a layer that calls none of them does not rotate.
"""

from __future__ import annotations

import contextlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

__all__ = ["LayerRotation", "observe"]

_APPLIES = re.compile(r"apply_.*rot", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class LayerRotation:
    """What one layer rotates by.

    Attributes:
        frequencies: radians per token of each pair, ``(pairs,)``; empty where the layer does not rotate.
        scale: what cos and sin are multiplied by.
    """

    frequencies: np.ndarray
    scale: float


def observe(model: Any, ids: torch.Tensor) -> tuple[np.ndarray, list[LayerRotation]]:
    """The model's log-probabilities ``(tokens, vocab)`` for ``ids`` ``(tokens,)``, and the rotation of its layers."""
    layers, found, current = _decoder_layers(model), dict[int, torch.Tensor](), [-1]

    def keep(rotation: torch.Tensor) -> None:
        if current[0] >= 0:
            found.setdefault(current[0], rotation)

    def enters(number: int) -> Callable[..., None]:
        return lambda *_: current.__setitem__(0, number)

    hooks = [layer.register_forward_pre_hook(enters(n)) for n, layer in enumerate(layers)]
    hooks += [layers[-1].register_forward_hook(enters(-1))]
    try:
        with _watched(type(model).__module__, keep), torch.no_grad():
            logits = model(input_ids=ids[None], use_cache=False).logits[0]
    finally:
        for hook in hooks:
            hook.remove()
    return torch.log_softmax(logits.double(), -1).numpy(), [_rotation(found.get(n)) for n in range(len(layers))]


def _decoder_layers(model: Any) -> list[torch.nn.Module]:
    text = model
    for name in ("model", "language_model", "text_model"):
        text = getattr(text, name, text)
    lists = [m for _, m in text.named_modules() if isinstance(m, torch.nn.ModuleList)]
    return list(max(lists, key=lambda m: sum(p.numel() for p in m.parameters())))


@contextlib.contextmanager
def _watched(module: str, keep: Callable[[torch.Tensor], None]) -> Iterator[None]:
    modeling = sys.modules[module]
    own = {name: f for name, f in vars(modeling).items() if _APPLIES.match(name) and inspect.isfunction(f)}
    own = {name: f for name, f in own.items() if "vision" not in name}

    def watch(function: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(function)

        def watching(*args: Any, **kwargs: Any) -> Any:
            given = signature.bind(*args, **kwargs).arguments
            if "cos" in given:
                keep(torch.complex(given["cos"].double(), given["sin"].double()))
            else:
                keep(next(v for v in given.values() if torch.is_tensor(v) and v.is_complex()).to(torch.complex128))
            return function(*args, **kwargs)

        return watching

    try:
        for name, function in own.items():
            setattr(modeling, name, watch(function))
        yield
    finally:
        for name, function in own.items():
            setattr(modeling, name, function)


def _rotation(turned: torch.Tensor | None) -> LayerRotation:
    """From what a layer multiplies by at each position, ``(..., tokens, pairs or twice as many)``."""
    if turned is None:
        return LayerRotation(np.empty(0), 1.0)
    turned = turned.squeeze()
    while turned.ndim > 2:  # axes of height and width have the position of text, too; so has every row of a batch
        turned = turned[0]
    one = turned[1].numpy()
    half = len(one) // 2
    if np.array_equal(one[:half], one[half:]):
        one = one[:half]
    elif np.array_equal(one[::2], one[1::2]):
        one = one[::2]
    return LayerRotation(np.angle(one), float(np.abs(one).mean()))
