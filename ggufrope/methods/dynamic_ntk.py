"""``dynamic-ntk``: NTK-aware scaling whose base follows the length in use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ggufrope.errors import UnsupportedModelError
from ggufrope.late import np
from ggufrope.methods.protocol import GRANULARITY, Method, Traits, granular, option, positive, reach
from ggufrope.rope.model import ModelRope
from ggufrope.rope.stock import StockRope
from ggufrope.rope.table import RopeTable, geometric_points

__all__ = ["DynamicNtk"]

#: How many times longer the context gets where a configuration's factor says only that the base follows the length.
_REACH = 4.0


@dataclass(frozen=True, slots=True)
class DynamicNtk(Method):
    """Raise the base as far as the length in use needs it: plain RoPE up to the original context.

    Dynamic NTK (first described by /u/emozilla, written up in YaRN, arXiv 2309.00071, section 3.3). At length L
    ``base' = base · α^(d/(d-2))`` with d = rot_dim and ``α = 1 + slope · (L/original - 1)``. transformers writes the
    same as ``f · s - (f - 1)`` with s = L/original, and calls the slope f ``factor``.

    Deviations:
      * Frequencies change at length points (``granularity``), not with every token; those of a row are right for the
        longest length it serves, and exact at the original context and at the end.
      * Cached keys are re-rotated when the row changes. transformers leaves them at the base they were written with.
    """

    name: ClassVar[str] = "dynamic-ntk"
    title: ClassVar[str] = "Dynamic NTK"
    paper: ClassVar[str] = "arXiv 2309.00071, section 3.3"
    traits: ClassVar[Traits] = Traits(hf_types=("dynamic",))

    factor: float = option(1.0, "how many times longer the context gets")
    slope: float = option(
        1.0, "steepness: α = 1 + slope · (length/original - 1); it is transformers' `factor` of type dynamic"
    )
    original_context: int | None = option(None, "context before scaling, in tokens; default: the trained context")
    granularity: float = option(GRANULARITY, "ratio between two lengths at which the frequencies change")

    def __post_init__(self) -> None:
        reach(self.name, self.factor)
        positive(self.name, slope=self.slope, original_context=self.original_context)
        granular(self.name, self.granularity)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], rope: Mapping[str, Any]) -> dict[str, Any]:
        # its factor is no length: it says how steeply the base follows one; we take it for both
        slope = float(rope["factor"])
        original = {"original_context": int(config["max_position_embeddings"])}
        return {"factor": slope if slope > 1 else _REACH, "slope": slope, **original}

    def table(self, model: ModelRope) -> RopeTable:
        if model.rot_dim < 4:
            raise UnsupportedModelError(
                f"{model.arch}: dynamic-ntk needs at least two rotated pairs, rot_dim is {model.rot_dim}"
            )
        original, exponents = self.original(model), np.arange(model.n_pairs) * 2 / (model.rot_dim - 2)
        return RopeTable.by_length(
            geometric_points(original, self.context(model), self.granularity),
            lambda length: (1.0 + self.slope * (length / original - 1.0)) ** exponents,
        )

    def stock(self, model: ModelRope) -> StockRope:
        return StockRope(original_ctx=self.original(model))  # the same at factor 1 only
