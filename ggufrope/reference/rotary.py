"""The frequencies that a loaded transformers model rotates with, read from its rotary modules and put into them."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["Rotary", "Rotation", "rotaries", "rotations", "serve"]

_BUFFER = "inv_freq"


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
        """What a text of ``length`` tokens is rotated with: what the module answers, by cos and sin of position 1.

        Only where it cannot be asked for two positions alone, its buffer and scale.
        """
        copied, answer = self._asked(length)
        pairs = len(copied.frequencies)
        if answer is None or answer.numel() not in (pairs, 2 * pairs):
            return Rotation(tuple(copied.frequencies.double().tolist()), copied.scale)
        if answer.numel() == 2 * pairs:  # each pair twice: halves, or neighbours
            halves = torch.equal(answer[:pairs], answer[pairs:])
            answer = answer[:pairs] if halves else answer[::2]
        return Rotation(tuple(answer.angle().tolist()), float(answer.abs().max()))

    def grown(self, length: int) -> Tensor:
        """The buffer after a text of ``length`` tokens."""
        return self._asked(length)[0].frequencies

    def _asked(self, length: int) -> tuple[Rotary, Tensor | None]:
        """A copy of the module that has read ``length`` tokens, and cos + i sin of position 1 times its scale."""
        module = copy.deepcopy(self.module)
        if hasattr(module, "original_max_seq_len"):  # forget longer texts
            for rotary in _sets(module):
                setattr(module, f"{rotary._prefix}max_seq_len_cached", module.original_max_seq_len)
                rotary.frequencies.copy_(getattr(module, f"{rotary._prefix}original_{_BUFFER}", rotary.frequencies))
        positions = torch.tensor([[1, max(length - 1, 1)]])
        kind = (self.kind,) if self.kind else ()
        with torch.no_grad():
            try:
                answer = module(torch.zeros(1), positions, *kind)
            except (TypeError, ValueError, IndexError, RuntimeError, AttributeError):  # another way to be asked
                return Rotary(module, self.kind), None
        if isinstance(answer, tuple):
            answer = torch.complex(*(part.double() for part in answer[:2]))
        first = answer.to(torch.complex128).reshape(-1, 2, answer.shape[-1])[0, 0] if answer.dim() > 1 else None
        return Rotary(module, self.kind), first


def rotaries(model: Any) -> list[Rotary]:
    """Those of the part of ``model`` that reads text."""
    return [rotary for module in model.get_decoder().modules() for rotary in _sets(module)]


def _sets(module: Any) -> list[Rotary]:
    kinds = {
        name: name.removesuffix(_BUFFER).removesuffix("_")
        for name, _ in module.named_buffers(recurse=False)
        if name.endswith(_BUFFER)
    }
    return [Rotary(module, kind) for kind in kinds.values() if not kind.endswith(("original", "long"))]


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
            rotary.frequencies.copy_(rotary.grown(length))
            setattr(rotary.module, f"{rotary._prefix}max_seq_len_cached", length)
