"""From a method's table to GGUF keys: stock's wherever stock computes the same table from them, else our own. Pure.

The way back is ``decoded.py``; ``gguf/keys.py`` says what each key means.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ggufrope.errors import NotHonouredError
from ggufrope.gguf import keys
from ggufrope.gguf.values import TypedValue, ValueType
from ggufrope.late import np
from ggufrope.methods.fitted import FittedMethod
from ggufrope.methods.head_order import STATIC
from ggufrope.rope import architectures
from ggufrope.rope.model import ModelRope
from ggufrope.rope.stock import StockRope
from ggufrope.rope.table import RopeTable

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Edit",
    "encode_heads",
    "encode_identity",
    "encode_rows",
    "encode_scaling",
    "encode_table",
]

_SAME = 1e-6  # float32 keys carry 6e-8


@dataclass(frozen=True, slots=True)
class Edit:
    """What to change in a GGUF.

    Attributes:
        set: keys to add or replace.
        remove: keys to remove where present.
        tensors: float32 tensors to append.
    """

    set: Mapping[str, TypedValue] = field(default_factory=dict)
    remove: frozenset[str] = frozenset()
    tensors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def __or__(self, other: Edit) -> Edit:
        """Both edits, ``other`` last."""
        return Edit(
            {**{k: v for k, v in self.set.items() if k not in other.remove}, **other.set},
            (self.remove | other.remove) - set(other.set),
            {**self.tensors, **other.tensors},
        )

    @property
    def needs_patched(self) -> bool:
        """Whether the result only comes to effect in the patched runtime."""
        return any(k in self.set for k in (keys.HEAD_FACTORS, keys.PAIR_FACTORS, keys.LENGTH_FACTORS))


def encode_table(fitted: FittedMethod, current: StockRope) -> Edit:
    """Keys for the table of a method on a model, on top of the scaling that the file declares where it keeps that.

    Args:
        fitted: the method on the model.
        current: what the file declares.

    Raises:
        NotHonouredError: no runtime of this version would apply the table.
    """
    table, edit = fitted.table, Edit()
    if fitted.keeps_tensors:
        edit = encode_rows(table, current, fitted.model, fitted.context)
    elif fitted.keeps_scaling:
        edit = _on_top(table, current, fitted.model, fitted.context)
    else:
        edit = encode_scaling(table, fitted.stock, fitted.model, fitted.context)
    return edit | encode_heads(table, fitted.model, fitted.method.runtime_order()) if table.n_head_kv else edit


def encode_scaling(wanted: RopeTable, stock: StockRope | None, model: ModelRope, context: int) -> Edit:
    """Keys for the part of a table that is the same for all heads.

    Args:
        wanted: the table; what it says of heads is left to ``encode_heads``.
        stock: settings with which stock might compute it, or None.
        model: the model without any scaling that the file declares.
        context: target context in tokens.

    Raises:
        NotHonouredError: no runtime of this version would apply the table.
    """
    arch, plain = model.arch, wanted.without_heads()
    removed = frozenset(keys.stock(k, arch) for k in keys.REPLACED)
    by_length, served = plain.n_rows > 1, stock is not None and _serves(stock, plain, model)
    if arch in architectures.REFUSED and (by_length or not served):
        raise NotHonouredError(
            f"{arch}: it {architectures.REFUSED[arch]}: the patched runtime takes no factor table for it"
        )
    _require_effect(plain, model)
    if stock is not None and served:
        ours = encode_rows(plain, stock, model, context) if by_length else Edit()
        return Edit(remove=removed) | _stock_edit(stock, model, context) | ours
    as_tensor = _as_tensor(plain, model)
    if arch in architectures.ROPE_FREQS_TENSOR and not by_length and _serves(as_tensor, plain, model):
        return Edit(remove=removed) | _stock_edit(as_tensor, model, context)
    return Edit(remove=removed) | encode_rows(plain, StockRope(), model, context)


def _on_top(wanted: RopeTable, current: StockRope, model: ModelRope, context: int) -> Edit:
    """Keys for what all heads share on top of the scaling that the file declares, which stays.

    Raises:
        NotHonouredError: no runtime of this version would apply it.
    """
    plain, arch = wanted.without_heads(), model.arch
    if plain.close_to(declared := current.table(model)):
        return Edit()
    added = _quotient(plain, declared)
    factors = () if np.allclose(added.factors, 1, rtol=_SAME, atol=0) else tuple(map(float, added.factors[0]))
    scale = float(np.float32(current.attn_factor * float(added.attn_scale[0])))
    stock = replace(current, attn_factor=scale, rope_freqs=factors)
    # attention that follows the factor is squared by attn_factor once more
    scaled = scale != current.attn_factor and arch in architectures.ATTENTION_FOLLOWS_FACTOR
    if not (scaled or (factors and arch not in architectures.ROPE_FREQS_TENSOR)) and _serves(stock, plain, model):
        key = {keys.stock(keys.ATTN_FACTOR, arch): TypedValue(ValueType.FLOAT32, scale)}
        tensor = {keys.ROPE_FREQS: np.asarray(factors, dtype=np.float32)}
        return Edit(key if scale != current.attn_factor else {}, tensors=tensor if factors else {})
    if arch in architectures.REFUSED:
        raise NotHonouredError(
            f"{arch}: it {architectures.REFUSED[arch]}: the patched runtime takes no factor table for it"
        )
    if current.long:
        raise NotHonouredError(
            f"{arch}: its file has lists of LongRoPE, beside which no key of this version says an attention scale; "
            "omit that"
        )
    return encode_rows(plain, current, model, context)


def encode_rows(wanted: RopeTable, stock: StockRope, model: ModelRope, context: int) -> Edit:
    """Keys for the rows of a table, relative to what ``stock`` keys of the file do to ``model``.

    Where layers with a sliding window need them as well, ``ggufrope.length_layers`` says so. Stock's own choice between
    short and long factors does not count: rows replace it.

    Args:
        wanted: the table, in either kind of layers; what it says of heads is left to ``encode_heads``.
        stock: what the written file will hold in upstream's keys.
        model: the model without that scaling.
        context: target context in tokens.

    Raises:
        NotHonouredError: both kinds of layers need rows of their own, or rows by length would act in those with a
            sliding window: no key of this version says that. Or no layer would rotate by the rows.
    """
    rest = replace(stock, short=(), long=()).table(model)
    full, sliding = (_quotient(w, r) for w, r in ((wanted, rest), (wanted.of_sliding, rest.of_sliding)))
    rotating = [layer for layer in range(model.n_layer) if model.rotates(layer)]
    if all(model.slides(layer) for layer in rotating):
        full = sliding  # what no layer has is of no matter
        if _is_plain(sliding):
            raise _without_effect(model)  # the runtime refuses rows that no layer rotates by
    in_windows = any(model.slides(layer) for layer in rotating) and not _is_plain(sliding)
    rows = sliding if in_windows else full
    marked = [layer in rotating and (model.slides(layer) or not _is_plain(full)) for layer in range(model.n_layer)]
    if in_windows and not (_is_plain(full) or full.close_to(sliding)):
        raise NotHonouredError(
            f"{model.arch}: its layers with a sliding window need other factors than the rest, and no key of this "
            "version says that"
        )
    if in_windows and rows.n_rows > 1:
        raise NotHonouredError(
            f"{model.arch}: its layers with a sliding window cannot follow the length; use a method of one row"
        )
    return Edit(
        {
            keys.LENGTH_POINTS: _array(ValueType.UINT32, rows.length_points or [context]),
            keys.LENGTH_FACTORS: _array(ValueType.FLOAT32, rows.factors.ravel()),
            keys.LENGTH_ATTN_SCALE: _array(ValueType.FLOAT32, rows.attn_scale),
            **({keys.LENGTH_LAYERS: _array(ValueType.BOOL, marked)} if in_windows else {}),
            keys.CONTEXT: TypedValue(ValueType.UINT32, context),
        }
    )


def encode_heads(wanted: RopeTable, model: ModelRope, order: str = STATIC) -> Edit:
    """Keys for what a table says of heads: one number for each, or one for each of their pairs.

    Args:
        wanted: the table; what all heads share is left to ``encode_scaling``.
        model: the facts.
        order: who hands the ratios out: ``static``, or one of ``PER_PROMPT``.

    Raises:
        NotHonouredError: no key of this version says that.
    """
    if len(wanted.head_factors) > 1:
        raise NotHonouredError(
            "the head factors differ by length, which no key of this version says; use the same ones for all lengths"
        )
    if not wanted.separable:
        return _pairs(wanted, model, order)
    flat = np.concatenate([np.asarray(row, dtype=np.float32) for row in wanted.head_ratios])
    return Edit(
        {
            keys.HEAD_FACTORS: _array(ValueType.FLOAT32, flat),
            keys.HEAD_ORDER: TypedValue(ValueType.STRING, order),
        }
    )


def _pairs(wanted: RopeTable, model: ModelRope, order: str) -> Edit:
    if order != STATIC:
        raise NotHonouredError(
            "a head order that follows the prompt hands out one ratio for each head, not one for each of its pairs; "
            "use an order that is in the file"
        )
    rows = (
        np.ones((n, pairs)) if pairs != wanted.n_pairs else wanted.head_rows(layer)
        for layer, (n, pairs) in enumerate((n, model.n_pairs_of(i)) for i, n in enumerate(model.n_head_kv))
    )
    flat = np.concatenate([row.ravel() for row in rows])
    return Edit({keys.PAIR_FACTORS: _array(ValueType.FLOAT32, np.asarray(flat, dtype=np.float32))})


def encode_identity(method: str, params: Mapping[str, Any], original: Mapping[str, Any], edit: Edit) -> Edit:
    """The keys that say which method this is, what the source was, and which runtimes understand ``edit``."""
    # a runtime that knows 1 would leave those layers out, one that knows 2 would leave out what heads have
    version = 3 if keys.PAIR_FACTORS in edit.set else 2 if keys.LENGTH_LAYERS in edit.set else 1
    return Edit(
        {
            keys.VERSION: TypedValue(ValueType.UINT32, version),
            keys.METHOD: TypedValue(ValueType.STRING, method),
            keys.PARAMS: TypedValue(ValueType.STRING, json.dumps(params, sort_keys=True)),
            keys.ORIGINAL: TypedValue(ValueType.STRING, json.dumps(original, sort_keys=True)),
        }
    )


def _serves(stock: StockRope, wanted: RopeTable, model: ModelRope) -> bool:
    """Whether stock llama.cpp computes the table from these settings, in either kind of layers."""
    taken = stock.rope_freqs and model.own_factors  # one tensor cannot hold both
    return not taken and _as_stored(stock).table(model).close_to(wanted)


def _as_tensor(wanted: RopeTable, model: ModelRope) -> StockRope:
    """One row as ``rope_freqs.weight``, for architectures that load that."""
    factors = tuple(float(f) for f in wanted.factors[0])
    return StockRope(rope_freqs=factors, attn_factor=float(wanted.attn_scale[0]), original_ctx=model.original_ctx)


def _require_effect(wanted: RopeTable, model: ModelRope) -> None:
    """Refuse a table that differs from plain RoPE, but in no layer that rotates."""
    acts = {model.slides(layer) for layer in range(model.n_layer) if model.rotates(layer)}
    kinds = {False: wanted.without_sliding(), True: wanted.of_sliding}
    if acts == {True} and _is_plain(kinds[True]) and not _is_plain(kinds[False]):
        raise _without_effect(model)


def _without_effect(model: ModelRope) -> NotHonouredError:
    by_base = "use ntk" if model.sliding_base is None else "give head ratios with --sliding"
    remedy = "use linear or ntk" if model.sliding_scaled else by_base
    return NotHonouredError(
        f"{model.arch}: every rotating layer has a sliding window, which this leaves as it is; {remedy}"
    )


def _quotient(wanted: RopeTable, rest: RopeTable) -> RopeTable:
    """The rows that make ``wanted`` of ``rest``, a table of one row, for one kind of layers."""
    return RopeTable(wanted.factors / rest.factors, wanted.attn_scale / rest.attn_scale, wanted.length_points)


def _is_plain(rows: RopeTable) -> bool:
    return bool(
        np.allclose(rows.factors, 1, rtol=_SAME, atol=0) and np.allclose(rows.attn_scale, 1, rtol=_SAME, atol=0)
    )


def _stock_edit(stock: StockRope, model: ModelRope, context: int) -> Edit:
    arch = model.arch

    def f32(value: float) -> TypedValue:
        return TypedValue(ValueType.FLOAT32, value)

    put: dict[str, TypedValue] = {keys.CONTEXT_LENGTH: TypedValue(ValueType.UINT32, context)}
    if stock.original_ctx is not None:
        put[keys.ORIGINAL_CONTEXT] = TypedValue(ValueType.UINT32, stock.original_ctx)
    if stock.freq_base is not None:
        put[keys.FREQ_BASE] = f32(stock.freq_base)
    if stock.scaling_type is not None:
        put[keys.SCALING_TYPE] = TypedValue(ValueType.STRING, stock.scaling_type)
    if stock.takes_factor:
        put[keys.SCALING_FACTOR] = f32(stock.factor)
    if stock.takes_ramp:
        put[keys.YARN_BETA_FAST], put[keys.YARN_BETA_SLOW] = f32(stock.beta_fast), f32(stock.beta_slow)
    if stock.attn_factor != 1.0:
        put[keys.ATTN_FACTOR] = f32(stock.attn_factor)
    read = stock.as_read_by(arch)  # of the tensors: one that is not loaded has the file refused
    tensors = {keys.ROPE_FREQS: read.rope_freqs, keys.ROPE_SHORT: read.short, keys.ROPE_LONG: read.long}
    return Edit(
        {keys.stock(k, arch): v for k, v in put.items()},
        tensors={k: np.asarray(v, dtype=np.float32) for k, v in tensors.items() if v},
    )


def _as_stored(stock: StockRope) -> StockRope:
    """What is left after the float32 keys."""
    with np.errstate(over="ignore", under="ignore"):
        base = None if stock.freq_base is None else float(np.float32(stock.freq_base))
        factor, scale = float(np.float32(stock.factor)), float(np.float32(stock.attn_factor))
    return replace(stock, freq_base=base, factor=factor, attn_factor=scale)


def _array(kind: ValueType, values: Any) -> TypedValue:
    return TypedValue(ValueType.ARRAY, np.asarray(values), kind)
