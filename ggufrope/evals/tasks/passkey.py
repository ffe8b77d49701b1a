"""``passkey``: one number in a dull text."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any, ClassVar

from ggufrope.errors import UsageError
from ggufrope.evals.answer_kind import ANSWERS
from ggufrope.evals.task import Budget, Example
from ggufrope.evals.task_kind import TaskKind
from ggufrope.evals.tasks.fitting import Sample, filled
from ggufrope.evals.tasks.haystack import HAYSTACK, Filler, from_text, read_sentences
from ggufrope.evals.tasks.placing import spread
from ggufrope.evals.tasks.scoring import exact_prefix, exact_prefix_settled
from ggufrope.evals.tasks.task_options import at_least_one
from ggufrope.methods.protocol import option

__all__ = ["Passkey"]

_PREAMBLE = "A pass key is hidden in the following dull text. Find it and remember it, you will be asked for it.\n\n"
_DULL = (
    "The hills are grey.",
    "The lake is calm.",
    "The road is long.",
    "On we go.",
    "Then we turn and come back the same way.",
)
_NEEDLE = "The pass key is {key}. Remember it: {key} is the pass key."
_QUESTION = "\n\nWhat is the pass key?\n"
_START = "The pass key is"
_MOST_DIGITS = 1000


@dataclass(frozen=True, slots=True)
class Passkey:
    """A number in a text that says the same few things over and over; the answer has to begin with it.

    Landmark Attention's pass-key retrieval (arXiv 2305.16300), in other words: the same five sentences in turn, the
    pass key said twice in one place, and a score that takes nothing but the number right away. Each depth has a text
    of its own; up to the needle they are the same, also from sample to sample.
    """

    kind: ClassVar[TaskKind[Any]] = ANSWERS
    name: ClassVar[str] = "passkey"
    summary: ClassVar[str] = "one number in a text that repeats itself"
    paper: ClassVar[str] = "arXiv 2305.16300"
    by_depth: ClassVar[bool] = True

    digits: int = option(5, "digits of the pass key")
    haystack: Path | None = field(default=None, metadata=HAYSTACK)
    answer_tokens: int = option(16, "tokens an answer may take")

    def __post_init__(self) -> None:
        at_least_one(self.name, digits=self.digits, answer_tokens=self.answer_tokens)
        if self.digits > _MOST_DIGITS:
            raise UsageError(f"{self.name}: digits is {self.digits}; {_MOST_DIGITS} is the most")

    @property
    def max_new(self) -> int:
        """Tokens an answer may take."""
        return self.answer_tokens

    def examples(self, budget: Budget, depths: Sequence[float], n: int, seed: int) -> Iterator[Example]:
        """See ``AnswerTask``."""
        return filled(self.name, budget, lambda index: self._sample(depths, seed, index), n, self.max_new)

    def _sample(self, depths: Sequence[float], seed: int, index: int) -> Sample:
        rng = random.Random(f"passkey {seed} {index}")
        key = str(rng.randrange(10 ** (self.digits - 1), 10**self.digits))
        filler = Filler(cycle(_DULL) if self.haystack is None else from_text(read_sentences(self.haystack), rng))
        needle = _NEEDLE.replace("{key}", key)

        def write(n: int) -> list[Example]:
            return [
                Example(
                    name=f"{index}/{depth:g}",
                    depth=depth,
                    prompt=_PREAMBLE + spread(filler.take(n), [(depth, needle)], " ") + _QUESTION,
                    start=_START,
                    answers=(key,),
                    draft=f" {key}.",
                )
                for depth in depths
            ]

        return Sample(write, least=len(_DULL))

    def score(self, output: str, example: Example) -> float:
        """1 when the output begins with the number."""
        return exact_prefix(output, example.answers)

    def settled(self, output: str, example: Example) -> bool:
        """Whether it is known what the output begins with."""
        return exact_prefix_settled(output, example.answers)
