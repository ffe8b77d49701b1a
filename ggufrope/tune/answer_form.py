"""The form in which a model answers: what it writes before an answer, such as a space, or a space and a quote.

A task's draft is one of several right answers. Tuned for another form than the model's own, a table learns the form:
quotes that nobody asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np

from ggufrope.evals.answers import Asked, Asker, questions, tokenized
from ggufrope.evals.task import AnswerTask, Example
from ggufrope.inference.requests import Likelihood

__all__ = ["AnswerReader", "answer_form", "core", "lead_of"]

Pair = tuple[tuple[int, ...], tuple[int, ...]]


class AnswerReader(Asker, Protocol):
    """The part of an engine that is needed here."""

    def likelihoods(self, pairs: Sequence[Pair]) -> Iterator[tuple[int, Likelihood]]:
        """How likely each pair's second part is behind its first."""
        ...


def answer_form(
    engine: AnswerReader,
    task: AnswerTask,
    *,
    length: int,
    depths: Sequence[float],
    n: int,
    seed: int,
    wrap: Callable[[str], str] = str,
) -> str:
    """What the model writes before a right answer, from its own greedy answers about ``n`` texts.

    The most frequent beginning of the answers that are right counts. Where none is, the likelier one of the draft's
    beginning and a space.

    Args:
        engine: the model as it is.
        task: what is asked.
        length: see ``texts_of``, as all that follow; the texts should be of the training split.
        depths: likewise.
        n: likewise.
        seed: likewise.
        wrap: likewise.

    Raises:
        UsageError, InputError, RuntimeLibraryError: see ``texts_of`` and ``Engine.greedy``.
    """
    asked = list(questions(engine, task, Asked(length, tuple(depths), n, seed, wrap)))
    examples = [example for example, _ in asked]
    answers = dict(engine.greedy([request for _, request in asked]))
    outputs = [answers[place].text for place in range(len(asked))]
    own = lead_of(outputs, examples)
    if own is not None:
        return own
    leads = list(dict.fromkeys([core(examples[0])[0], " "]))
    return max(leads, key=lambda lead: _likely(engine, wrap, examples, lead))


def lead_of(outputs: Sequence[str], examples: Sequence[Example]) -> str | None:
    """What stands before the answer in most of ``outputs`` that have it, the shortest of equals; None: none has it."""
    found: Counter[str] = Counter()
    for output, example in zip(outputs, examples, strict=True):
        place = output.find(_first(example))
        if place >= 0:
            found[output[:place]] += 1
    return min(found, key=lambda lead: (-found[lead], len(lead), lead), default=None)


def core(example: Example) -> tuple[str, str]:
    """What the draft has before its first answer, and from there to the end of its last one.

    A draft without any of the answers is all core.
    """
    draft, spans = example.draft, []
    for answer in filter(None, example.answers):
        place = draft.find(answer)
        if place >= 0:
            spans.append((place, place + len(answer)))
    if not spans:
        return "", draft
    start, end = min(spans)[0], max(end for _, end in spans)
    return draft[:start], draft[start:end]


def _first(example: Example) -> str:
    """The answer that the core begins with; the core itself where none does."""
    whole = core(example)[1]
    return max((a for a in example.answers if a and whole.startswith(a)), key=len, default=whole)


def _likely(engine: AnswerReader, wrap: Callable[[str], str], examples: Sequence[Example], lead: str) -> float:
    """The mean log-probability of answers in this form; -inf where they have no tokens of their own."""
    pairs = [tokenized(engine, wrap, example, lead + core(example)[1]) for example in examples]
    if not all(answer for _, answer in pairs):
        return float("-inf")
    return float(np.mean([found.log_prob for _, found in engine.likelihoods(pairs)]))
