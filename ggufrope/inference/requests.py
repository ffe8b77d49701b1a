"""What the engine is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Answer", "Likelihood", "Request"]


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
    """Of a continuation: the sum of its tokens' log-probabilities (nats), and whether greedy decoding gives it."""

    log_prob: float
    greedy: bool
