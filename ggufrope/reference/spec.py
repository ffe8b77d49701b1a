"""What the reference is asked to compute, as plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ggufrope.errors import ParameterError

__all__ = ["PARAMETERS", "ReferenceSpec", "Switch"]

#: Base methods and the parameters that each one takes, under ggufrope's names.
PARAMETERS: dict[str, frozenset[str]] = {
    "none": frozenset({"freq_base"}),
    "linear": frozenset({"factor", "original_context"}),
    "ntk": frozenset({"factor", "original_context"}),
    "dynamic-ntk": frozenset({"factor", "slope", "original_context", "granularity"}),
    "yarn": frozenset(
        {"factor", "original_context", "beta_fast", "beta_slow", "attention_factor", "mscale", "mscale_all_dim"}
        | {"truncate", "dynamic", "granularity"}
    ),
    "llama3": frozenset({"factor", "low_freq_factor", "high_freq_factor", "original_context"}),
    "longrope": frozenset(
        {"factor", "short_factor", "long_factor", "original_context", "attention_factor", "short_attention_factor"}
    ),
    "clex": frozenset({"clex_from", "context", "max_factor", "log_scale", "granularity"}),
}


_LISTS, _FLAGS = frozenset({"short_factor", "long_factor"}), frozenset({"truncate", "dynamic", "log_scale"})


@dataclass(frozen=True, slots=True)
class ReferenceSpec:
    """A base method, and a position divisor for each KV head on top of it.

    Attributes:
        method: a name in ``PARAMETERS``; None keeps whatever the model's own ``config.json`` declares.
        params: the method's parameters (``factor``, ``original_context``, ...); an absent one takes its default.
        head_ratios: Ms-PoE's position divisors, one row per layer with one entry per KV head; empty: all 1.
        from_wavelength: tokens; pairs of a shorter wavelength keep their frequency, whatever their head's ratio, from
            twice that on they have all of it. 0: all pairs have.
        pair_factors: divisors that somebody gave, for each layer and KV head one for each pair; empty: all 1.
        layer_scales: what multiplies cos and sin beside the base method's scale, for each layer; empty: all 1.
        own_factors: under another method, the divisors stay that llama.cpp's converter stores as the model's own
            (``rope_freqs.weight``), where ``config.json`` asks for such.
    """

    method: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    head_ratios: tuple[tuple[float, ...], ...] = ()
    own_factors: bool = True
    from_wavelength: float = 0.0
    pair_factors: tuple[tuple[tuple[float, ...], ...], ...] = field(default=(), repr=False)
    layer_scales: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.method is not None and self.method not in PARAMETERS:
            raise ParameterError(f"the reference has no method '{self.method}'; it has {', '.join(PARAMETERS)}")
        if self.method is None and self.params:
            raise ParameterError(f"parameters without a method: {sorted(self.params)}")
        strange = set(self.params) - PARAMETERS.get(self.method or "none", frozenset())
        if strange:
            raise ParameterError(f"the reference's '{self.method}' takes no {', '.join(sorted(strange))}")
        for name, value in self.params.items():
            self._check(name, value)
        if not 0 <= self.from_wavelength < math.inf:
            raise ParameterError(f"from_wavelength is {self.from_wavelength}; a number of tokens is needed, 0 for none")
        for layer, row in enumerate(self.head_ratios):
            for head, ratio in enumerate(row):
                if not 0 < ratio < math.inf:
                    raise ParameterError(f"head ratio of layer {layer}, KV head {head} is {ratio}; it must be above 0")

    def _check(self, name: str, value: Any) -> None:
        """Raise ParameterError unless a parameter has the type that it needs."""
        if value is None or name == "clex_from":
            return
        wanted, good = "a finite number above 0", isinstance(value, (int, float)) and not isinstance(value, bool)
        if name in _LISTS:
            wanted, good = "a list of numbers", isinstance(value, (list, tuple))
        elif name in _FLAGS:
            wanted, good = "true or false", isinstance(value, bool)
        least = 0.0 if name.startswith("mscale") else 5e-324  # 0 is "not used" there
        numbers = value if good and name in _LISTS else [value] if good and name not in _FLAGS else []
        if not good or not all(isinstance(n, (int, float)) and least <= n < math.inf for n in numbers):
            raise ParameterError(f"the reference's '{self.method}': {name} is {value!r}; {wanted} is needed")

    @property
    def by_length(self) -> bool:
        """Whether the frequencies depend on the length of the text."""
        return self.method in ("dynamic-ntk", "longrope", "clex") or bool(self.params.get("dynamic"))

    @property
    def per_head(self) -> bool:
        """Whether any head or layer has something of its own."""
        return self.has_table or any(ratio != 1.0 for row in self.head_ratios for ratio in row)

    @property
    def has_table(self) -> bool:
        """Whether somebody gave divisors or scales."""
        return bool(self.pair_factors or self.layer_scales)

    def describe(self) -> str:
        """One phrase for people."""
        base = "the checkpoint's own rope settings" if self.method is None else self.method
        shown = ", ".join(
            f"{k} {v:.10g}" if isinstance(v, float) else f"{k} {v}"
            for k, v in sorted(self.params.items())
            if not isinstance(v, (list, tuple))
        )
        ratios = {r for row in self.head_ratios for r in row if r != 1.0}
        heads = f", head ratios {min(ratios):.4g} to {max(ratios):.4g}" if ratios else ""
        heads += f" from wavelengths of {self.from_wavelength:g} tokens on" if heads and self.from_wavelength else ""
        factors = [f for layer in self.pair_factors for row in layer for f in row]
        heads += f", a table of factors {min(factors):.4g} to {max(factors):.4g}" if factors else ""
        scales = {scale for scale in self.layer_scales if scale != 1.0}
        heads += "".join(f", attention scale {scale:.4g}" for scale in sorted(scales))
        return f"{base}{f' ({shown})' if shown else ''}{heads}"


@dataclass(frozen=True, slots=True)
class Switch:
    """Where frequencies begin to follow the length of the text.

    Attributes:
        original: the longest text in tokens that they leave alone.
        in_steps: they change at certain lengths and are the same in between, not gradually.
        once: they change right beyond ``original``, and stay.
    """

    original: int
    in_steps: bool = False
    once: bool = False
