"""What the engine is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Answer", "Likelihood", "Request", "TokenLikelihoods"]


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt to be continued greedily.

    Attributes:
        prompt: its tokens, special ones included; at least one.
        draft: tokens that the answer may well begin with; only a matter of speed.
        max_new: at most so many tokens.
        settled: whether an output (text so far) is all that is needed; generation stops there.
        stop: strings that end an answer; they are not part of it.
    """

    prompt: tuple[int, ...]
    draft: tuple[int, ...] = ()
    max_new: int = 32
    settled: Callable[[str], bool] = lambda _text: False
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What greedy decoding gives for a request: exactly, or a beginning of it that was ``settled``.

    Attributes:
        text: the output.
        tokens: its tokens, without an end-of-generation token.
        reason: ``end`` (the model ended), ``stop``, ``settled`` or ``limit``.
    """

    text: str
    tokens: tuple[int, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Likelihood:
    """How likely a continuation is.

    Attributes:
        log_prob: the sum of its tokens' log-probabilities, in nats.
        greedy: whether greedy decoding gives it.
        tokens: of each token; None unless it was asked for.
    """

    log_prob: float
    greedy: bool
    tokens: TokenLikelihoods | None = None


@dataclass(frozen=True, slots=True, eq=False)
class TokenLikelihoods:
    """How likely each token of a continuation is behind those before it.

    Attributes:
        log_probs: in nats, ``(n,)``.
        margins: its logit less that of the likeliest other token, ``(n,)``: above 0 where greedy decoding takes it.
    """

    log_probs: NDArray[np.float64]
    margins: NDArray[np.float64]
