"""What a run of ``tune`` and whoever searches for a table agree on: one step at a time, and a state to go on from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["KEEP", "Purpose", "Searcher", "SearcherState", "StepReport", "TextsFor", "purpose_of"]

#: The ``TuningText``s of a step, counted from 0: a pure function of the run's seed and the step.
TextsFor = Callable[[int], Sequence[Any]]

#: All that a searcher needs to go on, as arrays of numbers that ``numpy.savez`` keeps; bytes are ``uint8``.
SearcherState = dict[str, NDArray[np.generic]]

#: What names of plain texts begin with whose loss is only to be kept.
KEEP = "keep/"


class Purpose(Enum):
    """What a text of a step is for.

    ``ANSWER``: its questions are to be answered (``objective``). ``PREDICT``: plain text that is to be predicted
    better, by its mean loss a token. ``KEEP``: plain text whose mean loss must not rise (``excess``). How much tasks
    count is in how often their texts come, so that searchers need not weigh them.
    """

    ANSWER = "answer"
    PREDICT = "predict"
    KEEP = "keep"


def purpose_of(text: Any) -> Purpose:
    """What a ``TuningText`` of a step is for."""
    if text.name.startswith(KEEP):
        return Purpose.KEEP
    plain = len(text.questions) == 1 and text.questions[0].depth is None and not text.questions[0].tokens
    return Purpose.PREDICT if plain and len(text.prefix) == 1 else Purpose.ANSWER


@dataclass(frozen=True, slots=True)
class StepReport:
    """What a step found.

    Attributes:
        step: counted from 0.
        objective: of the step's own texts, where it began: less is better. NaN: the model computed no numbers.
        seconds: wall time.
        tokens: read, all candidates together.
        candidates: that were compared: 1 for a gradient.
    """

    step: int
    objective: float
    seconds: float
    tokens: int
    candidates: int = 1


class Searcher(Protocol):
    """Moves a candidate through a space, from log factors of 0: the file as it is.

    Whoever makes one gives it the space, the layout, what reads texts and a ``TextsFor``. Two of them with the same
    arguments take the same steps; one that restored another's state goes on as that would have.

    Attributes:
        engine: ``gradient``, ``blind`` or ``coordinate``.
    """

    engine: ClassVar[str]

    @property
    def theta(self) -> NDArray[np.float64]:
        """The candidate that it would propose now, in the space's parameters, ``(n_parameters,)``. A copy."""
        ...

    def advance(self, step: int) -> StepReport:
        """Take one step: of a gradient, or a generation.

        Args:
            step: counted from 0; each is taken once, in order.

        Raises:
            InputError, RuntimeLibraryError: the model cannot be read, or the runtime failed; the state is as before.
        """
        ...

    def state(self) -> SearcherState:
        """Everything that decides what the next steps do, generators of random numbers among it."""
        ...

    def restore(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Go on from a ``state`` of a searcher that was made with the same arguments.

        Raises:
            InputError: it is of another space or engine.
        """
        ...
