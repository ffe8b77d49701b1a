"""The kind of task that asks questions and scores each answer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import ClassVar

from ggufrope.evals.answers import Asked, ask
from ggufrope.evals.results import Result
from ggufrope.evals.task import AnswerTask
from ggufrope.evals.task_kind import CellRun, Column, Measured, TaskKind, interval_kinds, interval_text

__all__ = ["ANSWERS", "AnswerKind"]


class AnswerKind(TaskKind[AnswerTask]):
    """Questions about long texts, answered greedily, each with a score from 0 to 1."""

    name: ClassVar[str] = "answers"
    parts: ClassVar[frozenset[str]] = frozenset({"score", "by_depth", "examples"})
    required: ClassVar[tuple[str, ...]] = ("score", "low", "high", "examples")
    templated: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def by_depth(self, task: AnswerTask | type[AnswerTask]) -> bool:
        """See ``TaskKind``."""
        return task.by_depth

    def measure(self, task: AnswerTask, run: CellRun) -> Measured:
        """See ``TaskKind``."""
        asked = Asked(run.length, run.depths, run.limit, run.seed, run.wrap)
        answers = ask(run.engine, task, asked, run.progress)
        interval = answers.interval
        parts = {"score": answers.score, "by_depth": answers.by_depth, "examples": answers.examples}
        return Measured(len(answers.examples), interval.low, interval.high, interval.kind, parts, answers.notes)

    def overall(self, result: Result) -> float | None:
        """See ``TaskKind``."""
        return result.score

    def unit(self, result: Result) -> str:
        """See ``TaskKind``."""
        return "score"

    def value(self, result: Result) -> str:
        """See ``TaskKind``."""
        return f"score {result.score:.3f} [{result.low:.3f}, {result.high:.3f}]"

    def title(self, results: Sequence[Result]) -> str:
        """See ``TaskKind``."""
        first = results[0]
        where = ", by depth of the answer" if first.by_depth else ""
        return f"{first.task}: mean score of {first.n} questions in each cell{where}; {interval_kinds(results)}"

    def columns(self, results: Sequence[Result]) -> list[Column]:
        """The mean, its interval, and the score at each depth."""
        depths = sorted({d.depth for r in results for d in r.by_depth or ()})
        return [
            Column("score", lambda r: f"{r.score:.3f}"),
            Column("95%", lambda r: interval_text(r.low, r.high, 3)),
            *(Column(f"{depth:g}", partial(_score_at, depth)) for depth in depths),
        ]


def _score_at(depth: float, result: Result) -> str:
    return next((f"{d.score:.2f}" for d in result.by_depth or () if d.depth == depth), "")


#: The one there is: kinds have no state.
ANSWERS = AnswerKind()
