"""``mdqa``: a question whose answer stands in one of many documents."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ggufrope.errors import UsageError
from ggufrope.evals.answer_kind import ANSWERS
from ggufrope.evals.task import Budget, Example
from ggufrope.evals.task_kind import TaskKind
from ggufrope.evals.tasks.fitting import Sample, filled
from ggufrope.evals.tasks.passages import QUESTIONS, Question, as_text, check_documents, distractors, question
from ggufrope.evals.tasks.placing import nearest
from ggufrope.evals.tasks.records import read_records
from ggufrope.evals.tasks.scoring import best_subspan, best_subspan_settled
from ggufrope.evals.tasks.task_options import at_least_one
from ggufrope.methods.protocol import option

__all__ = ["Mdqa"]

_LAST_ONLY = (
    "Answer the question at the end. The answer stands in one of these documents.\n\n",
    "\n\nQuestion: {question}\n",
)
_FIRST_AND_LAST = (
    "Question: {question}\nThe answer stands in one of these documents:\n\n",
    "\n\nAnswer in a few words, with what the documents say. Question: {question}\n",
)
_START = "Answer:"


@dataclass(frozen=True, slots=True)
class Mdqa:
    """Multi-document question answering: the gold document stands at each depth among documents without an answer.

    Lost in the Middle (arXiv 2307.03172), in other words. The other documents are those that the file gives with the
    question, then the gold documents of other questions, unless an answer stands in them. The first line of the
    output has to hold one of the answers; both lose case, punctuation and articles first.

    The question stands after the documents. With ``question_first`` it stands before them, too (the paper's query-aware
    contextualization), and a few words are asked for: some small models answer by that only, others worse.
    """

    kind: ClassVar[TaskKind[Any]] = ANSWERS
    name: ClassVar[str] = "mdqa"
    summary: ClassVar[str] = "a question whose answer stands in one of many documents"
    paper: ClassVar[str] = "arXiv 2307.03172"
    by_depth: ClassVar[bool] = True

    data: Path | None = field(default=None, metadata=QUESTIONS)
    documents: int | None = option(None, "documents, the gold one included; default: as many as fit the length")
    question_first: bool = option(False, "whether the question stands before the documents, too")
    answer_tokens: int = option(100, "tokens an answer may take")

    def __post_init__(self) -> None:
        at_least_one(self.name, documents=self.documents, answer_tokens=self.answer_tokens)
        if self.data is None:
            raise UsageError(f"{self.name}: no questions; --data FILE with question, answers and ctxs is needed")

    @property
    def max_new(self) -> int:
        """Tokens an answer may take."""
        return self.answer_tokens

    def examples(self, budget: Budget, depths: Sequence[float], n: int, seed: int) -> Iterator[Example]:
        """See ``AnswerTask``."""
        if self.data is None:  # __post_init__ does not let that pass
            return iter(())
        questions = read_records(self.data, question)
        order = random.Random(f"mdqa {seed}").sample(range(len(questions)), len(questions))

        def sample(index: int) -> Sample:
            return self._sample(questions, order[index], depths, seed, index)

        return filled(self.name, budget, sample, min(n, len(order)), self.max_new)

    def _sample(
        self, questions: Sequence[Question], which: int, depths: Sequence[float], seed: int, index: int
    ) -> Sample:
        asked, data = questions[which], self.data or Path()
        others = distractors(questions, which, random.Random(f"mdqa {seed} {index}"))
        others = [*asked.golds[1:], *others]
        check_documents(self.name, data, self.documents, 1, len(others))

        parts = _FIRST_AND_LAST if self.question_first else _LAST_ONLY
        before, after = (part.replace("{question}", asked.text) for part in parts)

        def write(n: int) -> list[Example]:
            examples = []
            for depth in depths:
                place = nearest(depth, n)
                documents = [*others[:place], asked.golds[0], *others[place : n - 1]]
                examples.append(
                    Example(
                        name=f"{index}/{depth:g}",
                        depth=depth,
                        prompt=before + as_text(documents) + after,
                        start=_START,
                        answers=asked.answers,
                        draft=f" {asked.answers[0]}",
                    )
                )
            return examples

        return Sample(write, least=self.documents or 2, most=self.documents or len(others) + 1)

    def score(self, output: str, example: Example) -> float:
        """1 when the output's first line holds one of the answers."""
        return best_subspan(output, example.answers)

    def settled(self, output: str, example: Example) -> bool:
        """Whether the first line has ended, or an answer stands in it for good."""
        return best_subspan_settled(output, example.answers)
