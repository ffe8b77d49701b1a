"""The search in one space: steps, the selection split every few of them, the best candidate that holds, the end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ggufrope.tune.constraint import LossRise, within
from ggufrope.tune.run_journal import RunJournal
from ggufrope.tune.search_state import SearchState, SelectionPoint
from ggufrope.tune.searcher import Searcher

__all__ = ["CandidateReading", "SearchLimits", "search_space"]

Floats = NDArray[np.float64]

#: What of a candidate's change is tried where the whole of it costs too much.
SCALES = (1.0, 0.7, 0.5)


class CandidateReading(Protocol):
    """What the selection split says of a candidate; the objective, and the rise of the plain-text loss by length."""

    @property
    def objective(self) -> float:
        """Less is better."""
        ...

    @property
    def rises(self) -> tuple[LossRise, ...]:
        """Against the untouched file."""
        ...


@dataclass(frozen=True, slots=True)
class SearchLimits:
    """When a search ends.

    Attributes:
        steps: at most so many; None: no limit.
        seconds: likewise; None: no limit.
        every: steps from one reading of the selection split to the next.
        patience: readings without a better candidate, after which it stops.
        allow: the largest rise of the plain-text loss, as a share of itself.
    """

    steps: int | None
    seconds: float | None
    every: int
    patience: int
    allow: float


def search_space(
    name: str,
    make: Callable[[], Searcher],
    read: Callable[[Floats], CandidateReading],
    start: Floats,
    limits: SearchLimits,
    journal: RunJournal,
    progress: Callable[[SearchState], None] = lambda _state: None,
) -> SearchState:
    """Search until a limit ends it; goes on from where the journal says it was.

    Args:
        name: the space's, by which the journal keeps it.
        make: makes a searcher at its start; not called where nothing is left to do.
        read: reads the selection split with parameters ``(n_parameters,)``.
        start: parameters of the file as it is, ``(n_parameters,)``.
        limits: when it ends.
        journal: keeps the state after every step.
        progress: called after every step.

    Raises:
        GgufropeError: of the searcher, the runtime or the journal; what was kept is safe.
    """
    state = journal.load(name)
    if state is None:
        state = SearchState(np.array(start, np.float64))
        _take(state, start, start, read, limits)
        journal.save(name, state)
    if state.done:
        return state
    searcher = make()
    if state.searcher:
        searcher.restore(state.searcher)
    while not state.done:
        begin = time.monotonic()
        report = searcher.advance(len(state.steps))
        state.steps.append(report)
        state.done = _end(state, limits, begin)
        if not state.done or math.isfinite(report.objective):
            if len(state.steps) % limits.every == 0 or state.done:
                _take(state, start, searcher.theta, read, limits)
            state.done = state.done or _patience(state, limits)
        state.searcher = searcher.state()
        state.seconds += time.monotonic() - begin
        journal.save(name, state)
        progress(state)
    return state


def _take(
    state: SearchState,
    start: Floats,
    theta: Floats,
    read: Callable[[Floats], CandidateReading],
    limits: SearchLimits,
) -> None:
    """Read the selection split with a candidate; where it costs too much, with less of what it changes."""
    for scale in SCALES:
        candidate = start + scale * (theta - start)
        reading = read(candidate)
        rise = max(r.share for r in reading.rises)
        untouched = not state.points  # what others are compared with, even if reading it twice differs a little
        holds = (untouched or within(reading.rises, limits.allow)) and math.isfinite(reading.objective)
        better = holds and (not state.points or reading.objective < state.best_point.objective)
        state.points.append(SelectionPoint(len(state.steps), reading.objective, rise, holds, scale, better))
        if better:
            state.best = candidate
        if holds or (theta == start).all():
            break


def _end(state: SearchState, limits: SearchLimits, begin: float) -> str:
    """Why this was the last step; empty if it was not."""
    if not math.isfinite(state.steps[-1].objective):
        return f"step {state.steps[-1].step}: the model computes NaN or infinities"
    if limits.steps is not None and len(state.steps) >= limits.steps:
        return "all steps were taken"
    if limits.seconds is not None and state.seconds + time.monotonic() - begin >= limits.seconds:
        return "the time is up"
    return ""


def _patience(state: SearchState, limits: SearchLimits) -> str:
    return f"no better candidate in {state.stale} readings of the selection split" * (state.stale >= limits.patience)
