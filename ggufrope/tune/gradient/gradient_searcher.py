"""Steps along the gradient of a step's own texts: Adam on the parameters of a space, weights frozen."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ggufrope.errors import InputError, UnsupportedModelError
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.tune.gradient.streamed_model import StreamedModel
from ggufrope.tune.layout import PairLayout
from ggufrope.tune.objective import excess, objective
from ggufrope.tune.searcher import Purpose, SearcherState, StepReport, TextsFor, purpose_of
from ggufrope.tune.spaces.space import Space, TiedSpace

__all__ = ["AdamSettings", "GradientSearcher"]

Floats = NDArray[np.float64]

#: Of the rise that is allowed, what a step's text may take: the selection's texts are others, and some cost more.
_SPARE = 0.5


@dataclass(frozen=True, slots=True)
class AdamSettings:
    """How steps are taken (Adam, arXiv 1412.6980), and what besides the objective they follow.

    Attributes:
        rate: of a step, in log factors.
        beta1: how slowly the mean of gradients moves.
        beta2: how slowly the mean of their squares does.
        epsilon: added to the root of that.
        keep: nats of the objective for each nat a token by which the loss of a text to keep exceeds what is allowed.
        pull: nats for each unit of the mean square of the parameters: towards the file as it is. What no text has a say
            about stays there; a gain of any size outweighs it.

    Rate, memory and ``keep`` are those with which SmolLM2-135M went from .21 to .52 in KV retrieval in 120 steps
    (docs/tune.md), where nothing pulled: a memory of 20 squares, not of 1000, since each step has another text.
    """

    rate: float = 0.02
    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8
    keep: float = 100.0
    pull: float = 0.1


class GradientSearcher:
    """A ``Searcher``: each step reads its texts once, forward and backward.

    On one thread two of them take the same steps to the bit, restored or not.
    """

    engine: ClassVar[str] = "gradient"

    def __init__(
        self,
        space: Space,
        layout: PairLayout,
        file: ModelFile,
        texts_for: TextsFor,
        *,
        seed: int = 0,
        allow: float = 0.01,
        device: str = "cpu",
        dtype: str = "float32",
        threads: int | None = None,
        settings: AdamSettings | None = None,
        model: StreamedModel | None = None,
    ) -> None:
        """Begin at the file as it is.

        Args:
            space: whose parameters are moved.
            layout: of the file's pair factors.
            file: the model.
            texts_for: the texts of each step.
            seed: of no meaning here: nothing is random but the texts.
            allow: by how much the loss of a text to keep may rise, as a share of itself.
            device: see ``StreamedModel``.
            dtype: see ``StreamedModel``.
            threads: of PyTorch; None: as it has them.
            settings: of the steps.
            model: the file in PyTorch, where it is opened already.

        Raises:
            UnsupportedModelError: the space is no tie of parameters, or PyTorch does not run the file.
        """
        if not isinstance(space, TiedSpace):
            raise UnsupportedModelError(
                f"--space {space.name}: its numbers have no gradient here; take --engine blind, or --space full"
            )
        if threads is not None:
            torch.set_num_threads(threads)
        self._settings, self._texts_for, self._allow = settings or AdamSettings(), texts_for, allow
        self._path, self._name, self._limits = file.path, space.name, space.limits(layout, file)
        self._index = torch.from_numpy(space.index(layout))
        self._model = model or StreamedModel(file, device=device, dtype=dtype)
        self._theta: Floats = space.start(layout, file)
        self._mean, self._square = np.zeros_like(self._theta), np.zeros_like(self._theta)
        self._taken = 0

    @property
    def theta(self) -> Floats:
        """The candidate, ``(n_parameters,)``. A copy."""
        return np.array(self._theta)

    def advance(self, step: int) -> StepReport:
        """Read a step's texts and move. Where an objective or its gradient is not finite, nothing moves.

        Args:
            step: counted from 0.

        Raises:
            InputError, UnsupportedModelError: the model cannot be read; the state is as before.
        """
        begin, texts = time.monotonic(), self._texts_for(step)
        theta = torch.tensor(self._theta, requires_grad=True)
        of_texts, beside, tokens = self._objective(texts, theta)
        beside = beside + self._settings.pull * (theta**2).mean()
        (gradient,) = torch.autograd.grad(of_texts + beside, theta)
        found = float(of_texts.detach())
        moved = bool(torch.isfinite(gradient).all()) and np.isfinite(found)
        if moved:
            self._move(gradient.numpy())
        return StepReport(step, found if moved else float("nan"), time.monotonic() - begin, tokens)

    def state(self) -> SearcherState:
        """Parameters, Adam's two means, and how many steps they are of."""
        return {
            "theta": self._theta.copy(),
            "mean": self._mean.copy(),
            "square": self._square.copy(),
            "taken": np.array(self._taken),
            "space": np.frombuffer(self._name.encode(), np.uint8),
        }

    def restore(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Go on from a ``state``.

        Raises:
            InputError: it is of another space or engine.
        """
        kept = {name: np.asarray(state.get(name, ())) for name in ("theta", "mean", "square", "space", "taken")}
        name = kept["space"].astype(np.uint8).tobytes().decode(errors="replace")
        fits = all(kept[part].shape == self._theta.shape for part in ("theta", "mean", "square"))
        if name != self._name or not fits or kept["taken"].shape != ():
            raise InputError(
                f"{self._path}: what was kept of a search is of space '{name}' with {kept['theta'].size} parameters, "
                f"this one is of '{self._name}' with {self._theta.size}; begin anew in another place"
            )
        self._theta, self._mean, self._square = (kept[n].astype(np.float64) for n in ("theta", "mean", "square"))
        self._taken = int(kept["taken"])

    def _objective(self, texts: Sequence[Any], theta: Tensor) -> tuple[Tensor, Tensor, int]:
        """What is minimized of the texts, what is added to it, and how many tokens that took."""
        log_factors = torch.cat((theta, theta.new_zeros(1)))[self._index]
        parts: dict[Purpose, list[list[Tensor]]] = {purpose: [] for purpose in Purpose}
        beside, tokens = theta.new_zeros(()), 0
        for text in texts:
            found = [reading.log_probs.to("cpu", torch.float64) for reading in self._model.read(text, log_factors)]
            parts[purpose_of(text)].append(found)
            tokens += text.n_read
            if purpose_of(text) is Purpose.KEEP:
                beside = beside + self._settings.keep * excess(
                    _loss(found), self._untouched(text), self._allow * _SPARE
                )
                tokens += text.n_read
        total = theta.new_zeros(()) + sum(_loss(found) for found in parts[Purpose.PREDICT])
        if parts[Purpose.ANSWER]:
            total = total + objective(parts[Purpose.ANSWER], torch)
        return total, beside, tokens

    def _untouched(self, text: Any) -> float:
        with torch.no_grad():
            nothing = torch.zeros(self._model.size, dtype=torch.float64)
            return float(_loss([reading.log_probs.double() for reading in self._model.read(text, nothing)]))

    def _move(self, gradient: Floats) -> None:
        s = self._settings
        self._taken += 1
        self._mean = s.beta1 * self._mean + (1 - s.beta1) * gradient
        self._square = s.beta2 * self._square + (1 - s.beta2) * gradient**2
        mean, square = self._mean / (1 - s.beta1**self._taken), self._square / (1 - s.beta2**self._taken)
        moved = self._theta - s.rate * mean / (np.sqrt(square) + s.epsilon)
        self._theta = np.clip(moved, self._limits[:, 0], self._limits[:, 1])


def _loss(readings: Sequence[Tensor]) -> Tensor:
    """Nats a token of all questions together."""
    return -torch.cat(list(readings)).mean()
