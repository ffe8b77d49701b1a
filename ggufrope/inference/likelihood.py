"""How likely a continuation is, read at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ggufrope.inference.context import Feed
from ggufrope.inference.divergence import log_probs_at
from ggufrope.inference.requests import Likelihood, TokenLikelihoods
from ggufrope.inference.stream import best, leads

__all__ = ["ScoredText"]

_Floats = npt.NDArray[np.float64]


class ScoredText:
    """A ``Reading`` of a context and a continuation, which adds up log-probabilities.

    Attributes:
        prompt: all that is read: everything but the continuation's last token.
        longest: the context without its last token.
        cached: tokens that the cache has.
        too_close: whether a choice between the continuation and another token was too close to call.
    """

    def __init__(
        self,
        context: Sequence[int],
        continuation: Sequence[int],
        *,
        apart: bool = False,
        margin: float = 0.0,
        by_token: bool = False,
    ) -> None:
        """Set up.

        Args:
            context: what comes before; at least one token.
            continuation: what is judged.
            apart: whether the context is read in a batch of its own.
            margin: a lead of one token over another by less than this (in logits) is too close to call.
            by_token: whether the result says how likely each token is.
        """
        self._pair = context, continuation
        self.prompt = (*context, *continuation[:-1])
        self.longest = len(context) - 1
        self._stages = [len(context), len(self.prompt)] if apart else [len(self.prompt)]
        self._targets, self._margin = list(continuation), margin
        self._done, self._log_prob, self._greedy = 0, 0.0, True
        self._by_token, self._log_probs, self._leads = by_token, list[_Floats](), list[_Floats]()
        self.cached, self.too_close = 0, False

    @property
    def over(self) -> bool:
        """Whether every token was judged."""
        return self._done == len(self._targets)

    @property
    def void(self) -> bool:
        """Whether it must be read in another way."""
        return self.too_close

    @property
    def reserve(self) -> int:
        """Tokens that are read."""
        return len(self.prompt)

    @property
    def asked(self) -> int:
        """All that is read, if anything is."""
        return len(self.prompt) if self._targets else 0

    @property
    def likelihood(self) -> Likelihood:
        """The result so far."""
        tokens = TokenLikelihoods(_joined(self._log_probs), _joined(self._leads)) if self._by_token else None
        return Likelihood(self._log_prob, self._greedy, tokens)

    def afresh(self) -> ScoredText:
        """The same pair, whatever its margins."""
        return ScoredText(*self._pair, by_token=self._by_token)

    def begin(self, cached: int) -> None:
        """Read from position ``cached`` on, which is within the context."""
        self.cached = cached

    def feed(self, seq: int) -> Feed:
        """The next stage, with logits for every token that the continuation follows."""
        end = next(stage for stage in self._stages if stage > self.cached)
        return Feed(seq, self.cached, self.prompt[self.cached : end], end - self.longest - self._done)

    def accept(self, rows: npt.NDArray[np.float32]) -> None:
        """Judge the next tokens."""
        targets = np.array(self._targets[self._done : self._done + len(rows)])
        log_probs = log_probs_at(rows, targets)
        self._log_prob += float(log_probs.sum())
        if self._by_token:
            self._log_probs.append(log_probs)
            self._leads.append(leads(rows, targets))
        for target, (token, gap) in zip(targets, best(rows, gaps=self._margin > 0), strict=True):
            self.too_close |= gap < self._margin and self._greedy
            self._greedy &= bool(token == target)
        self._done += len(rows)

    def advance(self) -> None:
        """The stage is read."""
        self.cached = next(stage for stage in self._stages if stage > self.cached)


def _joined(parts: Sequence[_Floats]) -> _Floats:
    return np.concatenate(parts) if parts else np.empty(0)
