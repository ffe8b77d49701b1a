"""A run of ``tune`` as lines of text: how it goes on, and the table at its end."""

from __future__ import annotations

import time
from collections.abc import Sequence

import click

from ggufrope.cli._progress import ProgressLine
from ggufrope.evals.results import Result
from ggufrope.evals.task_kind import number_text
from ggufrope.report.difference import Difference
from ggufrope.report.study import estimate
from ggufrope.text import counted, duration, size
from ggufrope.tune.report_split import LOSS, CellProgress, ReportCell
from ggufrope.tune.search_state import SearchState
from ggufrope.tune.tune_outcome import RowOutcome
from ggufrope.tune.tuning import Tuned, TuneProgress

__all__ = ["TuneLines", "tuned_lines"]

_EVERY_SECONDS = 20.0


class TuneLines:
    """Says on standard error how a run goes on."""

    def __init__(self, line: ProgressLine, steps: int | None) -> None:
        """``line`` shows progress; ``steps``: of a space, None where time ends it."""
        self._line, self._steps, self._last, self._points = line, steps, time.monotonic(), dict[str, int]()

    @property
    def progress(self) -> TuneProgress:
        """For ``tune``."""
        return TuneProgress(lambda text: self._line(0, 0, text), self._step, self._cell)

    def _step(self, space: str, state: SearchState) -> None:
        done, point = len(state.steps), state.points[-1]
        read = point.step == done and len(state.points) > self._points.get(space, 0)
        if read or state.done:
            self._points[space] = len(state.points)
            best = " (the best so far)" if point.best else "" if point.holds else " (costs too much)"
            said = f"step {point.step}: selection {point.objective:.4f}, plain text {point.rise:+.2%}{best}"
            click.echo(f"{space}: {said}{f'; {state.done}' if state.done else ''}", err=True)
            self._last = time.monotonic()
        elif self._steps is not None:
            self._line(done, self._steps, f"steps in space {space}")
        elif time.monotonic() - self._last > _EVERY_SECONDS:
            click.echo(f"{space}: step {done}, {duration(state.seconds)}", err=True)
            self._last = time.monotonic()

    def _cell(self, text: str) -> CellProgress:
        self._line(0, 0, text)
        return lambda done, of: self._line(done, of, "questions") if of else None


def tuned_lines(done: Tuned) -> list[str]:
    """The table of the report, and what came of the run."""
    lines = [line for title, some in _tables(done.cells) for line in ["", title, *_table(done, some)]]
    lines += ["", *(f"note: {note}" for note in done.notes), *_verdict(done)]
    spent = sum(state.seconds for state in done.searches.values())
    peak = done.record["peak_memory"]
    memory = f", {size(peak)} of memory at most" if peak else ""
    steps = counted(sum(len(state.steps) for state in done.searches.values()), "step")
    return [*lines[1:], f"{steps} in {duration(spent)}{memory}; the run is in {done.journal}"]


def _tables(cells: Sequence[ReportCell]) -> list[tuple[str, list[int]]]:
    """A table for each task and length; plain text of all lengths in one."""
    tables = []
    for place, cell in enumerate(cells):
        if cell.role != LOSS:
            tuned = "" if cell.role == "goal" else ", not tuned for"
            tables.append((f"{cell.task.name} at {cell.length} tokens{tuned}, {counted(cell.limit, 'text')}", [place]))
    losses = [place for place, cell in enumerate(cells) if cell.role == LOSS]
    return [*tables, ("loss on plain text, nats per token", losses)] if losses else tables


def _table(done: Tuned, places: Sequence[int]) -> list[str]:
    rows = [["", *(head for place in places for head in _heads(done, place))]]
    rows += [[o.row.name, *(text for place in places for text in _texts(o, place, done))] for o in done.rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  " + "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _heads(done: Tuned, place: int) -> list[str]:
    cell = done.cells[place]
    if cell.role == LOSS:
        return [f"{cell.length} tokens", "rise", "95%"]
    return ["value", *(f"{depth:g}" for depth in _depths(done, place)), "gain", "95%"]


def _depths(done: Tuned, place: int) -> list[float]:
    return sorted({d.depth for outcome in done.rows for d in outcome.results[place].by_depth or ()})


def _texts(outcome: RowOutcome, place: int, done: Tuned) -> list[str]:
    result, change, cell = outcome.results[place], outcome.changes[place], done.cells[place]
    if cell.role == LOSS:
        before = done.rows[0].results[place].mean
        return [number_text(result.mean), *_rise(change, before)]
    found = estimate(result)
    value = "–" if found is None else f"{found.value:.3f}"
    return [value, *(_at(result, depth) for depth in _depths(done, place)), *_change(change)]


def _at(result: Result, depth: float) -> str:
    return next((f"{d.score:.2f}" for d in result.by_depth or () if d.depth == depth), "–")


def _change(change: Difference | None) -> list[str]:
    if change is None:
        return ["", ""]
    interval = "" if change.low is None else f"{change.low:+.3f} to {change.high:+.3f}"
    return [f"{change.value:+.3f}", interval]


def _rise(change: Difference | None, before: float | None) -> list[str]:
    """A loss's difference as a share of what it was; ``better_by`` has given it the other sign."""
    if change is None or not before:
        return ["", ""]
    bounds = [] if change.low is None or change.high is None else [-change.high / before, -change.low / before]
    return [f"{-change.value / before:+.2%}", " to ".join(f"{bound:+.2%}" for bound in bounds)]


def _verdict(done: Tuned) -> list[str]:
    written = [f"wrote {path}" for path in done.written]
    if not done.reason:
        return [*written, f"space {done.chosen}: better, and plain text within what is allowed"]
    if written:
        return [*written, f"written anyway: {done.reason}"]
    return []  # the error says why
