"""Stand between transformers' attention classes and their rotation, for one KV head after another.

transformers' attention classes rotate by one function of their file, ``apply_rotary_pos_emb(q, k, cos, sin)`` or
``(x, cos, sin)``, with one cos and sin for all heads. Here it is called once for each KV head, with the cos and sin
that the model's own rotary module gives for that head's frequencies. So how pairs lie in a head, which dimensions
rotate and what is done before and after stays the class's own. Gradients flow through the frequencies.
"""

from __future__ import annotations

import copy
import inspect
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn

from ggufrope.reference.rotary import Rotary

__all__ = [
    "CosSin",
    "RotaryCall",
    "Rotate",
    "attentions",
    "decoder_layers",
    "rotate_by_head",
    "rotating",
    "set_rotation",
]

CosSin = tuple[Tensor, Tensor]
#: What stands for a function that rotates: it gets that function, and its arguments.
Rotate = Callable[..., Any]

_ROTATES = "apply_rotary_pos_emb"
#: ``rotate``: what stands for the rotation in the layer that this thread is in; None elsewhere.
_RUNNING = threading.local()


@dataclass(frozen=True, slots=True)
class RotaryCall:
    """How a decoder asked a rotary module for cos and sin: what is needed to ask again with other frequencies."""

    rotary: Rotary
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @classmethod
    def of(cls, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> RotaryCall:
        """Of what a forward hook is given. Its kind of layers is the text among the arguments behind the positions."""
        kind = next((a for a in (*args[2:], *kwargs.values()) if isinstance(a, str)), "")
        return cls(Rotary(module, kind), args, kwargs)

    def cos_sin(self, frequencies: Tensor, like: Tensor, scale: float | None = None) -> CosSin:
        """What the module answers with these frequencies.

        Args:
            frequencies: radians per token, ``(rot_dim/2,)``; they may carry a gradient.
            like: the cos that the attention class got: its type and shape are the answer's.
            scale: of cos and sin; None: the module's own.

        Raises:
            ValueError: the module does not listen to its frequencies.
        """
        module = self.rotary.module
        changed = copy.copy(module)
        changed._buffers = {name: buffer.clone() for name, buffer in module._buffers.items() if buffer is not None}
        Rotary(changed, self.rotary.kind).put(frequencies)
        if hasattr(changed, "rope_init_fn"):  # Phi-3.5-MoE's module asks it at every call
            changed.rope_init_fn = lambda *_, **__: (frequencies.float(), self.rotary.scale)
        factor = 1.0 if scale is None else scale / self.rotary.scale
        cos, sin = (self._like(part * factor, like) for part in self._ask(changed))
        return cos, sin

    def listens(self, frequencies: Tensor) -> bool:
        """Whether these frequencies, which are not the module's, change its answer."""
        like = self._ask(self.rotary.module)
        return not torch.equal(self.cos_sin(frequencies, like[1])[1], like[1])

    def _ask(self, module: Any) -> CosSin:
        cos, sin = inspect.unwrap(type(module).forward)(module, *self.args, **self.kwargs)
        return cos, sin

    @staticmethod
    def _like(part: Tensor, like: Tensor) -> Tensor:
        return part.to(like.dtype).reshape(like.shape)


def rotate_by_head(
    original: Rotate,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    rows: Tensor,
    ask: Callable[[Tensor, Tensor], CosSin],
) -> Any:
    """Call a class's function once for each KV head, with its query heads.

    Args:
        original: the function, ``(q, k, cos, sin, ...)`` or ``(x, cos, sin, ...)``.
        args: what it was called with.
        kwargs: the same.
        rows: what differs between KV heads, ``(n_head_kv, n)``.
        ask: from a row and the cos that the class gave, cos and sin for it.

    Raises:
        ValueError: tokens do not lie where they are looked for, or heads cannot be told apart.
    """
    given = inspect.signature(original).bind(*args, **kwargs)
    given.apply_defaults()
    values, axis = given.arguments, 1 if given.arguments.get("unsqueeze_dim", 1) == 1 else 2
    names = [name for name in list(values)[:2] if isinstance(values[name], Tensor) and name != "cos"]
    like = values["cos"]
    if any(values[name].shape[3 - axis] != like.shape[-2] for name in names):
        raise ValueError(f"it does not have its tokens where {_ROTATES} has them elsewhere")
    own = _distinct(rows, [values[name].shape[axis] for name in names])
    heads = {name: values[name].split(values[name].shape[axis] // len(own), dim=axis) for name in names}
    done = []
    for head, row in enumerate(own):
        cos, sin = ask(row, like)
        done.append(original(**{**values, **{n: heads[n][head] for n in names}, "cos": cos, "sin": sin}))
    if isinstance(done[0], tuple):
        return tuple(torch.cat(parts, dim=axis) for parts in zip(*done, strict=True))
    return torch.cat(done, dim=axis)


def _distinct(rows: Tensor, counts: Sequence[int]) -> Tensor:
    """A row for each KV head, or one for all where heads cannot be told apart and need not be."""
    uneven = [count for count in counts if count % len(rows)]
    if not uneven:
        return rows
    if bool((rows == rows[:1]).all()):
        return rows[:1]
    raise ValueError(f"it rotates {uneven[0]} heads, and there are factors for {len(rows)}")


def decoder_layers(model: Any) -> nn.ModuleList:
    """The layers of the part of ``model`` that reads text."""
    lists = (m for n, m in model.get_decoder().named_modules() if n.rpartition(".")[2] in ("layers", "h"))
    return next(m for m in lists if isinstance(m, nn.ModuleList))


def attentions(layer: nn.Module) -> list[nn.Module]:
    """The attention modules of a layer whose files rotate by a function; it asks ``rotating`` from now on.

    It stays so: without a layer that runs the function is what it was, and it holds no model.
    """
    found = []
    for name, module in layer.named_modules():
        file = sys.modules.get(type(module).__module__)
        if "att" in name.rpartition(".")[2] and file is not None and _watch(file):
            found.append(module)
    return found


@contextmanager
def rotating(rotate: Rotate | None) -> Iterator[None]:
    """While this thread is inside, ``rotate(original, *args, **kwargs)`` stands for the functions that rotate."""
    before = getattr(_RUNNING, "rotate", None)
    _RUNNING.rotate = rotate
    try:
        yield
    finally:
        _RUNNING.rotate = before


def set_rotation(rotate: Rotate | None) -> None:
    """As ``rotating``, until the next call."""
    _RUNNING.rotate = rotate


def _watch(file: Any) -> bool:
    """Have the functions of a file that rotate ask what runs, from now on; whether there are any."""
    named = {n: f for n, f in vars(file).items() if n.startswith(_ROTATES) and "vision" not in n and callable(f)}
    for name, original in named.items():
        if not hasattr(original, "watched"):
            setattr(file, name, _watched(original))
    return bool(named)


def _watched(original: Rotate) -> Rotate:
    @wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        rotate = getattr(_RUNNING, "rotate", None)
        return original(*args, **kwargs) if rotate is None else rotate(original, *args, **kwargs)

    call.watched = True  # type: ignore[attr-defined]  # functions take attributes
    return call
