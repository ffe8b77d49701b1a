"""``yarn``: NTK-by-parts interpolation with attention scaling."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ggufrope.errors import ParameterError
from ggufrope.methods.config_parameters import parameters_from_config
from ggufrope.methods.protocol import GRANULARITY, Method, Traits, granular, option, positive, reach
from ggufrope.rope.model import ModelRope
from ggufrope.rope.stock import StockRope
from ggufrope.rope.table import RopeTable, geometric_points, yarn_factors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Yarn"]


@dataclass(frozen=True, slots=True)
class Yarn(Method):
    """Interpolate slow pairs, leave fast ones alone, mix in between, and sharpen attention a little.

    YaRN (arXiv 2309.00071): divisors by equations 19-23, cos and sin multiplied by ``0.1 ln(factor) + 1`` (eq. 22).
    With ``dynamic`` (section 3.4) the factor follows the length: max(1, length / original context), so that texts up
    to the original context run unscaled.
    ``mscale`` and ``mscale_all_dim`` are DeepSeek's variant, the quotient of two such terms; it applies when both are
    given and not 0, as in transformers. ``truncate`` rounds the ramp's ends to whole pairs (the authors' code does;
    gpt-oss does not).
    """

    name: ClassVar[str] = "yarn"
    title: ClassVar[str] = "YaRN"
    paper: ClassVar[str] = "arXiv 2309.00071"
    traits: ClassVar[Traits] = Traits(
        hf_types=("yarn",),
        hf_parameters=(
            "factor",
            "original_context",
            "beta_fast",
            "beta_slow",
            "attention_factor",
            "mscale",
            "mscale_all_dim",
            "truncate",
        ),
        hf_vllm_only=("attn_factor",),
        reaches_factor=True,
        numbers=("factor", "beta_fast", "beta_slow"),
        variants=({"dynamic": True},),
    )

    factor: float = option(1.0, "how many times longer the context gets")
    original_context: int | None = option(None, "context before scaling, in tokens; default: the trained context")
    beta_fast: float = option(32.0, "pairs turning more often than this over the original context stay as they are")
    beta_slow: float = option(1.0, "pairs turning less often than this are fully interpolated")
    attention_factor: float | None = option(
        None, "multiplies cos and sin; default: the method's own formula, from the factor"
    )
    mscale: float | None = option(None, "DeepSeek's mscale, used together with mscale_all_dim; default: not used")
    mscale_all_dim: float | None = option(None, "DeepSeek's mscale_all_dim; default: not used")
    truncate: bool = option(True, "round the ramp's ends to whole pairs")
    dynamic: bool = option(False, "let the factor follow the length, up to the one given")
    granularity: float = option(GRANULARITY, "ratio between two lengths at which the frequencies change")

    def __post_init__(self) -> None:
        reach(self.name, self.factor)
        positive(self.name, beta_fast=self.beta_fast, beta_slow=self.beta_slow, attention_factor=self.attention_factor)
        positive(self.name, original_context=self.original_context)
        granular(self.name, self.granularity)
        if self.beta_fast < self.beta_slow:
            raise ParameterError(f"yarn: beta_fast {self.beta_fast:g} must not be below beta_slow {self.beta_slow:g}")
        if self.dynamic and self.attention_factor is not None:
            raise ParameterError(
                "yarn: attention_factor cannot be combined with dynamic, where it follows the length; drop one"
            )
        if not self.dynamic and self.granularity != GRANULARITY:
            raise ParameterError("yarn: granularity needs dynamic; without it there is one row for all lengths")

    @classmethod
    def from_config(cls, config: Mapping[str, Any], rope: Mapping[str, Any]) -> dict[str, Any]:
        unset = {k for k in ("beta_fast", "beta_slow") if not rope.get(k)}  # transformers takes 0 for not given
        return parameters_from_config(
            cls.traits.hf_parameters, config, {k: v for k, v in rope.items() if k not in unset}
        )

    @classmethod
    def from_vllm_config(cls, config: Mapping[str, Any], rope: Mapping[str, Any]) -> dict[str, Any]:
        # its YaRNScalingRotaryEmbedding multiplies the formula's scale by a key that transformers does not know
        given = cls.from_config(config, rope)
        if rope.get("attn_factor") is None:
            return given
        return {**given, "attention_factor": _mscale(given["factor"], 1.0) * float(rope["attn_factor"])}

    def attn_scale(self, factor: float | None = None) -> float:
        """What multiplies cos and sin, at a factor or at the method's own."""
        factor = self.factor if factor is None else factor
        if self.attention_factor is not None:
            return self.attention_factor
        if self.mscale and self.mscale_all_dim:
            return _mscale(factor, self.mscale) / _mscale(factor, self.mscale_all_dim)
        return _mscale(factor, 1.0)

    def table(self, model: ModelRope) -> RopeTable:
        if not self.dynamic:
            return RopeTable.uniform(self._factors(model, self.factor), self.attn_scale())
        original = self.original(model)
        return RopeTable.by_length(
            geometric_points(original, self.context(model), self.granularity),
            lambda length: self._factors(model, length / original),
            lambda length: self.attn_scale(length / original),
        )

    def _factors(self, model: ModelRope, factor: float) -> NDArray[np.float64]:
        return yarn_factors(
            model.rot_dim,
            model.freq_base,
            factor,
            self.original(model),
            self.beta_fast,
            self.beta_slow,
            self.truncate,
        )

    def stock(self, model: ModelRope) -> StockRope:
        if self.dynamic:
            return StockRope(original_ctx=self.original(model))  # the same at factor 1 only
        return StockRope(
            scaling_type="yarn",
            factor=self.factor,
            original_ctx=self.original(model),
            attn_factor=self.attn_scale() / _mscale(self.factor, 1.0),  # stock multiplies this back in by itself
            beta_fast=self.beta_fast,
            beta_slow=self.beta_slow,
        )

    def params(self) -> dict[str, Any]:
        # not super(): dataclasses with slots are other classes than the ones their methods were written in
        unused = () if self.dynamic else ("dynamic", "granularity")
        return {k: v for k, v in Method.params(self).items() if k not in unused}


def _mscale(factor: float, weight: float) -> float:
    return 0.1 * weight * math.log(factor) + 1.0
