"""``ruler-fwe``: the most frequent words of a text in code, where frequencies fall by a power law."""

from __future__ import annotations

import math
import random
import string
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
from ggufrope.methods.protocol import option

__all__ = ["RulerFwe", "counts"]

_PREAMBLE = "Below is a text in code. Count how often each coded word comes up; dots are no words.\n\n"
_VOCABULARY = 2000
_LETTERS = 6
_DOTS = "..."
_ASKED_FOR = 3


def counts(n: int, alpha: float) -> list[int]:
    """How often the words of each rank come up among ``n``: in proportion to rank^-alpha, rounded down; 0 left out."""
    weights = [math.pow(rank, -alpha) for rank in range(1, _VOCABULARY + 1)]
    whole = math.fsum(weights)
    return [count for weight in weights if (count := int(n * weight / whole))]


@dataclass(frozen=True, slots=True)
class RulerFwe:
    """Frequent words: made-up words whose frequencies follow Zipf's law; the three most frequent are asked for.

    RULER (arXiv 2404.06654), in other words. The first rank is taken by dots, which do not count. A smaller ``alpha``
    brings the frequencies closer together. The score is the share of the three words that stand in the answer.
    """

    kind: ClassVar[TaskKind[Any]] = ANSWERS
    name: ClassVar[str] = "ruler-fwe"
    summary: ClassVar[str] = "frequent words: the three most frequent ones of a text in code"
    paper: ClassVar[str] = "arXiv 2404.06654"
    by_depth: ClassVar[bool] = False

    alpha: float = option(2.0, "exponent of Zipf's law")
    answer_tokens: int = option(50, "tokens an answer may take")

    def __post_init__(self) -> None:
        at_least_one(self.name, answer_tokens=self.answer_tokens)
        if not 1 < self.alpha <= 4:
            raise UsageError(f"{self.name}: alpha is {self.alpha:g}; it must be above 1 and at most 4")

    @property
    def max_new(self) -> int:
        """Tokens an answer may take."""
        return self.answer_tokens

    def examples(self, budget: Budget, depths: Sequence[float], n: int, seed: int) -> Iterator[Example]:
        """See ``AnswerTask``; ``depths`` have no meaning here."""
        return filled(self.name, budget, lambda index: self._sample(seed, index), n, self.max_new)

    def _sample(self, seed: int, index: int) -> Sample:
        vocabulary = [_DOTS, *_coded(random.Random(f"ruler-fwe {seed} {index}"))]
        answers = tuple(vocabulary[1 : _ASKED_FOR + 1])

        def write(n: int) -> list[Example]:
            words = [word for word, times in zip(vocabulary, counts(n, self.alpha), strict=False) for _ in range(times)]
            random.Random(f"ruler-fwe {seed} {index} {n}").shuffle(words)
            question = "\n\nWhich three coded words come up most often in the text?\n"
            return [
                Example(
                    name=str(index),
                    depth=None,
                    prompt=_PREAMBLE + " ".join(words) + question,
                    start="The three most frequent coded words are:",
                    answers=answers,
                    draft=f" {', '.join(answers)}",
                )
            ]

        return Sample(write, least=_least(self.alpha))

    def score(self, output: str, example: Example) -> float:
        """The share of the three words that stand in the output."""
        return share_found(output, example.answers)

    def settled(self, output: str, example: Example) -> bool:
        """Whether all three have been found."""
        return share_found_settled(output, example.answers)


def _coded(rng: random.Random) -> list[str]:
    """Different words of random letters."""
    words: dict[str, None] = {}
    while len(words) < _VOCABULARY - 1:
        words["".join(rng.choices(string.ascii_lowercase, k=_LETTERS))] = None
    return list(words)


def _least(alpha: float) -> int:
    """So many words that the last one asked for comes up more often than the next one, rounding included."""
    whole = math.fsum(math.pow(rank, -alpha) for rank in range(1, _VOCABULARY + 1))
    gap = math.pow(_ASKED_FOR + 1, -alpha) - math.pow(_ASKED_FOR + 2, -alpha)
    return math.ceil(whole / gap)
