"""``clex``: frequencies that a trained ordinary differential equation continues with the length."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ggufrope.errors import ParameterError, UnsupportedModelError
from ggufrope.late import np
from ggufrope.methods.protocol import GRANULARITY, Method, Traits, granular, option, positive
from ggufrope.rope.model import ModelRope
from ggufrope.rope.stock import StockRope
from ggufrope.rope.table import RopeTable, geometric_points

__all__ = ["Clex", "ClexTable"]

_SAME = 1e-2  # relative; a checkpoint stored in bfloat16 rounds its own frequencies by up to 4e-3


@dataclass(frozen=True, slots=True)
class ClexTable:
    """What a checkpoint's CLEX layer comes to.

    Attributes:
        frequencies: radians per token of each pair at t = 1, 2, ..., ``(max_factor, rot_dim/2)``.
        context: the trained context in tokens; t = ceil(length / context).
        log_scale: whether the configuration asks for attention scaled by the logarithm of the length.
    """

    frequencies: tuple[tuple[float, ...], ...]
    context: int
    log_scale: bool = False

    def __post_init__(self) -> None:
        if not self.frequencies or len({len(row) for row in self.frequencies}) != 1 or not self.frequencies[0]:
            raise ParameterError("clex: the table needs one row for each t, all of the same length")
        for row in self.frequencies:
            positive("clex", **{f"frequency {i}": value for i, value in enumerate(row)})
        if self.context < 2:
            raise ParameterError(f"clex: the trained context is {self.context}; at least 2 tokens are needed")


@dataclass(frozen=True, slots=True)
class Clex(Method):
    """Let a trained equation continue each pair's frequency, in whole multiples of the trained context.

    CLEX (arXiv 2310.16450): the log-frequencies follow an ODE in t = length / trained context, whose right-hand side
    was trained with the model. At inference t is rounded up, so a table with one row for each t says everything; it is
    solved when the file is converted. t = 1 is plain RoPE.

    With ``log_scale`` queries are multiplied by ln(length)/ln(trained context), as the authors' program does where it
    uses flash attention and the configuration says so.

    Deviations: that logarithm changes at length points (``granularity``) and never falls below 1, so that texts up to
    the trained context run on the plain model (the program damps them a little).
    """

    name: ClassVar[str] = "clex"
    title: ClassVar[str] = "CLEX"
    paper: ClassVar[str] = "arXiv 2310.16450"
    traits: ClassVar[Traits] = Traits(trained_layer="clex_from", layer_tensors="clex_layer.", hf_types=("clex",))

    clex_from: ClexTable | None = option(  # noqa: RUF009  # a field, and what it holds is frozen
        None,
        "Hugging Face directory with the trained layer, or a table as JSON (docs/length.md); required",
        kind="layer",
    )
    max_factor: int | None = option(None, "largest t; default: the largest that the layer was trained for")
    log_scale: bool | None = option(None, "scale attention by ln(length)/ln(trained); default: as its config.json says")
    granularity: float = option(GRANULARITY, "ratio between two lengths at which log_scale changes the attention scale")

    def __post_init__(self) -> None:
        granular(self.name, self.granularity)
        if self.clex_from is None:
            raise ParameterError("clex: no trained layer given; pass --clex-from DIR (a CLEX checkpoint)")
        trained = len(self.clex_from.frequencies)
        if self.max_factor is not None and not 1 <= self.max_factor <= trained:
            raise ParameterError(f"clex: max_factor is {self.max_factor}; the layer's table goes from 1 to {trained}")
        if not self._logarithmic and self.granularity != GRANULARITY:
            raise ParameterError("clex: granularity needs log_scale; without it there is one row for each t")

    @classmethod
    def from_config(cls, config: Mapping[str, Any], rope: Mapping[str, Any]) -> dict[str, Any]:
        return {}  # they are in the weights

    def context(self, model: ModelRope) -> int:
        return self._given.context * (self.max_factor or len(self._given.frequencies))

    def original(self, model: ModelRope) -> int:
        return self._given.context

    def table(self, model: ModelRope) -> RopeTable:
        given, plain = self._given, model.base_frequencies()
        if len(given.frequencies[0]) != model.n_pairs:
            raise ParameterError(
                f"clex: its layer has {len(given.frequencies[0])} frequencies, this model rotates "
                f"{model.n_pairs} pairs; give the layer of this model"
            )
        if not np.allclose(given.frequencies[0], plain, rtol=_SAME, atol=0):
            raise ParameterError(
                f"clex: its layer's frequencies at t = 1 are not those of this model (base {model.freq_base:g}); "
                "give the layer of this model"
            )
        if self._logarithmic and model.rot_dim != model.head_dim:
            raise UnsupportedModelError(
                f"{model.arch}: log_scale is not supported where only part of each head rotates; use --no-log-scale"
            )
        return RopeTable.by_length(self._points(model), lambda n: plain / self._row(n), self._scale)

    @property
    def _given(self) -> ClexTable:
        if self.clex_from is None:
            raise ParameterError("clex: no trained layer given; pass --clex-from DIR (a CLEX checkpoint)")
        return self.clex_from

    @property
    def _logarithmic(self) -> bool:
        return self._given.log_scale if self.log_scale is None else self.log_scale

    def _points(self, model: ModelRope) -> tuple[int, ...]:
        points = set(range(self._given.context, self.context(model) + 1, self._given.context))
        if self._logarithmic:
            points |= set(geometric_points(self._given.context, self.context(model), self.granularity))
        return tuple(sorted(points))

    def _row(self, length: int) -> tuple[float, ...]:
        return self._given.frequencies[math.ceil(length / self._given.context) - 1]

    def _scale(self, length: int) -> float:
        # the scale acts on q and on k
        return math.sqrt(math.log(length) / math.log(self._given.context)) if self._logarithmic else 1.0

    def stock(self, model: ModelRope) -> StockRope:
        return StockRope(original_ctx=self._given.context)  # the same at max_factor 1 only

    def params(self) -> dict[str, Any]:
        # the table itself is in ggufrope.length_factors
        return {
            "clex_from": "given",
            "context": self._given.context,
            "max_factor": self.max_factor or len(self._given.frequencies),
            "log_scale": self._logarithmic,
            **({"granularity": self.granularity} if self._logarithmic else {}),
        }
