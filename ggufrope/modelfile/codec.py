"""Between a method's table and GGUF keys, both ways. Pure: nothing is read or written here.

Stock's keys wherever stock computes the same table from them; otherwise our own. ``gguf/keys.py`` says what each means.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from ggufrope.errors import GgufError, NotHonouredError, ParameterError
from ggufrope.gguf import keys
from ggufrope.gguf.values import TypedValue, ValueType
from ggufrope.late import np
from ggufrope.methods.fitted import FittedMethod
from ggufrope.methods.head_order import PER_PROMPT, STATIC
from ggufrope.modelfile.facts import KeySource, read_model, read_stock
from ggufrope.rope import architectures
from ggufrope.rope.model import ModelRope
from ggufrope.rope.stock import StockRope
from ggufrope.rope.table import RopeTable
from ggufrope.text import shorten

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Decoded",
    "Edit",
    "decode",
    "decode_stock",
    "encode_heads",
    "encode_identity",
    "encode_scaling",
    "encode_table",
    "length_edit",
]


_T = TypeVar("_T")


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
            {**self.set, **other.set},
            (self.remove | other.remove) - set(other.set),
            {**self.tensors, **other.tensors},
        )

    @property
    def needs_patched(self) -> bool:
        """Whether the result only comes to effect in the patched runtime."""
        return any(k in self.set for k in (keys.HEAD_FACTORS, keys.LENGTH_FACTORS))


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a file says about its rotation.

    Attributes:
        model: the facts.
        method: ``ggufrope.method``, or the type that upstream's keys declare.
        params: ``ggufrope.params``.
        stock: the part in upstream's keys.
        stock_table: what a stock llama.cpp applies.
        table: what the patched runtime applies.
        context: the context that the patched runtime takes as the trained one.
        by_length: the patched runtime picks the table's row by the length in use. (Stock picks by allocated context.)
        ours: whether ggufrope wrote the file.
        head_order: who hands out the head ratios: ``static``, or the runtime for each prompt.
    """

    model: ModelRope
    method: str
    params: dict[str, Any]
    stock: StockRope
    stock_table: RopeTable
    table: RopeTable
    context: int
    by_length: bool
    ours: bool
    head_order: str = STATIC

    @property
    def needs_patched(self) -> bool:
        """Whether a stock llama.cpp would rotate differently."""
        return self.by_length or not self.table.close_to(self.stock_table)

    @property
    def row_chosen_by(self) -> str | None:
        """What picks one of several rows; None when there is one."""
        if self.table.n_rows == 1:
            return None
        return "length in use" if self.by_length else "allocated context"

    @property
    def by_allocated_context(self) -> bool:
        """Whether a longer *allocated* context rotates otherwise (LongRoPE without rows by length).

        Such a file must be given exactly the context that a length calls for: a short text in a long context would be
        read with the long factors.
        """
        return self.row_chosen_by == "allocated context"


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
        edit = length_edit(table, fitted.context, current, fitted.model)
    elif not fitted.keeps_scaling:
        edit = encode_scaling(table, fitted.stock, fitted.model, fitted.context)
    return edit | encode_heads(table, fitted.method.runtime_order()) if table.n_head_kv else edit


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
    arch = model.arch
    plain = wanted.without_heads()
    removed = frozenset(keys.stock(k, arch) for k in keys.REPLACED)
    taken = stock is not None and stock.rope_freqs and model.own_factors  # one tensor cannot hold both
    by_length = plain.n_rows > 1
    served = stock is not None and not taken and _as_stored(stock).table(model).close_to(plain)
    if arch in architectures.REFUSED and (by_length or not served):
        raise NotHonouredError(
            f"{arch}: it {architectures.REFUSED[arch]}: the patched runtime takes no factor table for it"
        )
    if stock is not None and served:
        ours = length_edit(plain, context, stock, model) if by_length else Edit()
        return Edit(remove=removed) | _stock_edit(stock, model, context) | ours
    if any(model.sliding) and not by_length:
        raise NotHonouredError(
            f"{arch}: stock llama.cpp cannot express this for a model with sliding-window layers; use linear or ntk, "
            "or a method by length (dynamic-ntk, yarn --dynamic)"
        )
    if by_length and all(model.slides(layer) or not model.rotates(layer) for layer in range(model.n_layer)):
        raise NotHonouredError(
            f"{arch}: every rotating layer has a sliding window, which rows by length leave alone; use linear or ntk"
        )
    if not by_length and arch in architectures.ROPE_FREQS_TENSOR and not model.own_factors:
        factors = tuple(float(f) for f in plain.factors[0])
        scale = float(plain.attn_scale[0])
        as_tensor = StockRope(rope_freqs=factors, attn_factor=scale, original_ctx=model.original_ctx)
        return Edit(remove=removed) | _stock_edit(as_tensor, model, context)
    return Edit(remove=removed) | length_edit(plain, context)


