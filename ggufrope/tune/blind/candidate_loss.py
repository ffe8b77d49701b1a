"""What a candidate is worth on the runtime: its texts, what it costs plain text that is to be kept, how far it went."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ggufrope.errors import UsageError
from ggufrope.tune.objective import excess, objective
from ggufrope.tune.runtime_reader import RuntimeReader
from ggufrope.tune.searcher import Purpose, purpose_of
from ggufrope.tune.spaces import Space
from ggufrope.tune.tuning_texts import TuningText

__all__ = ["CandidateLoss", "Judge"]

Floats = NDArray[np.float64]

#: What questions' log-probabilities are worth, ``[texts][questions]``; less is better.
Judge = Callable[[Sequence[Sequence[Any]]], float]

#: Numbers that a search without a gradient may be asked for: beyond, a step says nearly nothing.
_MOST = 64


class CandidateLoss:
    """The loss of tables in one space, in nats.

    Attributes:
        reader: the file on the runtime.
        space: where candidates are from.
    """

    def __init__(
        self, reader: RuntimeReader, space: Space, *, allow: float, keep: float, pull: float, judge: Judge | None = None
    ) -> None:
        """Set up.

        Args:
            reader: the file on the runtime.
            space: where candidates are from.
            allow: by how much the loss of a text to keep may rise, as a share of itself.
            keep: nats of the objective for each nat a token by which a loss to keep exceeds what is allowed.
            pull: nats for each unit of the mean square of the log factors: towards the file as it is.
            judge: None: ``objective``.

        Raises:
            UsageError: the space has too many numbers.
        """
        self.reader, self.space = reader, space
        self._allow, self._keep, self._pull = allow, keep, pull
        self._judge: Judge = judge or (lambda texts: float(objective(texts)))
        n = space.n_parameters(reader.layout)
        if n > _MOST:
            raise UsageError(
                f"--space {space.name}: {n} numbers, and a search without a gradient finds {_MOST} at most; take "
                "--space layer-curve, pair-curve or pairs, or --engine gradient"
            )

    def log_factors(self, theta: Floats) -> Floats:
        """Of a candidate's parameters, ``(layout.size,)``."""
        return self.space.log_factors(theta, self.reader.layout, self.reader.file)

    def judged(self, answers: Sequence[Sequence[Floats]]) -> float:
        """What answers are worth."""
        return self._judge(answers)

    def of_block(
        self, texts: Sequence[TuningText], table: Floats, untouched: dict[str, float], answers: list[list[Floats]]
    ) -> float:
        """Of texts together; their answers' log-probabilities go into ``answers``.

        Args:
            texts: that are read.
            table: log factors.
            untouched: losses of texts to keep in the file as it is, by name; those that are missing are read.
            answers: for each text with questions, its questions'.
        """
        asked, plain, beside = self._read(texts, table, untouched)
        answers.extend(found for found in asked if found is not None)
        given = [found for found in asked if found is not None]
        return beside + sum(loss for loss in plain if loss is not None) + (self._judge(given) if given else 0.0)

    def by_text(self, texts: Sequence[TuningText], table: Floats, untouched: dict[str, float]) -> Floats:
        """Of each text that is not one to keep, with what the candidate costs besides in every one of them."""
        asked, plain, beside = self._read(texts, table, untouched)
        losses = [
            loss if found is None else self._judge([found])
            for found, loss in zip(asked, plain, strict=True)
            if found is not None or loss is not None
        ]
        return np.array(losses, np.float64) + beside

    def _read(
        self, texts: Sequence[TuningText], table: Floats, untouched: dict[str, float]
    ) -> tuple[list[list[Floats] | None], list[float | None], float]:
        """For each text its answers, or its loss a token, or neither if it is one to keep; and what is added."""
        for text in texts:
            if purpose_of(text) is Purpose.KEEP and text.name not in untouched:
                untouched[text.name] = self._untouched(text)
        self.reader.set(table)
        beside = self._pull * float(np.mean(table[self._moved] ** 2)) if self._moved.any() else 0.0
        asked: list[list[Floats] | None] = []
        plain: list[float | None] = []
        for text, readings in zip(texts, self.reader.read(texts), strict=True):
            purpose, log_probs = purpose_of(text), [reading.log_probs for reading in readings]
            if purpose is Purpose.KEEP:
                beside += self._keep * float(excess(_mean(log_probs), untouched[text.name], self._allow))
            asked.append(log_probs if purpose is Purpose.ANSWER else None)
            plain.append(_mean(log_probs) if purpose is Purpose.PREDICT else None)
        return asked, plain, beside

    def _untouched(self, text: TuningText) -> float:
        self.reader.set(np.zeros(self.reader.layout.size))
        return _mean([reading.log_probs for reading in self.reader.read([text])[0]])

    @property
    def _moved(self) -> NDArray[np.bool_]:
        """Which entries of a table belong to layers that may be moved."""
        return np.array(self.reader.layout.free)[self.reader.layout.coordinates()[:, 0]]


def _mean(log_probs: Sequence[Floats]) -> float:
    """Nats a token of all questions together."""
    return -float(np.concatenate(list(log_probs)).mean())
