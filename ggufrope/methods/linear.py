"""``linear``: Position Interpolation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ggufrope.late import np
from ggufrope.methods.protocol import Method, Traits, option, positive, reach
from ggufrope.rope.model import ModelRope
from ggufrope.rope.stock import StockRope
from ggufrope.rope.table import RopeTable

__all__ = ["Linear"]


@dataclass(frozen=True, slots=True)
class Linear(Method):
    """Divide every position by one factor, so that a longer text falls into the trained range.

    Position Interpolation (arXiv 2306.15595), equation 3: ``F_i = factor`` for all pairs. Meant to be fine-tuned;
    untuned, it blurs neighbouring positions and costs quality at every length.
    """

    name: ClassVar[str] = "linear"
    title: ClassVar[str] = "Position Interpolation"
    paper: ClassVar[str] = "arXiv 2306.15595"
    traits: ClassVar[Traits] = Traits(hf_types=("linear",), hf_parameters=("factor",))

    factor: float = option(1.0, "how many times longer the context gets")
    original_context: int | None = option(None, "context before scaling, in tokens; default: the trained context")

    def __post_init__(self) -> None:
        reach(self.name, self.factor)
        positive(self.name, original_context=self.original_context)

    def table(self, model: ModelRope) -> RopeTable:
        return RopeTable.uniform(np.full(model.n_pairs, self.factor))

    def stock(self, model: ModelRope) -> StockRope:
        return StockRope(scaling_type="linear", factor=self.factor, original_ctx=self.original(model))
