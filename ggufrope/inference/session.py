"""A file on the patched runtime, opened once: its vocabulary, its settings, and what it predicts for a text."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ggufrope.errors import UnsupportedModelError, UsageError
from ggufrope.inference.context import Context, Feed
from ggufrope.inference.divergence import Block, log_softmax
from ggufrope.inference.kv_types import KvCache
from ggufrope.inference.opening import InferenceSettings, Model
from ggufrope.modelfile.model_file import ModelFile

__all__ = ["Session", "chunk_size", "open_strict"]

Progress = Callable[[int, int], None]
_T = TypeVar("_T")

_BLOCK = 2**24  # bytes of a block of logits or log-probabilities
_SCORES = 2**26  # attention scores that llama.cpp holds for a batch: 256 MB
_ROWS = 256


def chunk_size(n_vocab: int, n_scores: int = 0, *, itemsize: int = 8) -> int:
    """How many positions to hold at a time: at most 256, and 16 MB.

    Whoever compares two files holds one such block for each, and so does llama.cpp, in single precision.

    Args:
        n_vocab: logits of one position.
        n_scores: attention scores of one position, length × heads, of which llama.cpp holds a layer's (without flash
            attention): at most 64 million, 256 MB.
        itemsize: bytes of a number; log-probabilities are in double precision.
    """
    return max(1, min(_ROWS, _BLOCK // (itemsize * n_vocab), _SCORES // max(1, n_scores)))


class Session:
    """An opened GGUF file, with one llama.cpp context at a time.

    Attributes:
        n_ctx: tokens that a text may have.
        n_vocab: tokens of the vocabulary.
        chunk: positions of a block of log-probabilities.
        train_ctx: the context that the model was trained for, or that its file aims at.
        chat_template: the model's chat template; None if it has none.
        begins_with_bos: whether ``prompt`` puts a BOS first.
        first_token: the vocabulary's BOS, whether or not texts begin with it; None if it has none.
        settings: types, threads and flash attention in use.
    """

    def __init__(
        self, file: ModelFile | Path, *, n_ctx: int, settings: InferenceSettings, chunk: int | None = None
    ) -> None:
        """Open ``file``.

        Args:
            file: a GGUF file, with or without keys of ours; it is opened where it is not yet.
            n_ctx: tokens that a text may have; it may be more than the trained context. The context for
                log-probabilities is allocated for exactly so many.
            settings: how numbers are computed.
            chunk: positions of a block of log-probabilities; None: see ``chunk_size``.

        Raises:
            UnsupportedModelError: the model does not continue texts.
            RuntimeLibraryError, InputError: the runtime is not built, or refused the file.
        """
        self.settings, self.n_ctx = settings, n_ctx
        self._model = Model(ModelFile.of(file), settings)
        vocabulary = self._model.vocabulary
        self.n_vocab, self.train_ctx = vocabulary.size, self._model.train_ctx
        self.chunk = chunk_size(self.n_vocab) if chunk is None else chunk
        self.chat_template = self._model.chat_template
        self.begins_with_bos, self.first_token = vocabulary.begins_with_bos, vocabulary.bos
        self._opened: tuple[str, Context] | None = None  # which kind of job it is for
        self._given: Callable[[Context], None] | None = None  # sets the factors that a caller gave
        self._closed_evaluated = 0
        self._jobs = 0

    @property
    def file(self) -> ModelFile:
        """The model's file."""
        return self._model.file

    @property
    def evaluated(self) -> int:
        """Tokens that were read so far, in all jobs."""
        return self._closed_evaluated + (self._opened[1].evaluated if self._opened else 0)

    def tokens(self, text: str, *, whole: bool = False, special: bool = False) -> list[int]:
        """Tokens of ``text`` as it stands; ``whole``: with what the model wants around a text, such as a BOS.

        With ``special``, names of special tokens mean those.
        """
        return self._model.vocabulary.tokens(text, whole=whole, special=special)

    def prompt(self, text: str) -> list[int]:
        """Tokens of ``text`` as llama.cpp's programs read it: a BOS if the model wants one, special tokens known."""
        return self.tokens(text, whole=True, special=True)

    def text(self, ids: Sequence[int]) -> str:
        """The text of ``ids``, as an answer of these tokens has it."""
        return self._model.vocabulary.text(ids)

    def log_probs(self, ids: Sequence[int]) -> Iterator[Block]:
        """Log-probabilities of the next token behind each token of ``ids``: blocks ``(≤ chunk, n_vocab)``, in order.

        Memory is that of a block, however long the text. The text is read at the row of its whole length where
        frequencies follow that.

        Raises:
            UsageError: no token, or more than ``n_ctx``.
            UnsupportedModelError: the file orders heads anew for each prompt.
            RuntimeLibraryError: llama.cpp failed.
        """
        self._check("text", len(ids), 0)
        if self._model.per_prompt:
            raise UnsupportedModelError(
                f"{self.file.path}: its heads are ordered anew for each prompt, and a text without one has no order; "
                "convert it with --calibrate TEXT instead"
            )
        return self._job(self._log_probs(ids), 1, None)

    def head_factors(self) -> npt.NDArray[np.float32]:
        """Head factors in use, ``[sum of n_head_kv over the layers]``, row-major by layer; all 1 when there are none.

        Raises:
            RuntimeLibraryError: the library has no head factors.
        """
        return self._any_context().head_factors()

    def set_head_factors(self, factors: npt.ArrayLike) -> None:
        """Use other head factors from now on, without touching the file.

        Raises:
            ParameterError: their number is wrong, or one is not finite and positive.
            RuntimeLibraryError: the library has no head factors.
        """
        values = np.asarray(factors, np.float32)
        self._set(lambda context: context.set_head_factors(values))

    def pair_factors(self) -> npt.NDArray[np.float32]:
        """Factors in use for each pair of each KV head, ``[sum of n_head_kv · rot_dim/2 over the layers]``, row-major.

        Raises:
            RuntimeLibraryError: the library has no pair factors.
        """
        return self._any_context().pair_factors()

    def set_pair_factors(self, factors: npt.ArrayLike) -> None:
        """Use these in place of what heads have from now on, without touching the file.

        Raises:
            ParameterError: their number is wrong, or one is not finite and positive.
            RuntimeLibraryError: the library has no pair factors, or refuses them.
        """
        values = np.asarray(factors, np.float32)
        self._set(lambda context: context.set_pair_factors(values))

    def prepare(self) -> None:
        """Allocate the context for log-probabilities now, so that what does not fit is said before anything else runs.

        Raises:
            InputError: llama.cpp refused; its own reason.
        """
        self._streaming()

    def close(self) -> None:
        """Free model and context."""
        self._close_context()
        self._model.close()

    def __enter__(self: _S) -> _S:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _check(self, name: str, prompt: int, more: int) -> None:
        if not prompt:
            raise UsageError(f"{name}: no token to begin with; give at least one")
        if prompt + more > self.n_ctx:
            raise UsageError(f"{name}: {prompt} tokens and {more} behind them do not fit n_ctx {self.n_ctx}; raise it")

    def _log_probs(self, ids: Sequence[int]) -> Iterator[Block]:
        context = self._streaming()
        context.clear(length=len(ids))
        for _, rows in context.decode([Feed(0, 0, ids, len(ids))]):
            yield log_softmax(rows)

    def _set(self, given: Callable[[Context], None]) -> None:
        """Give the context that is open, and those that are opened later, other factors; a job in it has ended."""
        self._jobs += 1
        given(self._any_context())
        self._given = given

    def _any_context(self) -> Context:
        """The one that is open: another for factors alone would cost a cache's allocation each time."""
        return self._streaming() if self._opened is None else self._opened[1]

    def _streaming(self) -> Context:
        chunk = min(self.chunk, self.n_ctx)
        return self._context(
            "log-probabilities", lambda: self._model.context(n_cells=self.n_ctx, n_seq=1, n_batch=chunk, n_rows=chunk)
        )

    def _context(self, job: str, open_context: Callable[[], Context]) -> Context:
        """The context for a kind of job; one for another kind is closed first."""
        if self._opened is None or self._opened[0] != job:
            self._close_context()
            self._opened = job, open_context()
            if self._given is not None:
                self._given(self._opened[1])
        return self._opened[1]

    def _close_context(self) -> None:
        if self._opened is not None:
            self._closed_evaluated += self._opened[1].evaluated
            self._opened[1].close()
            self._opened = None

    def _job(self, results: Iterator[_T], total: int, progress: Progress | None) -> Iterator[_T]:
        """``results``, with reports, and safe from another job that uses the context meanwhile."""
        self._jobs += 1
        mine, counted = self._jobs, itertools.count(1)
        for result in results:  # enumerate would keep what it gave last
            done = next(counted)
            if progress is not None:
                progress(done, total)
            yield result
            del result  # a block of log-probabilities would be kept while the next one is computed
            if self._jobs != mine:
                raise UsageError("another job began on this engine before this one ended; use one after the other")


_S = TypeVar("_S", bound=Session)


def open_strict(
    file: ModelFile | Path,
    length: int,
    *,
    cache: KvCache | None = None,
    chunk: int | None = None,
    threads: int | None = None,
) -> Session:
    """A session in the most exact setting that llama.cpp has: on the CPU, by default with an F32 cache.

    The context is exactly as long as the text (llama.cpp pads it to a multiple of 256), because llama.cpp picks
    LongRoPE's short or long factors by the allocated context and transformers by the length in use.

    Args:
        file: a GGUF file.
        length: tokens of the text.
        cache: another KV cache or attention.
        chunk: see ``Session``.
        threads: as many as there are cores if None.

    Raises:
        UnsupportedModelError, RuntimeLibraryError, InputError: see ``Session``.
    """
    kept = KvCache() if cache is None else cache
    settings = InferenceSettings.choose(kept.kv_type, threads, kept.flash_attn, n_gpu_layers=0)
    session = Session(file, n_ctx=length, settings=settings, chunk=chunk)
    try:
        session.prepare()
    except BaseException:
        session.close()
        raise
    return session
