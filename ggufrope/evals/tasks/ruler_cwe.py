"""``ruler-cwe``: the words of a long list that come up most often."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ggufrope.errors import UsageError
from ggufrope.evals.answer_kind import ANSWERS
from ggufrope.evals.task import Budget, Example
from ggufrope.evals.task_kind import TaskKind
from ggufrope.evals.tasks.fitting import Sample, filled
from ggufrope.evals.tasks.scoring import share_found, share_found_settled
from ggufrope.evals.tasks.task_options import at_least_one
from ggufrope.evals.tasks.words import pairs
from ggufrope.methods.protocol import option

__all__ = ["RulerCwe"]

_PREAMBLE = "Below is a numbered list of words. Some of them come up again and again; remember those.\n\n"


@dataclass(frozen=True, slots=True)
class RulerCwe:
    """Common words: a numbered list in which ``common`` words come up ``frequent`` times and all others ``rare`` times.

    RULER (arXiv 2404.06654), in other words and without its worked example in front. Words are two in one, such as
    ``amber-kettle``. More length means more rare words. The score is the share of the common words that stand in the
    answer.
    """

    kind: ClassVar[TaskKind[Any]] = ANSWERS
    name: ClassVar[str] = "ruler-cwe"
    summary: ClassVar[str] = "common words: the ten that come up most often in a long list"
    paper: ClassVar[str] = "arXiv 2404.06654"
    by_depth: ClassVar[bool] = False

    common: int = option(10, "words to be found")
    frequent: int = option(30, "times that each of them comes up")
    rare: int = option(3, "times that each of the others comes up")
    answer_tokens: int | None = option(None, "tokens an answer may take; default 12 for each word")

    def __post_init__(self) -> None:
        at_least_one(self.name, common=self.common, rare=self.rare, answer_tokens=self.answer_tokens)
        if self.frequent <= self.rare:
            raise UsageError(f"{self.name}: frequent is {self.frequent}; it must be above rare, {self.rare}")
        if self.common > len(pairs()) // 2:
            raise UsageError(f"{self.name}: common is {self.common}; there are {len(pairs())} words in all")

    @property
    def max_new(self) -> int:
        """Tokens an answer may take."""
        return self.answer_tokens or 12 * self.common

    def examples(self, budget: Budget, depths: Sequence[float], n: int, seed: int) -> Iterator[Example]:
        """See ``AnswerTask``; ``depths`` have no meaning here."""
        return filled(self.name, budget, lambda index: self._sample(seed, index), n, self.max_new)

    def _sample(self, seed: int, index: int) -> Sample:
        rng = random.Random(f"ruler-cwe {seed} {index}")
        every = [pair.replace(" ", "-") for pair in rng.sample(pairs(), len(pairs()))]
        common, others = every[: self.common], every[self.common :]

        def write(n: int) -> list[Example]:
            words = common * self.frequent + others[:n] * self.rare
            random.Random(f"ruler-cwe {seed} {index} {n}").shuffle(words)
            text = " ".join(f"{number}. {word}" for number, word in enumerate(words, 1))
            question = f"\n\nWhich {self.common} words come up most often in the list?\n"
            return [
                Example(
                    name=str(index),
                    depth=None,
                    prompt=_PREAMBLE + text + question,
                    start=f"The {self.common} most common words are:",
                    answers=tuple(common),
                    draft=f" {', '.join(common)}",
                )
            ]

        return Sample(write, least=self.common, most=len(others))

    def score(self, output: str, example: Example) -> float:
        """The share of the common words that stand in the output."""
        return share_found(output, example.answers)

    def settled(self, output: str, example: Example) -> bool:
        """Whether all common words have been found."""
        return share_found_settled(output, example.answers)
