"""An answer with close choices, read again: plain decoding's at each of them, in few batches. By a scripted model."""

from __future__ import annotations

import random

import numpy as np
import pytest

from ggufrope.inference.requests import Request
from ggufrope.inference.stream import ExactStream, best

PROMPT = (1, 2, 3, 4)
TRUTH = [10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21]
OTHER, SIZE, MARGIN = 40, 50, 0.5


class Letters:
    """A vocabulary that ends nothing."""

    def piece(self, token):
        return bytes([token])

    def ends(self, _token):
        return False


class Script:
    """Continues ``PROMPT`` by ``TRUTH``; at ``close`` places it says ``OTHER``, unless all was read plainly.

    Plainly: the prompt in a batch of its own, then token by token.
    """

    def __init__(self, close):
        self.close, self.batches = close, []
        self.cache: list[tuple[int, bool]] = []

    def answer(self, stream):
        stream.begin(2)
        self.cache = [(token, True) for token in PROMPT[:2]]
        while not stream.over:
            feed = stream.feed(0)
            assert feed.start == len(self.cache)
            self.batches.append(len(feed.tokens))
            alone = len(feed.tokens) == 1 or (feed.start < len(PROMPT) and feed.start + len(feed.tokens) == len(PROMPT))
            self.cache += [(token, alone) for token in feed.tokens]
            ends = range(len(self.cache) - feed.wanted + 1, len(self.cache) + 1)
            stream.accept(np.array([self.row(end) for end in ends], np.float32))
            stream.advance()
            del self.cache[stream.cached :]
        return stream.writer.tokens

    def row(self, end):
        row = np.zeros(SIZE)
        read, place = self.cache[:end], end - len(PROMPT)
        if [token for token, _ in read] != [*PROMPT, *TRUTH][:end]:  # behind a draft that failed: anything
            row[random.Random(end).randrange(SIZE)] = 9.0
            return row
        plain = all(alone for _, alone in read)
        row[TRUTH[place]] = 1.0
        if place in self.close:
            row[OTHER] = 0.9 if plain else 1.1
        return row


def stream_of(draft, close):
    request = Request(PROMPT, tuple(draft), max_new=len(TRUTH))
    return ExactStream(request, Letters(), limit=None, margin=MARGIN), Script(close)


DRAFTS = {
    "right": TRUTH,
    "none": [],
    "half": [*TRUTH[:6], 30, 31],
    "begun otherwise": [33, *TRUTH],
    "wrong": [30, 31, 32],
}


@pytest.mark.parametrize("draft", DRAFTS.values(), ids=DRAFTS)
@pytest.mark.parametrize("close", [(), (0,), (3,), (0, 3), (2, 3, 4), (11,), (1, 4, 7, 10), range(12)], ids=str)
def test_every_choice_is_plain_decoding_s(draft, close):
    stream, script = stream_of(draft, close)
    assert script.answer(stream) == TRUTH
    assert stream.writer.reason == "limit"
    assert not stream.void
    assert len(script.batches) <= 1 + 2 * len(TRUTH) + 4


@pytest.mark.parametrize(
    ("draft", "close", "batches"),
    [
        ("right", (), [2, 11]),
        ("right", (0,), [2, 11]),  # behind the prompt, which was read plainly: the draft needs no care
        ("right", (3,), [2, 11, 1, 1, 1, 8]),  # three tokens one by one, for the choice behind them; the draft again
        ("right", (11,), [2, 11, *[1] * 11]),
        ("right", range(12), [2, 11, 1, 10, 1, 9, 1, 8, 1, *[1] * 7]),  # four drafts, then none
        ("none", (5,), [2, *[1] * 11]),
        ("begun otherwise", (0,), [2, 1, 1, 1, 5, 3]),  # four tokens that agree, then as many more as agree
    ],
)
def test_so_much_is_read_at_once(draft, close, batches):
    stream, script = stream_of(DRAFTS[draft], close)
    assert script.answer(stream) == TRUTH
    assert script.batches == batches


def test_the_script_can_tell(monkeypatch):
    # a stream that believes close choices in a batch takes the other token
    stream, script = stream_of(TRUTH, (3,))
    monkeypatch.setattr(stream, "_margin", 0.0)
    assert script.answer(stream) != TRUTH


def test_the_lead_over_the_second():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((40, 300)).astype(np.float32)
    rows[:3, 0] = rows[3:6, -1] = 9.0  # the likeliest at both ends
    rows[6, [5, 99]] = 9.0  # two of them
    rows[7] = -np.inf
    rows[7, 4] = 1.0  # and nothing else
    kept = rows.copy()
    found = best(rows, gaps=True)
    ordered = np.sort(rows, axis=1)
    assert [gap for _, gap in found] == (ordered[:, -1] - ordered[:, -2]).tolist()
    assert [token for token, _ in found] == rows.argmax(axis=1).tolist()
    assert found[6] == (5, 0.0)
    assert np.array_equal(rows, kept)  # llama.cpp's memory is only read
    assert {gap for _, gap in best(rows, gaps=False)} == {np.inf}
    assert best(np.ones((1, 1), np.float32), gaps=True) == [(0, np.inf)]
