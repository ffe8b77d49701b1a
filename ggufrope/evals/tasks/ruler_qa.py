"""``ruler-qa``: a question whose answer takes one or several of many documents."""

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
from ggufrope.evals.tasks.passages import (
    QUESTIONS,
    Passage,
    Question,
    as_text,
    check_documents,
    distractors,
    question,
)
from ggufrope.evals.tasks.records import read_records
from ggufrope.evals.tasks.scoring import best_words, best_words_settled
from ggufrope.evals.tasks.task_options import at_least_one
from ggufrope.methods.protocol import option

__all__ = ["RulerQa"]

_PROMPT = (
    "Answer the question at the end. What it takes stands in these documents.\n\n{documents}\n\nQuestion: {question}\n"
)
_START = "Answer:"


@dataclass(frozen=True, slots=True)
class RulerQa:
    """Questions over documents: all of a question's gold documents stand anywhere among those of other questions.

    RULER's question answering (arXiv 2404.06654), which takes SQuAD's questions (one gold document) and HotpotQA's
    (two or more); any file in the format of ``mdqa`` will do. The score is 1 when the first line of the answer holds
    an answer, in whole words, without case, punctuation and articles.
    """

    kind: ClassVar[TaskKind[Any]] = ANSWERS
    name: ClassVar[str] = "ruler-qa"
    summary: ClassVar[str] = "a question that takes one or several of many documents, anywhere in the text"
    paper: ClassVar[str] = "arXiv 2404.06654"
    by_depth: ClassVar[bool] = False

    data: Path | None = field(default=None, metadata=QUESTIONS)
    documents: int | None = option(None, "documents, the gold ones included; default: as many as fit the length")
    answer_tokens: int = option(32, "tokens an answer may take")

    def __post_init__(self) -> None:
        at_least_one(self.name, documents=self.documents, answer_tokens=self.answer_tokens)
        if self.data is None:
            raise UsageError(f"{self.name}: no questions; --data FILE with question, answers and ctxs is needed")

    @property
    def max_new(self) -> int:
        """Tokens an answer may take."""
        return self.answer_tokens

    def examples(self, budget: Budget, depths: Sequence[float], n: int, seed: int) -> Iterator[Example]:
        """See ``AnswerTask``; ``depths`` have no meaning here."""
        if self.data is None:  # __post_init__ does not let that pass
            return iter(())
        questions = read_records(self.data, question)
        order = random.Random(f"ruler-qa {seed}").sample(range(len(questions)), len(questions))

        def sample(index: int) -> Sample:
            return self._sample(questions, order[index], seed, index)

        return filled(self.name, budget, sample, min(n, len(order)), self.max_new)

    def _sample(self, questions: Sequence[Question], which: int, seed: int, index: int) -> Sample:
        rng = random.Random(f"ruler-qa {seed} {index}")
        asked, data = questions[which], self.data or Path()
        golds, others = asked.golds, distractors(questions, which, rng)
        check_documents(self.name, data, self.documents, len(golds), len(others))
        places = [rng.random() for _ in golds]

        def write(n: int) -> list[Example]:
            documents = _placed(others[: n - len(golds)], golds, places)
            prompt = _PROMPT.replace("{question}", asked.text).replace("{documents}", as_text(documents))
            return [Example(str(index), None, prompt, _START, asked.answers, f" {asked.answers[0]}")]

        return Sample(write, least=self.documents or len(golds) + 1, most=self.documents or len(others) + len(golds))

    def score(self, output: str, example: Example) -> float:
        """1 when the output's first line holds one of the answers."""
        return best_words(output, example.answers)

    def settled(self, output: str, example: Example) -> bool:
        """Whether the first line has ended, or an answer stands in it for good."""
        return best_words_settled(output, example.answers)


def _placed(others: Sequence[Passage], golds: Sequence[Passage], places: Sequence[float]) -> list[Passage]:
    """``golds`` put among ``others``, one after the other, each at its share of what is there by then."""
    documents = list(others)
    for gold, place in zip(golds, places, strict=True):
        documents.insert(int(place * (len(documents) + 1)), gold)
    return documents
