"""``niah-needles``: a haystack that consists of needles."""

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
from ggufrope.evals.tasks.niah import TOKENS_FOR_A_VALUE, fact
from ggufrope.evals.tasks.placing import nearest
from ggufrope.evals.tasks.scoring import share_found, share_found_settled
from ggufrope.evals.tasks.task_options import at_least_one
from ggufrope.evals.tasks.wording import WORDING, Wording, read_wording
from ggufrope.methods.protocol import option

__all__ = ["NiahNeedles"]


@dataclass(frozen=True, slots=True)
class NiahNeedles:
    """Nothing but facts, all of one form, and a question about the one at each depth.

    RULER's second multi-key task (arXiv 2404.06654), in which the haystack is made of distracting needles. One text
    serves all depths. ``shuffled`` is a control: the next fact's value is expected, which is not asked for.
    """

    kind: ClassVar[TaskKind[Any]] = ANSWERS
    name: ClassVar[str] = "niah-needles"
    summary: ClassVar[str] = "a text of nothing but facts, a question about the one at each depth"
    paper: ClassVar[str] = "arXiv 2404.06654"
    by_depth: ClassVar[bool] = True

    keys: int | None = option(None, "facts in a text; default: as many as fit the length")
    shuffled: bool = option(False, "control: expect the next key's value, which the question does not ask for")
    wording: Path | None = field(default=None, metadata=WORDING)
    answer_tokens: int | None = option(None, "tokens an answer may take; default 32, or what the wording says")

    def __post_init__(self) -> None:
        at_least_one(self.name, keys=self.keys, answer_tokens=self.answer_tokens)
        if self.keys == 1:
            raise UsageError(f"{self.name}: keys is 1; one fact has no others around it, 2 is the fewest")

    @property
    def max_new(self) -> int:
        """Tokens an answer may take."""
        return self.answer_tokens or read_wording(self.wording).max_new or TOKENS_FOR_A_VALUE

    def examples(self, budget: Budget, depths: Sequence[float], n: int, seed: int) -> Iterator[Example]:
        """See ``AnswerTask``."""
        wording = read_wording(self.wording)
        return filled(self.name, budget, lambda index: self._sample(wording, depths, seed, index), n, self.max_new)

    def _sample(self, wording: Wording, depths: Sequence[float], seed: int, index: int) -> Sample:
        rng = random.Random(f"niah-needles {seed} {index}")
        there = min(len(wording.keys), len(wording.values)) if wording.values else len(wording.keys)
        most = self.keys or there
        keys, values = wording.facts(rng, most, most)

        def write(n: int) -> list[Example]:
            facts = [fact(wording, key, value) for key, value in zip(keys[:n], values[:n], strict=True)]
            text = wording.preamble + wording.separator.join(facts)
            examples = []
            for depth in depths:
                place = nearest(depth, n)
                key, value = keys[place], values[place]
                examples.append(
                    Example(
                        name=f"{index}/{depth:g}",
                        depth=depth,
                        prompt=text + wording.question.replace("{key}", key),
                        start=wording.start.replace("{key}", key),
                        answers=(values[(place + 1) % n] if self.shuffled else value,),
                        draft=wording.answer.replace("{value}", value),
                    )
                )
            return examples

        return Sample(write, least=self.keys or 2, most=most)

    def score(self, output: str, example: Example) -> float:
        """1 when the value stands in the output."""
        return share_found(output, example.answers)

    def settled(self, output: str, example: Example) -> bool:
        """Whether the value has been found."""
        return share_found_settled(output, example.answers)
