"""Where each layer's, KV head's and pair's factor stands in the flat array of them, and which may be moved."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ggufrope.errors import UnsupportedModelError
from ggufrope.methods.head_order import require_head_ratios
from ggufrope.rope.model import ModelRope

__all__ = ["PairLayout"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PairLayout:
    """The array of pair factors, as ``ggufrope_get_pair_factors`` has it: layer by layer, KV heads, then pairs.

    Attributes:
        shapes: ``(n_head_kv, n_pairs)`` of each layer; no KV head where a layer has no attention.
        free: which layers' factors may be moved: those that rotate, and have no sliding window unless it was asked for.
            Their numbers of pairs are equal.
        leader: for each layer, the layer whose factors it must have: the one whose K it uses, mostly itself.
        one_k: all heads of a layer share one rotated K (MLA), so that they must have the same factors.
    """

    shapes: tuple[tuple[int, int], ...]
    free: tuple[bool, ...]
    leader: tuple[int, ...]
    one_k: bool = False

    @classmethod
    def of(cls, model: ModelRope, *, sliding: bool = False) -> PairLayout:
        """The layout of a model.

        Args:
            model: the facts, ``ModelFile.decoded.model``.
            sliding: whether layers with a sliding window may be moved, too; those that rotate as many dimensions as the
                others do, since a table has no place for more.

        Raises:
            UnsupportedModelError: no runtime takes factors by head for the architecture, or no layer may be moved.
        """
        require_head_ratios(model)
        shapes = tuple((n, model.n_pairs_of(layer)) for layer, n in enumerate(model.n_head_kv))
        leader = tuple(model.leader(layer) for layer in range(model.n_layer))
        alone = [
            model.rotates(layer) and (not model.slides(layer) or (sliding and shapes[layer][1] == model.n_pairs))
            for layer in range(model.n_layer)
        ]
        free = tuple(alone[layer] and alone[leader[layer]] for layer in range(model.n_layer))
        if not any(free):
            raise UnsupportedModelError(
                f"{model.arch}: every layer that rotates has a sliding window, and those keep their frequencies; "
                "give --sliding to move them, too"
            )
        return cls(shapes, free, leader, model.mla)

    @property
    def size(self) -> int:
        """Length of the array."""
        return self.offsets[-1]

    @property
    def offsets(self) -> tuple[int, ...]:
        """Where each layer begins, and the array's length at the end, ``[layers + 1]``."""
        return tuple(itertools.accumulate((heads * pairs for heads, pairs in self.shapes), initial=0))

    @property
    def n_pairs(self) -> int:
        """Pairs of a head in the layers that may be moved."""
        return next(pairs for (_, pairs), free in zip(self.shapes, self.free, strict=True) if free)

    @property
    def leaders(self) -> tuple[int, ...]:
        """The layers that may be moved and that follow no other, in order."""
        return tuple(layer for layer, free in enumerate(self.free) if free and self.leader[layer] == layer)

    def split(self, flat: Floats) -> list[Floats]:
        """The array by layer: ``(n_head_kv, n_pairs)`` each, views where ``flat`` allows that.

        Raises:
            ValueError: another number of entries.
        """
        if np.shape(flat) != (self.size,):
            raise ValueError(f"an array of {np.shape(flat)} entries, the layout has {self.size}")
        return [
            part.reshape(shape) for part, shape in zip(np.split(flat, self.offsets[1:-1]), self.shapes, strict=True)
        ]

    def coordinates(self) -> NDArray[np.int64]:
        """Layer, KV head and pair of each entry, ``(size, 3)``."""
        grids = [
            np.stack(np.meshgrid([layer], range(heads), range(pairs), indexing="ij"), axis=-1).reshape(-1, 3)
            for layer, (heads, pairs) in enumerate(self.shapes)
        ]
        return np.concatenate(grids).astype(np.int64)
