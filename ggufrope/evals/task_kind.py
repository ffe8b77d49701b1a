"""What all tasks have, and what a kind of task is: how a cell is planned, measured and shown.

Grid, runner, results, command line and report know kinds by this interface only. A further kind (the speed of
generation, say) is one class with these methods, and tasks that name it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from ggufrope.evals.notes import Note
from ggufrope.evals.results import FileFacts, Result

__all__ = ["CellRun", "Column", "Measured", "Task", "TaskKind", "interval_kinds", "interval_text", "number_text"]

_T = TypeVar("_T", bound="Task")


class Task(Protocol):
    """What every task has, whatever its kind. Its options are the fields of a frozen dataclass.

    Attributes:
        kind: how its cells are planned, measured and shown.
        name: as on the command line.
        summary: one line for people.
        paper: where the task comes from; empty for none.

    A task whose prompts or scores were changed also has an ``edition``, 2 or more: one that had other prompts, under
    the same options, was another measurement. It is kept with the options, so that no cell of before is taken for one
    of now.

    A task whose answer is one of a few words that the text has may have ``chance(options)``, a class method: the score
    of whoever names one of them at random, from the options of a line of results. A report calls that the floor.
    """

    kind: ClassVar[TaskKind[Any]]
    name: ClassVar[str]
    summary: ClassVar[str]
    paper: ClassVar[str]


@dataclass(frozen=True, slots=True)
class CellRun:
    """One cell, ready to be measured.

    Attributes:
        engine: of the cell's file, with a context of ``TaskKind.together`` tokens or more.
        baseline: the same of the file to compare with; None for tasks that compare with nothing.
        length: tokens of an example.
        depths: where answers stand, 0 to 1; empty for tasks without.
        limit: texts at most.
        seed: of everything that is random.
        file: about the file.
        baseline_file: about the one to compare with.
        wrap: puts the cell's chat template around what a user says.
        progress: called with what is done and what there is in all.
    """

    engine: Any
    baseline: Any | None
    length: int
    depths: tuple[float, ...]
    limit: int
    seed: int
    file: FileFacts
    baseline_file: FileFacts | None
    wrap: Callable[[str], str]
    progress: Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Measured:
    """What came out of a cell.

    Attributes:
        n: how many values the mean is over: questions, texts, runs.
        low: of the mean's 95% interval; None, as ``high``, for none.
        interval: what kind of interval that is.
        parts: the kind's own fields of ``Result``, see ``TaskKind.parts``.
        notes: what a person should know.
    """

    n: int
    low: float | None
    high: float | None
    interval: str
    parts: Mapping[str, Any]
    notes: Sequence[Note] = field(default=())


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table of results: its heading, and the text of a cell."""

    heading: str
    text: Callable[[Result], str]


class TaskKind(ABC, Generic[_T]):
    """A kind of task.

    Attributes:
        name: what results call it.
        parts: the fields of ``Result`` that only some kinds have, and this one has.
        required: those without which a line is no result of this kind.
        templated: whether a model's chat template goes around what is asked.
        higher_is_better: of the overall value.
        bounds: between which every value must be.
    """

    name: ClassVar[str]
    parts: ClassVar[frozenset[str]]
    required: ClassVar[tuple[str, ...]]
    templated: ClassVar[bool] = False
    higher_is_better: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float]] = (float("-inf"), float("inf"))

    def check(self, task: _T) -> None:  # most kinds have nothing to check
        """Whether the task can run at all, before any model is opened.

        Raises:
            InputError, UsageError: it cannot.
        """

    def check_length(self, task: _T, length: int) -> None:  # the same
        """Whether examples of ``length`` tokens make sense.

        Raises:
            UsageError: they do not.
        """

    def together(self, task: _T, length: int) -> int:
        """How many tokens are read together in a cell of ``length``: what a file's context has to hold."""
        return length

    def by_depth(self, task: _T | type[_T]) -> bool:
        """Whether the task asks at given depths."""
        return False

    def compares(self, task: _T | type[_T]) -> bool:
        """Whether the task needs a file to compare with."""
        return False

    def result_by(self, task: type[_T]) -> str:
        """By what a result is broken down, in one word, for the documentation."""
        return "depth" if self.by_depth(task) else "length"

    @abstractmethod
    def measure(self, task: _T, run: CellRun) -> Measured:
        """Measure one cell.

        Raises:
            UsageError: a length is too short for the task.
            InputError, RuntimeLibraryError: a data file cannot be used, or llama.cpp failed.
        """

    @abstractmethod
    def overall(self, result: Result) -> float | None:
        """The one value that a cell stands for; None where it is not finite."""

    @abstractmethod
    def unit(self, result: Result) -> str:
        """Of that value."""

    @abstractmethod
    def value(self, result: Result) -> str:
        """A cell's value for people, on one line."""

    @abstractmethod
    def title(self, results: Sequence[Result]) -> str:
        """What stands above a table of results of one task."""

    @abstractmethod
    def columns(self, results: Sequence[Result]) -> list[Column]:
        """The columns of that table behind file, type of the KV cache and length."""


def number_text(value: float | None, digits: int = 4) -> str:
    """A mean; divergences can be very small."""
    if value is None:
        return "–"
    return f"{value:.{digits}f}" if abs(value) >= 0.01 or value == 0 else f"{value:.1e}"


def interval_text(low: float | None, high: float | None, digits: int = 4) -> str:
    """An interval; a dash for none."""
    return "–" if low is None or high is None else f"[{number_text(low, digits)}, {number_text(high, digits)}]"


def interval_kinds(results: Sequence[Result]) -> str:
    """How the intervals of a table were computed, each way once."""
    return "; ".join(dict.fromkeys(r.interval for r in results))
