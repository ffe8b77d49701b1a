"""``none``: plain RoPE, all scaling keys removed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ggufrope.methods.protocol import Method, Traits
from ggufrope.rope.model import ModelRope
from ggufrope.rope.stock import StockRope
from ggufrope.rope.table import RopeTable

__all__ = ["NoScaling"]


@dataclass(frozen=True, slots=True)
class NoScaling(Method):
    """The frequencies the model was built with, at the context it was trained for.

    Removes whatever scaling the file declares. Factors stored as a tensor (``rope_freqs.weight``, as in Llama 3.1)
    are part of the trained model and stay.
    """

    name: ClassVar[str] = "none"
    title: ClassVar[str] = "plain RoPE"
    paper: ClassVar[str] = "RoFormer, arXiv 2104.09864"
    traits: ClassVar[Traits] = Traits(keeps_context=True)

    def table(self, model: ModelRope) -> RopeTable:
        return RopeTable.identity(model)

    def stock(self, model: ModelRope) -> StockRope:
        return StockRope()
