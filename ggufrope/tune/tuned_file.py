"""The table that was found, as a file of its own and in a GGUF: written through ``convert``, read back and compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ggufrope.convert.pipeline import ConvertRequest, carry_out
from ggufrope.errors import OutputError
from ggufrope.methods import PLAIN, composing_methods, scaling_method
from ggufrope.methods.factor_table import LAYOUT, PAIRS, FactorTable
from ggufrope.methods.table_file import write_table
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.tune.layout import PairLayout

__all__ = ["FoundTable", "base_of", "write_found_table", "write_tuned"]

Floats = NDArray[np.float64]

_SAME = 1e-5  # of a frequency, read back; a file holds float32


@dataclass(frozen=True, slots=True)
class FoundTable:
    """A table, relative to what a file declares for all heads.

    Attributes:
        layout: of the factors.
        factors: for each layer, KV head and pair, ``(layout.size,)``: those of the file times those that were found.
        params: how it was found, ready for JSON.
    """

    layout: PairLayout
    factors: Floats
    params: Mapping[str, Any]

    @property
    def of_pairs(self) -> Floats | None:
        """The factors of pairs alone, ``(n_pairs,)``, where all heads of the layers that may be moved have the same."""
        parts = self.layout.split(self.factors)
        free = [part for part, moved in zip(parts, self.layout.free, strict=True) if moved]
        rest = [part for part, moved in zip(parts, self.layout.free, strict=True) if not moved]
        first = free[0][0]
        same = all((part == first).all() for part in free) and all((part == 1.0).all() for part in rest)
        return first if same else None

    @property
    def axes(self) -> tuple[str, ...]:
        """Of what is written: ``[pair]`` where that says it all, which stock llama.cpp may have keys for."""
        return LAYOUT if self.of_pairs is None else PAIRS

    @property
    def values(self) -> Floats:
        """In the order of ``axes``, flat."""
        pairs = self.of_pairs
        return self.factors if pairs is None else pairs


def write_found_table(path: Path, found: FoundTable, file: ModelFile) -> None:
    """Write the table for ``convert --method table --table PATH``, bound to the model.

    Raises:
        OutputError: it cannot be written.
    """
    write_table(path, found.values, found.axes, model=file.identity.as_json(), params=found.params)


def base_of(file: ModelFile) -> tuple[str, dict[str, Any]]:
    """The method that decides about a file's scaling, where ggufrope wrote it, and its parameters; else the plain one.

    What the file declared before any conversion stays beneath a table as it is.
    """
    decoded = file.decoded
    if not decoded.ours:
        return PLAIN, {}
    scaling = scaling_method(decoded.method)
    if scaling.traits.keeps_scaling or scaling.name == PLAIN:
        return PLAIN, {}
    return scaling.name, dict(decoded.params.get("base", decoded.params))


def write_tuned(start: ModelFile, source: Path, output: Path, found: FoundTable, *, overwrite: bool) -> None:
    """Write the model with the table, whole or not at all, and read it back.

    Args:
        start: the file that the table is relative to.
        source: the file that is copied: ``start``, or what it was converted from.
        output: where to.
        found: the table.
        overwrite: replace ``output``.

    Raises:
        GgufropeError: see ``carry_out``.
        OutputError: what was written does not rotate by the table; it is removed.
    """
    name, params = base_of(start)
    front = next(cls.name for cls in composing_methods() if cls.traits.brings_file)
    table = FactorTable(found.values, found.axes, params=found.params, origin="the table that was found")
    method = front if name == PLAIN else f"{front}+{name}"
    context = None if name == PLAIN else start.decoded.context
    carry_out(
        ConvertRequest(source, output, method, {"factor_table": table, **params}, context=context, overwrite=overwrite)
    )
    _require_written(start, ModelFile.open(output), found)


def _require_written(start: ModelFile, written: ModelFile, found: FoundTable) -> None:
    """Compare every head's frequencies with the start's, divided by what was found."""
    before, after, model = start.decoded.table.without_heads(), written.decoded.table, start.decoded.model
    for layer, part in enumerate(found.layout.split(found.factors)):
        for head, factors in enumerate(part):
            for length in before.length_points or (None,):
                wanted = before.frequencies(model, layer, 0, length) / factors
                if not np.allclose(after.frequencies(written.decoded.model, layer, head, length), wanted, rtol=_SAME):
                    written.path.unlink()
                    raise OutputError(
                        f"{written.path}: layer {layer}, KV head {head} would not rotate by the table that was found; "
                        "it was removed, --table keeps the table"
                    )