def length_edit(table: RopeTable, context: int, stock: StockRope | None = None, model: ModelRope | None = None) -> Edit:
    """Keys for the rows of a table, relative to what ``stock`` keys of the file do to ``model``.

    Stock's own choice between short and long factors does not count: rows replace it.
    """
    factors, scale = table.factors, table.attn_scale
    if stock is not None and model is not None:
        rest = replace(stock, short=(), long=()).table(model)
        factors, scale = factors / rest.factors, scale / rest.attn_scale
    return Edit(
        {
            keys.LENGTH_POINTS: _array(ValueType.UINT32, table.length_points or [context]),
            keys.LENGTH_FACTORS: _array(ValueType.FLOAT32, factors.ravel()),
            keys.LENGTH_ATTN_SCALE: _array(ValueType.FLOAT32, scale),
            keys.CONTEXT: TypedValue(ValueType.UINT32, context),
        }
    )


def encode_heads(wanted: RopeTable, order: str = STATIC) -> Edit:
    """Keys for what a table says of heads.

    Args:
        wanted: the table; what all heads share is left to ``encode_scaling``.
        order: who hands the ratios out: ``static``, or one of ``PER_PROMPT``.

    Raises:
        NotHonouredError: no key of this version says that.
    """
    if not wanted.separable:
        raise NotHonouredError(
            f"the head factors differ by {' and '.join(_finer(wanted))}; {keys.HEAD_FACTORS} has one number for each "
            "KV head, and no runtime of this version takes more"
        )
    flat = np.concatenate([np.asarray(row, dtype=np.float32) for row in wanted.head_ratios])
    return Edit(
        {
            keys.HEAD_FACTORS: _array(ValueType.FLOAT32, flat),
            keys.HEAD_ORDER: TypedValue(ValueType.STRING, order),
        }
    )


def encode_identity(method: str, params: Mapping[str, Any], original: Mapping[str, Any]) -> Edit:
    """The keys that say which method this is and what the source was."""
    return Edit(
        {
            keys.VERSION: TypedValue(ValueType.UINT32, 1),
            keys.METHOD: TypedValue(ValueType.STRING, method),
            keys.PARAMS: TypedValue(ValueType.STRING, json.dumps(params, sort_keys=True)),
            keys.ORIGINAL: TypedValue(ValueType.STRING, json.dumps(original, sort_keys=True)),
        }
    )


def decode(source: KeySource) -> Decoded:
    """What ``source`` says, with every one of our keys checked as the patched runtime checks them.

    Raises:
        GgufError: a ``ggufrope.*`` key of the wrong type, length or range.
    """
    model, stock = read_model(source), read_stock(source)
    stock_table = stock.table(model)
    version = source.get(keys.VERSION)
    if version is not None and (not isinstance(version, int) or version != 1):
        raise GgufError(f"{source.path}: {keys.VERSION} is {shorten(version)}, this ggufrope reads 1; update it")
    try:
        rest = replace(stock, short=(), long=()).table(model)
        by_length = np.size(source.get(keys.LENGTH_POINTS, ())) > 1
        # rows by length replace stock's choice between short and long factors, and multiply into everything else
        table = _with_lengths(source, rest if by_length else stock_table, model)
        table = table * _heads(source, model)
    except ParameterError as error:
        raise GgufError(f"{source.path}: {error}") from None
    return Decoded(
        model=model,
        method=_one(source, keys.METHOD, str) or stock.kind,
        params=_json(source, keys.PARAMS),
        stock=stock,
        stock_table=stock_table,
        table=table,
        context=_one(source, keys.CONTEXT, int) or model.train_ctx,
        by_length=by_length,
        ours=version is not None,
        head_order=_head_order(source),
    )


