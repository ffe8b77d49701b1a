"""``niah-hop``: a needle that shares no word with its question; between them lies what people know of the world."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ggufrope.errors import UsageError
from ggufrope.evals.answer_kind import ANSWERS
from ggufrope.evals.task import Budget, Example
from ggufrope.evals.task_kind import TaskKind
from ggufrope.evals.tasks.fitting import Sample, filled
from ggufrope.evals.tasks.haystack import HAYSTACK, PEOPLE, Filler, from_text, made_up, read_sentences, unused
from ggufrope.evals.tasks.landmarks import LANDMARKS, Landmark
from ggufrope.evals.tasks.placing import groups, spread
from ggufrope.evals.tasks.scoring import first_named, first_named_settled
from ggufrope.evals.tasks.task_options import at_least_one, one_in
from ggufrope.evals.tasks.words import NAMES
from ggufrope.methods.protocol import option

__all__ = ["NiahHop", "Phrasing"]

_PREAMBLE = "In the following text some people are mentioned by name. Remember them, you will be asked for one.\n\n"
_CLAUSE = "lives in {where}"
_QUESTION = "\n\nWhich person {clause}? It is one of those in the text above; answer with the name.\n"
_START = "The name of the person who {clause} is"
_WHO = (*NAMES, *PEOPLE)
_MOST_HOPS = 2


@dataclass(frozen=True, slots=True)
class Phrasing:
    """A way to say where somebody is, and to ask for it in the same words.

    Attributes:
        needle: holds ``{name}`` and ``{landmark}``.
        literal: goes on after ``Which person`` with its words; holds ``{landmark}``.
    """

    needle: str
    literal: str


#: Three that begin with the name, and three that end with it.
PHRASINGS = (
    Phrasing("{name} has a flat with a view of {landmark}.", "has a flat with a view of {landmark}"),
    Phrasing("{name} runs a small bakery beside {landmark}.", "runs a small bakery beside {landmark}"),
    Phrasing("{name} walks the dog near {landmark} every day.", "walks the dog near {landmark} every day"),
    Phrasing("The flat with a view of {landmark} belongs to {name}.", "has the flat with a view of {landmark}"),
    Phrasing("The small bakery beside {landmark} is run by {name}.", "runs the small bakery beside {landmark}"),
    Phrasing("Near {landmark}, every day, the dog is walked by {name}.", "walks the dog near {landmark} every day"),
)


@dataclass(frozen=True, slots=True)
class NiahHop:
    """A text says who lives beside which landmark, and who lives in a certain country is asked for.

    NoLiMa's idea (arXiv 2502.05167) with sentences of our own: question and needle share no word, so that attention
    finds nothing to match by its letters; the model has to know that the landmark stands in that country. ``people``
    of them stand in the text, one at each depth and the others anywhere, each in another country: somebody who finds
    any name is right once in as many times. The first name in the answer counts.

    ``hops`` 1 asks for the city. ``hops`` 0 is a control that repeats the needle's own words: what is right there and
    wrong with 2 was found in the text, and not understood. ``shuffled`` is the other control, as of ``niah``: another
    person's name is expected, which the question does not ask for.
    """

    kind: ClassVar[TaskKind[Any]] = ANSWERS
    name: ClassVar[str] = "niah-hop"
    summary: ClassVar[str] = "facts that share no word with their questions, at each depth"
    paper: ClassVar[str] = "arXiv 2502.05167"
    by_depth: ClassVar[bool] = True

    hops: int = option(2, "steps of knowledge: 2 asks by country, 1 by city, 0 (control) in the fact's own words")
    people: int = option(9, "people, and facts, in a text")
    shuffled: bool = option(False, "control: expect another person's name, which the question does not ask for")
    haystack: Path | None = field(default=None, metadata=HAYSTACK)
    answer_tokens: int = option(16, "tokens an answer may take")

    def __post_init__(self) -> None:
        at_least_one(self.name, answer_tokens=self.answer_tokens)
        if not 0 <= self.hops <= _MOST_HOPS:
            raise UsageError(f"{self.name}: hops is {self.hops}; it is 0, 1 or {_MOST_HOPS}")
        most = min(len(LANDMARKS), len(NAMES))
        if not 2 <= self.people <= most:
            raise UsageError(f"{self.name}: people is {self.people}; it must be from 2 to {most}")

    @classmethod
    def chance(cls, options: Mapping[str, Any]) -> float:
        """Of any of the text's names."""
        return one_in(options.get("people"))

    @property
    def max_new(self) -> int:
        """Tokens an answer may take."""
        return self.answer_tokens

    def examples(self, budget: Budget, depths: Sequence[float], n: int, seed: int) -> Iterator[Example]:
        """See ``AnswerTask``."""
        names, landmarks = self._words()
        return filled(
            self.name, budget, lambda index: self._sample(names, landmarks, depths, seed, index), n, self.max_new
        )

    def _words(self) -> tuple[list[str], list[Landmark]]:
        """Names and landmarks of which the haystack does not tell itself."""
        names = unused(self.haystack, NAMES)
        told = [spot for spot in LANDMARKS if len(unused(self.haystack, [spot.city, spot.country])) < 2]
        landmarks = [spot for spot in LANDMARKS if spot not in told]
        if self.people > (most := min(len(names), len(landmarks))):
            raise UsageError(
                f"{self.name}: people is {self.people}; {self.haystack} mentions so many of the names and places that "
                f"{most} are left; use fewer people, or another text"
            )
        return names, landmarks

    def _sample(
        self, names: Sequence[str], landmarks: Sequence[Landmark], depths: Sequence[float], seed: int, index: int
    ) -> Sample:
        rng = random.Random(f"niah-hop {seed} {index}")
        people, spots = rng.sample(names, self.people), rng.sample(landmarks, self.people)
        phrasings = [rng.choice(PHRASINGS) for _ in people]
        facts = [_told(p, who, spot) for p, who, spot in zip(phrasings, people, spots, strict=True)]
        asked = [self._clause(phrasing, spot) for phrasing, spot in zip(phrasings, spots, strict=True)]
        wanted = people[1:] + people[:1] if self.shuffled else people
        places = [rng.random() for _ in people]
        filler = Filler(made_up(rng) if self.haystack is None else from_text(read_sentences(self.haystack), rng))

        def write(n: int) -> list[Example]:
            examples = []
            for group in groups(depths, self.people):
                needles = list(zip([*group, *places[len(group) :]], facts, strict=True))
                text = _PREAMBLE + spread(filler.take(n), needles, " ")
                for i, depth in enumerate(group):
                    examples.append(
                        Example(
                            name=f"{index}/{depth:g}",
                            depth=depth,
                            prompt=text + _QUESTION.replace("{clause}", asked[i]),
                            start=_START.replace("{clause}", asked[i]),
                            answers=(wanted[i],),
                            draft=f" {people[i]}.",
                        )
                    )
            return examples

        return Sample(write, least=self.people)

    def _clause(self, phrasing: Phrasing, spot: Landmark) -> str:
        """What the person does who is asked for."""
        if self.hops == 0:
            return phrasing.literal.replace("{landmark}", spot.name)
        return _CLAUSE.replace("{where}", spot.city if self.hops == 1 else spot.country)

    def score(self, output: str, example: Example) -> float:
        """1 when the first in the output of all names, and all people of the haystack, is the right one."""
        return first_named(output, _WHO, example.answers)

    def settled(self, output: str, example: Example) -> bool:
        """Whether there is a name."""
        return first_named_settled(output, _WHO)


def _told(phrasing: Phrasing, name: str, spot: Landmark) -> str:
    """The needle."""
    return phrasing.needle.replace("{name}", name).replace("{landmark}", spot.name)
