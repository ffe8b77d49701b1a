"""What others publish for the same purpose, as rows of the report: methods that act on heads, on this very model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ggufrope.calibrate import CalibrateRequest, calibrate
from ggufrope.errors import GgufropeError
from ggufrope.methods import Method, composing_methods
from ggufrope.methods.fitted import fit
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.rope.table import RopeTable
from ggufrope.tune.report_split import ReportRow

__all__ = ["calibrated_ratios", "published_rows"]

_PROMPTS = 4  # that heads are scored on


def calibrated_ratios(
    file: ModelFile, text: Path, length: int, progress: Callable[[int, int, str], None] | None = None
) -> list[list[float]]:
    """Measured head ratios, as ``ggufrope calibrate`` has them by default; for each layer one for each KV head.

    Args:
        file: the model.
        text: to read; a part of it that only training sees.
        length: tokens of a prompt.
        progress: see ``calibrate``.

    Raises:
        GgufropeError: see ``calibrate``.
    """
    done = calibrate(CalibrateRequest(file, (text,), lengths=(length,), prompts=_PROMPTS), progress)
    return [list(row) for row in done.ratios]


def published_rows(file: ModelFile, ratios: Sequence[Sequence[float]] | None) -> list[ReportRow]:
    """A row for each such method as published, and one with its defaults here where they differ.

    Args:
        file: the model; a method acts on top of what it declares.
        ratios: measured ones for methods that take some; None: those made up from their options.
    """
    rows = []
    for cls in composing_methods():
        if not cls.traits.calibrated:
            continue
        given = {} if ratios is None else {"head_ratios": tuple(map(tuple, ratios))}
        published = dict(cls.traits.as_published)
        for params in [published, *([{}] if published else [])]:
            try:
                row = _row(file, cls, {**params, **given}, params)
            except GgufropeError:  # the method cannot be had on this model: nothing to compare with
                continue
            rows.append(row)
    return rows


def _row(file: ModelFile, cls: type[Method], params: Mapping[str, Any], told: Mapping[str, Any]) -> ReportRow:
    source = file.original
    fitted = fit(cls.name, params, source.model, source.stock)
    flat = np.concatenate([_of_layer(fitted.table, file, layer) for layer in range(source.model.n_layer)])
    own = np.concatenate([_of_layer(file.decoded.table, file, layer) for layer in range(source.model.n_layer)])
    name = f"{cls.name} as published" if told else cls.name
    label = {k: v for k, v in fitted.method.params().items() if not isinstance(v, (list, dict))}
    return ReportRow(name, np.log(flat) - np.log(own), cls.name, label)


def _of_layer(table: RopeTable, file: ModelFile, layer: int) -> NDArray[np.float64]:
    """What a layer's heads have of their own, flat, KV heads first."""
    model = file.decoded.model
    shape = model.n_head_kv[layer], model.n_pairs_of(layer)
    rows = table.head_rows(layer) if table.n_head_kv else np.ones((1, 1))
    fits = rows.shape[1] in (1, shape[1])  # other numbers of pairs are those of other layers, and 1 here
    return np.broadcast_to(rows if fits else np.ones((1, 1)), shape).reshape(-1)
