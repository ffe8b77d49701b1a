"""From scores of heads to ratios of KV heads. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ggufrope.errors import ParameterError, UnsupportedModelError
from ggufrope.methods.head_order import BY_SCORE, RatioSpread, check_order, head_ratios, layers_with_ratios
from ggufrope.rope.model import ModelRope
from ggufrope.rope.table import HeadRatios

__all__ = ["Ordering", "group_scores", "rank_correlation"]


@dataclass(frozen=True, slots=True)
class Ordering:
    """Which head gets which ratio.

    Attributes:
        order: ``code``: head h takes ratio number argsort(-scores)[h], as the authors' program and the paper's
            Algorithm 1 have it; ``rank``: the most position-aware head takes the smallest ratio, the next one the
            next, as the paper's text has it; or ``sequential``, ``reverse``, ``random:SEED``, which ignore scores.
        spacing: ``code``: i/H; ``paper``: i/(H-1).
        min_ratio: the smallest ratio.
        max_ratio: the largest one, which ``code`` spacing does not reach.
        first_layer: first layer that gets ratios, counted from 0.
        group: how the query heads that share a K make one score: ``mean`` or ``max``.
    """

    order: str = "code"
    spacing: str = "code"
    min_ratio: float = 1.2
    max_ratio: float = 1.8
    first_layer: int = 2
    group: str = "mean"

    def __post_init__(self) -> None:
        if self.order not in (*BY_SCORE, "sequential", "reverse") and not self.order.startswith("random:"):
            raise ParameterError(
                f"ms-poe: head order '{self.order}'; it is code, rank, sequential, reverse or random:SEED"
            )
        self._spread()  # checks itself
        if self.order not in BY_SCORE:
            check_order(self.order)
        if self.group not in ("mean", "max"):
            raise ParameterError(f"ms-poe: group is '{self.group}'; it is 'mean' or 'max'")

    def ratios(self, model: ModelRope, scores: Sequence[npt.NDArray[np.float64]]) -> HeadRatios:
        """The ratio of every layer and KV head.

        Args:
            model: the facts.
            scores: by layer, one for each KV head; NaN where a layer was not scored.

        Raises:
            UnsupportedModelError: no layer takes ratios, or one that does has no scores.
        """
        if self.order not in BY_SCORE:
            return self._spread().in_order(model, self.order)
        rows = {}
        for layer in eligible(model, self.first_layer):
            if not np.isfinite(scores[layer]).all():
                raise UnsupportedModelError(
                    f"{model.arch}: the heads of layer {layer} could not be scored; raise --first-layer above it or "
                    "use another order"
                )
            steps = self._spread().steps(len(scores[layer]))
            best_first = np.argsort(-scores[layer], kind="stable")
            index = best_first if self.order == "code" else np.argsort(best_first, kind="stable")
            rows[layer] = tuple(steps[i] for i in index)
        return head_ratios(model, rows)

    def _spread(self) -> RatioSpread:
        return RatioSpread(self.min_ratio, self.max_ratio, self.first_layer, self.spacing)


def eligible(model: ModelRope, first_layer: int) -> list[int]:
    """Layers that take ratios of their own from ``first_layer`` on; those that use another layer's K follow it.

    Raises:
        UnsupportedModelError: there is none.
    """
    if model.mla:
        raise UnsupportedModelError(
            f"{model.arch}: its heads share one rotated K (MLA), so there are none to order; "
            "use a method without head ratios"
        )
    layers = layers_with_ratios(model, first_layer)
    if not layers:
        raise UnsupportedModelError(
            f"{model.arch}: no layer of {model.n_layer} takes ratios from layer {first_layer} on; lower --first-layer"
        )
    return layers


def group_scores(scores: npt.NDArray[np.float64], n_kv: int, group: str) -> npt.NDArray[np.float64]:
    """``(..., n_head)`` scores of query heads → ``(..., n_kv)`` of KV heads, by ``mean`` or ``max``."""
    grouped = scores.reshape(*scores.shape[:-1], n_kv, -1)
    return np.asarray(grouped.mean(axis=-1) if group == "mean" else grouped.max(axis=-1))


def rank_correlation(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Spearman's, equal values sharing their mean rank; NaN when either is constant."""
    x, y = _ranks(np.asarray(a, np.float64)), _ranks(np.asarray(b, np.float64))
    x, y = x - x.mean(), y - y.mean()
    norm = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / norm if norm > 0 else float("nan")


def _ranks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[place], np.float64)
