"""Fill a length from below: as much text as fits, found with few looks through the tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ggufrope.errors import UsageError
from ggufrope.evals.task import Budget, Example

__all__ = ["Sample", "filled", "greatest"]

_INTERPOLATIONS = 12  # then halving: token counts that are no straight line must not make the search crawl


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample: its questions with any amount of text.

    Attributes:
        write: ``write(n)``: the questions about a text of ``n`` units (sentences, pairs, documents, words).
        least: the fewest units that make the task what it is.
        most: the units there are; None for no end, ``least`` for a fixed number of them.
    """

    write: Callable[[int], Sequence[Example]]
    least: int
    most: int | None = None


def filled(task: str, budget: Budget, samples: Callable[[int], Sample], n: int, max_new: int) -> Iterator[Example]:
    """The questions of ``n`` samples, each with as many units as fit for all of its questions.

    Args:
        task: its name, for the message.
        budget: tokens that an example may take.
        samples: the sample with a number, the same each time.
        n: how many.
        max_new: tokens that are kept for an answer.

    Raises:
        UsageError: a sample does not fit with its fewest units (says the smallest length that all fit in), or has too
            few units to fill the length.
    """
    guess = 0
    for index in range(n):
        sample = samples(index)
        units = _units(budget, sample, max_new, guess)
        if units is None:
            needed = max(_needed(budget, samples(i), max_new) for i in range(n))
            raise UsageError(f"{task}: {budget.length} tokens are too few; the smallest length is {needed}")
        if units == sample.most and units > sample.least:
            free = min(budget.left(e.prompt, e.start, max_new) for e in sample.write(units))
            raise UsageError(
                f"{task}: there is not enough text for {budget.length} tokens: {free} of them would stay unused; "
                "use a smaller length, or a larger file if it comes from one"
            )
        yield from sample.write(units)
        guess = units


def greatest(left: Callable[[int], int], least: int, most: int | None, guess: int, length: int) -> int | None:
    """The greatest ``n`` from ``least`` to ``most`` with ``left(n) >= 0``; None when there is none.

    ``left`` falls by about the same for every unit, so the next try is where a straight line meets 0.

    Args:
        left: free tokens with ``n`` units.
        least: smallest ``n``.
        most: greatest ``n``, or None.
        guess: where to begin.
        length: tokens in all; what is not free is used.
    """
    fits: tuple[int, int] | None = None
    over: tuple[int, int] | None = None
    n, tries = _within(guess, least, most), 0
    per_unit: float | None = None
    while True:
        free = left(n)
        last = fits if fits is not None else over
        if last is not None:
            per_unit = max((last[1] - free) / (n - last[0]), 1.0)
        elif per_unit is None:
            per_unit = max((length - free) / max(n, 1), 1.0)
        if free >= 0:
            fits = (n, free)
        else:
            over = (n, free)
        if over is not None and over[0] <= least:
            return None
        if fits is not None and (fits[0] == most or (over is not None and over[0] - fits[0] == 1)):
            return fits[0]
        tries += 1
        n = _within(_next(fits, over, per_unit, tries), least, most)


def _next(fits: tuple[int, int] | None, over: tuple[int, int] | None, per_unit: float, tries: int) -> int:
    """Where to look next, strictly between what fits and what is over."""
    if fits is None:
        return 0 if over is None else over[0] - max(1, -int(over[1] // per_unit))
    guess = fits[0] + max(1, int(fits[1] / per_unit))
    if over is None:
        return guess
    if tries > _INTERPOLATIONS:
        guess = (fits[0] + over[0]) // 2
    return min(max(guess, fits[0] + 1), over[0] - 1)


def _within(n: int, least: int, most: int | None) -> int:
    n = max(n, least)
    return n if most is None else min(n, most)


def _units(budget: Budget, sample: Sample, max_new: int, guess: int) -> int | None:
    """As many units as fit for every question: found for the one with the least space, then checked for all."""

    def free(example: Example) -> int:
        return budget.left(example.prompt, example.start, max_new)

    frees = [free(example) for example in sample.write(_within(guess, sample.least, sample.most))]
    tight = frees.index(min(frees))
    units = greatest(lambda n: free(sample.write(n)[tight]), sample.least, sample.most, guess, budget.length)
    while units is not None and any(free(example) < 0 for example in sample.write(units)):
        units = units - 1 if units > sample.least else None
    return units


def _needed(budget: Budget, sample: Sample, max_new: int) -> int:
    """Tokens that a sample takes with its fewest units."""
    return max(budget.length - budget.left(e.prompt, e.start, max_new) for e in sample.write(sample.least))
