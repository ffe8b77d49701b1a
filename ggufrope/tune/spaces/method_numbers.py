"""A method's own numbers: its factor and the like, moved from where the file has them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ggufrope.errors import UnsupportedModelError, UsageError
from ggufrope.methods import Method
from ggufrope.methods.fitted import fit
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.rope.table import RopeTable
from ggufrope.tune.layout import PairLayout
from ggufrope.tune.spaces.space import Floats, Space

__all__ = ["MethodNumbers"]

_FARTHEST = 64.0  # times the context
_OTHERS = 8.0  # times more or less than the file has, for numbers that are no factor


class MethodNumbers(Space):
    """The frequencies of a method, of which the numbers in ``traits.numbers`` are found.

    Parameters are the numbers' logarithms. They begin where the file has them if it was converted with the method, else
    at a factor of 1; log factors are relative to that. The attention scale stays as the file has it.
    """

    bounds = (-math.log(_FARTHEST), math.log(_FARTHEST))

    def __init__(self, method: type[Method]) -> None:
        """The space of ``method``, whose ``traits.numbers`` are not empty."""
        self._method = method
        self.numbers = method.traits.numbers
        self.name = f"{method.name}-numbers"
        self.summary = f"the numbers of {method.name}: {', '.join(self.numbers)}"
        self.paper = method.paper
        self.shape = f"[number]: {len(self.numbers)}"

    def n_parameters(self, layout: PairLayout) -> int:
        """See ``Space``."""
        return len(self.numbers)

    def log_factors(self, theta: Floats, layout: PairLayout, file: ModelFile | None = None) -> Floats:
        """See ``Space``; needs ``file``.

        Raises:
            UnsupportedModelError: the file's frequencies follow the length, or the model cannot carry the method.
        """
        if np.shape(theta) != (len(self.numbers),):
            raise ValueError(f"{self.name}: parameters of shape {np.shape(theta)}, expected {(len(self.numbers),)}")
        opened = self._need(file)
        given = self._given(opened)
        found = self._table(opened, {**given, **self._values(np.asarray(theta))})
        start = self._table(opened, given)
        model, flat = opened.decoded.model, np.zeros(layout.size)
        for layer, part in enumerate(layout.split(flat)):
            if layout.free[layer]:
                ours, theirs = (t.of_sliding if model.slides(layer) else t for t in (found, start))
                part[:] = np.log(ours.factors[0] / theirs.factors[0])
        return np.clip(flat, *self.bounds)

    def start(self, layout: PairLayout, file: ModelFile | None = None) -> Floats:
        """See ``Space``; needs ``file``."""
        given = self._given(self._need(file))
        return np.log([float(given[name]) for name in self.numbers])

    def limits(self, layout: PairLayout, file: ModelFile | None = None) -> Floats:
        """See ``Space``; a factor goes from 1 to 64, other numbers to 8 times more or less than the file has."""
        wide = math.log(_OTHERS)
        rows = [
            (0.0, max(math.log(_FARTHEST), at)) if name == "factor" else (at - wide, at + wide)
            for name, at in zip(self.numbers, self.start(layout, file), strict=True)
        ]
        return np.array(rows)

    def values(self, theta: Floats) -> dict[str, float]:
        """What ``theta`` means as the method's parameters."""
        return self._values(np.asarray(theta))

    def _values(self, theta: Floats) -> dict[str, float]:
        values = {name: float(math.exp(value)) for name, value in zip(self.numbers, theta, strict=True)}
        if "factor" in values:
            values["factor"] = max(values["factor"], 1.0)
        if {"beta_fast", "beta_slow"} <= values.keys():  # the ramp's ends keep their order
            values["beta_fast"] = max(values["beta_fast"], values["beta_slow"])
        return values

    def _given(self, file: ModelFile) -> dict[str, Any]:
        """The method's parameters as the file has them; defaults where it has another method."""
        now, own = file.decoded, {field.name: field.default for field in dataclasses.fields(self._method)}
        if now.method != self._method.name:
            return {name: own[name] for name in self.numbers}
        said: Mapping[str, Any] = now.params if now.ours else {n: getattr(now.stock, n, None) for n in self.numbers}
        return {name: own[name] for name in self.numbers} | {k: v for k, v in said.items() if v is not None}

    def _table(self, file: ModelFile, params: Mapping[str, Any]) -> RopeTable:
        source = file.original
        table = fit(self._method.name, params, source.model, source.stock).table
        if table.n_rows > 1 or file.decoded.table.n_rows > 1:
            raise UnsupportedModelError(
                f"{file.path}: its frequencies follow the length of a text, and {self.name} has one table for all "
                "lengths; take --space layer-curve"
            )
        return table

    def _need(self, file: ModelFile | None) -> ModelFile:
        if file is None:
            raise UsageError(f"{self.name}: relative to a file, and none was given; pass the ModelFile")
        return file
