"""Questions with documents, as lost-in-the-middle publishes them, and documents that do not answer them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ggufrope.errors import InputError, UsageError
from ggufrope.evals.tasks.scoring import normalized

__all__ = ["QUESTIONS", "Passage", "Question", "as_text", "check_documents", "distractors", "question"]

#: The option that names a file of questions.
QUESTIONS = {
    "help": "JSON Lines (gzip or plain) with question, answers, ctxs, such as lost-in-the-middle's nq-open-oracle",
    "kind": "file",
    "parts": "records",
}

_SAID_ANYWHERE = {"yes", "no"}  # the answers to some questions, and no answer where they stand in a document


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage with its title."""

    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Question:
    """A line of the file.

    Attributes:
        text: ends with a question mark.
        answers: right ones, one or more.
        golds: the documents that have the answer, or that it takes to find it; one or more.
        others: documents that came with them.
    """

    text: str
    answers: tuple[str, ...]
    golds: tuple[Passage, ...]
    others: tuple[Passage, ...]


def question(value: dict[str, Any]) -> Question:
    """A line of the file. Without a document that is marked as gold, the first one is.

    Raises:
        KeyError, TypeError, ValueError: it is none; says what is wrong.
    """
    documents = [_document(c) for c in _listed(value, "ctxs")]
    answers = tuple(str(answer) for answer in _listed(value, "answers") if normalized(str(answer)))
    if not documents or not answers:
        raise ValueError("a question needs at least one of ctxs and one of answers")
    golds = [i for i, (_, marked) in enumerate(documents) if marked] or [0]
    others = tuple(document for i, (document, _) in enumerate(documents) if i not in golds)
    text = str(value["question"]).strip()
    return Question(text if text.endswith("?") else f"{text}?", answers, tuple(documents[i][0] for i in golds), others)


def _listed(value: dict[str, Any], key: str) -> list[Any]:
    """A text would be taken for a list of its letters."""
    items = value[key]
    if not isinstance(items, list):
        raise TypeError(f"{key}: a list is needed, found {items!r:.60}")
    return items


def _document(value: Any) -> tuple[Passage, bool]:
    """A passage, and whether it is marked as gold."""
    if not isinstance(value, dict):
        raise TypeError(f"ctxs: an object with title and text is needed, found {value!r:.60}")
    marked = value.get("isgold")
    if not isinstance(marked, bool | None):
        raise TypeError(f"isgold: true or false is needed, found {marked!r:.60}")
    return Passage(str(value["title"]), str(value["text"])), bool(marked)


def as_text(documents: Sequence[Passage]) -> str:
    """Numbered from 1, one on each line, as in arXiv 2307.03172."""
    return "\n".join(f"Document [{i}] ({d.title}): {d.text}" for i, d in enumerate(documents, 1))


@lru_cache(maxsize=100_000)
def _normalized_text(text: str) -> str:
    """Every passage is looked through for every question."""
    return normalized(text)


def distractors(questions: Sequence[Question], which: int, rng: random.Random) -> list[Passage]:
    """Documents in which no answer stands: the question's own, then other questions' gold ones in random order."""
    asked = questions[which]
    answers = {normalized(answer) for answer in asked.answers} - _SAID_ANYWHERE
    titles = {gold.title for gold in asked.golds}
    shuffled = rng.sample(range(len(questions)), len(questions))
    borrowed = (gold for i in shuffled if i != which for gold in questions[i].golds)
    passages = {gold.text: gold for gold in asked.golds}
    for document in asked.others:
        passages.setdefault(document.text, document)
    for document in borrowed:
        text = _normalized_text(document.text)
        if document.title not in titles and not any(answer in text for answer in answers):
            passages.setdefault(document.text, document)
    own = {gold.text for gold in asked.golds}
    return [passage for text, passage in passages.items() if text not in own]


def check_documents(task: str, data: Path, asked: int | None, golds: int, others: int) -> None:
    """Refuse a question that has nothing beside its gold documents, or not as many as ``asked`` for.

    Raises:
        InputError, UsageError: so it is.
    """
    if not others:
        raise InputError(f"{data}: nothing to put beside a question's own document; a file with more is needed")
    if asked is not None and asked > others + golds:
        raise UsageError(f"{task}: documents is {asked}; {data} has {others + golds}")
    if asked is not None and asked < golds:
        raise UsageError(f"{task}: documents is {asked}; a question of {data} has {golds} that it takes; ask for more")
