"""``niah`` and its kin: needles in a haystack, one or many, with one value or several."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ggufrope.evals.answer_kind import ANSWERS
from ggufrope.evals.task import Budget, Example
from ggufrope.evals.task_kind import TaskKind
from ggufrope.evals.tasks.fitting import Sample, filled
from ggufrope.evals.tasks.haystack import HAYSTACK, Filler
from ggufrope.evals.tasks.placing import groups, spread
from ggufrope.evals.tasks.scoring import share_found, share_found_settled
from ggufrope.evals.tasks.task_options import at_least_one
from ggufrope.evals.tasks.wording import WORDING, Wording, read_wording
from ggufrope.methods.protocol import option

__all__ = ["TOKENS_FOR_A_VALUE", "Niah", "NiahMultikey", "NiahMultivalue", "NiahSingle", "fact"]

#: An answer's, unless the wording says how many.
TOKENS_FOR_A_VALUE = 32


@dataclass(frozen=True, slots=True)
class Niah:
    """One text with many facts, and one question about the fact at each depth.

    RULER's multi-key retrieval (arXiv 2404.06654), asked several times over: all ``keys`` facts stand in the text,
    one at every depth and the others, as distractors, anywhere. A model reads the text once for all questions. More
    depths than ``keys`` take several texts, with the same sentences and facts. A question is right when its value
    stands in the answer.

    ``shuffled`` is a control: the question wants the value that the text gives to another key (with one key, a value
    that the text does not give at all), so that nobody who reads can know it. A score above 1 / ``keys`` then says
    that something is wrong with the measurement.
    """

    kind: ClassVar[TaskKind[Any]] = ANSWERS
    name: ClassVar[str] = "niah"
    summary: ClassVar[str] = "many facts in one text, a question about the one at each depth"
    paper: ClassVar[str] = "arXiv 2404.06654"
    by_depth: ClassVar[bool] = True

    keys: int = option(12, "facts in a text")
    shuffled: bool = option(False, "control: expect another key's value, which the question does not ask for")
    haystack: Path | None = field(default=None, metadata=HAYSTACK)
    wording: Path | None = field(default=None, metadata=WORDING)
    answer_tokens: int | None = option(None, "tokens an answer may take; default 32, or what the wording says")

    def __post_init__(self) -> None:
        at_least_one(self.name, keys=self.keys, answer_tokens=self.answer_tokens)

    @property
    def max_new(self) -> int:
        """Tokens an answer may take."""
        return self.answer_tokens or read_wording(self.wording).max_new or TOKENS_FOR_A_VALUE

    def examples(self, budget: Budget, depths: Sequence[float], n: int, seed: int) -> Iterator[Example]:
        """See ``AnswerTask``."""
        wording = read_wording(self.wording)
        return filled(self.name, budget, lambda index: self._sample(wording, depths, seed, index), n, self.max_new)

    def _sample(self, wording: Wording, depths: Sequence[float], seed: int, index: int) -> Sample:
        rng = random.Random(f"niah {seed} {index}")
        keys, values = wording.facts(rng, self.keys, max(self.keys, 2))
        places = [rng.random() for _ in keys]
        filler = Filler(wording.sentences(rng, self.haystack))
        told = dict(zip(keys, values, strict=False))
        wanted = dict(zip(keys, values[1:] + values[:1], strict=False)) if self.shuffled else told

        def write(n: int) -> list[Example]:
            examples = []
            for group in groups(depths, self.keys):
                at = [*group, *places[len(group) :]]
                needles = [(depth, fact(wording, key, told[key])) for depth, key in zip(at, keys, strict=True)]
                text = wording.preamble + spread(filler.take(n), needles, wording.separator)
                for depth, key in zip(group, keys, strict=False):
                    examples.append(
                        Example(
                            name=f"{index}/{depth:g}",
                            depth=depth,
                            prompt=text + wording.question.replace("{key}", key),
                            start=wording.start.replace("{key}", key),
                            answers=(wanted[key],),
                            draft=wording.answer.replace("{value}", told[key]),
                        )
                    )
            return examples

        return Sample(write, least=self.keys)

    def score(self, output: str, example: Example) -> float:
        """1 when the value stands in the output."""
        return share_found(output, example.answers)

    def settled(self, output: str, example: Example) -> bool:
        """Whether the value has been found."""
        return share_found_settled(output, example.answers)


@dataclass(frozen=True, slots=True)
class NiahSingle(Niah):
    """One fact in each text: the classic needle in a haystack, in RULER's form (arXiv 2404.06654).

    Each depth has a text of its own, with the same sentences around the same fact.
    """

    name: ClassVar[str] = "niah-single"
    summary: ClassVar[str] = "one fact in a text, at each depth in turn"

    keys: int = option(1, "facts in a text")


@dataclass(frozen=True, slots=True)
class NiahMultikey(Niah):
    """Four facts in each text, of which one is asked for (RULER's first multi-key task, arXiv 2404.06654).

    Depths share texts, up to four in one: the facts of the others are the distractors.
    """

    name: ClassVar[str] = "niah-multikey"
    summary: ClassVar[str] = "four facts in a text, one of them asked for"

    keys: int = option(4, "facts in a text")


@dataclass(frozen=True, slots=True)
class NiahMultivalue:
    """Several values for one key, all of them asked for at once; the score is the share that was found.

    RULER's multi-value task (arXiv 2404.06654): the values stand in sentences of their own anywhere in the text, so
    there is no depth. With more ``keys`` the others are distractors with as many values each.
    """

    kind: ClassVar[TaskKind[Any]] = ANSWERS
    name: ClassVar[str] = "niah-multivalue"
    summary: ClassVar[str] = "several values for one key, all asked for at once"
    paper: ClassVar[str] = "arXiv 2404.06654"
    by_depth: ClassVar[bool] = False

    keys: int = option(1, "keys in a text; one of them is asked for")
    values: int = option(4, "values of each key")
    haystack: Path | None = field(default=None, metadata=HAYSTACK)
    wording: Path | None = field(default=None, metadata=WORDING)
    answer_tokens: int | None = option(None, "tokens an answer may take; default 32 for each value")

    def __post_init__(self) -> None:
        at_least_one(self.name, keys=self.keys, values=self.values, answer_tokens=self.answer_tokens)

    @property
    def max_new(self) -> int:
        """Tokens an answer may take."""
        one = read_wording(self.wording).max_new or TOKENS_FOR_A_VALUE
        return self.answer_tokens or self.values * one

    def examples(self, budget: Budget, depths: Sequence[float], n: int, seed: int) -> Iterator[Example]:
        """See ``AnswerTask``; ``depths`` have no meaning here."""
        wording = read_wording(self.wording)
        return filled(self.name, budget, lambda index: self._sample(wording, seed, index), n, self.max_new)

    def _sample(self, wording: Wording, seed: int, index: int) -> Sample:
        rng = random.Random(f"niah-multivalue {seed} {index}")
        keys, values = wording.facts(rng, self.keys, self.keys * self.values)
        facts = [fact(wording, keys[i % self.keys], value) for i, value in enumerate(values)]
        needles = [(rng.random(), text) for text in facts]
        filler = Filler(wording.sentences(rng, self.haystack))
        answers = tuple(values[:: self.keys])
        question, start = wording.asks_all(keys[0])

        def write(n: int) -> list[Example]:
            text = wording.preamble + spread(filler.take(n), needles, wording.separator)
            return [
                Example(
                    name=str(index),
                    depth=None,
                    prompt=text + question,
                    start=start,
                    answers=answers,
                    draft=wording.answer.replace("{value}", ", ".join(answers)),
                )
            ]

        return Sample(write, least=len(needles))

    def score(self, output: str, example: Example) -> float:
        """The share of the values that stand in the output."""
        return share_found(output, example.answers)

    def settled(self, output: str, example: Example) -> bool:
        """Whether all values have been found."""
        return share_found_settled(output, example.answers)


def fact(wording: Wording, key: str, value: str) -> str:
    """The needle that says that ``key`` has ``value``."""
    return wording.needle.replace("{key}", key).replace("{value}", value)
