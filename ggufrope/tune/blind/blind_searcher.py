"""A ``Searcher`` that looks at nothing but readings on the runtime: generations of candidates, raced on fresh texts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ggufrope.errors import UsageError
from ggufrope.tune.blind.candidate_loss import CandidateLoss, Judge
from ggufrope.tune.blind.evolution import Evolution
from ggufrope.tune.blind.racing import race
from ggufrope.tune.runtime_reader import RuntimeReader
from ggufrope.tune.searcher import SearcherState, StepReport, TextsFor
from ggufrope.tune.spaces import Space

__all__ = ["BlindSearcher"]

Floats = NDArray[np.float64]


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
        judge: Judge | None = None,
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
            judge: see ``CandidateLoss``.

        Raises:
            UsageError: the package ``cmaes`` is missing.
            UsageError: the space has too many numbers.
            UnsupportedModelError: the file cannot carry the space.
        """
        self._reader, self._space, self._texts_for, self._blocks = reader, space, texts_for, blocks
        self._loss = CandidateLoss(reader, space, allow=allow, keep=keep, pull=pull, judge=judge)
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
        tables = [self._loss.log_factors(theta) for theta in (*candidates, self.theta)]
        untouched: dict[str, float] = {}
        answers: list[list[Floats]] = []

        def read(candidate: int | None, block: int) -> float:
            table = tables[-1 if candidate is None else candidate]
            return self._loss.of_block(blocks[block], table, untouched, answers if candidate is None else [])

        try:
            found = race(len(candidates), len(blocks), read)
        finally:
            self._reader.set(np.zeros_like(tables[-1]))
        if np.isfinite(found.incumbent).all():
            self._evolution.tell(found.order)
        objective_now = float(found.incumbent.mean()) if not answers else self._loss.judged(answers)
        tokens = self._reader.tokens - before
        return StepReport(step, objective_now, time.monotonic() - begin, tokens, len(candidates))

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
