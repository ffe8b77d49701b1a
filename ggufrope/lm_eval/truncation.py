"""What is too long is cut from the left, as lm_eval's own classes do, and it is said how often."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from ggufrope.errors import UsageError

__all__ = ["Cuts", "fit_pair", "fit_prompt"]

_log = logging.getLogger(__name__)
Pair = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(slots=True)
class Cuts:
    """Prompts that lost their beginning.

    Attributes:
        limit: ``n_ctx``.
        total: by kind of request.
    """

    limit: int
    total: dict[str, int] = field(default_factory=dict)
    _new: int = 0
    _longest: int = 0

    def note(self, length: int) -> None:
        """A prompt of ``length`` tokens (with what follows it) was cut."""
        self._new += 1
        self._longest = max(self._longest, length)

    def report(self, kind: str, requests: int) -> None:
        """Say and remember how many of ``requests`` were cut since the last report."""
        if self._new:
            _log.warning(
                "%s: %d of %d prompts were cut from the left to n_ctx=%d (the longest needs %d tokens): what stood at "
                "their beginning was not read",
                kind, self._new, requests, self.limit, self._longest,
            )  # fmt: skip
            self.total[kind] = self.total.get(kind, 0) + self._new
        self._new = self._longest = 0


def fit_pair(context: Sequence[int], continuation: Sequence[int], cuts: Cuts) -> Pair:
    """Context and continuation such that all but the last token fit; the context keeps its end, one token at least.

    Raises:
        UsageError: the continuation alone does not fit.
    """
    if len(continuation) > cuts.limit:
        raise UsageError(f"a continuation of {len(continuation)} tokens does not fit n_ctx={cuts.limit}; raise it")
    budget = cuts.limit + 1 - len(continuation)
    if len(context) > budget:
        cuts.note(len(context) + len(continuation) - 1)
    return tuple(context[-budget:]), tuple(continuation)


def fit_prompt(prompt: Sequence[int], max_new: int, cuts: Cuts) -> tuple[int, ...]:
    """The prompt's end such that ``max_new`` tokens fit behind it.

    Raises:
        UsageError: they leave no tokens for a prompt.
    """
    budget = cuts.limit - max_new
    if budget < 1:
        raise UsageError(
            f"an answer of up to {max_new} tokens leaves no tokens for a prompt in n_ctx={cuts.limit}; "
            "--gen_kwargs max_gen_toks=N asks for fewer, --model_args n_ctx=N gives more"
        )
    if len(prompt) > budget:
        cuts.note(len(prompt) + max_new)
    return tuple(prompt[-budget:])
