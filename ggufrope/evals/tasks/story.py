"""A made-up story in chains of facts: people go to places, take things and hand them over. The last facts count."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["PLACES", "THINGS", "Cast", "Chain", "where_chain", "who_chain"]

#: Single words that made-up haystacks do not use.
PLACES = (
    "attic", "balcony", "basement", "bathroom", "bedroom", "cellar", "corridor", "courtyard", "gallery", "garage",
    "greenhouse", "gym", "hallway", "laundry", "nursery", "office", "pantry", "sauna", "studio", "workshop",
)  # fmt: skip
THINGS = (
    "barometer", "bottle", "camera", "candle", "compass", "flute", "hammer", "helmet", "lantern", "magnifier", "map",
    "necklace", "notebook", "parcel", "passport", "pillow", "scarf", "suitcase", "telescope", "torch", "trumpet",
    "umbrella", "vase", "violin", "wallet",
)  # fmt: skip
_GOES = ("{a} went to the {place}.", "{a} walked into the {place}.", "{a} moved on to the {place}.")
_TAKES = ("{a} took the {thing}.", "{a} picked up the {thing}.", "{a} grabbed the {thing}.")
_DROPS = ("{a} put down the {thing}.", "{a} laid the {thing} aside.", "{a} dropped the {thing}.")
_GIVES = ("{a} gave the {thing} to {b}.", "{a} handed the {thing} to {b}.", "{a} passed the {thing} to {b}.")
_GIVES_ALL = ("{a} gave everything to {b}.", "{a} handed everything to {b}.", "{a} passed everything to {b}.")


@dataclass(frozen=True, slots=True)
class Cast:
    """The people of one chain, its thing, and the places where it may play."""

    people: tuple[str, ...]
    thing: str
    places: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Chain:
    """Facts that belong together, and what is asked about them.

    Attributes:
        sentences: in order; the last decides, and no other gives its answer.
        about: whom or what the question is about.
        answer: one word.
    """

    sentences: tuple[str, ...]
    about: str
    answer: str


def where_chain(rng: random.Random, cast: Cast, outdated: int) -> Chain:
    """Where a person is, or a thing that somebody carries.

    Of one person, with no thing: the place they went to last. Of a thing: the first person takes it, each gives it to
    the next, and the last goes somewhere. Everybody goes to ``outdated`` other places before that.
    """
    end, *earlier = rng.sample(cast.places, 1 + outdated * len(cast.people))
    goes = [_said(rng, _GOES, a=who, place=place) for who in cast.people for place in _dealt(earlier, cast.people, who)]
    rng.shuffle(goes)
    passed = [] if not cast.thing else [_said(rng, _TAKES, a=cast.people[0], thing=cast.thing)]
    if cast.thing:
        passed += [_said(rng, _GIVES, a=a, b=b, thing=cast.thing) for a, b in pairwise(cast.people)]
    last = _said(rng, _GOES, a=cast.people[-1], place=end)
    return Chain((*_interleaved(rng, goes, passed), last), cast.thing or cast.people[0], end)


def who_chain(rng: random.Random, cast: Cast, outdated: int) -> Chain:
    """Who has a thing: somebody takes it, and everything that they have goes from one to the next.

    The first ``outdated`` of the people took it before that, and put it down.
    """
    past, holders = cast.people[:outdated], cast.people[outdated:]
    sentences = [
        sentence
        for who in past
        for sentence in (_said(rng, _TAKES, a=who, thing=cast.thing), _said(rng, _DROPS, a=who, thing=cast.thing))
    ]
    sentences.append(_said(rng, _TAKES, a=holders[0], thing=cast.thing))
    sentences += [_said(rng, _GIVES_ALL, a=a, b=b) for a, b in pairwise(holders)]
    return Chain(tuple(sentences), cast.thing, holders[-1])


def _said(rng: random.Random, patterns: Sequence[str], **words: str) -> str:
    return rng.choice(patterns).format(**words)


def _dealt(places: Sequence[str], people: Sequence[str], who: str) -> Sequence[str]:
    """``who``'s share of the places: as many for everybody, none twice."""
    return places[people.index(who) :: len(people)]


def _interleaved(rng: random.Random, first: Sequence[str], second: Sequence[str]) -> list[str]:
    """Both lists in one, each in its own order."""
    taken = set(rng.sample(range(len(first) + len(second)), len(second)))
    a, b = iter(first), iter(second)
    return [next(b) if i in taken else next(a) for i in range(len(first) + len(second))]
