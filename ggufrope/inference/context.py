"""A llama.cpp context with several sequences: tokens in, rows of logits out."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ggufrope.errors import RuntimeLibraryError
from ggufrope.last_words import note
from ggufrope.runtime.api import Api

__all__ = ["Context", "Feed"]


@dataclass(frozen=True, slots=True)
class Feed:
    """Tokens for one sequence.

    Attributes:
        seq: the sequence.
        start: position of the first token.
        tokens: what to read.
        wanted: after how many of the last tokens logits are wanted.
    """

    seq: int
    start: int
    tokens: Sequence[int]
    wanted: int = 0


class Context:
    """Feeds tokens to a context, in batches that keep to its limits, and counts them.

    Attributes:
        evaluated: tokens read so far.
    """

    def __init__(
        self,
        llama_cpp: Any,
        context: Any,
        api: Api | None,
        *,
        path: Path,
        n_vocab: int,
        n_batch: int,
        n_rows: int,
    ) -> None:
        """Wrap a context.

        Args:
            llama_cpp: the bindings' module.
            context: a ``LlamaContext``; closed by ``close``.
            api: our functions, if the library has them.
            path: the model's file, for messages.
            n_vocab: logits in a row.
            n_batch: tokens in a batch at most.
            n_rows: rows of logits that a batch gives at most.
        """
        self._llama, self._raw, self._api = llama_cpp, context, api
        self._path = path
        self._n_vocab, self._n_batch, self._n_rows = n_vocab, n_batch, n_rows
        self._batch = _Batch(llama_cpp, n_batch)
        self._reversible = True
        self.evaluated = 0

    def close(self) -> None:
        """Free it."""
        self._raw.close()

    def clear(self, row: int | None = None, length: int | None = None) -> None:
        """Forget everything.

        Args:
            row: what is read from now on uses this row of the file's length table, whatever its length; None: the row
                of the length.
            length: how long the next text will be; its first batch already uses that length's row.
        """
        self._llama.llama_memory_clear(self._raw.memory, True)
        if self._api is not None:
            if self._api.length_points(self._raw.model.model):
                self._api.set_length_row(self._raw.ctx, row)
            if length is not None:
                self._api.set_length_hint(self._raw.ctx, length)

    def head_factors(self) -> npt.NDArray[np.float32]:
        """Head factors in use, ``[sum of n_head_kv over the layers]``, row-major by layer; all 1 when there are none.

        Raises:
            RuntimeLibraryError: the library has no head factors.
        """
        return self._with_factors().head_factors(self._raw.model.model, self._raw.ctx)

    def set_head_factors(self, factors: npt.ArrayLike) -> None:
        """Use other head factors, and forget everything.

        Raises:
            ParameterError: their number is wrong, or one is not finite and positive.
            RuntimeLibraryError: the library has no head factors.
        """
        api = self._with_factors()
        self.clear()
        api.set_head_factors(self._raw.model.model, self._raw.ctx, factors)

    def pair_factors(self) -> npt.NDArray[np.float32]:
        """Factors in use for each pair of each KV head, ``[sum of n_head_kv · rot_dim/2 over the layers]``, row-major.

        Raises:
            RuntimeLibraryError: the library has no pair factors.
        """
        return self._with_factors().pair_factors(self._raw.model.model, self._raw.ctx)

    def set_pair_factors(self, factors: npt.ArrayLike) -> None:
        """Use these in place of what heads have, and forget everything.

        Raises:
            ParameterError: their number is wrong, or one is not finite and positive.
            RuntimeLibraryError: the library has no pair factors, or refuses them.
        """
        api = self._with_factors()
        self.clear()
        api.set_pair_factors(self._raw.model.model, self._raw.ctx, factors)

    def _with_factors(self) -> Api:
        if self._api is None:
            raise RuntimeLibraryError(
                f"{self._path}: head factors: this libllama is not patched; run `ggufrope runtime build`"
            )
        return self._api

    def cut(self, seq: int, length: int) -> None:
        """Forget what ``seq`` has from position ``length`` on.

        Raises:
            RuntimeLibraryError: its memory cannot be cut.
        """
        if not self._llama.llama_memory_seq_rm(self._raw.memory, seq, length, -1):
            raise RuntimeLibraryError(
                f"{self._path}: llama.cpp cannot cut sequence {seq} at position {length}; use share=False"
            )

    def copy(self, source: int, target: int, length: int) -> None:
        """Let the empty sequence ``target`` begin as ``source`` does, for ``length`` tokens, which both then share."""
        if length:
            self._llama.llama_memory_seq_cp(self._raw.memory, source, target, 0, length)

    def read(self, feed: Feed) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
        """``decode`` for one feed, whose batches end at multiples of ``n_batch``, wherever it starts."""
        end = feed.start + len(feed.tokens)
        start = feed.start
        while start < end:
            stop = min(end, start - start % self._n_batch + self._n_batch)
            tokens = feed.tokens[start - feed.start : stop - feed.start]
            yield from self.decode(
                [Feed(feed.seq, start, tokens, max(0, min(len(tokens), feed.wanted - (end - stop))))]
            )
            start = stop

    def decode(self, feeds: Sequence[Feed]) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
        """Read ``feeds``, in as few batches as possible.

        Yields:
            For each batch that wants any: for each row the place of its feed in ``feeds``, ``(rows,)``, and the logits,
            ``(rows, n_vocab)``, in the order of ``feeds`` and their tokens. They hold until the next batch.

        Raises:
            RuntimeLibraryError: llama.cpp could not evaluate a batch.
        """
        flat = _flatten(feeds)
        start = 0
        while start < len(flat["token"]):
            end = self._end_of_batch(flat["want"], start)
            owners = self._evaluate({name: values[start:end] for name, values in flat.items()})
            if owners.size:
                logits = self._llama.llama_get_logits(self._raw.ctx)
                yield owners, np.ctypeslib.as_array(logits, shape=(owners.size, self._n_vocab))
            start = end

    def _end_of_batch(self, want: npt.NDArray[np.int64], start: int) -> int:
        part = want[start : start + self._n_batch]
        too_many = np.flatnonzero(np.cumsum(part) > self._n_rows)
        return start + (int(too_many[0]) if too_many.size else len(part))

    def _evaluate(self, part: dict[str, npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
        note("file", str(self._path))  # of several that are open, the one that may end the process now
        self._batch.fill(part)
        code = self._llama.llama_decode(self._raw.ctx, self._batch.raw)
        if code:
            at = f"position {part['pos'][0]} of sequence {part['seq'][0]}"
            raise RuntimeLibraryError(
                f"{self._path}: llama.cpp stopped at {at}: llama_decode returned {code}; "
                "a shorter context or fewer sequences at once may do"
            )
        self.evaluated += len(part["token"])
        owners: npt.NDArray[np.int64] = part["feed"][part["want"] != 0]
        return owners


def _flatten(feeds: Sequence[Feed]) -> dict[str, npt.NDArray[np.int64]]:
    lengths = np.array([len(feed.tokens) for feed in feeds], np.int64)
    place = np.concatenate([np.arange(n) for n in lengths])
    wanted = np.repeat([feed.wanted for feed in feeds], lengths)
    return {
        "feed": np.repeat(np.arange(len(feeds)), lengths),
        "token": np.concatenate([np.asarray(feed.tokens, np.int64) for feed in feeds]),
        "pos": place + np.repeat([feed.start for feed in feeds], lengths),
        "seq": np.repeat([feed.seq for feed in feeds], lengths),
        "want": (place >= np.repeat(lengths, lengths) - wanted).astype(np.int64),
    }


class _Batch:
    """A ``llama_batch`` over numpy's memory: one sequence for each token."""

    def __init__(self, llama_cpp: Any, size: int) -> None:
        self._token, self._pos, self._seq = (np.zeros(size, np.int32) for _ in range(3))
        self._count, self._want = np.ones(size, np.int32), np.zeros(size, np.int8)
        self._seqs = (self._seq.ctypes.data + 4 * np.arange(size)).astype(np.uintp)
        int32 = ctypes.POINTER(ctypes.c_int32)
        self.raw = llama_cpp.llama_batch(
            n_tokens=0,
            token=self._token.ctypes.data_as(int32),
            pos=self._pos.ctypes.data_as(int32),
            n_seq_id=self._count.ctypes.data_as(int32),
            seq_id=self._seqs.ctypes.data_as(ctypes.POINTER(int32)),
            logits=self._want.ctypes.data_as(ctypes.POINTER(ctypes.c_int8)),
        )

    def fill(self, part: dict[str, npt.NDArray[np.int64]]) -> None:
        n = self.raw.n_tokens = len(part["token"])
        self._token[:n], self._pos[:n], self._seq[:n] = part["token"], part["pos"], part["seq"]
        self._want[:n] = part["want"]
