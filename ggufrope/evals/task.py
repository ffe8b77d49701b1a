"""What tasks, engine and runner agree on: examples in, answers out.

A task turns a length, depths and a seed into examples, and an output into a score: text in, text out, nothing else. The
engine turns prompts into greedy answers. The runner puts them together, cell by cell. None of them knows the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from ggufrope.evals.task_kind import Task

__all__ = ["AnswerTask", "Budget", "Example"]


@dataclass(frozen=True, slots=True)
class Example:
    """One question.

    Attributes:
        name: the same for the same task, length, seed and place in the set, such as ``3/0.5``.
        depth: where the answer stands in the text, 0 (start) to 1 (end); None where that has no meaning.
        prompt: what the user says: text and question. The model's chat template goes around it, if it has one, and
            white space at its end then goes; without one, ``start`` follows it as it is.
        start: the beginning of the model's answer, which it is given and continues; empty for none.
        answers: right answers; what they mean is the task's ``score``.
        draft: what a perfect model would write. The engine tries it in one pass first; it never changes a result.
    """

    name: str
    depth: float | None
    prompt: str
    start: str
    answers: tuple[str, ...]
    draft: str


@dataclass(frozen=True, slots=True)
class Budget:
    """How much text an example may have.

    Attributes:
        length: tokens of prompt, chat template and answer together (RULER's ``max_seq_length``).
        count: ``count(prompt, start)``: tokens of the whole prompt as the model will read it, template and special
            tokens included.
    """

    length: int
    count: Callable[[str, str], int]

    def left(self, prompt: str, start: str, max_new: int) -> int:
        """Tokens still free when ``max_new`` are kept for the answer; negative when it does not fit."""
        return self.length - max_new - self.count(prompt, start)


class AnswerTask(Task, Protocol):
    """A task whose answers are scored one by one.

    Attributes, beside those of ``Task``:
        by_depth: whether examples are asked at given depths.
        max_new: tokens an answer may take.
    """

    by_depth: ClassVar[bool]

    @property
    def max_new(self) -> int:
        """Tokens an answer may take."""
        ...

    def examples(self, budget: Budget, depths: Sequence[float], n: int, seed: int) -> Iterator[Example]:
        """``n`` texts with a question for each of ``depths`` (``n`` questions where depths have no meaning).

        The same arguments give the same examples, on any machine. Questions about one text follow each other. A file
        with fewer examples gives fewer texts: asked twice, they would count as two.

        Raises:
            UsageError: the length is too short for the task; says the shortest that is not.
            InputError: a data file that cannot be used.
        """
        ...

    def score(self, output: str, example: Example) -> float:
        """How right ``output`` is, 0 to 1. Pure."""
        ...

    def settled(self, output: str, example: Example) -> bool:
        """Whether no continuation of ``output`` can change the score. Pure; False is always allowed."""
        ...
