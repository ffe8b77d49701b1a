"""From GGUF keys to what they make a runtime do, with every key of ours checked as the patched runtime checks it. Pure.

The way back is ``encoded.py``; ``gguf/keys.py`` says what each key means.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from ggufrope.errors import GgufError, ParameterError
from ggufrope.gguf import keys
from ggufrope.late import np
from ggufrope.methods.head_order import PER_PROMPT, STATIC
from ggufrope.modelfile.facts import KeySource, read_model, read_stock
from ggufrope.modelfile.stock_values import require_sense
from ggufrope.rope.model import ModelRope
from ggufrope.rope.stock import StockRope
from ggufrope.rope.table import RopeTable
from ggufrope.text import shorten

__all__ = ["Decoded", "decode", "decode_stock"]

_T = TypeVar("_T")
_VERSIONS = (1, 2, 3)


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


def decode(source: KeySource) -> Decoded:
    """What ``source`` says, with every one of our keys checked as the patched runtime checks them.

    Raises:
        GgufError: a ``ggufrope.*`` key of the wrong type, length or range.
    """
    model, stock = read_model(source), read_stock(source)
    require_sense(source)
    stock_table = _stock_table(source, stock, model)
    version = source.get(keys.VERSION)
    if version is not None and (not isinstance(version, int) or version not in _VERSIONS):
        raise GgufError(f"{source.path}: {keys.VERSION} is {shorten(version)}, this ggufrope reads 1 to 3; update it")
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
    require_sense(source)
    table = _stock_table(source, stock, model)
    return Decoded(model, stock.scaling_type or "none", {}, stock, table, table, model.train_ctx, False, ours=False)


def _stock_table(source: KeySource, stock: StockRope, model: ModelRope) -> RopeTable:
    try:
        return stock.table(model)
    except ParameterError as error:
        raise GgufError(f"{source.path}: {error}; convert the original model again") from None


def _with_lengths(source: KeySource, base: RopeTable, model: ModelRope) -> RopeTable:
    points, factors, scales = (source.get(k) for k in (keys.LENGTH_POINTS, keys.LENGTH_FACTORS, keys.LENGTH_ATTN_SCALE))
    if all(value is None for value in (points, factors, scales, source.get(keys.LENGTH_LAYERS))):
        return base
    for key, value, kind in (
        (keys.LENGTH_POINTS, points, np.uint32),
        (keys.LENGTH_FACTORS, factors, np.float32),
        (keys.LENGTH_ATTN_SCALE, scales, np.float32),
    ):
        if not isinstance(value, np.ndarray) or value.dtype != kind or not value.size:
            raise ParameterError(f"{key} is {shorten(value)}; an array of {np.dtype(kind).name} is needed")
    n, context = points.size, source.get(keys.CONTEXT, 0)
    full, sliding = _kinds_with_rows(source, model, n)
    n_pairs = (model if full else model.of_sliding).n_pairs
    if factors.size != n * n_pairs or scales.size != n:
        raise ParameterError(
            f"{keys.LENGTH_FACTORS} has {factors.size} entries and {keys.LENGTH_ATTN_SCALE} {scales.size} for {n} "
            f"length points; expected {n} × rot_dim/2 = {n * n_pairs}, and {n}"
        )
    if isinstance(context, int) and context > points.max():
        raise ParameterError(
            f"{keys.CONTEXT} is {context}, beyond the last of {keys.LENGTH_POINTS}, {points.max()}; convert again"
        )

    def with_rows(part: RopeTable) -> RopeTable:
        rows = np.asarray(factors, dtype=np.float64).reshape(n, -1) * part.factors[-1]
        scale = np.asarray(scales, dtype=np.float64) * part.attn_scale[-1]
        return RopeTable(rows, scale, tuple(int(p) for p in points))

    table = with_rows(base) if full else base.without_sliding()
    if not model.has_windows:
        return table
    return table.with_sliding(with_rows(base.of_sliding) if sliding else base.of_sliding)


def _kinds_with_rows(source: KeySource, model: ModelRope, n_rows: int) -> tuple[bool, bool]:
    """Whether the rows are for layers without a sliding window, and for those with one."""
    named = source.get(keys.LENGTH_LAYERS)
    if named is None:
        return True, False
    if not isinstance(named, np.ndarray) or named.dtype != np.bool_ or named.size != model.n_layer:
        raise ParameterError(
            f"{keys.LENGTH_LAYERS} is {shorten(named)}; an array of {model.n_layer} bool values is needed"
        )
    if source.get(keys.VERSION) == 1:
        raise ParameterError(f"{keys.VERSION} is 1 beside {keys.LENGTH_LAYERS}; 2 is needed")
    marked = {layer for layer, rows in enumerate(named) if rows}
    if still := sorted(layer for layer in marked if not model.rotates(layer)):
        raise ParameterError(
            f"{keys.LENGTH_LAYERS} is true for layer {still[0]}, which does not rotate; convert the file again"
        )
    kinds = []
    for sliding in (False, True):
        layers = {i for i in range(model.n_layer) if model.rotates(i) and model.slides(i) == sliding}
        if layers & marked not in (set(), layers):
            which = "with" if sliding else "without"
            raise ParameterError(
                f"{keys.LENGTH_LAYERS} is true for some layers {which} a sliding window, not for all; convert again"
            )
        kinds.append(bool(layers & marked))
    full, windows = kinds
    if not marked or (windows and n_rows > 1) or (full and windows and model.n_pairs != model.of_sliding.n_pairs):
        why = "true for no layer" if not marked else "true for layers with a sliding window"
        more = "; their rotation cannot follow the length" if n_rows > 1 else ", which rotate other dimensions"
        raise ParameterError(f"{keys.LENGTH_LAYERS} is {why}{more * bool(marked)}; convert the file again")
    return full, windows


def _heads(source: KeySource, model: ModelRope) -> RopeTable:
    flat, pairs = source.get(keys.HEAD_FACTORS), source.get(keys.PAIR_FACTORS)
    if pairs is not None:
        return _pair_factors(source, pairs, model)
    if flat is None:
        return RopeTable.identity(model)
    expected = sum(model.n_head_kv)
    if not isinstance(flat, np.ndarray) or flat.dtype != np.float32 or flat.size != expected:
        raise ParameterError(f"{keys.HEAD_FACTORS} has {np.size(flat)} entries, expected {expected} of type f32")
    ends = np.cumsum(model.n_head_kv)[:-1]
    return RopeTable.of_heads(model, tuple(tuple(float(v) for v in row) for row in np.split(flat, ends)))


def _pair_factors(source: KeySource, flat: Any, model: ModelRope) -> RopeTable:
    shapes = [(n, model.n_pairs_of(layer)) for layer, n in enumerate(model.n_head_kv)]
    expected = sum(n * pairs for n, pairs in shapes)
    if not isinstance(flat, np.ndarray) or flat.dtype != np.float32 or flat.size != expected:
        raise ParameterError(
            f"{keys.PAIR_FACTORS} has {np.size(flat)} entries, expected {expected} of type f32; convert the file again"
        )
    if source.get(keys.VERSION) in (1, 2):
        raise ParameterError(f"{keys.VERSION} is {source.get(keys.VERSION)} beside {keys.PAIR_FACTORS}; 3 is needed")
    for key in (keys.HEAD_FACTORS, keys.HEAD_ORDER):
        if source.get(key) is not None:
            raise ParameterError(
                f"{key} stands beside {keys.PAIR_FACTORS}, which takes its place; convert the file again"
            )
    ends = np.cumsum([n * pairs for n, pairs in shapes])[:-1]
    parts = zip(np.split(flat.astype(np.float64), ends), shapes, strict=True)
    return RopeTable.of_pairs(model, [part.reshape(shape) for part, shape in parts])


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
        raise GgufError(f"{source.path}: {key} is not JSON: {text!r}; convert the file again") from None
    return value if isinstance(value, dict) else {}
