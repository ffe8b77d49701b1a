"""The report: every row (untouched, published, each space) on texts that nothing has seen, by greedy decoding.

Each cell is written when it is done, as a line of ``results.jsonl``, which ``ggufrope report`` reads.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ggufrope import __version__
from ggufrope.evals.machine import machine
from ggufrope.evals.results import FileFacts, Result, RuntimeFacts, TokenCounts
from ggufrope.evals.store import Store
from ggufrope.evals.task_kind import Measured, Task
from ggufrope.tune.tuning_texts import TuningText

__all__ = ["ALSO_READ", "GOAL", "LOSS", "CellMeasurer", "CellProgress", "ReportCell", "ReportRow", "report_split"]

#: Why a cell is read: a task that is tuned for, another task, plain text.
GOAL, ALSO_READ, LOSS = "goal", "also", "loss"

CellProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class ReportRow:
    """A table that is reported.

    Attributes:
        name: for people: ``untouched``, a method, a space.
        log_factors: relative to the file, ``(layout.size,)``.
        method: what results call it; empty: as the file's own.
        params: likewise, to tell rows of one method apart.
        space: whether it is one that was tried.
    """

    name: str
    log_factors: NDArray[np.float64]
    method: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    space: bool = False


@dataclass(frozen=True, slots=True)
class ReportCell:
    """A task at a length.

    Attributes:
        task: what asks, with the report split's part of its files.
        options: of the task for the results: files by name and sha256.
        length: tokens of a text.
        depths: where answers stand; empty for tasks without.
        limit: texts.
        seed: of the report split.
        role: ``GOAL``, ``ALSO_READ`` or ``LOSS``.
        weight: of a goal.
        texts: plain texts, where the task is to predict them.
    """

    task: Task
    options: Mapping[str, Any]
    length: int
    depths: tuple[float, ...]
    limit: int
    seed: int
    role: str
    weight: float = 1.0
    texts: tuple[TuningText, ...] = ()


class CellMeasurer(Protocol):
    """The model on the runtime, with any table."""

    facts: FileFacts
    runtime: RuntimeFacts
    chat: Any

    def measure(self, log_factors: NDArray[np.float64], cell: ReportCell, progress: CellProgress) -> Measured:
        """Ask everything, or read the texts.

        Raises:
            UsageError, InputError, RuntimeLibraryError: see ``TaskKind.measure``.
        """
        ...

    def tokens(self) -> TokenCounts:
        """Evaluated, and asked for, since it was opened."""
        ...


def report_split(
    model: CellMeasurer,
    rows: Sequence[ReportRow],
    cells: Sequence[ReportCell],
    request: str,
    store: Store,
    progress: Callable[[str], CellProgress],
) -> dict[tuple[str, int], Result]:
    """Measure every row in every cell; those that the store has are not read again.

    Args:
        model: what is asked.
        rows: the tables.
        cells: the tasks.
        request: what the run was asked for, so that no cell of another one is taken for one of it.
        store: keeps results.
        progress: called with what is read; gives what is called with questions done and in all.

    Returns:
        By the row's name and the cell's place.

    Raises:
        GgufropeError: see ``CellMeasurer.measure`` and ``Store.add``; results before it are kept.
    """
    found = {}
    for place, cell in enumerate(cells):
        for row in rows:
            id_ = _id(request, row, cell)
            if id_ not in store.results:
                said = progress(f"{row.name}, {cell.task.name} at {cell.length} tokens")
                store.add(_measured(model, row, cell, id_, said))
            found[row.name, place] = store.results[id_]
    return found


def _measured(model: CellMeasurer, row: ReportRow, cell: ReportCell, id_: str, progress: CellProgress) -> Result:
    start, before = time.monotonic(), model.tokens()
    measured, after = model.measure(row.log_factors, cell, progress), model.tokens()
    options = {**cell.options, "limit": cell.limit}
    if cell.task.kind.templated:
        options["chat_template"] = model.chat
    return Result(
        kind=cell.task.kind.name, task=cell.task.name, options=options, cell=id_, file=_facts(model.facts, row),
        kv_type="f16", length=cell.length, seed=cell.seed, n=measured.n, runtime=model.runtime, machine=machine(),
        ggufrope=__version__, seconds=round(time.monotonic() - start, 3),
        tokens=TokenCounts(after.evaluated - before.evaluated, after.asked - before.asked),
        finished=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        notes=tuple(note.text for note in measured.notes), note_codes=tuple(note.code for note in measured.notes),
        low=measured.low, high=measured.high, interval=measured.interval, **measured.parts,
    )  # fmt: skip


def _facts(file: FileFacts, row: ReportRow) -> FileFacts:
    """The file, as a row would have it: each row counts as a file of its own."""
    if not row.method:
        return file
    table = hashlib.sha256(np.ascontiguousarray(row.log_factors, "<f8").tobytes()).hexdigest()
    return replace(file, method=row.method, params=dict(row.params), header=table)


def _id(request: str, row: ReportRow, cell: ReportCell) -> str:
    """Of all that decides the result."""
    told = {
        "request": request, "task": cell.task.name, "options": dict(cell.options), "length": cell.length,
        "depths": cell.depths, "limit": cell.limit, "seed": cell.seed, "role": cell.role,
        "texts": [text.name for text in cell.texts],
    }  # fmt: skip
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    digest.update(np.ascontiguousarray(row.log_factors, "<f8").tobytes())
    return digest.hexdigest()
