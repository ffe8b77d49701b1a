"""``ruler-vt``: follow variables that are assigned to one another all over a text."""

from __future__ import annotations

import random
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ggufrope.evals.answer_kind import ANSWERS
from ggufrope.evals.task import Budget, Example
from ggufrope.evals.task_kind import TaskKind
from ggufrope.evals.tasks.fitting import Sample, filled
from ggufrope.evals.tasks.haystack import HAYSTACK, Filler, from_text, made_up, read_sentences
from ggufrope.evals.tasks.placing import spread
from ggufrope.evals.tasks.scoring import share_found, share_found_settled
from ggufrope.evals.tasks.task_options import at_least_one
from ggufrope.methods.protocol import option

__all__ = ["RulerVt"]

_PREAMBLE = "Some lines of the following text set variables. Follow which variable has which value.\n\n"
_LETTERS = 5


@dataclass(frozen=True, slots=True)
class RulerVt:
    """Variable tracking: ``VAR A = 12345.`` somewhere, ``VAR B = VAR A.`` later, and who has 12345 in the end?

    RULER (arXiv 2404.06654), in other words and without its worked example in front. A chain has ``hops`` assignments
    after its first, in order, at random places; other ``chains`` have other values. The score is the share of the
    chain's variables that stand in the answer.
    """

    kind: ClassVar[TaskKind[Any]] = ANSWERS
    name: ClassVar[str] = "ruler-vt"
    summary: ClassVar[str] = "variable tracking: all names of one value, through a chain of assignments"
    paper: ClassVar[str] = "arXiv 2404.06654"
    by_depth: ClassVar[bool] = False

    chains: int = option(1, "chains of variables; one of them is asked for")
    hops: int = option(4, "assignments from variable to variable in a chain")
    haystack: Path | None = field(default=None, metadata=HAYSTACK)
    answer_tokens: int | None = option(None, "tokens an answer may take; default 12 for each variable")

    def __post_init__(self) -> None:
        at_least_one(self.name, chains=self.chains, hops=self.hops, answer_tokens=self.answer_tokens)

    @property
    def max_new(self) -> int:
        """Tokens an answer may take."""
        return self.answer_tokens or 12 * (self.hops + 1)

    def examples(self, budget: Budget, depths: Sequence[float], n: int, seed: int) -> Iterator[Example]:
        """See ``AnswerTask``; ``depths`` have no meaning here."""
        return filled(self.name, budget, lambda index: self._sample(seed, index), n, self.max_new)

    def _sample(self, seed: int, index: int) -> Sample:
        rng = random.Random(f"ruler-vt {seed} {index}")
        values = [str(number) for number in rng.sample(range(10000, 100000), self.chains)]
        names = _names(rng, self.chains * (self.hops + 1))
        chains = [names[first :: self.chains] for first in range(self.chains)]
        needles = [line for chain, value in zip(chains, values, strict=True) for line in _placed(rng, chain, value)]
        filler = Filler(made_up(rng) if self.haystack is None else from_text(read_sentences(self.haystack), rng))

        def write(n: int) -> list[Example]:
            text = spread(filler.take(n), needles, " ")
            return [
                Example(
                    name=str(index),
                    depth=None,
                    prompt=f"{_PREAMBLE}{text}\n\nWhich variables have the value {values[0]} in the end?\n",
                    start=f"These {self.hops + 1} variables have the value {values[0]}:",
                    answers=tuple(chains[0]),
                    draft=f" {', '.join(chains[0])}",
                )
            ]

        return Sample(write, least=len(needles))

    def score(self, output: str, example: Example) -> float:
        """The share of the variables that stand in the output."""
        return share_found(output, example.answers)

    def settled(self, output: str, example: Example) -> bool:
        """Whether all variables have been found."""
        return share_found_settled(output, example.answers)


def _names(rng: random.Random, n: int) -> list[str]:
    """``n`` different names of capital letters."""
    names: dict[str, None] = {}
    while len(names) < n:
        names["".join(rng.choices(string.ascii_uppercase, k=_LETTERS))] = None
    return list(names)


def _placed(rng: random.Random, chain: Sequence[str], value: str) -> list[tuple[float, str]]:
    """The assignments of a chain in order, at random depths."""
    sources = [value, *(f"VAR {name}" for name in chain)]
    lines = [f"VAR {name} = {source}." for name, source in zip(chain, sources, strict=False)]
    return list(zip(sorted(rng.random() for _ in lines), lines, strict=True))
