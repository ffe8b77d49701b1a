"""The frequencies that a loaded transformers model rotates with, read from its rotary modules and put into them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

__all__ = ["Rotary", "Rotation", "rotaries", "rotations", "serve"]

_BUFFER = "inv_freq"
#: Types whose frequencies transformers computes anew where a text is longer than an earlier one.
_BY_LENGTH = ("dynamic", "longrope")


@dataclass(frozen=True, slots=True)
class Rotation:
    """How layers of one kind rotate.

    Attributes:
        frequencies: radians per token of each pair.
        scale: what multiplies cos and sin.
    """

    frequencies: tuple[float, ...]
    scale: float


@dataclass(frozen=True, slots=True)
class Rotary:
    """One set of frequencies of a rotary module.

    Attributes:
        module: transformers' own.
        kind: of the layers that use it, such as ``sliding_attention``; empty where the module has one set for all.
    """

    module: Any
    kind: str = ""

    @property
    def _prefix(self) -> str:
        return f"{self.kind}_" if self.kind else ""

    @property
    def frequencies(self) -> Tensor:
        """The buffer, ``(rot_dim/2,)``."""
        return getattr(self.module, self._prefix + _BUFFER)

    @property
    def scale(self) -> float:
        """What multiplies cos and sin; 1 where the module has no such thing."""
        return float(getattr(self.module, f"{self._prefix}attention_scaling", 1.0))

    @property
    def type(self) -> str:
        """``rope_type`` as the module has it."""
        types = getattr(self.module, "rope_type", "default")
        return str(types.get(self.kind, "default") if isinstance(types, dict) else types)

    def put(self, frequencies: Tensor, scale: float | None = None) -> None:
        """Rotate by these from now on; ``scale`` None leaves it."""
        for name in (self._prefix + _BUFFER, f"{self._prefix}original_{_BUFFER}"):
            if (buffer := getattr(self.module, name, None)) is not None:
                buffer.copy_(frequencies.to(buffer.dtype))
        if scale is not None:
            setattr(self.module, f"{self._prefix}attention_scaling", scale)

    def at(self, length: int) -> Rotation:
        """What a text of ``length`` tokens is rotated with, by transformers' own functions."""
        if not self.type.startswith(_BY_LENGTH):
            return Rotation(tuple(self.frequencies.double().tolist()), self.scale)
        layers = {"layer_type": self.kind} if self.kind else {}
        function = ROPE_INIT_FUNCTIONS["dynamic" if self.type.startswith("dynamic") else self.type]
        frequencies, _ = function(self.module.config, torch.device("cpu"), seq_len=length, **layers)
        return Rotation(tuple(frequencies.double().tolist()), self.scale)


def rotaries(model: Any) -> list[Rotary]:
    """Those of the part of ``model`` that reads text."""
    found = []
    for module in model.get_decoder().modules():
        for name, _ in module.named_buffers(recurse=False):
            kind = name.removesuffix(_BUFFER).removesuffix("_")
            if name.endswith(_BUFFER) and not kind.endswith(("original", "long")):
                found.append(Rotary(module, kind))
    return found


def rotations(model: Any, length: int) -> dict[str, Rotation]:
    """How ``model`` rotates texts of ``length`` tokens, by kind of layer; under ``""`` where there is one.

    Kinds that several modules rotate differently are missing: which layer has which is known to the class alone.
    """
    found: dict[str, Rotation] = {}
    unclear = set()
    for rotary in rotaries(model):
        rotation = rotary.at(length)
        if found.setdefault(rotary.kind, rotation) != rotation:
            unclear.add(rotary.kind)
    return {kind: rotation for kind, rotation in found.items() if kind not in unclear}


def serve(model: Any, length: int) -> None:
    """Have a model whose frequencies grow with the text rotate by those of ``length`` tokens from there on.

    transformers keeps the frequencies of the longest text so far; shorter ones than the model was trained for reset
    them.
    """
    for rotary in rotaries(model):
        if rotary.type.startswith("dynamic") and length > rotary.module.original_max_seq_len:
            name = f"{rotary.kind}_{_BUFFER}" if rotary.kind else _BUFFER
            buffer = getattr(rotary.module, name)
            buffer.copy_(torch.tensor(rotary.at(length).frequencies).to(buffer.dtype))
            prefix = f"{rotary.kind}_" if rotary.kind else ""
            setattr(rotary.module, f"{prefix}max_seq_len_cached", length)
