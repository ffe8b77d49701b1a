"""A decoder layer whose weights come from the file while it runs, and go again."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from ggufrope.reference.attention_hooks import CosSin, RotaryCall, attentions, rotate_by_head, rotating
from ggufrope.tune.gradient.packed_attention import takes_packed
from ggufrope.tune.gradient.packing import PackedMask

__all__ = ["Pass", "StreamedLayer", "TurnedLayer"]


@dataclass(frozen=True, slots=True)
class TurnedLayer:
    """How a layer rotates in one pass.

    Attributes:
        frequencies: radians per token, ``(n_head_kv, n_pairs)``; they may carry a gradient.
        scale: of cos and sin.
    """

    frequencies: Tensor
    scale: float


@dataclass(slots=True)
class Pass:
    """One forward pass, whose layers backward may run again when the next pass is over.

    Attributes:
        masks: what tokens see, for layers without a sliding window and with one.
        rotations: of each layer; None for those that do not rotate.
        calls: what the decoder asked its rotary modules, by kind of layer.
        rotated: the layers that have rotated.
    """

    masks: tuple[PackedMask, PackedMask]
    rotations: list[TurnedLayer | None]
    calls: dict[str, RotaryCall] = field(default_factory=dict)
    rotated: set[int] = field(default_factory=set)

    def call(self, kind: str) -> RotaryCall:
        """What was asked for a kind of layers.

        Raises:
            KeyError: no rotary module was asked.
        """
        return self.calls[kind if kind in self.calls else ""]


class StreamedLayer(nn.Module):  # type: ignore[misc]  # torch is skipped by mypy
    """Stands for a layer in its decoder. Backward runs it again, with weights that are read again."""

    def __init__(
        self, layer: Any, index: int, kind: str, slides: bool, load: Callable[[], dict[str, Tensor]],
        current: Callable[[], Pass],
    ) -> None:  # fmt: skip
        """Stand for ``layer``.

        Args:
            layer: transformers' own, its parameters on the ``meta`` device.
            index: of the layer.
            kind: as its configuration calls it; empty where all are of one.
            slides: whether it has a sliding window.
            load: its parameters, by their names in the layer.
            current: the pass that is running.

        Attributes:
            attends: whether it has attention; else it may mix tokens in ways that no mask reaches.
            packed: whether its attention may be ours.
        """
        super().__init__()
        self.layer, self._index, self._kind, self._slides = layer, index, kind, slides
        self._load, self._current = load, current
        self._signature = inspect.signature(layer.forward)
        found = attentions(layer)
        self.attends, self.packed = bool(found), all(map(takes_packed, found))

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)  # decoders ask layers for their kind

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As the layer."""
        now = self._current()
        given = self._signature.bind(*args, **kwargs)
        if self.attends:
            mask = now.masks[self._slides]
            given.arguments["attention_mask"] = mask if self.packed else mask.additive(args[0].dtype)
        rotation = now.rotations[self._index]
        rotate = None if rotation is None else partial(self._rotate, now, now.call(self._kind), rotation)

        def run(*given_args: Any, **given_kwargs: Any) -> Any:
            with rotating(rotate):
                return functional_call(self.layer, self._load(), given_args, given_kwargs)

        return checkpoint(run, *given.args, use_reentrant=False, preserve_rng_state=False, **given.kwargs)

    def _rotate(
        self, now: Pass, call: RotaryCall, rotation: TurnedLayer, original: Any, *args: Any, **kwargs: Any
    ) -> Any:
        def ask(row: Tensor, like: Tensor) -> CosSin:
            return call.cos_sin(row, like, rotation.scale)

        now.rotated.add(self._index)
        return rotate_by_head(original, args, kwargs, rotation.frequencies, ask)
