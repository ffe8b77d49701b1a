"""Losses and divergences by position, with an engine that is a table."""

from __future__ import annotations

import numpy as np
import pytest

from ggufrope.errors import InputError, UsageError
from ggufrope.evals import positions
from ggufrope.evals.positions import Window, divergences, losses, pieces, windows

VOCAB = 7


class Table:
    """Its prediction depends on the token, the position and the one before; it answers in blocks of 3 rows."""

    def __init__(self, seed, bos=True, block=3):
        self.table = np.random.default_rng(seed).normal(size=(VOCAB, VOCAB, VOCAB))
        self.begins_with_bos, self.block, self.read = bos, block, []

    def tokens(self, text, *, special=False):
        return [ord(c) % VOCAB for c in text]

    def prompt(self, text):
        return [0, *self.tokens(text)] if self.begins_with_bos else self.tokens(text)

    def all(self, ids):
        rows = [self.table[t, ids[i - 1] if i else 0] + 0.1 * i for i, t in enumerate(ids)]
        values = np.array(rows) * np.linspace(1, 2, VOCAB)
        return values - np.log(np.exp(values).sum(axis=1, keepdims=True))

    def log_probs(self, ids):
        self.read.append(list(ids))
        values = self.all(ids)
        for start in range(0, len(ids), self.block):
            yield values[start : start + self.block]


def quiet(_done, _total):
    pass


@pytest.fixture
def texts():
    return [[0, *row] for row in np.random.default_rng(3).integers(0, VOCAB, (4, 19)).tolist()]


def test_losses(texts):
    model = Table(1)
    sums = losses(model, texts, windows(20, 20, 10), [0, 8, 16, 20], quiet)
    want = [[-model.all(ids)[p, ids[p + 1]] for p in range(19)] for ids in texts]
    found = sums.means(seed=0)
    assert found.mean == pytest.approx(np.mean(want))
    assert [(b.start, b.end, b.n) for b in found.by_position] == [(0, 8, 32), (8, 16, 32), (16, 20, 12)]
    assert found.by_position[2].mean == pytest.approx(np.mean([row[16:] for row in want]))
    assert found.low < found.mean < found.high
    assert found == losses(model, texts, windows(20, 20, 10), [0, 8, 16, 20], quiet).means(seed=0)


@pytest.mark.parametrize("bos", [True, False])
@pytest.mark.parametrize(("size", "stride"), [(8, 4), (8, 7), (8, 1), (5, 3), (19, 7), (2, 1)])
def test_sliding_windows_score_every_position_once(texts, size, stride, bos):
    model, want = Table(1, bos), []
    for ids in texts:
        row = {}
        for cut in windows(20, size, stride):
            read = [ids[0], *ids[cut.start + 1 : cut.end]] if bos else ids[cut.start : cut.end]
            values = model.all(read)
            for p in range(cut.first, cut.end - 1):
                assert p not in row
                row[p] = -values[p - cut.start, ids[p + 1]]
        assert sorted(row) == list(range(19))
        want.append([row[p] for p in range(19)])
    found = losses(model, texts, windows(20, size, stride), [0, 20], quiet).means(seed=0)
    assert found.mean == pytest.approx(np.mean(want))
    assert max(map(len, model.read)) == size


def test_windows_by_hand():
    assert windows(10, 10, 5) == [Window(0, 10, 0)]
    assert windows(10, 4, 2) == [Window(0, 4, 0), Window(2, 6, 3), Window(4, 8, 5), Window(6, 10, 7)]
    assert windows(9, 4, 3) == [Window(0, 4, 0), Window(3, 7, 3), Window(5, 9, 6)]


def test_divergences(texts):
    one, two = Table(1), Table(2, block=3)
    kl, same = divergences(one, two, texts, [0, 8, 20], quiet)
    pairs = [(one.all(ids)[:19], two.all(ids)[:19]) for ids in texts]
    want = np.array([(np.exp(a) * (a - b)).sum(axis=1) for a, b in pairs])
    found = kl.means(seed=0)
    assert found.mean == pytest.approx(want.mean())
    assert found.by_position[1].mean == pytest.approx(want[:, 8:].mean())
    assert same.means(seed=0).mean == pytest.approx(np.mean([a.argmax(1) == b.argmax(1) for a, b in pairs]))
    none, all_same = divergences(one, one, texts, [0, 20], quiet)
    assert none.means(0).mean == 0
    assert all_same.means(0).mean == 1


def test_one_text_has_no_interval_and_what_is_not_finite_no_mean(texts):
    found = losses(Table(1), texts[:1], windows(20, 20, 10), [0, 8, 20], quiet).means(seed=0)
    assert found.low is found.high is found.by_position[0].low is None
    sums = positions.Sums([0, 2])
    sums.begin([1, 2, 3])
    sums.add(0, np.array([1.0, np.nan]))
    assert np.isnan(sums.means(0).mean)
    assert sums.means(0).by_position[0].mean is None
    assert [t.mean for t in sums.means(0).by_text] == [None]


def test_losses_of_few_texts_have_no_interval_below_zero():
    """0.1 and 2 of two texts: half of t's interval is 12.07."""
    sums = positions.Sums([0, 1])
    for loss in (0.1, 2.0):
        sums.begin([int(10 * loss)])
        sums.add(0, np.array([loss]))
    found = sums.means(0)
    assert (found.low, found.by_position[0].low) == (0.0, 0.0)
    assert found.high == pytest.approx(1.05 + 12.7062 * 0.95)


def test_means_by_text_name_their_tokens(texts):
    """What pairs two results: the same tokens have the same name, others another, and the mean is each text's own."""
    cuts = windows(20, 20, 10)
    found = losses(Table(1), texts, cuts, [0, 8, 20], quiet).means(seed=0)
    other = losses(Table(2), texts, cuts, [0, 20], quiet).means(seed=0)
    alone = [losses(Table(1), [ids], cuts, [0, 20], quiet).means(seed=0) for ids in texts]
    assert [t.mean for t in found.by_text] == pytest.approx([a.mean for a in alone])
    assert [t.n for t in found.by_text] == [19] * len(texts)
    assert [t.tokens for t in found.by_text] == [t.tokens for t in other.by_text]
    assert len({t.tokens for t in found.by_text}) == len(texts)
    assert found.interval == "t 95%, over texts"


def test_pieces_are_cut_as_llama_perplexity_cuts_them(tmp_path):
    (tmp_path / "text").write_text("abcdefghijk")
    ids = [0, *(ord(c) % VOCAB for c in "abcdefghijk")]
    assert pieces(Table(1), tmp_path / "text", 5, 9) == [ids[:5], [0, *ids[6:10]]]
    assert pieces(Table(1), tmp_path / "text", 5, 1) == [ids[:5]]
    assert pieces(Table(1, bos=False), tmp_path / "text", 5, 9) == [ids[1:6], ids[6:11]]


def test_texts_that_cannot_be_used(tmp_path):
    path = tmp_path / "text"
    with pytest.raises(InputError, match="cannot be read"):
        pieces(Table(1), path, 5, 1)
    path.write_bytes(b"caf\xe9 au lait")
    with pytest.raises(InputError, match=r"not UTF-8 text \(byte 3\)"):
        pieces(Table(1), path, 5, 1)
    path.write_text(" \n")
    with pytest.raises(InputError, match="is empty"):
        pieces(Table(1), path, 5, 1)
    path.write_text("abc")
    with pytest.raises(UsageError, match="4 tokens are less than one text of 5"):
        pieces(Table(1), path, 5, 1)
