"""``mdqa``: a question whose answer stands in one of many documents."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from ggufrope.errors import InputError, UsageError
from ggufrope.evals.answer_kind import ANSWERS
from ggufrope.evals.task import Budget, Example
from ggufrope.evals.task_kind import TaskKind
from ggufrope.evals.tasks.fitting import Sample, filled
from ggufrope.evals.tasks.placing import nearest
from ggufrope.evals.tasks.records import read_records
from ggufrope.evals.tasks.scoring import best_subspan, best_subspan_settled, normalized
from ggufrope.evals.tasks.task_options import at_least_one
from ggufrope.methods.protocol import option

__all__ = ["Mdqa"]

_PREAMBLE = "Answer the question at the end. The answer stands in one of these documents.\n\n"
_START = "Answer:"
_DATA = {
    "help": "JSON Lines (gzip or plain) with question, answers, ctxs, such as lost-in-the-middle's nq-open-oracle",
    "kind": "file",
}


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage with its title."""

    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Question:
    """A line of the file: the answers, the document that has one, and others that came with it."""

    text: str
    answers: tuple[str, ...]
    gold: Passage
    others: tuple[Passage, ...]


@dataclass(frozen=True, slots=True)
class Mdqa:
    """Multi-document question answering: the gold document stands at each depth among documents without an answer.

    Lost in the Middle (arXiv 2307.03172), in other words. The other documents are those that the file gives with the
    question, then the gold documents of other questions, unless an answer stands in them. The first line of the
    output has to hold one of the answers; both lose case, punctuation and articles first.
    """

    kind: ClassVar[TaskKind[Any]] = ANSWERS
    name: ClassVar[str] = "mdqa"
    summary: ClassVar[str] = "a question whose answer stands in one of many documents"
    paper: ClassVar[str] = "arXiv 2307.03172"
    by_depth: ClassVar[bool] = True

    data: Path | None = field(default=None, metadata=_DATA)
    documents: int | None = option(None, "documents, the gold one included; default: as many as fit the length")
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
        questions = read_records(self.data, _question)
        order = random.Random(f"mdqa {seed}").sample(range(len(questions)), len(questions))

        def sample(index: int) -> Sample:
            return self._sample(questions, order[index], depths, seed, index)

        return filled(self.name, budget, sample, min(n, len(order)), self.max_new)

    def _sample(
        self, questions: Sequence[Question], which: int, depths: Sequence[float], seed: int, index: int
    ) -> Sample:
        question = questions[which]
        others = _distractors(questions, which, random.Random(f"mdqa {seed} {index}"))
        if not others:
            raise InputError(
                f"{self.data}: nothing to put beside a question's own document; a file with more is needed"
            )
        if self.documents is not None and self.documents > len(others) + 1:
            raise UsageError(f"{self.name}: documents is {self.documents}; {self.data} has {len(others) + 1}")

        def write(n: int) -> list[Example]:
            examples = []
            for depth in depths:
                place = nearest(depth, n)
                documents = [*others[:place], question.gold, *others[place : n - 1]]
                examples.append(
                    Example(
                        name=f"{index}/{depth:g}",
                        depth=depth,
                        prompt=f"{_PREAMBLE}{_as_text(documents)}\n\nQuestion: {question.text}\n",
                        start=_START,
                        answers=question.answers,
                        draft=f" {question.answers[0]}",
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


def _as_text(documents: Sequence[Passage]) -> str:
    return "\n".join(f"Document [{i}] ({d.title}): {d.text}" for i, d in enumerate(documents, 1))


def _question(value: dict[str, Any]) -> Question:
    """A line of the file. Without a document that is marked as gold, the first one is."""
    documents = [(Passage(str(c["title"]), str(c["text"])), bool(c.get("isgold"))) for c in value["ctxs"]]
    answers = tuple(str(answer) for answer in value["answers"] if normalized(str(answer)))
    if not documents or not answers:
        raise ValueError("a question needs at least one of ctxs and one of answers")
    gold = next((i for i, (_, marked) in enumerate(documents) if marked), 0)
    others = tuple(document for i, (document, _) in enumerate(documents) if i != gold)
    text = str(value["question"]).strip()
    return Question(text if text.endswith("?") else f"{text}?", answers, documents[gold][0], others)


@lru_cache(maxsize=100_000)
def _normalized_text(text: str) -> str:
    """Every passage is looked through for every question."""
    return normalized(text)


def _distractors(questions: Sequence[Question], which: int, rng: random.Random) -> list[Passage]:
    """Documents in which no answer stands: the question's own, then other questions' gold ones in random order."""
    question = questions[which]
    answers = [normalized(answer) for answer in question.answers]
    borrowed = (questions[i].gold for i in rng.sample(range(len(questions)), len(questions)) if i != which)
    passages: dict[str, Passage] = {question.gold.text: question.gold}
    for document in question.others:
        passages.setdefault(document.text, document)
    for document in borrowed:
        text = _normalized_text(document.text)
        if document.title != question.gold.title and not any(answer in text for answer in answers):
            passages.setdefault(document.text, document)
    return list(passages.values())[1:]
