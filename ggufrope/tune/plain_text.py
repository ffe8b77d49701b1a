"""Plain text to tune for, or to keep: a file in three parts, so that no split sees a token of another's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ggufrope.errors import UsageError
from ggufrope.files import read_text
from ggufrope.tune.tuning_texts import TextTokenizer, TuningText, as_text

__all__ = ["SHARES", "PlainText"]

#: The splits, and the share of a file that each one has, in the order in which they stand in it.
SHARES = {"train": 0.6, "select": 0.15, "report": 0.25}
_LONGEST = 16_000_000  # characters that are looked at: a few million tokens


@dataclass(frozen=True, slots=True)
class PlainText:
    """A text file's tokens, cut into one part for each split.

    Attributes:
        path: the file.
        bos: what a text begins with: BOS where the model wants one, else nothing.
        parts: the tokens of each split.
    """

    path: Path
    bos: tuple[int, ...]
    parts: dict[str, tuple[int, ...]]

    @classmethod
    def read(cls, path: Path, tokenizer: TextTokenizer) -> PlainText:
        """Read a UTF-8 file; of more than 16 million characters the first ones.

        Raises:
            InputError: it cannot be read as text, or there is none in it.
        """
        ids = tokenizer.tokens(read_text(path, empty="give a text with --text")[:_LONGEST])
        bos = tuple(tokenizer.prompt("")[:1]) if tokenizer.begins_with_bos else ()
        ends = np.round(np.cumsum(list(SHARES.values())) * len(ids)).astype(int)
        pieces = np.split(np.asarray(ids, np.int64), ends[:-1])
        return cls(path, bos, {split: tuple(p.tolist()) for split, p in zip(SHARES, pieces, strict=True)})

    def most(self, split: str, length: int) -> int:
        """How many texts of ``length`` tokens a split has that do not overlap."""
        return len(self.parts[split]) // length

    def texts(self, split: str, *, length: int, n: int, seed: int) -> list[TuningText]:
        """``n`` texts of ``length`` tokens: for training at random places, for the others side by side.

        Each begins as llama-perplexity's do: its first token is BOS where the model wants one. The same arguments give
        the same texts; for training another seed gives other places, and for the others another choice, where there is
        one.

        Args:
            split: a key of ``SHARES``.
            length: 2 or more.
            n: texts.
            seed: of the places.

        Raises:
            UsageError: the split is too short.
        """
        needed = length if split == "train" else n * length
        ids = self.parts[split]
        if length < 2 or len(ids) < needed:
            total, share = sum(map(len, self.parts.values())), SHARES[split]
            what = f"{needed} for {n} texts of {length}" if split != "train" else f"{needed} for one text"
            raise UsageError(
                f"{self.path}: {total} tokens, of which {share:.0%} ({len(ids)}) are for the {split} split, and it "
                f"needs {what}; give a longer --text, or fewer or shorter texts"
            )
        rng = np.random.default_rng([seed, list(SHARES).index(split)])
        if split == "train":
            starts = rng.integers(0, len(ids) - length, n, endpoint=True)
        else:
            starts = np.sort(rng.permutation(self.most(split, length))[:n]) * length
        return [self._text(split, int(start), length) for start in starts]

    def _text(self, split: str, start: int, length: int) -> TuningText:
        ids = self.parts[split][start : start + length]
        return as_text(f"{self.path.name}/{split}/{length}/{start}", (*self.bos, *ids[len(self.bos) :]))
