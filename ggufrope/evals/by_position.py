"""The tasks that read a text and ask nothing: ``ppl`` and ``kl``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from ggufrope.errors import UsageError
from ggufrope.evals.positions import Means, Reader, divergences, losses, pieces, windows
from ggufrope.methods.protocol import option

__all__ = ["POSITION_TASKS", "KlDivergence", "Perplexity", "PositionReading", "PositionTask"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class PositionTask(ABC):
    """A task that is measured at every position of a text. Its options are the fields of a frozen dataclass."""

    name: ClassVar[str]
    summary: ClassVar[str]
    paper: ClassVar[str] = ""
    unit: ClassVar[str] = "nats per token"
    compares: ClassVar[bool] = False

    text: Path | None = field(default=None, metadata={"help": "UTF-8 text to read; --text gives it", "kind": "file"})

    def check(self, length: int) -> None:
        """Whether texts of ``length`` tokens make sense.

        Raises:
            UsageError: they do not.
        """
        if length < 2:
            raise UsageError(f"{self.name}: --lengths {length} has nothing to predict; 2 tokens are the fewest")

    def together(self, length: int) -> int:
        """How many tokens of a text of ``length`` are read together: what a file's context has to hold."""
        return length

    @abstractmethod
    def measure(self, reader: Reader, baseline: Reader | None, reading: PositionReading, progress: Progress) -> Means:
        """Read the texts.

        Raises:
            InputError, UsageError: see ``positions.pieces``.
        """

    def given(self) -> Path:
        """The text.

        Raises:
            UsageError: there is none.
        """
        if self.text is None:
            raise UsageError(f"{self.name}: no text to read; give one with --text")
        return self.text


@dataclass(frozen=True, slots=True)
class PositionReading:
    """What is read.

    Attributes:
        length: tokens of a text.
        limit: texts at most.
        edges: ranges of positions that means are given for.
        seed: of the intervals.
    """

    length: int
    limit: int
    edges: Sequence[int]
    seed: int


@dataclass(frozen=True, slots=True)
class Perplexity(PositionTask):
    """Negative log-likelihood of a text's own tokens; e to the power of its mean is the perplexity.

    ``window`` reads the text through windows instead of whole: what a model with a short context makes of a long text,
    against which a scaling method must show itself.
    """

    name: ClassVar[str] = "ppl"
    summary: ClassVar[str] = "negative log-likelihood of a text by position; whole or through sliding windows"

    window: int | None = option(None, "tokens that are read together; default: the whole text")
    stride: int | None = option(None, "tokens from window to window; default: half a window")

    def __post_init__(self) -> None:
        if self.window is None and self.stride is not None:
            raise UsageError(f"ppl: stride {self.stride} needs a window (--set window=N)")
        if self.window is not None and self.window < 2:
            raise UsageError(f"ppl: window is {self.window}; 2 tokens are the fewest")
        if self.window is not None and not 1 <= self._stride < self.window:
            raise UsageError(f"ppl: stride is {self._stride}; it goes from 1 to {self.window - 1}, below the window")

    @property
    def _stride(self) -> int:
        return (self.window or 2) // 2 if self.stride is None else self.stride

    def check(self, length: int) -> None:
        """See ``PositionTask``."""
        super(Perplexity, self).check(length)  # slots=True makes a new class: super() alone would miss it
        if self.window is not None and self.window > length:
            raise UsageError(f"ppl: a window of {self.window} is longer than the text, --lengths {length}")

    def together(self, length: int) -> int:
        """See ``PositionTask``."""
        return length if self.window is None else self.window

    def measure(self, reader: Reader, baseline: Reader | None, reading: PositionReading, progress: Progress) -> Means:
        """See ``PositionTask``."""
        texts = pieces(reader, self.given(), reading.length, reading.limit)
        cuts = windows(reading.length, self.window or reading.length, self._stride)
        return losses(reader, texts, cuts, reading.edges, progress).means(reading.seed)


@dataclass(frozen=True, slots=True)
class KlDivergence(PositionTask):
    """KL(baseline ‖ file) of the predictions for each token of a text, and whether the likeliest one is the same."""

    name: ClassVar[str] = "kl"
    summary: ClassVar[str] = "KL divergence from a baseline file (--baseline) by position, and top-1 agreement"
    compares: ClassVar[bool] = True

    def measure(self, reader: Reader, baseline: Reader | None, reading: PositionReading, progress: Progress) -> Means:
        """See ``PositionTask``."""
        if baseline is None:
            raise UsageError("kl: a baseline is needed; name a file with --baseline")
        texts = pieces(baseline, self.given(), reading.length, reading.limit)
        kl, same = divergences(baseline, reader, texts, reading.edges, progress)
        return replace(kl.means(reading.seed), top1=same.means(reading.seed).mean)


#: The one table of tasks that are measured by position; those that are answered are in ``tasks.TASKS``.
POSITION_TASKS: dict[str, type[PositionTask]] = {"ppl": Perplexity, "kl": KlDivergence}
