"""The kind of task that reads a text and asks nothing: a value at every position."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from ggufrope.errors import UsageError
from ggufrope.evals.notes import Note, fewer_texts_in_text, one_text
from ggufrope.evals.positions import EMPTY, Means, Reader
from ggufrope.evals.results import Result
from ggufrope.evals.task_kind import (
    CellRun,
    Column,
    Measured,
    TaskKind,
    interval_kinds,
    interval_text,
    number_text,
)
from ggufrope.files import read_text
from ggufrope.validate.position_errors import edges

__all__ = ["PositionKind", "PositionReading", "PositionTask"]

Progress = Callable[[int, int], None]


class PositionKind(TaskKind["PositionTask"]):
    """Means of a value over all positions of several texts, and over ranges of positions."""

    name: ClassVar[str] = "positions"
    parts: ClassVar[frozenset[str]] = frozenset({"unit", "mean", "by_position", "by_text", "baseline", "top1"})
    required: ClassVar[tuple[str, ...]] = ("unit", "by_position")
    higher_is_better: ClassVar[bool] = False

    def check(self, task: PositionTask) -> None:
        """The text is there, and is text."""
        read_text(task.given(), empty=EMPTY)

    def check_length(self, task: PositionTask, length: int) -> None:
        """See ``TaskKind``."""
        task.check(length)

    def together(self, task: PositionTask, length: int) -> int:
        """See ``TaskKind``."""
        return task.together(length)

    def compares(self, task: PositionTask | type[PositionTask]) -> bool:
        """See ``TaskKind``."""
        return task.compares

    def result_by(self, task: type[PositionTask]) -> str:
        """See ``TaskKind``."""
        return "position"

    def measure(self, task: PositionTask, run: CellRun) -> Measured:
        """See ``TaskKind``."""
        reading = PositionReading(run.length, run.limit, edges(run.length, run.file.trained), run.seed)
        means = task.measure(run.engine, run.baseline, reading, run.progress)
        parts = {
            "unit": task.unit, "mean": means.mean, "by_position": means.by_position, "by_text": means.by_text,
            "baseline": run.baseline_file, "top1": means.top1,
        }  # fmt: skip
        return Measured(means.n, means.low, means.high, means.interval, parts, _notes(means.n, reading))

    def overall(self, result: Result) -> float | None:
        """See ``TaskKind``."""
        return result.mean

    def unit(self, result: Result) -> str:
        """See ``TaskKind``."""
        return result.unit or ""

    def value(self, result: Result) -> str:
        """See ``TaskKind``."""
        interval = "" if result.low is None or result.high is None else f" {interval_text(result.low, result.high)}"
        mean = "not finite" if result.mean is None else f"{number_text(result.mean)}{interval} {result.unit}"
        return mean if result.top1 is None else f"{mean}, top-1 {result.top1:.2%}"

    def title(self, results: Sequence[Result]) -> str:
        """See ``TaskKind``."""
        first = results[0]
        against = f" from {first.baseline.name}" if first.baseline else ""
        return f"{first.task}{against}: {first.unit}, by first position of a range; {interval_kinds(results)}"

    def columns(self, results: Sequence[Result]) -> list[Column]:
        """The mean, its interval, the share of equal top tokens where a baseline is there, and each range's mean."""
        starts = sorted({p.start for r in results for p in r.by_position or ()})
        top1 = [Column("top-1", lambda r: "–" if r.top1 is None else f"{r.top1:.2%}")]
        return [
            Column("mean", lambda r: number_text(r.mean)),
            Column("95%", lambda r: interval_text(r.low, r.high, 3)),
            *(top1 if results[0].baseline is not None else []),
            *(Column(f"{start}-", partial(_mean_from, start)) for start in starts),
        ]


@dataclass(frozen=True, slots=True)
class PositionTask(ABC):
    """A task that is measured at every position of a text. Its options are the fields of a frozen dataclass.

    Attributes:
        unit: of its values.
        compares: whether it needs a baseline.
        text: what is read.
    """

    kind: ClassVar[TaskKind[Any]] = PositionKind()
    name: ClassVar[str]
    summary: ClassVar[str]
    paper: ClassVar[str] = ""
    unit: ClassVar[str] = "nats per token"
    compares: ClassVar[bool] = False

    text: Path | None = field(default=None, metadata={"help": "UTF-8 text to read; --text gives it", "kind": "file"})

    def check(self, length: int) -> None:
        """Whether texts of ``length`` tokens make sense.

        Raises:
            UsageError: they do not.
        """
        if length < 2:
            raise UsageError(f"{self.name}: --lengths {length} has nothing to predict; 2 tokens are the fewest")

    def together(self, length: int) -> int:
        """How many tokens of a text of ``length`` are read together: what a file's context has to hold."""
        return length

    @abstractmethod
    def measure(self, reader: Reader, baseline: Reader | None, reading: PositionReading, progress: Progress) -> Means:
        """Read the texts.

        Raises:
            InputError, UsageError: see ``positions.pieces``.
        """

    def given(self) -> Path:
        """The text.

        Raises:
            UsageError: there is none.
        """
        if self.text is None:
            raise UsageError(f"{self.name}: no text to read; give one with --text")
        return self.text


@dataclass(frozen=True, slots=True)
class PositionReading:
    """What is read.

    Attributes:
        length: tokens of a text.
        limit: texts at most.
        edges: ranges of positions that means are given for.
        seed: of the intervals.
    """

    length: int
    limit: int
    edges: Sequence[int]
    seed: int


def _notes(texts: int, reading: PositionReading) -> list[Note]:
    short = [fewer_texts_in_text(texts, reading.length, reading.limit)]
    return short * (texts < reading.limit) + [one_text()] * (texts == 1)


def _mean_from(start: int, result: Result) -> str:
    return next((number_text(p.mean) for p in result.by_position or () if p.start == start), "")
