"""A method on a model: from a name and parameters to the table that its file will carry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ggufrope.errors import ParameterError
from ggufrope.methods import Method, Traits, resolve, scaling_method
from ggufrope.rope.model import ModelRope
from ggufrope.rope.stock import StockRope
from ggufrope.rope.table import RopeTable

__all__ = ["FittedMethod", "fit", "table_of"]


@dataclass(frozen=True, slots=True)
class FittedMethod:
    """A method with its parameters, and what follows from them for one model.

    Attributes:
        name: its full name, e.g. ``ms-poe+yarn``.
        method: the method.
        model: the facts that its table is relative to: those of the file, without the scaling that it declares unless
            the method keeps it.
        table: the divisors, those that the file keeps included.
        stock: settings with which stock llama.cpp might compute them, or None.
        context: the context that it aims at, in tokens.
        keeps_scaling: what the file declares stays as it is.
        keeps_tensors: the file's own tensors say what the table says.
    """

    name: str
    method: Method
    model: ModelRope
    table: RopeTable
    stock: StockRope | None
    context: int
    keeps_scaling: bool
    keeps_tensors: bool


def fit(
    name: str,
    params: Mapping[str, Any],
    declared: ModelRope,
    current: StockRope,
    context: int | None = None,
    reach: int | None = None,
    in_windows: bool | None = None,
) -> FittedMethod:
    """Fit a method to a file's model.

    Args:
        name: a name of ``method_names()``.
        params: the method's parameters by field name; None counts as not given.
        declared: the file's facts.
        current: the scaling that the file declares.
        context: target context in tokens; gives the factor where none is given.
        reach: the context in tokens that a method of one row gets instead of the one that it aims at.
        in_windows: see ``table_of``.

    Raises:
        UnknownMethodError: no such method.
        UsageError, ParameterError: the parameters do not make sense.
        UnsupportedModelError: the model cannot carry the method.
    """
    scaling = scaling_method(name)
    keeps = scaling.traits.keeps_scaling
    if keeps and context not in (None, declared.train_ctx):
        first, *others = scaling.traits.suggested_bases
        raise ParameterError(
            f"--context {context}: {name} alone keeps the model's context ({declared.train_ctx}); "
            f"to extend it use --method {name}+{first} (or +{', +'.join(others)})"
        )
    model = declared if keeps else replace(declared, train_ctx=declared.original_ctx)
    own = scaling.from_file(declared, current)
    given = {**own, **{k: v for k, v in params.items() if v is not None}}
    method = resolve(name, given, model, None if keeps else context)
    table = table_of(method, model, scaling.traits, in_windows)
    if keeps and current.long:  # rows of the table would replace stock's choice between its two
        table = table.in_heads(model)
    return FittedMethod(
        name=name,
        method=method,
        model=model,
        table=current.table(declared) * table if keeps else table,
        stock=method.stock(model),
        context=context or (reach if reach and table.n_rows == 1 else method.context(model)),
        keeps_scaling=keeps,
        keeps_tensors=bool(own) and table.without_heads().close_to(current.table(model), rtol=1e-5),
    )


def table_of(method: Method, model: ModelRope, scaling: Traits, in_windows: bool | None = None) -> RopeTable:
    """The table of a method on a model, in layers with a sliding window and in those without.

    A factor acts in sliding-window layers where a factor of the file does in that architecture: gpt-oss, EXAONE 4 and
    Llama 4 have one rotation for all layers, in transformers too, while Gemma 3 and OLMo 3 scale only what attends to
    the whole context. Frequencies that follow the length leave sliding-window layers as they are, whose distances do
    not grow. Another base acts where stock llama.cpp has it. What a method puts on top of another one says for itself
    which layers it is for.

    Args:
        method: the method.
        model: the model without the scaling that its file declares, unless the method keeps that.
        scaling: traits of the part of the method that decides about the scaling.
        in_windows: whether the method acts in sliding-window layers; None: by the rules above.

    Raises:
        ParameterError, UnsupportedModelError: the model cannot carry the method.
    """
    table = method.scaling(replace(model, sliding_rot_dim=None))  # what is not its to say comes below
    if model.has_windows:
        stock = method.stock(model) if scaling.changes_base else None
        if stock is not None:
            windows = stock.table(model).of_sliding
        elif in_windows or (in_windows is None and model.sliding_scaled and table.n_rows == 1):
            windows = method.scaling(model.of_sliding)
        else:
            windows = RopeTable.identity(model.of_sliding)
        table = table.with_sliding(windows)
    return table * method.on_top(model) if method.traits.puts_on_top else table
