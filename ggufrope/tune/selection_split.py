"""The selection split: what it says of a candidate, against the file as it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ggufrope.tune.constraint import LossRise, rises
from ggufrope.tune.objective import objective
from ggufrope.tune.step_texts import SelectionGroup
from ggufrope.tune.tuning_texts import TuningText

__all__ = ["GroupReading", "SelectionReading", "SelectionSplit", "loss_of"]

Floats = NDArray[np.float64]

#: Reads texts with log factors: for each text, for each question, log-probabilities and margins.
ReadTexts = Callable[[Floats, Sequence[TuningText]], Sequence[Sequence[Any]]]


@dataclass(frozen=True, slots=True)
class GroupReading:
    """What was read of a task at a length.

    Attributes:
        task: its name; ``length`` of its texts.
        objective: less is better.
        right: the share of questions whose every token is the likeliest one; None for plain text.
        questions: how many.
    """

    task: str
    length: int
    objective: float
    right: float | None
    questions: int


@dataclass(frozen=True, slots=True)
class SelectionReading:
    """What the selection split says of a candidate; a ``CandidateReading``."""

    objective: float
    rises: tuple[LossRise, ...]
    groups: tuple[GroupReading, ...]


class SelectionSplit:
    """The texts of the selection split, read with one candidate after the other."""

    def __init__(
        self,
        groups: Sequence[SelectionGroup],
        kept: Mapping[int, Sequence[TuningText]],
        read: ReadTexts,
        untouched: Mapping[int, Sequence[float]] | None = None,
    ) -> None:
        """Set up.

        Args:
            groups: the tasks' texts.
            kept: plain texts by length.
            read: reads them.
            untouched: the plain texts' losses in the file as it is, where they are known already.
        """
        self._groups, self._kept, self._read = groups, kept, read
        self.untouched: dict[int, list[float]] = {n: list(v) for n, v in (untouched or {}).items()}

    def read_untouched(self, zero: Floats) -> None:
        """Read the plain texts of the file as it is, unless that is known; ``zero``: its log factors."""
        if not self.untouched:
            self.untouched = self._losses(zero)

    def read(self, log_factors: Floats) -> SelectionReading:
        """Read everything with a candidate.

        Raises:
            RuntimeLibraryError: llama.cpp failed.
        """
        groups = tuple(self._group(group, log_factors) for group in self._groups)
        weights = [group.weight for group in self._groups]
        total = math.fsum(w * g.objective for w, g in zip(weights, groups, strict=True)) / math.fsum(weights)
        return SelectionReading(total, rises(self.untouched, self._losses(log_factors)), groups)

    def _group(self, group: SelectionGroup, log_factors: Floats) -> GroupReading:
        found = self._read(log_factors, group.texts)
        if group.plain:
            losses = [loss_of(text) for text in found]
            return GroupReading(group.task, group.length, sum(losses) / len(losses), None, len(losses))
        right = [bool(np.min(answer.margins) > 0) for text in found for answer in text]
        value = float(objective([[answer.log_probs for answer in text] for text in found]))
        return GroupReading(group.task, group.length, value, sum(right) / len(right), len(right))

    def _losses(self, log_factors: Floats) -> dict[int, list[float]]:
        return {n: [loss_of(text) for text in self._read(log_factors, texts)] for n, texts in self._kept.items()}


def loss_of(text: Sequence[Any]) -> float:
    """The mean loss of a plain text, in nats a token."""
    return -float(np.mean(text[0].log_probs))
