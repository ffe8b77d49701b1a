"""The table that was found, as a file of its own and in a GGUF: written through ``convert``, read back and compared."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ggufrope.convert.pipeline import ConvertRequest, carry_out
from ggufrope.errors import OutputError
from ggufrope.files import check_output, explain, real_path
from ggufrope.gguf import move_into_place, output_names, recover
from ggufrope.methods import PLAIN, composing_methods
from ggufrope.methods.factor_table import LAYOUT, PAIRS, FactorTable
from ggufrope.methods.table_file import write_table
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.tune.earlier_table import EarlierTable, base_of
from ggufrope.tune.layout import PairLayout
from ggufrope.tune.run_journal import journal_folder

__all__ = ["FoundTable", "write_found_table", "write_tuned"]

Floats = NDArray[np.float64]

_SAME = 1e-5  # of a frequency, read back; a file holds float32


@dataclass(frozen=True)
class FoundTable:
    """A table, relative to what a file declares for all heads.

    Attributes:
        start: the file.
        layout: of the factors.
        factors: for each layer, KV head and pair, ``(layout.size,)``: those of the file times those that were found.
        params: how it was found, ready for JSON.
    """

    start: ModelFile
    layout: PairLayout
    factors: Floats
    params: Mapping[str, Any]

    @cached_property
    def earlier(self) -> EarlierTable:
        """What a table that the file has already says of all heads; the new one takes its place and says it, too."""
        return EarlierTable.of(self.start)

    @cached_property
    def parts(self) -> list[Floats]:
        """All of what is written, by layer, ``(n_head_kv, n_pairs)`` each."""
        split = self.layout.split(self.factors)
        return [part * shared for part, shared in zip(split, self.earlier.factors, strict=True)]

    @property
    def of_pairs(self) -> Floats | None:
        """The factors of pairs alone, ``(n_pairs,)``, where they say it all of the layers that such a table acts on."""
        model = self.start.decoded.model
        acts = [model.rotates(layer) and not model.slides(layer) for layer in range(model.n_layer)]
        moved = [part for part, acting in zip(self.parts, acts, strict=True) if acting and part.size]
        rest = [part for part, acting in zip(self.parts, acts, strict=True) if not acting]
        same = bool(moved) and all((part == moved[0][0]).all() for part in moved)
        return moved[0][0] if same and all((part == 1.0).all() for part in rest) else None

    @property
    def axes(self) -> tuple[str, ...]:
        """Of what is written: ``[pair]`` where that says it all, which stock llama.cpp may have keys for."""
        return LAYOUT if self.of_pairs is None else PAIRS

    @property
    def values(self) -> Floats:
        """In the order of ``axes``, flat."""
        pairs = self.of_pairs
        return np.concatenate([part.ravel() for part in self.parts]) if pairs is None else pairs


def write_found_table(path: Path, found: FoundTable) -> None:
    """Write the table for ``convert --method table --table PATH``, bound to the model.

    Raises:
        OutputError: it cannot be written.
    """
    write_table(
        path, found.values, found.axes, attn_scale=found.earlier.attn_scale, model=found.start.identity.as_json(),
        params=found.params,
    )  # fmt: skip


def write_tuned(source: Path, output: Path, found: FoundTable, *, overwrite: bool) -> Path:
    """Write the model with the table, read it back, and give it its name then: whole and right, or not at all.

    Args:
        source: the file that is copied: the table's start, or what that was converted from.
        output: where to.
        found: the table.
        overwrite: replace ``output``.

    Returns:
        The file that was written: ``output``, or the first of several shards.

    Raises:
        GgufropeError: see ``carry_out``.
        OutputError: what was written does not rotate by the table; an old ``output`` is untouched.
    """
    name, params = base_of(found.start)
    front = next(cls.name for cls in composing_methods() if cls.traits.brings_file)
    table = FactorTable(
        found.values, found.axes, found.earlier.attn_scale, params=found.params, origin="the table that was found"
    )
    method = front if name == PLAIN else f"{front}+{name}"
    context = None if name == PLAIN else found.start.decoded.context
    names = output_names(output, len(ModelFile.open(source).headers))
    for final in names:
        check_output(final, [source], overwrite=overwrite)
    folder = journal_folder(real_path(output)) / "written"  # of the file system that a link leads to
    rmtree(folder, ignore_errors=True)  # of a run that was killed
    try:
        folder.mkdir(parents=True)
        new = [folder / final.name for final in names]
        carry_out(ConvertRequest(source, new[0], method, {"factor_table": table, **params}, context=context))
        _require_written(ModelFile.open(new[0]), found, output)
        recover(output)  # or an old file's journal would speak of the new one
        for path, final in [*zip(new, names, strict=True)][::-1]:  # the first shard last: with it a model is there
            move_into_place(path, final)
    except OSError as error:
        raise OutputError(explain(error, output, 0)) from error
    finally:
        rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            folder.parent.rmdir()  # where it is not the run's
    return names[0]


def _require_written(written: ModelFile, found: FoundTable, output: Path) -> None:
    """Compare every head's frequencies with the start's, divided by what was found; and the attention scale."""
    before, after, model = found.start.decoded.table.without_heads(), written.decoded.table, found.start.decoded.model
    for layer, part in enumerate(found.layout.split(found.factors)):
        for head, factors in enumerate(part):
            for length in before.length_points or (None,):
                wanted = before.frequencies(model, layer, 0, length) / factors
                got = after.frequencies(written.decoded.model, layer, head, length)
                scales = before.scale(model, layer, length), after.scale(written.decoded.model, layer, length)
                if not (np.allclose(got, wanted, rtol=_SAME, atol=0) and np.isclose(*scales, rtol=_SAME, atol=0)):
                    raise OutputError(
                        f"{output}: layer {layer}, KV head {head} would not rotate by the table that was found; "
                        "nothing was written, --table keeps the table"
                    )
