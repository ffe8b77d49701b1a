"""``llama3``: the piecewise interpolation of Llama 3.1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ggufrope.errors import ParameterError
from ggufrope.late import np
from ggufrope.methods.protocol import Method, Traits, option, positive, reach
from ggufrope.rope.model import ModelRope
from ggufrope.rope.stock import StockRope
from ggufrope.rope.table import RopeTable

__all__ = ["Llama3"]


@dataclass(frozen=True, slots=True)
class Llama3(Method):
    """Divide slow pairs by ``factor``, keep fast ones, and mix frequencies by wavelength in between.

    As released with Llama 3.1 (arXiv 2407.21783 and its reference code). With w the wavelength of a pair and c the
    original context: ``F = 1`` where w < c/high_freq_factor, ``F = factor`` where w > c/low_freq_factor; in between
    ``1/F = (1-s)/factor + s`` with ``s = (c/w - low)/(high - low)``. Unlike YaRN it mixes by wavelength, not by index,
    and leaves the attention scale alone. Llama 3.1 itself: 8, 1, 4, 8192. With low = high (Llama 4 Scout: 16, 1, 1)
    there is nothing in between.
    """

    name: ClassVar[str] = "llama3"
    title: ClassVar[str] = "Llama 3.1 scaling"
    paper: ClassVar[str] = "arXiv 2407.21783"
    traits: ClassVar[Traits] = Traits(
        hf_types=("llama3",), hf_parameters=("factor", "low_freq_factor", "high_freq_factor", "original_context")
    )

    factor: float = option(1.0, "divisor of the slow pairs")
    low_freq_factor: float = option(1.0, "original context over the wavelength above which a pair is slow")
    high_freq_factor: float = option(4.0, "original context over the wavelength below which a pair is fast")
    original_context: int | None = option(None, "context before scaling, in tokens; default: the trained context")

    def __post_init__(self) -> None:
        reach(self.name, self.factor)
        positive(self.name, low_freq_factor=self.low_freq_factor, original_context=self.original_context)
        if not self.low_freq_factor <= self.high_freq_factor < float("inf"):
            raise ParameterError(
                f"llama3: high_freq_factor {self.high_freq_factor:g} must not be below low_freq_factor "
                f"{self.low_freq_factor:g}"
            )

    def table(self, model: ModelRope) -> RopeTable:
        turns = (self.original(model)) * model.base_frequencies() / (2 * np.pi)
        span = self.high_freq_factor - self.low_freq_factor
        above = turns - self.low_freq_factor
        smooth = np.clip(above / span, 0.0, 1.0) if span else (above >= 0).astype(np.float64)
        return RopeTable.uniform(1.0 / ((1.0 - smooth) / self.factor + smooth))

    def stock(self, model: ModelRope) -> StockRope:
        factors = tuple(float(f) for f in self.table(model).factors[0])
        return StockRope(rope_freqs=factors, original_ctx=self.original(model))
