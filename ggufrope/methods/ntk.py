"""``ntk``: NTK-aware scaling with a fixed base."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ggufrope.errors import UnsupportedModelError
from ggufrope.late import np
from ggufrope.methods.protocol import Method, Traits, option, positive, reach
from ggufrope.rope.model import ModelRope
from ggufrope.rope.stock import StockRope
from ggufrope.rope.table import RopeTable

__all__ = ["Ntk"]


@dataclass(frozen=True, slots=True)
class Ntk(Method):
    """Raise the base so that the slowest pair is interpolated by ``factor`` and the fastest not at all.

    ``base' = base · factor^(d/(d-2))`` with d = rot_dim, hence ``F_i = factor^(2i/(d-2))``; first described by
    /u/bloc97, written up in YaRN (arXiv 2309.00071), section 3.1. Needs no fine-tuning for small factors. The usable
    context grows somewhat less than ``factor`` times, since middle pairs are interpolated by less.

    The base is raised where it is used: sliding-window layers that have the same base (gpt-oss, OLMo 3) follow, and
    those with a base of their own (Gemma 3) stay as they are. That is what stock llama.cpp makes of a raised base.
    """

    name: ClassVar[str] = "ntk"
    title: ClassVar[str] = "NTK-aware scaling"
    paper: ClassVar[str] = "arXiv 2309.00071, section 3.1"
    traits: ClassVar[Traits] = Traits(changes_base=True, numbers=("factor",))

    factor: float = option(1.0, "how many times longer the context gets")
    original_context: int | None = option(None, "context before scaling, in tokens; default: the trained context")

    def __post_init__(self) -> None:
        reach(self.name, self.factor)
        positive(self.name, original_context=self.original_context)

    def table(self, model: ModelRope) -> RopeTable:
        if model.rot_dim < 4:
            raise UnsupportedModelError(
                f"{model.arch}: ntk needs at least two rotated pairs, rot_dim is {model.rot_dim}"
            )
        return RopeTable.uniform(self.factor ** (np.arange(model.n_pairs) * 2 / (model.rot_dim - 2)))

    def stock(self, model: ModelRope) -> StockRope:
        base = model.freq_base * self.factor ** (model.rot_dim / (model.rot_dim - 2))
        return StockRope(freq_base=base, original_ctx=self.original(model))
