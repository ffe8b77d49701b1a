"""``ms-poe``: Multi-scale Positional Encoding, another position divisor for each attention head."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

from ggufrope.errors import ParameterError, UnsupportedModelError
from ggufrope.late import np
from ggufrope.methods.head_order import PER_PROMPT, STATIC, RatioSpread, check_order, require_head_ratios
from ggufrope.methods.protocol import Method, Traits, option
from ggufrope.rope.model import ModelRope
from ggufrope.rope.stock import StockRope
from ggufrope.rope.table import HeadRatios, RopeTable, part_factors

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SLOW", "MsPoe"]

#: Tokens; the default of ``from_wavelength``, by what docs/real-models.md measures.
SLOW = 64.0


@dataclass(frozen=True, slots=True)
class MsPoe(Method):
    """Divide positions by a ratio that differs from head to head, so that some heads see the middle more closely.

    Ms-PoE (arXiv 2403.04797): from layer ``first_layer`` on, the heads of a layer take ratios spread over
    [``min_ratio``, ``max_ratio``]; no training. Composes with any base method (``ms-poe+yarn``); alone it keeps the
    scaling that the model already has, and its context.

    Deviations:
      * A ratio belongs to a KV head and its whole query group. The authors' program rotates each query with its own
        ratio and K with another one's, which breaks relative position in grouped-query models.
      * The published method divides all pairs of a head by its ratio. ``from_wavelength`` leaves the fast ones alone,
        as YaRN's "by parts" does: heads that copy tell near tokens apart by them. On real models the published way
        destroys copying (docs/real-models.md), so that the default leaves fast pairs alone; 0 is as published.
      * Sliding-window layers stay at 1.0 unless ``sliding`` is set: what they see is always near.
      * The published method orders heads by how position-aware they are, anew for each prompt: ``per-prompt`` as its
        program does, ``per-prompt-rank`` as its text does. `ggufrope calibrate` measures it once, over many prompts;
        those ratios come in through ``head_ratios``. The other orders (``sequential``, ``reverse``, ``random:SEED``)
        are baselines; in the paper's ablation they do worse.
    """

    name: ClassVar[str] = "ms-poe"
    title: ClassVar[str] = "Multi-scale Positional Encoding"
    paper: ClassVar[str] = "arXiv 2403.04797"
    traits: ClassVar[Traits] = Traits(
        keeps_context=True,
        keeps_scaling=True,
        puts_on_top="head ratios",
        suggested_bases=("yarn", "ntk", "linear"),
        calibrated=("min_ratio", "max_ratio", "first_layer", "spacing", "head_order"),
        as_published={"from_wavelength": 0.0},
        unrecorded={"from_wavelength": "0 (as published)"},
    )

    min_ratio: float = option(1.2, "smallest ratio")
    max_ratio: float = option(1.8, "largest ratio")
    first_layer: int = option(2, "first layer that gets ratios, counted from 0")
    spacing: str = option("code", "steps between ratios: i/H as in the program, or i/(H-1)", choices=("code", "paper"))
    head_order: str | None = option(
        None,
        "which head gets which ratio: sequential (default), reverse, random:SEED, per-prompt or per-prompt-rank; with "
        "--calibrate code or rank",
    )
    head_ratios: tuple[tuple[float, ...], ...] | None = option(
        None,
        'JSON file {"ratios": [[one for each KV head] for each layer]}; default: made from the options above',
        kind="ratios",
    )
    from_wavelength: float | None = option(
        None,
        "pairs that take up to so many tokens for a turn keep their frequency, those that take twice as many or more "
        f"are divided by the ratio; 0, as published: all pairs are; default: {SLOW:g}, but 0 for orders by prompt",
    )
    sliding: bool = option(False, "also scale sliding-window layers")
    base: Method | None = None

    def __post_init__(self) -> None:
        self._spread()  # checks itself
        check_order(self._order)
        if self.per_prompt and self.sliding:
            raise ParameterError("ms-poe: sliding-window layers are not scored; --sliding needs a static order")
        if not 0 <= self.slow < float("inf"):
            raise ParameterError(
                f"ms-poe: --from-wavelength is {self.from_wavelength:g}; give a number of tokens, or 0 for all pairs"
            )
        if self.per_prompt and self.from_wavelength:
            raise ParameterError(
                f"ms-poe: --head-order {self.head_order} hands ratios out to whole heads; omit --from-wavelength, or "
                "take an order that is in the file (--calibrate TEXT measures one)"
            )
        if self.head_ratios is not None and (others := self._generated_with()):
            raise ParameterError(f"ms-poe: --head-ratios cannot be combined with {', '.join(others)}; drop one")

    def _spread(self) -> RatioSpread:
        return RatioSpread(self.min_ratio, self.max_ratio, self.first_layer, self.spacing)

    @property
    def slow(self) -> float:
        """From which wavelength on pairs are slow enough for a ratio, in tokens; 0: all of them are."""
        if self.from_wavelength is None:
            return 0.0 if self.per_prompt else SLOW
        return self.from_wavelength

    @property
    def _order(self) -> str:
        return self.head_order or "sequential"

    def _generated_with(self) -> list[str]:
        """The options other than their defaults that ratios are generated from."""
        names = {"min_ratio", "max_ratio", "first_layer", "spacing", "sliding"}
        if not self.per_prompt:  # such an order assigns the given ratios
            names.add("head_order")
        changed = (f.name for f in fields(self) if f.name in names and getattr(self, f.name) != f.default)
        return ["--" + name.replace("_", "-") for name in changed]

    @property
    def per_prompt(self) -> bool:
        """Whether the runtime hands the ratios out anew for each prompt."""
        return self.head_order in PER_PROMPT

    @property
    def calibrated(self) -> bool:
        """Whether the assignment of ratios to heads was given or is measured rather than made up."""
        return self.head_ratios is not None or self.per_prompt

    def ratios(self, model: ModelRope) -> HeadRatios:
        """The ratio of every layer and KV head.

        Raises:
            ParameterError: given ratios of the wrong shape, not finite or ≤ 0.
            UnsupportedModelError: several ratios for one shared K head, or no layer that takes any.
        """
        if self.head_ratios is None:
            return self._spread().in_order(model, self._order, self.sliding)
        require_head_ratios(model)
        rows = self._given(model)
        for layer, row in enumerate(rows):
            if model.mla and len(set(row)) > 1:
                raise UnsupportedModelError(
                    f"{model.arch}: layer {layer} has several ratios, but its heads share one rotated K (MLA); "
                    "give one ratio per layer with --head-ratios"
                )
        return rows

    def _given(self, model: ModelRope) -> HeadRatios:
        rows = self.head_ratios or ()
        if len(rows) != model.n_layer:
            raise ParameterError(
                f"head ratios: {len(rows)} layers given, the model has {model.n_layer}; give one row for each layer"
            )
        for layer, (row, n) in enumerate(zip(rows, model.n_head_kv, strict=True)):
            if len(row) != n:
                raise ParameterError(
                    f"head ratios: layer {layer} has {len(row)} ratios, the model has {n} KV heads there; "
                    "give one ratio for each"
                )
            for head, ratio in enumerate(row):
                if not 0 < ratio < float("inf"):
                    raise ParameterError(
                        f"head ratios: layer {layer}, KV head {head} is {ratio}; it must be a finite number above 0"
                    )
            if not model.rotates(layer) and any(r != 1.0 for r in row):
                raise ParameterError(
                    f"head ratios: layer {layer} of {model.arch} does not rotate; its ratios must be 1"
                )
            leader = model.leader(layer)
            if row != rows[leader]:
                raise ParameterError(
                    f"head ratios: layer {layer} of {model.arch} uses what layer {leader} caches or computes; "
                    "give both the same ratios"
                )
        return rows

    def table(self, model: ModelRope) -> RopeTable:
        return self.scaling(model) * self.on_top(model)

    def scaling(self, model: ModelRope) -> RopeTable:
        return self.base.table(model) if self.base else RopeTable.identity(model)

    def on_top(self, model: ModelRope) -> RopeTable:
        ratios = self.ratios(model)
        if not self.slow:
            return RopeTable.of_heads(model, ratios)
        kinds = {
            sliding: self._slow_enough(model, sliding) for sliding in {model.slides(i) for i in range(len(ratios))}
        }
        return RopeTable.of_pairs(
            model, [part_factors(row, kinds[model.slides(i)], self.slow) for i, row in enumerate(ratios)]
        )

    def _slow_enough(self, model: ModelRope, sliding: bool) -> NDArray[np.float64]:
        """The frequencies that layers of a kind were trained with.

        Raises:
            ParameterError: none of them is slow enough for a ratio.
        """
        trained = (model.of_sliding if sliding else model).trained_frequencies()
        slowest = float(2 * np.pi / trained.min())
        if slowest <= self.slow and (self.sliding or not sliding):
            where = "with a sliding window " if sliding else ""
            given = self.from_wavelength is not None
            said = "" if given else " (its default)"
            remedy = "give a smaller one" if given else "give a smaller one, or 0 for all pairs, as published"
            raise ParameterError(
                f"ms-poe: --from-wavelength {self.slow:g}{said}: the slowest pair of layers {where}turns once in "
                f"{slowest:.4g} tokens, so no pair would change; {remedy}"
            )
        return trained

    def context(self, model: ModelRope) -> int:
        return self.base.context(model) if self.base else model.train_ctx

    def stock(self, model: ModelRope) -> StockRope | None:
        return self.base.stock(model) if self.base else None

    def runtime_order(self) -> str:
        return self._order if self.per_prompt else STATIC

    def notes(self, model: ModelRope) -> list[str]:
        if self.calibrated:
            return []
        said = [
            f"head order '{self._order}' is an uncalibrated baseline, not the published method, which orders heads by "
            "how position-aware they are; in the paper's ablation the order matters"
        ]
        if any(model.sliding) and not self.sliding:
            said.append(f"{sum(model.sliding)} sliding-window layers stay at ratio 1.0 (--sliding scales them too)")
        if still := sum(not model.rotates(layer) for layer in range(model.n_layer)):
            said.append(f"{still} layers that do not rotate stay at ratio 1.0")
        return said

    def milder(self, model: ModelRope) -> str:
        slowest = float(2 * np.pi / model.trained_frequencies().min())
        if self.slow or slowest < 2 * SLOW:  # a larger W was not milder where it was measured, see docs/real-models.md
            return "ratios nearer to 1 (--min-ratio, --max-ratio)"
        return f"--from-wavelength {SLOW:g}, which spares the fast pairs, by which heads copy"

    def params(self) -> dict[str, Any]:
        own = {n: getattr(self, n) for n in ("min_ratio", "max_ratio", "first_layer", "spacing")}
        own["head_order"] = self._order
        if self.sliding:
            own["sliding"] = True
        if self.head_ratios is not None:
            own = {"head_ratios": "given"}  # the ratios themselves are in ggufrope.head_factors
            if self.per_prompt:
                own["head_order"] = self.head_order
        if self.slow:
            own["from_wavelength"] = self.slow
            if self.head_ratios is not None:  # ggufrope.pair_factors has what follows from them
                own["head_ratios"] = [list(row) for row in self.head_ratios]
        return {**own, **({"base": self.base.params()} if self.base else {})}