def decode_stock(source: KeySource) -> Decoded:
    """What upstream's keys alone say, whatever keys of ours there are.

    Raises:
        GgufError, UnsupportedModelError: see ``read_model`` and ``read_stock``.
    """
    model, stock = read_model(source), read_stock(source)
    table = stock.table(model)
    return Decoded(model, stock.scaling_type or "none", {}, stock, table, table, model.train_ctx, False, ours=False)


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
    tensors = {keys.ROPE_FREQS: stock.rope_freqs, keys.ROPE_SHORT: stock.short, keys.ROPE_LONG: stock.long}
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


def _finer(wanted: RopeTable) -> list[str]:
    """Along which axes head factors differ that ratios do not have."""
    rows, _, _, pairs = wanted.head_factors.shape
    return [axis for axis, size in (("length", rows), ("pair", pairs)) if size > 1]


def _array(kind: ValueType, values: Any) -> TypedValue:
    return TypedValue(ValueType.ARRAY, np.asarray(values), kind)


def _with_lengths(source: KeySource, base: RopeTable, model: ModelRope) -> RopeTable:
    points, factors, scales = (source.get(k) for k in (keys.LENGTH_POINTS, keys.LENGTH_FACTORS, keys.LENGTH_ATTN_SCALE))
    if factors is None and points is None and scales is None:
        return base
    for key, value, kind in (
        (keys.LENGTH_POINTS, points, np.uint32),
        (keys.LENGTH_FACTORS, factors, np.float32),
        (keys.LENGTH_ATTN_SCALE, scales, np.float32),
    ):
        if not isinstance(value, np.ndarray) or value.dtype != kind or not value.size:
            raise ParameterError(f"{key} is {shorten(value)}; an array of {np.dtype(kind).name} is needed")
    n, context = points.size, source.get(keys.CONTEXT, 0)
    if factors.size != n * model.n_pairs or scales.size != n:
        raise ParameterError(
            f"{keys.LENGTH_FACTORS} has {factors.size} entries and {keys.LENGTH_ATTN_SCALE} {scales.size} for {n} "
            f"length points; expected {n} × rot_dim/2 = {n * model.n_pairs}, and {n}"
        )
    if isinstance(context, int) and context > points.max():
        raise ParameterError(f"{keys.CONTEXT} is {context}, beyond the last of {keys.LENGTH_POINTS}, {points.max()}")
    rows = np.asarray(factors, dtype=np.float64).reshape(n, -1) * base.factors[-1]
    scale = np.asarray(scales, dtype=np.float64) * base.attn_scale[-1]
    return replace(base, factors=rows, attn_scale=scale, length_points=tuple(int(p) for p in points))


def _heads(source: KeySource, model: ModelRope) -> RopeTable:
    flat = source.get(keys.HEAD_FACTORS)
    if flat is None:
        return RopeTable.identity(model)
    expected = sum(model.n_head_kv)
    if not isinstance(flat, np.ndarray) or flat.dtype != np.float32 or flat.size != expected:
        raise ParameterError(f"{keys.HEAD_FACTORS} has {np.size(flat)} entries, expected {expected} of type f32")
    ends = np.cumsum(model.n_head_kv)[:-1]
    return RopeTable.of_heads(model, tuple(tuple(float(v) for v in row) for row in np.split(flat, ends)))


def _head_order(source: KeySource) -> str:
    order = _one(source, keys.HEAD_ORDER, str)
    if order is None:
        return STATIC
    if order not in (STATIC, *PER_PROMPT):
        raise GgufError(f"{source.path}: {keys.HEAD_ORDER} is {order!r}; this version knows static and per-prompt")
    return order


def _one(source: KeySource, key: str, kind: type[_T]) -> _T | None:
    """The value of a key that is no array; None where it is absent."""
    value = source.get(key)
    if value is None or isinstance(value, kind):
        return value
    raise GgufError(f"{source.path}: {key} is {shorten(value)}; a value of type {kind.__name__} is needed")


def _json(source: KeySource, key: str) -> dict[str, Any]:
    text = source.get(key)
    try:
        value = json.loads(text) if text else {}
    except (TypeError, ValueError):
        raise GgufError(f"{source.path}: {key} is not JSON: {text!r}") from None
    return value if isinstance(value, dict) else {}
