"""``table``: divisors that somebody gives, for pairs, layers or heads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from ggufrope.errors import ParameterError, UnsupportedModelError
from ggufrope.late import np
from ggufrope.methods.factor_table import PAIRS, FactorTable
from ggufrope.methods.head_order import require_head_ratios
from ggufrope.methods.protocol import Method, Traits, option
from ggufrope.methods.table_file import table_from_json
from ggufrope.rope.model import ModelRope
from ggufrope.rope.stock import StockRope
from ggufrope.rope.table import RopeTable

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["GivenTable"]


@dataclass(frozen=True, slots=True)
class GivenTable(Method):
    """Divide frequencies by a table of one's own: for each pair, layer, KV head, or all of them.

    What LongRoPE (arXiv 2402.13753) searches for pairs, and others for layers or heads; `ggufrope tune` learns such a
    table. A factor divides the frequency that the file has without the table, whatever scaling it declares; that stays.
    It composes with any base method (``table+yarn``). docs/table.md describes the file.

    Which layers: a table ``[pair]`` is for those without a sliding window; one with a layer axis says of every layer
    what its KV heads are divided by. Layers that do not rotate must have 1, those that use another layer's K the same
    as that. The attention scale is for layers without a sliding window.
    """

    name: ClassVar[str] = "table"
    title: ClassVar[str] = "factors of one's own"
    paper: ClassVar[str] = "any; pairs as in LongRoPE, arXiv 2402.13753"
    traits: ClassVar[Traits] = Traits(
        keeps_context=True,
        keeps_scaling=True,
        puts_on_top="a table of factors",
        suggested_bases=("yarn", "ntk", "linear"),
        brings_file=True,
    )

    factor_table: FactorTable | None = option(  # noqa: RUF009  # a field, and what it holds is frozen
        None,
        "divisors [pair], [layer], [layer, pair], [layer, head] or [layer, head, pair], JSON or .npz (docs/table.md); "
        "required",
        kind="table",
        flag="table",
    )
    base: Method | None = None

    def __post_init__(self) -> None:
        given: Any = self.factor_table
        if given is None:
            raise ParameterError("table: no factors given; pass --table FILE (JSON or .npz, docs/table.md)")
        if not isinstance(given, FactorTable):
            object.__setattr__(self, "factor_table", table_from_json(given))

    @property
    def _given(self) -> FactorTable:
        if self.factor_table is None:
            raise ParameterError("table: no factors given; pass --table FILE (JSON or .npz, docs/table.md)")
        return self.factor_table

    def fitted_to(self, model: ModelRope) -> Method:
        table = self._given.on(model)
        rows = table.rows(model)
        if table.axes == PAIRS:
            self._require_full_layers(model)
        elif not table.changes_nothing:
            require_head_ratios(model)
            for layer, row in enumerate(rows):
                self._require_carried(model, layer, row, rows[model.leader(layer)])
        return replace(self, factor_table=table)

    def _require_full_layers(self, model: ModelRope) -> None:
        if all(model.slides(layer) for layer in range(model.n_layer) if model.rotates(layer)):
            raise UnsupportedModelError(
                f"{self._given.origin}: every rotating layer of {model.arch} has a sliding window, which a table "
                "[pair] leaves as it is; give one [layer, pair]"
            )

    def _require_carried(
        self, model: ModelRope, layer: int, row: NDArray[np.float64], leader: NDArray[np.float64]
    ) -> None:
        """Refuse what no runtime would do with a layer's factors, or not as they say."""
        origin = self._given.origin
        if row.shape != leader.shape or (row != leader).any():
            raise ParameterError(
                f"{origin}: layer {layer} of {model.arch} uses what layer {model.leader(layer)} caches or computes; "
                "give both the same factors"
            )
        if model.mla and (row != row[:1]).any():
            raise UnsupportedModelError(
                f"{origin}: the heads of layer {layer} of {model.arch} share one rotated K (MLA); give them the same "
                "factors, or a table [layer] or [layer, pair]"
            )
        if row.shape[1] != model.n_pairs and (row != 1.0).any():
            raise ParameterError(
                f"{origin}: layer {layer} of {model.arch} has a sliding window and rotates {2 * row.shape[1]} "
                f"dimensions, not {model.rot_dim}; its factors must be 1"
            )

    def table(self, model: ModelRope) -> RopeTable:
        return self.scaling(model) * self.on_top(model)

    def scaling(self, model: ModelRope) -> RopeTable:
        return self.base.table(model) if self.base else RopeTable.identity(model)

    def on_top(self, model: ModelRope) -> RopeTable:
        given = self._given.on(model)
        if given.changes_nothing:
            return RopeTable.identity(model)
        pairs = given.pairs() if given.axes == PAIRS else np.ones(model.n_pairs)
        shared = RopeTable.uniform(pairs, given.attn_scale)
        if model.has_windows:
            shared = shared.with_sliding(RopeTable.identity(model.of_sliding))
        rows = given.rows(model)
        if given.axes == PAIRS or all((row == 1.0).all() for row in rows):
            return shared
        if all((row == row[:, :1]).all() for row in rows):
            return shared * RopeTable.of_heads(model, tuple(tuple(map(float, row[:, 0])) for row in rows))
        return shared * RopeTable.of_pairs(model, rows)

    def context(self, model: ModelRope) -> int:
        return self.base.context(model) if self.base else model.train_ctx

    def stock(self, model: ModelRope) -> StockRope | None:
        return self.base.stock(model) if self.base else None

    def notes(self, model: ModelRope) -> list[str]:
        given = self._given.on(model)
        if given.changes_nothing:
            return ["every factor of the table is 1, and so is its attention scale: it changes nothing"]
        rows = [row for row in given.rows(model) if row.size]
        low, high = min(row.min() for row in rows), max(row.max() for row in rows)
        scale = f", attention scale {given.attn_scale:g}" if given.attn_scale != 1.0 else ""
        said = [f"the table is [{', '.join(given.axes)}], factors {low:.4g} to {high:.4g}{scale}"]
        return said + ([self._of_windows(model, given)] if model.has_windows else [])

    def _of_windows(self, model: ModelRope, given: FactorTable) -> str:
        sliding = [i for i in range(model.n_layer) if model.slides(i) and model.rotates(i)]
        rows = given.rows(model)
        changed = sum(bool((rows[layer] != 1.0).any()) for layer in sliding)
        if given.axes == PAIRS:
            return f"{len(sliding)} sliding-window layers keep their rotation (a table [layer, pair] may name them)"
        return f"{changed} of {len(sliding)} sliding-window layers have factors other than 1, as the table says"

    def params(self) -> dict[str, Any]:
        own = {"factor_table": self._given.as_json()}
        return {**own, **({"base": self.base.params()} if self.base else {})}
