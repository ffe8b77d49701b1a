"""A factor for each KV head, on a curve over the order of its layer's heads by calibrated scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ggufrope.calibrate.record import read_record
from ggufrope.errors import InputError
from ggufrope.tune.layout import PairLayout
from ggufrope.tune.spaces.space import CurveSpace, Floats

__all__ = ["ScoreCurve"]


class ScoreCurve(CurveSpace):
    """Ms-PoE's assignment with what it hands out to be found: its ratios rise linearly with the rank of a score."""

    name = "score-curve"
    summary = "a factor for each KV head, on a curve over the rank of its calibrated score"
    paper = "Ms-PoE, arXiv 2403.04797"
    shape = "[control point]: 3 numbers"
    bounds = (-math.log(4), math.log(4))
    points = 3

    def __init__(self, scores: Sequence[Floats]) -> None:
        """The space of these scores, ``(n_head_kv,)`` for each layer; NaN in layers that were not scored."""
        self._scores = [np.asarray(row, np.float64) for row in scores]

    @classmethod
    def read(cls, heads: Path) -> ScoreCurve:
        """The space of a ``heads.json`` that ``ggufrope calibrate`` wrote: mean scores over its prompts.

        Raises:
            InputError: it cannot be read, or has no prompt.
        """
        record = read_record(heads)
        if not record.cuts:
            raise InputError(f"{heads}: no prompt was scored; let `ggufrope calibrate` finish")
        return cls([scores.mean(axis=0) for scores in record.of_kv_heads("mean")])

    def place(self, layout: PairLayout) -> Floats:
        """See ``CurveSpace``: a layer's lowest score is at 0, its highest at 1.

        Raises:
            InputError: the scores are of another model.
        """
        if [len(row) for row in self._scores] != [heads for heads, _ in layout.shapes]:
            raise InputError(
                f"{self.name}: scores of {sum(map(len, self._scores))} KV heads in {len(self._scores)} layers; the "
                f"model has {sum(h for h, _ in layout.shapes)} in {len(layout.shapes)}; run `ggufrope calibrate` on it"
            )
        flat = np.full(layout.size, np.nan)
        for layer, part in enumerate(layout.split(flat)):
            scores = self._scores[layout.leader[layer]]
            if layout.free[layer] and not np.isnan(scores).any():
                part[:] = (_ranks(scores) if not layout.one_k else np.full(len(scores), 0.5))[:, None]
        return flat


def _ranks(scores: Floats) -> Floats:
    """Ranks from 0 to 1, lowest first; equals in the order of heads."""
    ranks = np.empty(len(scores))
    ranks[np.argsort(scores, kind="stable")] = np.linspace(0.0, 1.0, len(scores)) if len(scores) > 1 else 0.5
    return ranks
