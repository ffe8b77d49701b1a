"""A request while it is answered: what to read next, and how much of its draft holds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ggufrope.errors import RuntimeLibraryError
from ggufrope.inference.context import Feed
from ggufrope.inference.drafting import draft
from ggufrope.inference.requests import Request
from ggufrope.inference.vocabulary import Vocabulary
from ggufrope.inference.writer import Writer
from ggufrope.rope.length_rows import row_for

__all__ = ["ExactStream", "Stream", "best", "leads", "longest_answer"]

_TRIES = 4  # close choices in drafts of one answer; the rest of it is then read token by token


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
        self.prompt = request.prompt
        self._tokens = np.asarray(request.prompt, np.int64)
        self._early, self._late, self._margin = early, late, margin
        self._needed = margin  # by how much the next choices must lead
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
        """The same request, with plain decoding's bits wherever a choice is close."""
        return ExactStream(self._request, self._vocabulary, limit=self._limit, margin=self._margin)

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
            self.too_close = gap < self._needed
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
        drafted: list[int] = []
        if drafting and left > 0:
            prompt = self._tokens if self._margin > 0 else None
            drafted = draft(self._request.draft, written, prompt)[:left]
        self._pending, self._n_drafted = certain + drafted, len(drafted)


class ExactStream(Stream):
    """A stream to be read with nothing beside it: plain decoding's choices wherever one is close, and drafts elsewhere.

    The prompt must be read as plain decoding reads it. A choice is plain decoding's, to the bit, when all tokens of the
    answer before it was read one by one. A draft is read at once, and a close choice in it made again: the cache is cut
    back to where tokens were read one by one, and those up to that choice, which are certain, are read so.
    """

    def __init__(self, request: Request, vocabulary: Vocabulary, *, limit: int | None, margin: float) -> None:
        """Begin an answer; see ``Stream``."""
        super().__init__(request, vocabulary, limit=limit, late=True, margin=margin)
        self._plain = 0  # tokens in the cache that were read as plain decoding reads them
        self._again: list[int] = []  # certain tokens of the answer, to be read one by one before a choice is made again
        self._tries = _TRIES

    def begin(self, cached: int) -> None:
        """See ``Stream``."""
        super().begin(cached)
        self._plain = cached

    def advance(self) -> None:
        """See ``Stream``."""
        plain = self.cached == self._plain and not self._n_drafted
        if plain:
            self._plain += len(self._pending)
        if self._again:
            self._choices, self.cached = [], self._plain  # these choices were made before
            self._pend([self._again.pop(0)], drafting=False)
            return
        self._needed = 0.0 if plain else self._margin
        super().advance()
        if self.too_close:
            self._retrace()

    def _retrace(self) -> None:
        self.too_close = False
        self._tries -= 1
        self._late = self._tries > 0
        self.cached = self._plain
        self._again = self.writer.tokens[self._plain - len(self.prompt) :]
        self._pend([self._again.pop(0)], drafting=False)


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
    lead = top - _second(rows, tokens) if gaps else np.full(len(rows), np.inf)
    return list(zip(tokens.tolist(), lead.tolist(), strict=True))


def leads(rows: npt.NDArray[np.float32], tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """By how much the logit of each row's token in ``tokens`` is above that of the best other one, ``(rows,)``."""
    own = rows[np.arange(len(rows)), tokens].astype(np.float64)
    return np.asarray(own - _second(rows, tokens))


def _second(rows: npt.NDArray[np.float32], tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """The largest logit of each row beside that of its token in ``tokens``.

    Two maxima of slices, which copy nothing: a fifth of ``np.partition``'s time on rows of 150 000.
    """
    pairs = list(zip(rows, tokens.tolist(), strict=True))
    before = [row[:token].max(initial=-np.inf) for row, token in pairs]
    behind = [row[token + 1 :].max(initial=-np.inf) for row, token in pairs]
    return np.maximum(before, behind).astype(rows.dtype)
