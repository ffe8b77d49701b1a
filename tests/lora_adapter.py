"""LoRA adapters for the toys of ``tiny_transformer.py``, and these toys with the adapters merged into their weights."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from gguf_builder import ARR, F32, STR, U32, build, entry
from tiny_transformer import TinyModel

__all__ = ["Adapter", "merged"]


@dataclass(frozen=True)
class Adapter:
    """Random A ``[rank, in]`` and B ``[out, rank]`` for all weights whose names have one of ``parts``.

    Attributes:
        model: The model that it is for.
        seed: Decides the numbers.
        parts: Such as ``attn_q``; ``attn_k`` is not in ``attn_kv``.
        rank, alpha: The product counts ``alpha/rank`` times, or once if ``alpha`` is 0.
        invocation: Tokens that switch it on (aLoRA), in programs that look.
    """

    model: TinyModel
    seed: int
    parts: tuple[str, ...] = ("attn_q", "attn_k", "attn_qkv")
    rank: int = 4
    alpha: float = 0.0
    invocation: tuple[int, ...] = ()

    @cached_property
    def pairs(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """A and B by the name of the weight."""
        random = np.random.default_rng(self.seed)
        found = {}
        for name, weight in self.model.weights.items():
            if weight.ndim == 2 and name.split(".")[-2] in self.parts:
                a = random.standard_normal((self.rank, weight.shape[1])) / np.sqrt(weight.shape[1])
                b = 0.5 * random.standard_normal((weight.shape[0], self.rank)) / np.sqrt(self.rank)
                found[name] = a.astype(np.float32), b.astype(np.float32)
        return found

    def file(self) -> bytes:
        """The adapter's GGUF, as upstream's converter writes it."""
        entries = [
            entry("general.type", STR, "adapter"),
            entry("general.architecture", STR, self.model.arch),
            entry("adapter.type", STR, "lora"),
            entry("adapter.lora.alpha", F32, self.alpha),
        ]
        if self.invocation:
            entries.append(entry("adapter.alora.invocation_tokens", ARR, self.invocation, U32))
        tensors = [(f"{name}.lora_{x}", pair[i]) for name, pair in self.pairs.items() for i, x in enumerate("ab")]
        return build(entries, tensors)


def merged(model: TinyModel, adapters: Sequence[tuple[Adapter, float]]) -> TinyModel:
    """``model`` with each adapter's product added to its weights so many times."""
    result = copy.deepcopy(model)
    for adapter, scale in adapters:
        times = scale * adapter.alpha / adapter.rank if adapter.alpha else scale
        for name, (a, b) in adapter.pairs.items():
            whole = result.get(name) + times * b.astype(np.float64) @ a.astype(np.float64)
            result.weights[name] = whole.astype(np.float32)
    return result
