"""Many readings side by side on one context: beginnings that they share are read once, drafts are cut off again."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from ggufrope.inference.context import Context, Feed
from ggufrope.inference.prefixes import common_prefix

__all__ = ["Decoder", "Reading", "alone"]

R = TypeVar("R", bound="Reading")

_PREFIX = 0  # the sequence that holds what a family shares
_ALIGNED = 16  # kernels take rows in groups of up to so many, and what is left over in another way


class Reading(Protocol):
    """Something that reads tokens, looks at logits, and may go on from there.

    Attributes:
        prompt: what it is known to read from the start.
        reserve: tokens that it may read at most.
        longest: how much of ``prompt`` may be taken from the cache without a look at its logits.
        asked: tokens that it would have read alone, without drafts.
        cached: tokens of it that the cache has and that hold.
        over: whether it needs nothing more.
        too_close: whether a choice was too close to make in company.
        void: whether its result does not hold, and it must be read ``alone``.
    """

    @property
    def prompt(self) -> Sequence[int]: ...
    @property
    def reserve(self) -> int: ...
    @property
    def longest(self) -> int: ...
    @property
    def asked(self) -> int: ...
    @property
    def cached(self) -> int: ...
    @property
    def over(self) -> bool: ...
    @property
    def too_close(self) -> bool: ...
    @property
    def void(self) -> bool: ...

    def begin(self, cached: int) -> None:
        """Be ready to read from position ``cached`` on; what is before is in the cache."""

    def feed(self, seq: int) -> Feed:
        """What to read next, from ``cached`` on; some of it may be a guess."""

    def accept(self, rows: npt.NDArray[np.float32]) -> None:
        """The next rows of logits that the feed wanted, in order, in one part or several."""

    def advance(self) -> None:
        """Go on: all rows were accepted. ``cached`` then says how much of what was read holds."""

    def afresh(self: R) -> R:
        """The same from the start, to be read ``alone``: without drafts, whatever its margins."""


def alone(context: Context, reading: Reading) -> None:
    """Read from an empty cache, one thing after the other, as a program does that serves one request."""
    context.clear(length=len(reading.prompt))
    reading.begin(0)
    while not reading.over:
        _step(context, [(_PREFIX, reading)])


def _step(context: Context, active: Sequence[tuple[int, Reading]]) -> None:
    feeds = [reading.feed(seq) for seq, reading in active]
    if len(feeds) == 1:
        for _, rows in context.read(feeds[0]):
            active[0][1].accept(rows)
    else:
        for owners, rows in context.decode(feeds):
            for owner in np.unique(owners):
                active[owner][1].accept(rows[owners == owner])
    for (seq, reading), feed in zip(active, feeds, strict=True):
        reading.advance()
        if not reading.over and reading.cached < feed.start + len(feed.tokens):
            context.cut(seq, reading.cached)


class Decoder(Generic[R]):
    """Runs families of readings on a context whose sequences can be copied and cut."""

    def __init__(self, context: Context, *, n_cells: int, n_parallel: int, repeatable: bool) -> None:
        """Set up.

        Args:
            context: an empty one with ``n_parallel + 1`` sequences.
            n_cells: tokens that its cache holds, in all sequences together.
            n_parallel: readings side by side.
            repeatable: whether a batch gives the same bits however many tokens are in it, but one.
        """
        self._context, self._n_cells, self._repeatable = context, n_cells, repeatable
        self._free = list(range(n_parallel, 0, -1))
        self._prefix: Sequence[int] = ()

    def run(self, readings: Sequence[R], common: int) -> Iterator[tuple[int, R]]:
        """Run ``readings``, which share their first ``common`` tokens; yields each, with its place, when it is over."""
        places, undecided = {id(reading): place for place, reading in enumerate(readings)}, list[R]()
        for reading in self._beside(readings, common):
            if reading.too_close and self._repeatable:
                undecided.append(reading)
            else:
                yield places[id(reading)], reading
        for reading in undecided:
            again = reading.afresh()
            self._behind(again, common)
            yield places[id(reading)], again

    def _beside(self, readings: Sequence[R], common: int) -> Iterator[R]:
        self._grow(readings[0].prompt[:common])
        waiting, active = deque(readings), list[tuple[int, R]]()
        while waiting or active:
            self._admit(waiting, active, common)
            _step(self._context, active)
            for seq, reading in [pair for pair in active if pair[1].over]:
                active.remove((seq, reading))
                self._context.cut(seq, 0)
                self._free.append(seq)
                yield reading

    def _grow(self, prefix: Sequence[int]) -> None:
        """Keep ``prefix``, and nothing else, for the readings to begin with."""
        kept = common_prefix(self._prefix, prefix)
        if kept < len(prefix):
            kept -= kept % _ALIGNED
        self._cut(kept)
        if kept < len(prefix):
            for _ in self._context.read(Feed(_PREFIX, kept, prefix[kept:])):
                pass
        self._prefix = prefix

    def _cut(self, length: int) -> None:
        if length < len(self._prefix):
            self._context.cut(_PREFIX, length)
            self._prefix = self._prefix[:length]

    def _behind(self, reading: R, common: int) -> None:
        """Run ``reading`` as ``alone`` does, but for the prefix, which has the bits that ``alone`` would give it.

        Nothing else is in the cache, so that its tokens come to lie in the same cells. At least two tokens of the
        prompt are read, as one alone is computed in another way, and the batches end where those of ``alone`` do.
        """
        kept = max(0, min(common, len(reading.prompt) - 2))
        self._cut(kept - kept % _ALIGNED)
        reading.begin(len(self._prefix))
        while not reading.over:
            _step(self._context, [(_PREFIX, reading)])
        self._context.cut(_PREFIX, len(self._prefix))

    def _admit(self, waiting: deque[R], active: list[tuple[int, R]], common: int) -> None:
        """Start as many of ``waiting`` as have a sequence and, whatever they will write, cells."""
        reserved = common + sum(reading.reserve - common for _, reading in active)
        while waiting and self._free:
            reserved += waiting[0].reserve - common
            if active and reserved > self._n_cells:
                return
            seq, reading = self._free.pop(), waiting.popleft()
            self._context.copy(_PREFIX, seq, common)
            reading.begin(common)
            active.append((seq, reading))
