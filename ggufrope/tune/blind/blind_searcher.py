"""A ``Searcher`` that looks at nothing but readings on the runtime: generations of candidates, raced on fresh texts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ggufrope.errors import UsageError
from ggufrope.tune.blind.evolution import Evolution
from ggufrope.tune.blind.racing import race
from ggufrope.tune.objective import excess, objective
from ggufrope.tune.runtime_reader import AnswerReading, RuntimeReader
from ggufrope.tune.searcher import Purpose, SearcherState, StepReport, TextsFor, purpose_of
from ggufrope.tune.spaces import Space
from ggufrope.tune.tuning_texts import TuningText

__all__ = ["BlindSearcher"]

Floats = NDArray[np.float64]
Readings = Sequence[AnswerReading]

#: Numbers that a blind search may be asked for: beyond, a generation of the default size says nearly nothing.
_MOST = 64


class BlindSearcher:
    """CMA-ES: a step is a generation, whose candidates read the same fresh texts and are compared in pairs.

    A candidate is judged by its texts' objective, by what the loss of texts to keep rises beyond what is allowed, and
    by how far it is from the file as it is. The candidate that it proposes is the mean of the distribution, which
    generations agree on, not the luckiest single one.
    """

    engine: ClassVar[str] = "blind"

    def __init__(
        self,
        reader: RuntimeReader,
        space: Space,
        texts_for: TextsFor,
        *,
        seed: int = 0,
        allow: float = 0.01,
        sigma: float = 0.2,
        blocks: int = 6,
        keep: float = 30.0,
        pull: float = 0.1,
        judge: Callable[[Sequence[Sequence[Any]]], float] | None = None,
    ) -> None:
        """Begin at the file as it is.

        Args:
            reader: the file on the runtime.
            space: what is tried.
            texts_for: the texts of a step.
            seed: of the candidates.
            allow: by how much the loss of a text to keep may rise, as a share of itself.
            sigma: standard deviation of the first candidates' parameters: 0.2 is 22% of a factor.
            blocks: steps of ``texts_for`` that a generation reads, one after the other: what candidates race over.
            keep: nats of the objective for each nat a token by which a loss to keep exceeds what is allowed.
            pull: nats for each unit of the mean square of the log factors: towards the file as it is.
            judge: what questions' log-probabilities are worth, ``[texts][questions]``; less is better. None:
                ``objective``.

        Raises:
            UsageError: the package ``cmaes`` is missing.
            UsageError: the space has too many numbers.
            UnsupportedModelError: the file cannot carry the space.
        """
        self._reader, self._space, self._texts_for = reader, space, texts_for
        self._allow, self._keep, self._pull, self._blocks = allow, keep, pull, blocks
        self._judge = judge or (lambda texts: float(objective(texts)))
        n = space.n_parameters(reader.layout)
        if n > _MOST:
            raise UsageError(
                f"--space {space.name}: {n} numbers, and a blind search finds {_MOST} at most; take --space "
                "layer-curve, pair-curve or pairs, or --engine gradient"
            )
        self._start = space.start(reader.layout, reader.file)
        limits = space.limits(reader.layout, reader.file)
        self._evolution = Evolution(self._start, limits, sigma=sigma, seed=seed)

    @property
    def theta(self) -> Floats:
        """The mean of the next candidates, ``(n_parameters,)``. A copy."""
        return self._evolution.mean

    def advance(self, step: int) -> StepReport:
        """Read and compare a generation, and learn from its order.

        Args:
            step: counted from 0.

        Raises:
            RuntimeLibraryError: the runtime failed; the state is as before.
        """
        begin, before = time.monotonic(), self._reader.tokens
        blocks = [self._texts_for(step * self._blocks + block) for block in range(self._blocks)]
        candidates = self._evolution.ask()
        tables = [self._log_factors(theta) for theta in (*candidates, self.theta)]
        untouched: dict[str, float] = {}
        answers: list[list[Floats]] = []

        def read(candidate: int | None, block: int) -> float:
            table = tables[-1 if candidate is None else candidate]
            return self._loss(blocks[block], table, untouched, answers if candidate is None else [])

        try:
            found = race(len(candidates), len(blocks), read)
        finally:
            self._reader.set(np.zeros_like(tables[-1]))
        if np.isfinite(found.incumbent).all():
            self._evolution.tell(found.order)
        objective_now = float(found.incumbent.mean()) if not answers else self._judge(answers)
        tokens = self._reader.tokens - before
        return StepReport(step, objective_now, time.monotonic() - begin, tokens, len(candidates))

    def _log_factors(self, theta: Floats) -> Floats:
        return self._space.log_factors(theta, self._reader.layout, self._reader.file)

    def _loss(
        self, texts: Sequence[TuningText], table: Floats, untouched: dict[str, float], answers: list[list[Floats]]
    ) -> float:
        """What a candidate is worth with the texts of a block; its answers' log-probabilities go into ``answers``."""
        kept = [text for text in texts if purpose_of(text) is Purpose.KEEP]
        for text in kept:
            if text.name not in untouched:
                untouched[text.name] = self._mean_loss(text, np.zeros_like(table))
        self._reader.set(table)
        total = self._pull * float(np.mean(table[self._moved] ** 2)) if self._moved.any() else 0.0
        asked: list[list[Floats]] = []
        for text, readings in zip(texts, self._reader.read(texts), strict=True):
            purpose, log_probs = purpose_of(text), [reading.log_probs for reading in readings]
            if purpose is Purpose.ANSWER:
                asked.append(log_probs)
            elif purpose is Purpose.PREDICT:
                total += _mean(log_probs)
            else:
                total += self._keep * float(excess(_mean(log_probs), untouched[text.name], self._allow))
        answers.extend(asked)
        return total + (self._judge(asked) if asked else 0.0)

    def _mean_loss(self, text: TuningText, table: Floats) -> float:
        self._reader.set(table)
        return _mean([reading.log_probs for reading in self._reader.read([text])[0]])

    @property
    def _moved(self) -> NDArray[np.bool_]:
        """Which entries of a table belong to layers that may be moved."""
        return np.array(self._reader.layout.free)[self._reader.layout.coordinates()[:, 0]]

    def state(self) -> SearcherState:
        """Mean, step size and covariance, with the paths that they follow; and the space's name."""
        return {**self._evolution.state(), "space": np.frombuffer(self._space.name.encode(), np.uint8)}

    def restore(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Go on from a ``state``.

        Raises:
            UsageError: it is of another space or engine.
        """
        name = np.asarray(state.get("space", ()), np.uint8).tobytes().decode(errors="replace")
        if name != self._space.name:
            raise UsageError(
                f"what was kept of a search is of space '{name}', this one is of '{self._space.name}'; begin anew in "
                "another place"
            )
        self._evolution.restore(state)


def _mean(log_probs: Sequence[Floats]) -> float:
    """Nats a token of all questions together."""
    return -float(np.concatenate(list(log_probs)).mean())
