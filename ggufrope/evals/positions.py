"""``ppl`` and ``kl``: what a model predicts for a text, by position.

A text file is cut as llama-perplexity cuts it: pieces of ``length`` tokens one after another, the first token of each
replaced by BOS where the model wants one. Position p is the prediction of token p+1, so a piece gives ``length - 1``.

Log-probabilities come in blocks of a few positions and are summed up at once: memory is O(vocabulary), however long the
text. (llama-perplexity keeps all logits of a piece, O(length · vocabulary), and writes the baseline's to a file.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ggufrope.errors import UsageError
from ggufrope.evals.intervals import mean_interval, mean_interval_kind
from ggufrope.evals.results import PositionMean, TextMean
from ggufrope.files import read_text
from ggufrope.inference.divergence import in_step

__all__ = ["Means", "Reader", "Sums", "Window", "divergences", "losses", "pieces", "windows"]

Floats = npt.NDArray[np.float64]
Progress = Callable[[int, int], None]

#: What to say of a text file without text.
EMPTY = "give a text with --text"


class Reader(Protocol):
    """The part of an engine that is needed here."""

    begins_with_bos: bool

    def tokens(self, text: str, *, special: bool = False) -> list[int]:
        """Tokens of a text, without BOS."""
        ...

    def prompt(self, text: str) -> list[int]:
        """Tokens of a text with BOS, if the model wants one."""
        ...

    def log_probs(self, ids: Sequence[int]) -> Iterator[Floats]:
        """Log-probabilities of the next token at every position, ``(positions, n_vocab)`` at a time."""
        ...


@dataclass(frozen=True, slots=True)
class Means:
    """Means over all texts.

    Attributes:
        mean: over every position that was scored.
        low: of its 95% interval over texts; None, as ``high``, for a single text.
        interval: what kind of interval that is.
        by_position: the same for ranges of positions.
        by_text: the mean of each text.
        top1: share of positions where both files have the same likeliest token; None for ``ppl``.
    """

    mean: float
    low: float | None
    high: float | None
    interval: str
    by_position: tuple[PositionMean, ...]
    by_text: tuple[TextMean, ...]
    top1: float | None = None

    @property
    def n(self) -> int:
        """Texts."""
        return len(self.by_text)


@dataclass(slots=True)
class Sums:
    """Sums by text and by range of positions: all that is kept of a text.

    Attributes:
        edges: where the ranges begin, and where the last one ends.
        tokens: ``TextMean.tokens`` of each text.
        sums: ``[text][range]``; ``counts`` likewise.
    """

    edges: Sequence[int]
    tokens: list[str] = field(default_factory=list)
    sums: list[Floats] = field(default_factory=list)
    counts: list[Floats] = field(default_factory=list)

    def begin(self, ids: Sequence[int]) -> None:
        """The next text."""
        self.tokens.append(hashlib.sha256(np.asarray(ids, "<i4").tobytes()).hexdigest()[:16])
        self.sums.append(np.zeros(len(self.edges) - 1))
        self.counts.append(np.zeros(len(self.edges) - 1))

    def add(self, start: int, values: Floats) -> None:
        """Values at positions ``start``, ``start + 1``, ... of the text that was begun last."""
        place = np.searchsorted(self.edges, np.arange(start, start + len(values)), side="right") - 1
        np.add.at(self.sums[-1], place, values)
        np.add.at(self.counts[-1], place, 1.0)

    def means(self, seed: int) -> Means:
        """Means with intervals over texts."""
        sums, counts = np.array(self.sums), np.array(self.counts)
        rows = (_mean(sums[:, i], counts[:, i], *edges, seed) for i, edges in enumerate(pairwise(self.edges)))
        total = _mean(sums.sum(axis=1), counts.sum(axis=1), self.edges[0], self.edges[-1], seed)
        mean = float("nan") if total.mean is None else total.mean
        by_position = tuple(row for row in rows if row.n)
        kind = f"{mean_interval_kind(len(sums))}, over texts"
        return Means(mean, total.low, total.high, kind, by_position, tuple(self._by_text()))

    def _by_text(self) -> Iterator[TextMean]:
        for tokens, sums, counts in zip(self.tokens, self.sums, self.counts, strict=True):
            mean = float(sums.sum() / max(counts.sum(), 1.0))
            yield TextMean(tokens, int(counts.sum()), mean if np.isfinite(mean) else None)


def _mean(sums: Floats, counts: Floats, start: int, end: int, seed: int) -> PositionMean:
    used = counts > 0
    n, mean = int(counts.sum()), float(sums.sum() / max(counts.sum(), 1.0))
    if not np.isfinite(mean):
        return PositionMean(start, end, n, None, None, None)
    if used.sum() < 2:  # one text says nothing about others
        return PositionMean(start, end, n, mean, None, None)
    interval = mean_interval(sums[used], counts[used], seed)
    low = max(interval.low, 0.0) if mean >= 0 else interval.low  # neither losses nor divergences are below 0
    return PositionMean(start, end, n, mean, low, interval.high)


def pieces(reader: Reader, text: Path, length: int, limit: int) -> list[list[int]]:
    """At most ``limit`` pieces of ``length`` tokens, from the beginning of a UTF-8 file.

    Raises:
        InputError: the file cannot be read as text.
        UsageError: it is too short for one.
    """
    content = read_text(text, empty=EMPTY)
    bos = reader.prompt("")[:1] if reader.begins_with_bos else []
    # few vocabularies take more than 16 characters for a token on average: most texts need not be read to their end
    for part in (content[: 16 * length * limit], content):
        ids = bos + reader.tokens(part)
        if len(ids) >= length * limit or len(part) == len(content):
            break
    if len(ids) < length:
        raise UsageError(f"{text}: {len(ids)} tokens are less than one text of {length}; give a longer --text")
    starts = range(0, min(len(ids) // length, limit) * length, length)
    return [[*bos, *ids[start + len(bos) : start + length]] for start in starts]


@dataclass(frozen=True, slots=True)
class Window:
    """Tokens ``start`` ≤ i < ``end`` that are read together, and the first position whose prediction counts."""

    start: int
    end: int
    first: int


def windows(length: int, size: int, stride: int) -> list[Window]:
    """Windows of ``size`` tokens, ``stride`` (less than ``size``) apart.

    Every position is scored once: in the first window, or in the first one that reaches the token behind it.
    """
    cuts = [Window(0, min(size, length), 0)]
    while cuts[-1].end < length:
        end = min(cuts[-1].end + stride, length)
        cuts.append(Window(end - size, end, cuts[-1].end - 1))
    return cuts


def losses(
    reader: Reader, texts: Sequence[Sequence[int]], cuts: Sequence[Window], edges: Sequence[int], progress: Progress
) -> Sums:
    """Negative log-likelihoods (nats) of the texts' own tokens.

    Args:
        reader: the engine.
        texts: token ids, all of one length.
        cuts: ``windows`` of that length.
        edges: ranges of positions.
        progress: called with positions done and in all.
    """
    sums, total, done = Sums(edges), sum(cut.end - cut.start for cut in cuts) * len(texts), 0
    for ids in texts:
        sums.begin(ids)
        for cut in cuts:
            read = [*ids[:1], *ids[cut.start + 1 : cut.end]] if reader.begins_with_bos else ids[cut.start : cut.end]
            for start, block in _numbered(reader.log_probs(read), cut.start):
                targets = np.asarray(ids[start + 1 : min(start + len(block), cut.end - 1) + 1], np.intp)
                loss = -block[np.arange(len(targets)), targets]
                fresh = max(cut.first - start, 0)
                sums.add(start + fresh, loss[fresh:])
                done += len(block)
                progress(done, total)
    return sums


def divergences(
    baseline: Reader, reader: Reader, texts: Sequence[Sequence[int]], edges: Sequence[int], progress: Progress
) -> tuple[Sums, Sums]:
    """KL(baseline ‖ file) in nats at each position of the texts, and whether the likeliest token is the same (1 or 0).

    Both read each text in step, so that one block of each is all that is held.

    Args:
        baseline: the engine to compare with.
        reader: the file's.
        texts: token ids, all of one length.
        edges: ranges of positions.
        progress: called with positions done and in all.
    """
    kl, same, total, done = Sums(edges), Sums(edges), sum(map(len, texts)), 0
    for ids in texts:
        kl.begin(ids)
        same.begin(ids)
        start = 0
        for positions in in_step(baseline.log_probs(ids), reader.log_probs(ids)):
            scored = positions[: len(ids) - 1 - start]
            kl.add(start, np.array([position.kl for position in scored]))
            same.add(start, np.array([float(position.same_top) for position in scored]))
            start += len(positions)
            done += len(positions)
            progress(done, total)
    return kl, same


def _numbered(blocks: Iterable[Floats], start: int) -> Iterator[tuple[int, Floats]]:
    for block in blocks:
        yield start, block
        start += len(block)
