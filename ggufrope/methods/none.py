"""``none``: plain RoPE, all scaling keys removed, and another base where one is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ggufrope.errors import ParameterError, UnsupportedModelError
from ggufrope.late import np
from ggufrope.methods.protocol import Method, Traits, option
from ggufrope.rope import architectures
from ggufrope.rope.model import ModelRope
from ggufrope.rope.stock import StockRope
from ggufrope.rope.table import RopeTable

__all__ = ["NoScaling"]

_LARGEST = 3.4e38  # float32's


@dataclass(frozen=True, slots=True)
class NoScaling(Method):
    """The frequencies the model was built with, at the context it was trained for.

    Removes whatever scaling the file declares. Factors stored as a tensor (``rope_freqs.weight``, as in Llama 3.1)
    are part of the trained model and stay. ``freq_base`` sets the base of the frequencies (``rope_theta``): for a file
    that lacks it, where llama.cpp takes 10000, or whose base is not the one that the model was trained with. Layers
    with a sliding window follow where they share the base, and keep a base of their own.
    """

    name: ClassVar[str] = "none"
    title: ClassVar[str] = "plain RoPE"
    paper: ClassVar[str] = "RoFormer, arXiv 2104.09864"
    traits: ClassVar[Traits] = Traits(keeps_context=True, changes_base=True)

    freq_base: float | None = option(None, "base of the frequencies (rope_theta); default: the model's")

    def __post_init__(self) -> None:
        if self.freq_base is not None and not 1 < self.freq_base <= _LARGEST:
            raise ParameterError(f"none: freq_base is {self.freq_base:g}; it must be above 1, and a float32")

    def table(self, model: ModelRope) -> RopeTable:
        if self.freq_base is None:
            return RopeTable.identity(model)
        if model.arch in architectures.IGNORES_SCALING:
            raise UnsupportedModelError(
                f"{model.arch}: llama.cpp rotates it with a base of {model.freq_base:g} whatever the file says, so "
                "freq_base has no effect; drop it"
            )
        return RopeTable.uniform((self.freq_base / model.freq_base) ** (np.arange(model.n_pairs) * 2 / model.rot_dim))

    def stock(self, model: ModelRope) -> StockRope:
        return StockRope(freq_base=self.freq_base)

    def notes(self, model: ModelRope) -> list[str]:
        if self.freq_base is None:
            return []
        own = model.has_windows and model.sliding_base is not None
        kept = f"; sliding-window layers keep theirs, {model.sliding_base:g}" if own else ""
        return [f"the base of the frequencies is set from {model.freq_base:g} to {self.freq_base:g}{kept}"]
