"""An answer while it is written, token by token, and what ends it."""

from __future__ import annotations

import codecs

from ggufrope.inference.requests import Answer, Request
from ggufrope.inference.vocabulary import Vocabulary

__all__ = ["Writer"]


class Writer:
    """Takes the greedy tokens of a request one at a time, until the answer ends.

    Both ways of decoding, naive and shared, end their answers here, so they can only differ in tokens.

    Attributes:
        tokens: the tokens so far.
        taken: how many it was given, those that ended it included.
        limit: tokens at most.
        reason: why the answer ended (see ``Answer``); empty while it goes on.
    """

    def __init__(self, request: Request, vocabulary: Vocabulary, limit: int | None = None) -> None:
        """Begin an answer.

        Args:
            request: what is asked.
            vocabulary: of the model that answers.
            limit: tokens at most, where that is less than the request's ``max_new``.
        """
        self._request, self._vocabulary = request, vocabulary
        self.limit = request.max_new if limit is None else min(limit, request.max_new)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._text = ""
        self._begins: list[int] = []  # for each token, the length of the text before it
        self.tokens: list[int] = []
        self.taken = 0
        self.reason = "limit" if self.limit <= 0 else ""

    @property
    def cut_short(self) -> bool:
        """Whether it ended only because of ``limit``, with tokens left in the request."""
        return self.reason == "limit" and self.taken < self._request.max_new

    def add(self, token: int) -> bool:
        """Take the next token; returns whether the answer ended."""
        self.taken += 1
        if self._vocabulary.ends(token):
            self.reason = "end"
            return True
        self._begins.append(len(self._text))
        self.tokens.append(token)
        self._text += self._decoder.decode(self._vocabulary.piece(token))
        if self._stopped():
            self.reason = "stop"
        elif self._request.settled(self._text):
            self.reason = "settled"
        elif self.taken >= self.limit:
            self.reason = "limit"
        return bool(self.reason)

    def answer(self) -> Answer:
        """The answer so far."""
        return Answer(self._text, tuple(self.tokens), self.reason)

    def _stopped(self) -> bool:
        stops = [at for stop in self._request.stop if stop and (at := self._text.find(stop)) >= 0]
        if not stops:
            return False
        self._text = self._text[: min(stops)]
        self.tokens = [token for token, at in zip(self.tokens, self._begins, strict=True) if at < len(self._text)]
        return True
