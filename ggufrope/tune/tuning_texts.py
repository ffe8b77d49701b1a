"""What is read while tuning: texts with questions whose right answers are known, as tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

from ggufrope.errors import UsageError
from ggufrope.evals.answers import Asked, Asker, questions, tokenized
from ggufrope.evals.task import AnswerTask, Example
from ggufrope.inference.prefixes import common_prefix
from ggufrope.inference.requests import Request
from ggufrope.tune.answer_form import core

__all__ = ["TextTokenizer", "TuningQuestion", "TuningText", "as_text", "texts_of"]

_Answered = tuple[Example, tuple[int, ...], tuple[int, ...]]  # with the tokens of its prompt and of its answer


class TextTokenizer(Protocol):
    """The part of a session that makes texts."""

    begins_with_bos: bool

    def tokens(self, text: str) -> list[int]:
        """Tokens of a text, without BOS."""
        ...

    def prompt(self, text: str) -> list[int]:
        """Tokens of a prompt, BOS and special tokens included."""
        ...


@dataclass(frozen=True, slots=True)
class TuningQuestion:
    """A question about a text.

    Attributes:
        name: as the task calls it, such as ``3/0.5``.
        depth: where the answer stands, 0 (start) to 1 (end); None where that has no meaning.
        tokens: the rest of its prompt behind the text's prefix; may be empty.
        answer: the right answer, one token or more.
    """

    name: str
    depth: float | None
    tokens: tuple[int, ...]
    answer: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TuningText:
    """A text with one or more questions, each of which is read behind the prefix by itself.

    Attributes:
        name: tells texts of a task apart, whatever their length and seed.
        prefix: what all prompts begin with; at least one token.
        questions: one or more.
    """

    name: str
    prefix: tuple[int, ...]
    questions: tuple[TuningQuestion, ...]

    @property
    def length(self) -> int:
        """Tokens of the longest prompt with its answer."""
        return len(self.prefix) + max(len(q.tokens) + len(q.answer) for q in self.questions)

    @property
    def n_read(self) -> int:
        """Tokens that are read at least: the prefix once, and each question but for its last token."""
        return len(self.prefix) + sum(len(q.tokens) + len(q.answer) - 1 for q in self.questions)

    def pairs(self) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Prompt and answer of each question."""
        return [((*self.prefix, *q.tokens), q.answer) for q in self.questions]


def texts_of(
    task: AnswerTask,
    tokenizer: Asker,
    *,
    length: int,
    depths: Sequence[float],
    n: int,
    seed: int,
    wrap: Callable[[str], str] = str,
    lead: str | None = None,
) -> list[TuningText]:
    """``n`` texts of a task with its questions, tokenized as ``eval`` does: the same for the same arguments.

    Args:
        task: what is asked.
        tokenizer: a session on the model.
        length: tokens of a prompt with its answer, chat template included.
        depths: where answers stand; of no meaning for tasks without.
        n: texts.
        seed: other seeds give other texts, or, where a task reads a file, other parts of it in other orders.
        wrap: puts the chat template around what a user says (``evals.chat_wrapping``).
        lead: what the model writes before an answer (``answer_form``), and then nothing follows it; None: answers are
            the tasks' drafts.

    Raises:
        UsageError: the length is too short for the task, the task's file has fewer texts, or a text has no answer whose
            tokens can be told from its prompt's.
        InputError: a data file that cannot be used.
    """
    asked = Asked(length, tuple(depths), n, seed, wrap)

    def answered(example: Example, request: Request) -> _Answered:
        if lead is None:
            return example, request.prompt, request.draft
        return example, *tokenized(tokenizer, wrap, example, lead + core(example)[1])

    found = (answered(example, request) for example, request in questions(tokenizer, task, asked))
    by_text = groupby(found, key=lambda one: one[0].name.partition("/")[0])
    texts = [_text(task, f"{task.name}/{length}/{seed}/{name}", list(answers)) for name, answers in by_text]
    if len(texts) < n:
        raise UsageError(
            f"{task.name}: {n} texts are needed and its file gives {len(texts)}; ask for fewer, or give a larger --data"
        )
    return texts


def _text(task: AnswerTask, name: str, answers: Sequence[_Answered]) -> TuningText:
    known = [(example, prompt, answer) for example, prompt, answer in answers if answer]
    if not known:
        raise UsageError(
            f"{task.name}: no answer of text {name} has tokens of its own behind its prompt in this vocabulary; "
            "tune for another task"
        )
    prompts = [prompt for _, prompt, _ in known]
    shared = min(common_prefix(prompts[0], prompt) for prompt in prompts)
    asked = (TuningQuestion(example.name, example.depth, prompt[shared:], answer) for example, prompt, answer in known)
    return TuningText(name, prompts[0][:shared], tuple(asked))


def as_text(name: str, ids: Sequence[int]) -> TuningText:
    """A text that is to be predicted from its first token on: one question, whose answer is all the rest.

    Args:
        name: of the text.
        ids: two tokens or more.
    """
    return TuningText(name, tuple(ids[:1]), (TuningQuestion(name, None, (), tuple(ids[1:])),))
