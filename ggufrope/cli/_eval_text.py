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

    def __init__(self, grid: Grid, kept: dict[str, Result], note: str = "") -> None:
        """Begin.

        Args:
            grid: what will run.
            kept: results that are there already, by cell.
            note: what to say once a model is at work; nothing if empty, or if none is.
        """
        self._note = note
        self._line, self._began = ProgressLine(), time.monotonic()
        self._kind, self.total = grid.task.kind, len(grid.cells)
        todo = [cell for cell in grid.cells if cell.id not in kept]
        # a cell costs about as much as it has tokens
        self._work, self._worked = sum(cell.length for cell in todo), 0
        self.results: list[Result] = []
        self.fresh = 0

    def progress(self, cell: Cell, done: int, total: int) -> None:
        """Show a step inside a cell."""
        if self._note:
            click.echo(f"note: {self._note}", err=True)
            self._note = ""
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
        value, seconds = self._kind.value(done.result), f"{done.result.seconds:.0f} s"
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


def table(results: Sequence[Result]) -> list[str]:
    """A row for each cell, in the columns that the kind of task has; the notes below."""
    from ggufrope.evals.tasks import kinds

    if not results:
        return []
    kind = kinds()[results[0].kind]
    columns = kind.columns(results)
    rows = [["file", "kv", "length", *(column.heading for column in columns)]]
    rows += [[r.file.name, r.kv_type, str(r.length), *(column.text(r) for column in columns)] for r in results]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(_fit(text, width, i) for i, (text, width) in enumerate(zip(row, widths, strict=True))) for row in rows
    ]
    return [kind.title(results), "", *(line.rstrip() for line in lines), *_notes(results)]


def _fit(text: str, width: int, column: int) -> str:
    return f"{text:<{width}}" if column < _BOTTOM else f"{text:>{width}}"


def _notes(results: Iterable[Result]) -> Iterator[str]:
    cells_by_note: dict[str, list[str]] = {}
    for r in results:
        for note in r.notes:
            cells_by_note.setdefault(note, []).append(f"{r.file.name} kv {r.kv_type} {r.length}")
    if cells_by_note:
        yield ""
    for note, cells in cells_by_note.items():
        where = cells[0] if len(cells) == 1 else f"{cells[0]} and {len(cells) - 1} more"
        yield f"note: {note} ({where})"


def task_list() -> list[str]:
    """Every task, with its own options."""
    from ggufrope.evals.tasks import TASKS, options

    lines = []
    for name, cls in TASKS.items():
        lines.append(f"{name}: {cls.summary}" + (f" ({cls.paper})" if cls.paper else ""))
        for field in options(cls).values():
            default = "" if field.default is None else f"; default: {field.default}"
            lines.append(f"    --set {field.name}=...  {field.metadata['help']}{default}")
    return lines
