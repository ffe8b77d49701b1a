"""A request while it is answered: what to read next, and how much of its draft holds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ggufrope.errors import RuntimeLibraryError
from ggufrope.inference.context import Feed
from ggufrope.inference.requests import Request
from ggufrope.inference.vocabulary import Vocabulary
from ggufrope.inference.writer import Writer
from ggufrope.rope.length_rows import row_for

__all__ = ["Stream", "best", "longest_answer"]


class Stream:
    """A ``Reading`` that continues a prompt with the likeliest token, again and again.

    Attributes:
        writer: the answer so far.
        prompt: the request's prompt.
        cached: tokens that the cache has and that hold.
        too_close: whether a choice was too close to make; then the answer says nothing.
    """

    def __init__(
        self,
        request: Request,
        vocabulary: Vocabulary,
        *,
        limit: int | None = None,
        early: bool = False,
        late: bool = False,
        margin: float = 0.0,
    ) -> None:
        """Begin an answer.

        Args:
            request: what is asked.
            vocabulary: of the model.
            limit: tokens at most, where that is less than the request's ``max_new``.
            early: whether the draft is read in one batch with the end of the prompt.
            late: whether it is read in one batch behind it, once the prompt has given its first token.
            margin: a choice by less than this (in logits) is too close.
        """
        self.writer = Writer(request, vocabulary, limit)
        self._request, self._vocabulary, self._limit = request, vocabulary, limit
        self.prompt, self._draft = request.prompt, list(request.draft)
        self._early, self._late, self._margin = early, late, margin
        self.cached, self.too_close = 0, False
        self._pending: list[int] = []  # what is certain, then what is drafted
        self._n_drafted = 0
        self._choices: list[tuple[int, float]] = []  # tokens, and by how much they lead

    @property
    def over(self) -> bool:
        """Whether the answer ended, or a choice was too close."""
        return self.too_close or bool(self.writer.reason)

    @property
    def void(self) -> bool:
        """Whether the request must be answered in another way."""
        return self.too_close or self.writer.cut_short

    @property
    def longest(self) -> int:
        """All but the prompt's last token, whose logits are needed."""
        return len(self.prompt) - 1

    @property
    def asked(self) -> int:
        """The prompt and every token taken but the last."""
        return len(self.prompt) + self.writer.taken - 1 if self.writer.taken else 0

    @property
    def reserve(self) -> int:
        """Tokens that it may read at most; the last one of an answer is never read."""
        return len(self.prompt) + max(0, self.writer.limit - 1)

    def afresh(self) -> Stream:
        """The same request, token by token."""
        return Stream(self._request, self._vocabulary, limit=self._limit)

    def begin(self, cached: int) -> None:
        """Read the prompt from position ``cached`` on."""
        self.cached = cached
        self._pend(list(self.prompt[cached:]), drafting=self._early)

    def feed(self, seq: int) -> Feed:
        """What is pending, with logits for the last certain token and every drafted one."""
        return Feed(seq, self.cached, self._pending, self._n_drafted + 1)

    def accept(self, rows: npt.NDArray[np.float32]) -> None:
        """Keep what each row says."""
        self._choices += best(rows, gaps=self._margin > 0)

    def advance(self) -> None:
        """Write the likeliest tokens: a drafted one that is the likeliest holds, and so does the token behind it.

        The first one that is not ends this: what was read behind it is void.
        """
        certain = len(self._pending) - self._n_drafted
        for place, (token, gap) in enumerate(self._choices):
            self.too_close = gap < self._margin
            if self.too_close or self.writer.add(token):
                break
            if place == self._n_drafted or self._pending[certain + place] != token:
                self.cached += certain + place
                self._pend([token], drafting=self._early or self._late)
                break
        self._choices = []

    def _pend(self, certain: list[int], *, drafting: bool) -> None:
        written = self.writer.tokens
        left = self.writer.limit - 1 - len(written)
        drafting = drafting and left > 0 and self._draft[: len(written)] == written
        drafted = self._draft[len(written) :][:left] if drafting else []
        self._pending, self._n_drafted = certain + drafted, len(drafted)


def longest_answer(points: Sequence[int], prompt: int) -> int | None:
    """Tokens that can be written behind ``prompt`` tokens before another row comes to serve; None for no limit.

    The last token of an answer is never read, so it does not count.
    """
    end = row_for(points, prompt).end
    return None if end is None else end - prompt + 1


def best(rows: npt.NDArray[np.float32], *, gaps: bool) -> list[tuple[int, float]]:
    """Of each row the likeliest token, the lowest of equals, and by how much it leads (infinite if not ``gaps``).

    Raises:
        RuntimeLibraryError: a row has no largest value.
    """
    tokens = rows.argmax(axis=1)
    top = rows[np.arange(len(rows)), tokens]
    if not np.all(np.isfinite(top)):
        raise RuntimeLibraryError(
            "the model's logits are not finite: its file is damaged, or a type overflows in it; "
            "fetch it again, or try --kv-type f32"
        )
    lead = top - np.partition(rows, -2, axis=1)[:, -2] if gaps else np.full(len(rows), np.inf)
    return list(zip(tokens.tolist(), lead.tolist(), strict=True))
