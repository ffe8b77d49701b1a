"""Run a grid, cell by cell: each is written when it is done, and one that is written is not run again."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ggufrope import __version__
from ggufrope.evals.chat_wrapping import wrapper
from ggufrope.evals.grid import Cell, Grid
from ggufrope.evals.machine import machine
from ggufrope.evals.notes import Note, baseline_beyond_context, beyond_context
from ggufrope.evals.results import FileFacts, Result, RuntimeFacts, TokenCounts
from ggufrope.evals.store import Store
from ggufrope.evals.task_kind import CellRun, Measured
from ggufrope.modelfile.model_file import ModelFile

__all__ = ["CellDone", "OpenEngine", "run"]

#: Called with the cell, and the questions (or positions) done and in all.
Progress = Callable[[Cell, int, int], None]
OpenEngine = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class CellDone:
    """A cell that has its result; ``fresh``: it was run now, not read."""

    cell: Cell
    result: Result
    fresh: bool


def run(
    grid: Grid,
    runtime: RuntimeFacts,
    store: Store | None = None,
    progress: Progress = lambda _cell, _done, _total: None,
    open_engine: OpenEngine | None = None,
) -> Iterator[CellDone]:
    """Give every cell its result, in the grid's order.

    Args:
        grid: the cells.
        runtime: what computes.
        store: where results are kept; None: nowhere.
        progress: see ``Progress``.
        open_engine: makes an engine; ``Engine`` if None.

    Raises:
        UsageError: a length is too short for the task.
        InputError, RuntimeLibraryError: llama.cpp refused a file or failed. Cells before it are kept.
        OutputError: a result cannot be written.
    """
    known = store.results if store else {}
    for model, kv_type, cells in grid.engines():
        with closing(_Engines(grid, model, kv_type, open_engine)) as engines:
            for cell in cells:
                if cell.id in known:
                    yield CellDone(cell, known[cell.id], fresh=False)
                    continue
                result = _run_cell(grid, cell, runtime, engines, progress)
                if store:
                    store.add(result)
                yield CellDone(cell, result, fresh=True)


class _Engines:
    """The engine of one file and type of the KV cache, and the baseline's: opened when first needed.

    Their context holds the most tokens that a cell reads together, except where a file rotates by the context that was
    allocated: those get a new one for each length.
    """

    def __init__(self, grid: Grid, model: ModelFile, kv_type: str, opener: OpenEngine | None) -> None:
        self._grid, self._model, self._kv_type = grid, model, kv_type
        self._longest = max(cell.together for cell in grid.cells)
        self._opener = opener or _engine()
        self._open: dict[str, tuple[int, Any]] = {}  # by role: the length it is for, or 0

    def close(self) -> None:
        """Close what is open."""
        for _, engine in self._open.values():
            engine.close()

    def file(self, length: int) -> Any:
        """The file's engine for ``length`` tokens together."""
        return self._get("file", self._model, self._kv_type, length)

    def baseline(self, length: int) -> Any:
        """The baseline's, with an F16 cache; None for tasks that compare nothing."""
        model = self._grid.baseline_model
        return None if model is None else self._get("baseline", model, "f16", length)

    def _get(self, role: str, model: ModelFile, kv_type: str, length: int) -> Any:
        if role in self._open and self._open[role][0] in (0, length):
            return self._open[role][1]
        if role in self._open:
            self._open.pop(role)[1].close()
        exact, threads = model.decoded.by_allocated_context, self._grid.order.threads
        engine = self._opener(model, n_ctx=length if exact else self._longest, kv_type=kv_type, threads=threads)
        self._open[role] = (length if exact else 0, engine)
        return engine


def _engine() -> OpenEngine:
    from ggufrope.inference.engine import Engine  # the bindings: only when something runs

    return Engine


def _run_cell(grid: Grid, cell: Cell, runtime: RuntimeFacts, engines: _Engines, progress: Progress) -> Result:
    engine, start = engines.file(cell.together), time.monotonic()
    evaluated, asked = engine.evaluated, engine.asked
    measured = _measure(grid, cell, engines, progress)
    notes = [*_beyond(cell, grid.baseline), *measured.notes]
    read = engine.evaluated - evaluated
    return Result(
        kind=grid.task.kind.name,
        task=grid.task.name,
        options=_options(grid, cell),
        cell=cell.id,
        file=cell.file,
        kv_type=cell.kv_type,
        length=cell.length,
        seed=grid.order.seed,
        n=measured.n,
        runtime=_settings(runtime, engine),
        machine=machine(),
        ggufrope=__version__,
        seconds=round(time.monotonic() - start, 3),
        tokens=TokenCounts(read, engine.asked - asked or read),  # log-probabilities take no more than their own tokens
        finished=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        notes=tuple(note.text for note in notes),
        note_codes=tuple(note.code for note in notes),
        low=measured.low,
        high=measured.high,
        interval=measured.interval,
        **measured.parts,
    )


def _measure(grid: Grid, cell: Cell, engines: _Engines, progress: Progress) -> Measured:
    engine, order = engines.file(cell.together), grid.order
    run = CellRun(
        engine=engine,
        baseline=engines.baseline(cell.together),
        length=cell.length,
        depths=grid.depths,
        limit=order.limit,
        seed=order.seed,
        file=cell.file,
        baseline_file=grid.baseline,
        wrap=wrapper(cell.model, cell.chat, order.chat_template, adds_bos=engine.begins_with_bos),
        progress=lambda done, total: progress(cell, done, total),
    )
    return grid.task.kind.measure(grid.task, run)


def _options(grid: Grid, cell: Cell) -> dict[str, Any]:
    if not grid.task.kind.templated:
        return {**grid.options, "limit": grid.order.limit}
    given = grid.order.chat_template
    chat: Any = "none" if cell.chat is None else "the model's own"
    if cell.chat is not None and isinstance(given, Path):
        chat = {"name": given.name, "sha256": hashlib.sha256(cell.chat.encode()).hexdigest()}
    return {**grid.options, "limit": grid.order.limit, "chat_template": chat}


def _settings(runtime: RuntimeFacts, engine: Any) -> RuntimeFacts:
    used = engine.settings
    return RuntimeFacts(runtime.backend, runtime.fingerprint, used.threads, used.flash_attn)


def _beyond(cell: Cell, baseline: FileFacts | None) -> Iterator[Note]:
    if cell.together > cell.file.context:
        yield beyond_context(cell.together, cell.file.context)
    if baseline and cell.together > baseline.context:
        yield baseline_beyond_context(baseline.context)
