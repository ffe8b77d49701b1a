"""What ``ggufrope eval`` says: the tasks, a line for each cell while it runs, a table at the end."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ggufrope.cli._progress import ProgressLine
from ggufrope.text import duration

if TYPE_CHECKING:
    from ggufrope.evals.grid import Cell, Grid
    from ggufrope.evals.results import Result
    from ggufrope.evals.runner import CellDone

__all__ = ["Watch", "table", "task_list"]

_BOTTOM = 2  # lines under a table's head


class Watch:
    """Shows how far a grid is and how long it will take, and counts what was done."""

    def __init__(self, grid: Grid, kept: dict[str, Result]) -> None:
        self._line, self._began = ProgressLine(), time.monotonic()
        self.total = len(grid.cells)
        todo = [cell for cell in grid.cells if cell.id not in kept]
        # a cell costs about as much as it has tokens
        self._work, self._worked = sum(cell.length for cell in todo), 0
        self.results: list[Result] = []
        self.fresh = 0

    def progress(self, cell: Cell, done: int, total: int) -> None:
        """Show a step inside a cell."""
        if done < total:
            self._line(done, total, f"{_name(cell)}{self._left(cell.length * done / max(total, 1))}")

    def finished(self, done: CellDone) -> None:
        """Note a cell's result, and say so if it was run now."""
        self.results.append(done.result)
        if not done.fresh:
            return
        self.fresh += 1
        self._worked += done.cell.length
        self._line.__exit__()
        value, seconds = _value(done.result), f"{done.result.seconds:.0f} s"
        click.echo(
            f"[{len(self.results)}/{self.total}] {_name(done.cell)}: {value} ({seconds}){self._left(0)}", err=True
        )

    def stopped(self, path: Path | None) -> str:
        """What to say when somebody interrupts."""
        self._line.__exit__()
        if path is None:
            return f"interrupted after {len(self.results)} of {self.total} cells; without -o nothing was kept"
        return (
            f"interrupted: {len(self.results)} of {self.total} cells are in {path}; the same command goes on from there"
        )

    def _left(self, part: float) -> str:
        worked = self._worked + part
        if not worked or worked >= self._work:
            return ""
        seconds = (time.monotonic() - self._began) * (self._work - worked) / worked
        return f", {duration(seconds)} left"


def _name(cell: Cell) -> str:
    return f"{cell.file.name}, kv {cell.kv_type}, {cell.length} tokens"


def _value(result: Result) -> str:
    low, high = result.low, result.high
    if result.kind == "answers":
        return f"score {result.score:.3f} [{low:.3f}, {high:.3f}]"
    interval = "" if low is None or high is None else f" [{_number(low)}, {_number(high)}]"
    mean = "not finite" if result.mean is None else f"{_number(result.mean)}{interval} {result.unit}"
    return mean if result.top1 is None else f"{mean}, top-1 {result.top1:.2%}"


def _number(value: float | None, digits: int = 4) -> str:
    """A mean; divergences can be very small."""
    if value is None:
        return "–"
    return f"{value:.{digits}f}" if abs(value) >= 0.01 or value == 0 else f"{value:.1e}"


def table(results: Sequence[Result]) -> list[str]:
    """A row for each cell, a column for each depth or range of positions; the notes below."""
    if not results:
        return []
    first = results[0]
    head, columns = ["file", "kv", "length", "mean" if first.kind == "positions" else "score", "95%"], _columns(results)
    rows = [head + [name for _, name in columns]] + [_row(r, [key for key, _ in columns]) for r in results]
    if first.baseline is not None:
        for row, text in zip(rows, ["top-1", *(f"{r.top1:.2%}" if r.top1 is not None else "–" for r in results)]):  # noqa: B905
            row.insert(5, text)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(_fit(text, width, i) for i, (text, width) in enumerate(zip(row, widths, strict=True))) for row in rows
    ]
    return [_title(results), "", *(line.rstrip() for line in lines), *_notes(results)]


def _title(results: Sequence[Result]) -> str:
    first, kinds = results[0], "; ".join(dict.fromkeys(r.interval for r in results))
    if first.kind == "answers":
        where = ", by depth of the answer" if first.by_depth else ""
        return f"{first.task}: mean score of {first.n} questions in each cell{where}; {kinds}"
    against = f" from {first.baseline.name}" if first.baseline else ""
    return f"{first.task}{against}: {first.unit}, by first position of a range; {kinds}"


def _columns(results: Iterable[Result]) -> list[tuple[float, str]]:
    depths = {d.depth for r in results for d in r.by_depth or ()}
    starts = {p.start for r in results for p in r.by_position or ()}
    return [(d, f"{d:g}") for d in sorted(depths)] or [(s, f"{s}-") for s in sorted(starts)]


def _row(result: Result, columns: Sequence[float]) -> list[str]:
    low, high = result.low, result.high
    interval = "–" if low is None or high is None else f"[{_number(low, 3)}, {_number(high, 3)}]"
    lead = [result.file.name, result.kv_type, str(result.length)]
    if result.kind == "answers":
        by = {d.depth: f"{d.score:.2f}" for d in result.by_depth or ()}
        return [*lead, f"{result.score:.3f}", interval, *(by.get(c, "") for c in columns)]
    at = {float(p.start): _number(p.mean) for p in result.by_position or ()}
    return [*lead, _number(result.mean), interval, *(at.get(c, "") for c in columns)]


def _fit(text: str, width: int, column: int) -> str:
    return f"{text:<{width}}" if column < _BOTTOM else f"{text:>{width}}"


def _notes(results: Iterable[Result]) -> Iterator[str]:
    told: dict[str, list[str]] = {}
    for r in results:
        for note in r.notes:
            told.setdefault(note, []).append(f"{r.file.name} kv {r.kv_type} {r.length}")
    if told:
        yield ""
    for note, cells in told.items():
        where = cells[0] if len(cells) == 1 else f"{cells[0]} and {len(cells) - 1} more"
        yield f"note: {note} ({where})"


def task_list() -> list[str]:
    """Every task, with its own options."""
    from ggufrope.evals.grid import all_tasks
    from ggufrope.evals.tasks import options

    lines = []
    for name, cls in all_tasks().items():
        lines.append(f"{name}: {cls.summary}" + (f" ({cls.paper})" if cls.paper else ""))
        for field in options(cls).values():
            default = "" if field.default is None else f"; default: {field.default}"
            lines.append(f"    --set {field.name}=...  {field.metadata['help']}{default}")
    return lines
