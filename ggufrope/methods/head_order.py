"""Which head gets which ratio: the ratios of a layer, and the orders in which its heads take them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ggufrope.errors import ParameterError, UnsupportedModelError
from ggufrope.late import np
from ggufrope.rope import architectures
from ggufrope.rope.model import ModelRope
from ggufrope.rope.table import HeadRatios

__all__ = [
    "BY_SCORE",
    "PER_PROMPT",
    "STATIC",
    "RatioSpread",
    "check_order",
    "head_ratios",
    "layers_with_ratios",
    "require_head_ratios",
]

#: Ratios that a file hands out once and for all; a value of ``ggufrope.head_order``.
STATIC = "static"

#: Orders that the runtime makes for each prompt; the other values of ``ggufrope.head_order``.
PER_PROMPT = ("per-prompt", "per-prompt-rank")

#: Orders that measured scores decide (``ggufrope calibrate``).
BY_SCORE = ("code", "rank")


@dataclass(frozen=True, slots=True)
class RatioSpread:
    """Ratios for the heads of a layer, evenly spread.

    Attributes:
        min_ratio: the smallest ratio.
        max_ratio: the largest one, which ``code`` spacing does not reach.
        first_layer: first layer that gets ratios, counted from 0.
        spacing: ``code``: i/H, as the authors' program has it; ``paper``: i/(H-1).
    """

    min_ratio: float = 1.2
    max_ratio: float = 1.8
    first_layer: int = 2
    spacing: str = "code"

    def __post_init__(self) -> None:
        if not 0 < self.min_ratio <= self.max_ratio < float("inf"):
            raise ParameterError(
                f"ms-poe: ratios from {self.min_ratio:g} to {self.max_ratio:g}; 0 < min_ratio ≤ max_ratio is needed"
            )
        if self.first_layer < 0:
            raise ParameterError(f"ms-poe: first_layer is {self.first_layer}; layers count from 0")
        if self.spacing not in ("code", "paper"):
            raise ParameterError(f"ms-poe: spacing is '{self.spacing}'; it is 'code' or 'paper'")

    def steps(self, n: int) -> tuple[float, ...]:
        """``n`` ratios from the smallest one on, in rising order."""
        divisor = n if self.spacing == "code" else max(n - 1, 1)
        return tuple(self.min_ratio + (self.max_ratio - self.min_ratio) * i / divisor for i in range(n))

    def in_order(self, model: ModelRope, order: str, sliding: bool = False) -> HeadRatios:
        """Ratios for all heads in an order that needs no scores: ``sequential``, ``reverse`` or ``random:SEED``.

        Per-prompt orders start out as ``sequential``.

        Args:
            model: the facts.
            order: who gets which.
            sliding: sliding-window layers get ratios, too.

        Raises:
            ParameterError: another order.
            UnsupportedModelError: one shared K head, or no layer that takes any.
        """
        require_head_ratios(model)
        if model.mla:
            raise UnsupportedModelError(
                f"{model.arch}: its heads share one rotated K (MLA), so there are no heads to order; "
                "give one ratio per layer with --head-ratios"
            )
        rows = {}
        for layer in layers_with_ratios(model, self.first_layer, sliding):
            n = model.n_head_kv[layer]
            steps = self.steps(n)
            rows[layer] = tuple(steps[i] for i in _places(order, layer, n))
        if not rows:
            raise UnsupportedModelError(
                f"{model.arch}: no layer of {model.n_layer} takes ratios from layer {self.first_layer} on; "
                "lower --first-layer or add --sliding"
            )
        return head_ratios(model, rows)


def head_ratios(model: ModelRope, rows: Mapping[int, tuple[float, ...]]) -> HeadRatios:
    """Ratios for every layer and KV head: those given for the layer, or for the one whose K it uses; 1.0 elsewhere."""
    return tuple(rows.get(model.leader(layer), (1.0,) * n) for layer, n in enumerate(model.n_head_kv))


def layers_with_ratios(model: ModelRope, first_layer: int, sliding: bool = False) -> list[int]:
    """Layers that take ratios of their own from ``first_layer`` on; those that use another layer's K follow it.

    What sliding-window layers see is always near: they take none unless ``sliding`` is set.
    """
    own = (i for i in range(first_layer, model.n_layer) if model.leader(i) == i)
    return [i for i in own if model.rotates(i) and (sliding or not model.slides(i))]


def require_head_ratios(model: ModelRope) -> None:
    """Raise UnsupportedModelError where no runtime takes head ratios for the architecture."""
    if model.arch in architectures.REFUSED:
        raise UnsupportedModelError(
            f"{model.arch}: it {architectures.REFUSED[model.arch]}: no runtime takes head ratios for it"
        )


def check_order(order: str) -> None:
    """Raise ParameterError unless ``order`` can be made without scores, or for each prompt."""
    _places(order, 0, 1)


def _places(order: str, layer: int, n: int) -> list[int]:
    """Index of the ratio that each head takes."""
    kind, _, seed = order.partition(":")
    if (kind == "sequential" and not seed) or order in PER_PROMPT:
        return list(range(n))
    if kind == "reverse" and not seed:
        return list(range(n - 1, -1, -1))
    if kind == "random" and seed.isdecimal():
        return [int(i) for i in np.random.default_rng([int(seed), layer]).permutation(n)]
    if order in BY_SCORE:
        raise ParameterError(
            f"ms-poe: head order '{order}' follows measured scores; add --calibrate TEXT, or give what `ggufrope "
            "calibrate` wrote with --head-ratios"
        )
    raise ParameterError(
        f"ms-poe: head order '{order}'; it is sequential, reverse, random:SEED (SEED a whole number) or per-prompt"
    )
