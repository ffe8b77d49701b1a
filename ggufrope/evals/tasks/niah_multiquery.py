"""``niah-multiquery``: several needles, all asked for in one question."""

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
from ggufrope.evals.tasks.haystack import HAYSTACK, Filler
from ggufrope.evals.tasks.niah import TOKENS_FOR_A_VALUE, fact
from ggufrope.evals.tasks.placing import spread
from ggufrope.evals.tasks.scoring import share_found, share_found_settled
from ggufrope.evals.tasks.task_options import at_least_one
from ggufrope.evals.tasks.wording import WORDING, Wording, read_wording
from ggufrope.methods.protocol import option

__all__ = ["NiahMultiquery"]


@dataclass(frozen=True, slots=True)
class NiahMultiquery:
    """Facts about several keys anywhere in the text, and one question for all of them; the score is the share found.

    RULER's multi-query task (arXiv 2404.06654). With more ``keys`` than ``queries`` the others are distractors; in
    RULER there are none, so that who lists every number of the text is right.
    """

    kind: ClassVar[TaskKind[Any]] = ANSWERS
    name: ClassVar[str] = "niah-multiquery"
    summary: ClassVar[str] = "several facts, all asked for in one question"
    paper: ClassVar[str] = "arXiv 2404.06654"
    by_depth: ClassVar[bool] = False

    queries: int = option(4, "keys that are asked for at once")
    keys: int = option(4, "facts in a text, those asked for included")
    haystack: Path | None = field(default=None, metadata=HAYSTACK)
    wording: Path | None = field(default=None, metadata=WORDING)
    answer_tokens: int | None = option(None, "tokens an answer may take; default 32 for each key asked for")

    def __post_init__(self) -> None:
        at_least_one(self.name, queries=self.queries, keys=self.keys, answer_tokens=self.answer_tokens)
        if self.queries > self.keys:
            raise UsageError(
                f"{self.name}: queries is {self.queries}, and keys {self.keys}: only what is told can be asked for; "
                "use fewer queries or more keys"
            )

    @property
    def max_new(self) -> int:
        """Tokens an answer may take."""
        one = read_wording(self.wording).max_new or TOKENS_FOR_A_VALUE
        return self.answer_tokens or self.queries * one

    def examples(self, budget: Budget, depths: Sequence[float], n: int, seed: int) -> Iterator[Example]:
        """See ``AnswerTask``; ``depths`` have no meaning here."""
        wording = read_wording(self.wording)
        return filled(self.name, budget, lambda index: self._sample(wording, seed, index), n, self.max_new)

    def _sample(self, wording: Wording, seed: int, index: int) -> Sample:
        rng = random.Random(f"niah-multiquery {seed} {index}")
        keys, values = wording.facts(rng, self.keys, self.keys)
        needles = [(rng.random(), fact(wording, key, value)) for key, value in zip(keys, values, strict=True)]
        filler = Filler(wording.sentences(rng, self.haystack))
        answers = tuple(values[: self.queries])
        question, start = wording.asks_keys(keys[: self.queries])

        def write(n: int) -> list[Example]:
            text = wording.preamble + spread(filler.take(n), needles, wording.separator)
            draft = wording.answer.replace("{value}", ", ".join(answers))
            return [Example(str(index), None, text + question, start, answers, draft)]

        return Sample(write, least=self.keys)

    def score(self, output: str, example: Example) -> float:
        """The share of the values that stand in the output."""
        return share_found(output, example.answers)

    def settled(self, output: str, example: Example) -> bool:
        """Whether all values have been found."""
        return share_found_settled(output, example.answers)
