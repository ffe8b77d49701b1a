"""``yarn``: NTK-by-parts interpolation with attention scaling."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from ggufrope.errors import ParameterError
from ggufrope.methods.base import Method, option, positive, reach
from ggufrope.model import ModelRope
from ggufrope.stock import StockRope
from ggufrope.table import RopeTable, yarn_factors

__all__ = ["Yarn"]


@dataclass(frozen=True, slots=True)
class Yarn(Method):
    """Interpolate slow pairs, leave fast ones alone, mix in between, and sharpen attention a little.

    YaRN (arXiv 2309.00071): divisors by equations 19-23, cos and sin multiplied by ``0.1 ln(factor) + 1`` (eq. 22).
    ``mscale`` and ``mscale_all_dim`` are DeepSeek's variant, the quotient of two such terms; it applies when both are
    given and not 0, as in transformers. ``truncate`` rounds the ramp's ends to whole pairs (the authors' code does;
    gpt-oss does not).
    """

    name: ClassVar[str] = "yarn"
    title: ClassVar[str] = "YaRN"
    paper: ClassVar[str] = "arXiv 2309.00071"

    factor: float = option(1.0, "how many times longer the context gets")
    original_context: int | None = option(None, "context before scaling, in tokens; default: the trained context")
    beta_fast: float = option(32.0, "pairs turning more often than this over the original context stay as they are")
    beta_slow: float = option(1.0, "pairs turning less often than this are fully interpolated")
    attention_factor: float | None = option(None, "multiplies cos and sin; default: the method's own formula")
    mscale: float | None = option(None, "DeepSeek's mscale, used together with mscale_all_dim")
    mscale_all_dim: float | None = option(None, "DeepSeek's mscale_all_dim")
    truncate: bool = option(True, "round the ramp's ends to whole pairs")

    def __post_init__(self) -> None:
        reach(self.name, self.factor)
        positive(self.name, beta_fast=self.beta_fast, beta_slow=self.beta_slow, attention_factor=self.attention_factor)
        positive(self.name, original_context=self.original_context)
        if self.beta_fast <= self.beta_slow:
            raise ParameterError(f"yarn: beta_fast {self.beta_fast:g} must be above beta_slow {self.beta_slow:g}")

    def attn_scale(self) -> float:
        """What multiplies cos and sin."""
        if self.attention_factor is not None:
            return self.attention_factor
        if self.mscale and self.mscale_all_dim:
            return _mscale(self.factor, self.mscale) / _mscale(self.factor, self.mscale_all_dim)
        return _mscale(self.factor, 1.0)

    def table(self, model: ModelRope) -> RopeTable:
        factors = yarn_factors(
            model.rot_dim,
            model.freq_base,
            self.factor,
            self.original(model),
            self.beta_fast,
            self.beta_slow,
            self.truncate,
        )
        return RopeTable.uniform(factors, self.attn_scale())

    def stock(self, model: ModelRope) -> StockRope:
        return StockRope(
            scaling_type="yarn",
            factor=self.factor,
            original_ctx=self.original(model),
            attn_factor=self.attn_scale() / _mscale(self.factor, 1.0),  # stock multiplies this back in by itself
            beta_fast=self.beta_fast,
            beta_slow=self.beta_slow,
        )


def _mscale(factor: float, weight: float) -> float:
    return 0.1 * weight * math.log(factor) + 1.0
