"""``longrope``: searched factors per pair, one list for short and one for long texts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ggufrope.errors import ParameterError
from ggufrope.late import np
from ggufrope.methods.config_parameters import parameters_from_config
from ggufrope.methods.protocol import Method, Traits, option, positive, reach
from ggufrope.rope.model import ModelRope
from ggufrope.rope.stock import StockRope
from ggufrope.rope.table import RopeTable

__all__ = ["LongRope"]


@dataclass(frozen=True, slots=True)
class LongRope(Method):
    """Divide each pair by its own factor: ``short_factor`` up to the original context, ``long_factor`` beyond.

    LongRoPE (arXiv 2402.13753). cos and sin are multiplied by ``sqrt(1 + ln(factor)/ln(original))`` at every length,
    as Phi-3 and transformers do. The lists come from a search per model; they cannot be derived. A file that has its
    lists already needs none given.

    The patched runtime picks a list by the length in use, and rotates cached keys anew when a text grows beyond the
    original context. Stock llama.cpp, where it can do LongRoPE, picks by the allocated context.
    """

    name: ClassVar[str] = "longrope"
    title: ClassVar[str] = "LongRoPE"
    paper: ClassVar[str] = "arXiv 2402.13753"
    traits: ClassVar[Traits] = Traits(
        hf_types=("longrope", "su"),
        hf_parameters=("factor", "short_factor", "long_factor", "original_context", "attention_factor"),
        lists=("short_factor", "long_factor"),
        short_texts="its short list",
    )

    factor: float = option(1.0, "how many times longer the context gets; sets the attention scale only")
    short_factor: tuple[float, ...] = option(
        (), "divisors up to the original context, rot_dim/2 of them; default: the list in the file", kind="list"
    )
    long_factor: tuple[float, ...] = option(
        (), "divisors beyond the original context, rot_dim/2 of them; default: the list in the file", kind="list"
    )
    original_context: int | None = option(None, "context before scaling, in tokens; default: the trained context")
    attention_factor: float | None = option(
        None, "multiplies cos and sin; default: the method's own formula, from the factor"
    )
    short_attention_factor: float | None = option(
        None, "multiplies cos and sin up to the original context (Phi-3.5-MoE's short_mscale); default: as beyond"
    )

    def __post_init__(self) -> None:
        reach(self.name, self.factor)
        positive(self.name, original_context=self.original_context, attention_factor=self.attention_factor)
        positive(self.name, short_attention_factor=self.short_attention_factor)
        for name in ("short_factor", "long_factor"):
            values = getattr(self, name)
            if not values:
                raise ParameterError(f"longrope: no {name} given; pass --{name.replace('_', '-')} FILE (a JSON list)")
            for value in values:
                positive(self.name, **{name: value})

    @classmethod
    def from_config(cls, config: Mapping[str, Any], rope: Mapping[str, Any]) -> dict[str, Any]:
        if config.get("max_position_embeddings"):  # its own factor, where there is one, need not fit the contexts
            rope = {k: v for k, v in rope.items() if k != "factor"}
        own = {"attention_factor": "long_mscale", "short_attention_factor": "short_mscale"}  # Phi-3.5-MoE's
        scales = {k: float(rope[theirs]) for k, theirs in own.items() if rope.get(theirs) is not None}
        return {**parameters_from_config(cls.traits.hf_parameters, config, rope), **scales}

    @classmethod
    def from_file(cls, declared: ModelRope, current: StockRope) -> dict[str, Any]:
        if not current.long:
            return {}
        return {
            "short_factor": current.short,
            "long_factor": current.long,
            "attention_factor": current.attn_factor,
            "original_context": declared.original_ctx,
            "factor": max(1.0, declared.train_ctx / declared.original_ctx),
        }

    def attn_scale(self, model: ModelRope) -> float:
        """What multiplies cos and sin."""
        if self.attention_factor is not None:
            return self.attention_factor
        return math.sqrt(1.0 + math.log(self.factor) / math.log(self.original(model)))

    def table(self, model: ModelRope) -> RopeTable:
        for name in ("short_factor", "long_factor"):
            if (n := len(getattr(self, name))) != model.n_pairs:
                raise ParameterError(
                    f"longrope: {name} has {n} entries, expected rot_dim/2 = {model.n_pairs}; give a list of that "
                    "length"
                )
        scale = self.attn_scale(model)
        short_scale = scale if self.short_attention_factor is None else self.short_attention_factor
        if self.short_factor == self.long_factor and short_scale == scale:
            return RopeTable.uniform(self.long_factor, scale)
        original = self.original(model)
        rows = np.array([self.short_factor, self.long_factor], dtype=np.float64)
        points = (original, max(self.context(model), original + 1))
        return RopeTable(rows, np.array([short_scale, scale]), length_points=points)

    def stock(self, model: ModelRope) -> StockRope:
        return StockRope(
            scaling_type="longrope",
            original_ctx=self.original(model),
            attn_factor=self.attn_scale(model),
            short=self.short_factor,
            long=self.long_factor,
        )
