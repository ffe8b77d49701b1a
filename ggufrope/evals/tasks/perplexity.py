"""How well a model predicts a text, by position."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from ggufrope.errors import UsageError
from ggufrope.evals.position_kind import PositionReading, PositionTask
from ggufrope.evals.positions import Means, Reader, losses, pieces, windows
from ggufrope.methods.protocol import option

__all__ = ["Perplexity"]

Progress = Callable[[int, int], None]


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
            raise UsageError(
                f"ppl: a window of {self.window} is longer than the text, --lengths {length}; give a smaller one"
            )

    def together(self, length: int) -> int:
        """See ``PositionTask``."""
        return length if self.window is None else self.window

    def measure(self, reader: Reader, baseline: Reader | None, reading: PositionReading, progress: Progress) -> Means:
        """See ``PositionTask``."""
        texts = pieces(reader, self.given(), reading.length, reading.limit)
        cuts = windows(reading.length, self.window or reading.length, self._stride)
        return losses(reader, texts, cuts, reading.edges, progress).means(reading.seed)
