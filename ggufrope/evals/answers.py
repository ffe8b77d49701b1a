"""One cell of questions: examples to prompts, the engine's answers to scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from ggufrope.evals.intervals import Interval, score_interval
from ggufrope.evals.notes import Note, all_empty, fewer_texts_in_file, some_empty
from ggufrope.evals.results import DepthScore, ExampleScore
from ggufrope.evals.task import AnswerTask, Budget, Example
from ggufrope.inference.requests import Answer, Request

__all__ = ["Answers", "Asked", "Asker", "Wrap", "ask", "questions", "tokenized"]

Progress = Callable[[int, int], None]
Wrap = Callable[[str], str]
_SHOWN = 200  # characters of an output
_TOKENS = 1 << 22  # of all prompts in a batch


class Asker(Protocol):
    """The part of an engine that is needed here."""

    def prompt(self, text: str) -> list[int]:
        """Tokens of a prompt, special ones parsed."""
        ...

    def greedy(self, requests: Sequence[Request], progress: Progress | None = None) -> Iterator[tuple[int, Answer]]:
        """Continue each request; in any order."""
        ...


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked.

    Attributes:
        length: tokens of an example, answer included.
        depths: where answers stand; empty for tasks without.
        limit: texts.
        seed: of the examples and the intervals.
        wrap: puts the chat template around what the user says.
    """

    length: int
    depths: tuple[float, ...]
    limit: int
    seed: int
    wrap: Wrap


@dataclass(frozen=True, slots=True)
class Answers:
    """What came of it.

    Attributes:
        score: mean.
        interval: 95%.
        by_depth: None for tasks without depths.
        examples: one for each question, in the order of the task.
        notes: what a person should know.
    """

    score: float
    interval: Interval
    by_depth: tuple[DepthScore, ...] | None
    examples: tuple[ExampleScore, ...]
    notes: tuple[Note, ...]


def ask(engine: Asker, task: AnswerTask, asked: Asked, progress: Progress) -> Answers:
    """Ask everything, and score it.

    Raises:
        UsageError: the length is too short for the task.
        InputError: a data file that cannot be used.
        RuntimeLibraryError: llama.cpp failed.
    """
    scored: list[ExampleScore] = []
    silent, total = 0, asked.limit * max(len(asked.depths), 1)
    for examples, requests in _batches(engine, task, asked):
        done = len(scored)
        progress(done, total)  # the model is about to read: what is said once it does, is said now
        answers = dict(engine.greedy(requests, lambda n, _: progress(done + n, total)))  # noqa: B023  # called in here
        silent += sum(not answer.text.strip() for answer in answers.values())
        for i, example in enumerate(examples):
            output = answers[i].text
            scored.append(
                ExampleScore(example.name, example.depth, float(task.score(output, example)), output[:_SHOWN])
            )
    texts = _texts(scored)
    interval = score_interval(texts, asked.seed)
    notes = [*_silence(silent, len(scored)), *_few(len(texts), asked.limit)]
    score = sum(s.score for s in scored) / max(len(scored), 1)
    return Answers(score, interval, _by_depth(scored, asked.seed), tuple(scored), tuple(notes))


def questions(engine: Asker, task: AnswerTask, asked: Asked) -> Iterator[tuple[Example, Request]]:
    """Every question of a cell with its request, in the order of the task; made when it is asked for.

    Raises:
        UsageError: the length is too short for the task.
        InputError: a data file that cannot be used.
    """
    budget = Budget(asked.length, lambda prompt, start: len(engine.prompt(asked.wrap(prompt) + start)))
    for example in task.examples(budget, asked.depths or (0.0,), asked.limit, asked.seed):
        yield example, _request(engine, task, asked, example)


def _batches(engine: Asker, task: AnswerTask, asked: Asked) -> Iterator[tuple[list[Example], list[Request]]]:
    """As many questions at a time as have ``_TOKENS`` tokens: prompts are long, and Python's integers are large."""
    examples: list[Example] = []
    requests: list[Request] = []
    tokens = 0
    for example, request in questions(engine, task, asked):
        examples.append(example)
        requests.append(request)
        tokens += len(request.prompt)
        if tokens >= _TOKENS:
            yield examples, requests
            examples, requests, tokens = [], [], 0
    if examples:
        yield examples, requests


def _request(engine: Asker, task: AnswerTask, asked: Asked, example: Example) -> Request:
    prompt, draft = tokenized(engine, asked.wrap, example, example.draft)
    return Request(prompt=prompt, draft=draft, max_new=task.max_new, settled=partial(task.settled, example=example))


def tokenized(engine: Asker, wrap: Wrap, example: Example, answer: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Tokens of an example's prompt, and of an answer to it; none of the answer where they cannot be told apart.

    Both are tokenized together, so that a space at their border means what it will mean in the answer.
    """
    text = wrap(example.prompt) + example.start
    prompt, whole = engine.prompt(text), engine.prompt(text + answer)
    return tuple(prompt), tuple(whole[len(prompt) :]) if whole[: len(prompt)] == prompt else ()


def _texts(scored: Sequence[ExampleScore]) -> list[list[float]]:
    """Scores by text: the name of a question about text 3 is ``3`` or ``3/...``."""
    texts: dict[str, list[float]] = {}
    for one in scored:
        texts.setdefault(one.name.partition("/")[0], []).append(one.score)
    return list(texts.values())


def _by_depth(scored: Sequence[ExampleScore], seed: int) -> tuple[DepthScore, ...] | None:
    depths = sorted({one.depth for one in scored if one.depth is not None})
    scores = []
    for depth in depths:
        here = [one for one in scored if one.depth == depth]
        interval = score_interval(_texts(here), seed)
        scores.append(DepthScore(depth, len(here), sum(o.score for o in here) / len(here), interval.low, interval.high))
    return tuple(scores) or None


def _few(texts: int, limit: int) -> Iterator[Note]:
    if texts < limit:
        yield fewer_texts_in_file(texts, limit)


def _silence(empty: int, n: int) -> Iterator[Note]:
    if empty and empty == n:
        yield all_empty()
    elif empty:
        yield some_empty(empty, n)
