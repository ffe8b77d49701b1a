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

__all__ = ["Edit", "encode_heads", "encode_identity", "encode_scaling", "encode_table", "length_edit"]


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
        return any(k in self.set for k in (keys.HEAD_FACTORS, keys.LENGTH_FACTORS))


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


def _finer(wanted: RopeTable) -> list[str]:
    """Along which axes head factors differ that ratios do not have."""
    rows, _, _, pairs = wanted.head_factors.shape
    return [axis for axis, size in (("length", rows), ("pair", pairs)) if size > 1]


def _array(kind: ValueType, values: Any) -> TypedValue:
    return TypedValue(ValueType.ARRAY, np.asarray(values), kind)
