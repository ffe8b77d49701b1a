"""``babi-where`` and ``babi-who``: questions that take several facts, which stand apart in a long text."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ggufrope.errors import UsageError
from ggufrope.evals.answer_kind import ANSWERS
from ggufrope.evals.task import Budget, Example
from ggufrope.evals.task_kind import TaskKind
from ggufrope.evals.tasks.fitting import Sample, filled
from ggufrope.evals.tasks.haystack import (
    HAYSTACK,
    PEOPLE,
    PLACES_AROUND,
    Filler,
    from_text,
    made_up,
    read_sentences,
    unused,
)
from ggufrope.evals.tasks.placing import groups, spread
from ggufrope.evals.tasks.scoring import first_named, first_named_settled
from ggufrope.evals.tasks.story import PLACES, THINGS, Cast, Chain, where_chain, who_chain
from ggufrope.evals.tasks.task_options import at_least_one, one_in
from ggufrope.evals.tasks.words import NAMES
from ggufrope.methods.protocol import option

__all__ = ["BabiWhere", "BabiWho"]

_PREAMBLE = (
    "The following text tells, among other things, what some people did, in the order in which it happened. "
    "People carry the things that they have with them. Remember it, you will be asked about it.\n\n"
)
_MOST_FACTS = 3
_WHERE, _WHO = (*PLACES, *PLACES_AROUND), (*NAMES, *PEOPLE)


@dataclass(frozen=True, slots=True)
class _Words:
    """What a haystack leaves to tell of."""

    people: list[str]
    things: list[str]
    places: list[str]


@dataclass(frozen=True, slots=True)
class _Babi(ABC):
    """Chains of facts in one text, the deciding fact of each at a depth, and the facts before it anywhere before.

    Questions over several supporting facts, as bAbI has them (arXiv 1502.05698) and BABILong hides them
    (arXiv 2406.10149), with sentences of our own. The other chains are distractors, and so are ``outdated`` facts,
    which were true once. A chain shares no person and no thing with another. The first place, or name, in the answer
    counts.
    """

    kind: ClassVar[TaskKind[Any]] = ANSWERS
    name: ClassVar[str]
    paper: ClassVar[str] = "arXiv 1502.05698"
    by_depth: ClassVar[bool] = True

    facts: int = option(2, "facts that a question takes, 1 to 3")
    chains: int = option(9, "chains of facts in a text")
    outdated: int = option(1, "facts before those that count, which were true once, for each person or thing")
    haystack: Path | None = field(default=None, metadata=HAYSTACK)
    answer_tokens: int = option(16, "tokens an answer may take")

    def __post_init__(self) -> None:
        at_least_one(self.name, facts=self.facts, chains=self.chains, answer_tokens=self.answer_tokens)
        if self.facts > _MOST_FACTS:
            raise UsageError(f"{self.name}: facts is {self.facts}; {_MOST_FACTS} is the most")
        if self.outdated < 0:
            raise UsageError(f"{self.name}: outdated is {self.outdated}; 0 is the fewest")
        self._check(_Words(list(NAMES), list(THINGS), list(PLACES)), "there are")

    @property
    def max_new(self) -> int:
        """Tokens an answer may take."""
        return self.answer_tokens

    def examples(self, budget: Budget, depths: Sequence[float], n: int, seed: int) -> Iterator[Example]:
        """See ``AnswerTask``."""
        words = _Words(*(unused(self.haystack, some) for some in (NAMES, THINGS, PLACES)))
        self._check(words, f"besides those that {self.haystack} mentions itself there are")
        return filled(self.name, budget, lambda index: self._sample(words, depths, seed, index), n, self.max_new)

    def _sample(self, words: _Words, depths: Sequence[float], seed: int, index: int) -> Sample:
        rng = random.Random(f"{self.name} {seed} {index}")
        people, things = rng.sample(words.people, len(words.people)), rng.sample(words.things, self.chains)
        each, places = self._people(), tuple(words.places)
        casts = [Cast(tuple(people[i * each : (i + 1) * each]), things[i], places) for i in range(self.chains)]
        chains = [self._chain(rng, cast) for cast in casts]
        anywhere = [rng.random() for _ in chains]
        before = [sorted(rng.random() for _ in chain.sentences[1:]) for chain in chains]
        filler = Filler(made_up(rng) if self.haystack is None else from_text(read_sentences(self.haystack), rng))

        def write(n: int) -> list[Example]:
            examples = []
            for group in groups(depths, self.chains):
                needles: list[tuple[float, str]] = []
                for depth, chain, shares in zip([*group, *anywhere[len(group) :]], chains, before, strict=True):
                    needles += zip([*(depth * share for share in shares), depth], chain.sentences, strict=True)
                text = _PREAMBLE + spread(filler.take(n), needles, " ")
                examples += [self._example(text, chain, d, index) for d, chain in zip(group, chains, strict=False)]
            return examples

        return Sample(write, least=self.chains)

    def _example(self, text: str, chain: Chain, depth: float, index: int) -> Example:
        question, start = self._asked(chain)
        return Example(
            name=f"{index}/{depth:g}",
            depth=depth,
            prompt=f"{text}\n\n{question}\n",
            start=start,
            answers=(chain.answer,),
            draft=f" {chain.answer}.",
        )

    def _check(self, words: _Words, there: str) -> None:
        """Refuse what there are too few words for."""
        for what, needed, most in (
            ("people", self.chains * self._people(), len(words.people)),
            ("things", self.chains, len(words.things)),
            ("places", self._places(), len(words.places)),
        ):
            if needed > most:
                raise UsageError(
                    f"{self.name}: {needed} {what} are needed, {there} {most}; ask for fewer chains, or fewer outdated"
                )

    @abstractmethod
    def _people(self) -> int:
        """People in a chain."""

    @abstractmethod
    def _places(self) -> int:
        """Places in a chain."""

    @abstractmethod
    def _chain(self, rng: random.Random, cast: Cast) -> Chain: ...

    @abstractmethod
    def _asked(self, chain: Chain) -> tuple[str, str]:
        """The question, and the beginning of the answer."""


@dataclass(frozen=True, slots=True)
class BabiWhere(_Babi):
    """Where somebody, or something, is in the end.

    ``facts`` 1: a person, who went to several places. 2: a thing; somebody took it, and went somewhere. 3: somebody
    took it, gave it to another, who went somewhere. Facts are told in order, and everybody has been to ``outdated``
    other places before.
    """

    name: ClassVar[str] = "babi-where"
    summary: ClassVar[str] = "where a thing is in the end: one to three facts, the last at each depth"

    def _people(self) -> int:
        return max(1, self.facts - 1)

    def _places(self) -> int:
        return 1 + self.outdated * self._people()

    def _chain(self, rng: random.Random, cast: Cast) -> Chain:
        return where_chain(rng, cast if self.facts > 1 else Cast(cast.people, "", cast.places), self.outdated)

    def _asked(self, chain: Chain) -> tuple[str, str]:
        about = chain.about if self.facts == 1 else f"the {chain.about}"
        return f"Where is {about} at the end of the text?", f"{about[0].upper()}{about[1:]} is in the"

    @classmethod
    def chance(cls, options: Mapping[str, Any]) -> float:
        """Of any of the places."""
        return one_in(len(PLACES))

    def score(self, output: str, example: Example) -> float:
        """1 when the first place in the output, one of the haystack or not, is the right one."""
        return first_named(output, _WHERE, example.answers)

    def settled(self, output: str, example: Example) -> bool:
        """Whether there is a place."""
        return first_named_settled(output, _WHERE)


@dataclass(frozen=True, slots=True)
class BabiWho(_Babi):
    """Who has something in the end.

    ``facts`` 1: somebody took it. 2: somebody took it, and gave everything to another. 3: who gave everything to a
    third. ``outdated`` people took it before that, and put it down.
    """

    name: ClassVar[str] = "babi-who"
    summary: ClassVar[str] = "who has a thing in the end: one to three facts, the last at each depth"

    def _people(self) -> int:
        return self.facts + self.outdated

    def _places(self) -> int:
        return 0

    def _chain(self, rng: random.Random, cast: Cast) -> Chain:
        return who_chain(rng, cast, self.outdated)

    def _asked(self, chain: Chain) -> tuple[str, str]:
        return (
            f"Who has the {chain.about} at the end of the text?",
            f"The name of the person who has the {chain.about} is",
        )

    @classmethod
    def chance(cls, options: Mapping[str, Any]) -> float:
        """Of any of those who have something in the end."""
        return one_in(options.get("chains"))

    def score(self, output: str, example: Example) -> float:
        """1 when the first in the output of all names, and all people of the haystack, is the right one."""
        return first_named(output, _WHO, example.answers)

    def settled(self, output: str, example: Example) -> bool:
        """Whether there is a name."""
        return first_named_settled(output, _WHO)
