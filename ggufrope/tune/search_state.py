"""How far the search in a space is: its steps, what the selection split said, the best candidate, and how to go on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ggufrope.tune.searcher import SearcherState, StepReport

__all__ = ["SearchState", "SelectionPoint"]

_SEARCHER = "searcher."


@dataclass(frozen=True, slots=True)
class SelectionPoint:
    """What the selection split said of a candidate.

    Attributes:
        step: steps that were taken before.
        objective: less is better.
        rise: the largest rise of the plain-text loss, as a share of itself.
        holds: whether that is allowed.
        scale: of what the candidate changes: 1, or less where the whole of it did not hold the constraint.
        best: whether it is the best one that holds, so far.
    """

    step: int
    objective: float
    rise: float
    holds: bool
    scale: float
    best: bool


@dataclass(slots=True)
class SearchState:
    """The search so far.

    Attributes:
        best: parameters of the best candidate that holds the constraint; at first those of the untouched file.
        searcher: ``Searcher.state()``; empty before the first step.
        steps: reports of the steps taken.
        points: readings of the selection split; the first is the untouched file's.
        seconds: that steps and readings took.
        done: why the search ended; empty while it goes on.
    """

    best: NDArray[np.float64]
    searcher: SearcherState = field(default_factory=dict)
    steps: list[StepReport] = field(default_factory=list)
    points: list[SelectionPoint] = field(default_factory=list)
    seconds: float = 0.0
    done: str = ""

    @property
    def best_point(self) -> SelectionPoint:
        """The best candidate's."""
        return next(point for point in reversed(self.points) if point.best)

    @property
    def stale(self) -> int:
        """Candidates that the selection split was read with since the best one."""
        return len({point.step for point in self.points if point.step > self.best_point.step})

    def record(self) -> dict[str, Any]:
        """For JSON: everything but arrays."""
        return {
            "steps": [asdict(step) for step in self.steps],
            "selection": [asdict(point) for point in self.points],
            "seconds": self.seconds,
            "done": self.done,
        }

    def as_arrays(self) -> dict[str, NDArray[np.generic]]:
        """For a file."""
        told = np.frombuffer(json.dumps(self.record()).encode(), np.uint8)
        kept = {_SEARCHER + name: values for name, values in self.searcher.items()}
        return {"record": told, "best": self.best, **kept}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> SearchState:
        """What ``as_arrays`` gave.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        told = json.loads(arrays["record"].tobytes())
        kept = {n.removeprefix(_SEARCHER): v for n, v in arrays.items() if n.startswith(_SEARCHER)}
        return cls(
            np.asarray(arrays["best"], np.float64),
            kept,
            [StepReport(**step) for step in told["steps"]],
            [SelectionPoint(**point) for point in told["selection"]],
            float(told["seconds"]),
            str(told["done"]),
        )
