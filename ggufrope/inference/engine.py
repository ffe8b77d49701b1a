"""Asks a model: greedy answers, likelihoods and log-probabilities, each token evaluated as rarely as possible."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ggufrope.errors import UnsupportedModelError, UsageError
from ggufrope.inference.context import Context, Feed
from ggufrope.inference.decoder import Decoder, Reading, alone
from ggufrope.inference.likelihood import ScoredText
from ggufrope.inference.margin import doubt
from ggufrope.inference.opening import UBATCH, InferenceSettings, Model
from ggufrope.inference.prefixes import families
from ggufrope.inference.requests import Answer, Likelihood, Request
from ggufrope.inference.stream import Stream, longest_answer
from ggufrope.inference.strict import chunk_size, log_softmax
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.rope.length_rows import row_for

__all__ = ["Engine"]

Progress = Callable[[int, int], None]
Pair = tuple[tuple[int, ...], tuple[int, ...]]
_T = TypeVar("_T")
_R = TypeVar("_R", bound=Reading)

#: Logits in a block of log-probabilities: 16 MB. Two engines in step (kl) hold everything twice.
_STREAMED = 2**21
_MAX_SEQ = 256  # LLAMA_MAX_SEQ
_SPARE = 64  # cells beyond n_ctx for each of the answers that are decoded side by side


class Engine:
    """A GGUF file on the patched llama.cpp, to be asked many questions.

    Prompts that begin alike are evaluated once; answers go on side by side; an answer that was hoped for is checked in
    the pass that reads the prompt. ``share=False`` does none of this.

    Attributes:
        n_ctx: tokens that a prompt and its answer may have together.
        n_vocab: tokens of the vocabulary.
        train_ctx: the context that the model was trained for, or that its file aims at.
        chat_template: the model's chat template; None if it has none.
        begins_with_bos: whether ``prompt`` puts a BOS first.
        settings: types, threads and flash attention in use.
        asked: tokens that decoding each request alone would have read.
        repeated: requests that were decoded alone after all, because a choice was too close.
    """

    def __init__(
        self,
        file: ModelFile | Path,
        *,
        n_ctx: int,
        kv_type: str = "f16",
        threads: int | None = None,
        n_batch: int = 512,
        n_parallel: int = 16,
        flash_attn: bool | None = None,
        share: bool = True,
    ) -> None:
        """Open ``file``.

        Args:
            file: a GGUF file, with or without keys of ours; it is opened where it is not yet.
            n_ctx: tokens that a prompt and its answer may have together; it may be more than the trained context.
            kv_type: type of cached K and V: f32, f16, q8_0 or q4_0.
            threads: as many as there are cores if None.
            n_batch: tokens of a batch; 512 at most.
            n_parallel: answers that are decoded side by side.
            flash_attn: if None on for a quantized cache, off for others.
            share: whether to evaluate what requests have in common once, and to try drafts.

        Raises:
            UsageError: an option that makes no sense.
            UnsupportedModelError: the model does not continue texts.
            RuntimeLibraryError, InputError: the runtime is not built, or refused the file.
        """
        if n_ctx < 1 or n_batch < 1 or not 1 <= n_parallel < _MAX_SEQ:
            found = f"n_ctx {n_ctx}, n_batch {n_batch}, n_parallel {n_parallel}"
            raise UsageError(f"{found}: each is at least 1, n_parallel at most {_MAX_SEQ - 1}")
        self.settings = InferenceSettings.choose(kv_type, threads, flash_attn)
        file = ModelFile.of(file)
        self._model = Model(file, self.settings)
        self._doubt = doubt(file, kv_type, flash_attn=self.settings.flash_attn)
        self._share = share and self._model.divisible and not self._model.per_prompt and n_batch > 1
        self._hoping = share and self._model.divisible
        self.n_ctx, self._n_cells = n_ctx, n_ctx + self._model.spare(n_ctx, _SPARE * n_parallel if self._share else 0)
        self._n_batch = min(n_batch, UBATCH, self._n_cells)
        self._n_parallel = min(n_parallel, self._n_batch - 1)
        self._opened: tuple[bool, Context] | None = None  # whether it is the one for streaming
        self._closed_evaluated = 0
        self._jobs = 0
        self.asked = self.repeated = 0
        self.n_vocab, self.train_ctx = self._model.vocabulary.size, self._model.train_ctx
        self.chat_template = self._model.chat_template
        self.begins_with_bos = self._model.vocabulary.begins_with_bos

    @property
    def evaluated(self) -> int:
        """Tokens that were read so far, in all jobs."""
        return self._closed_evaluated + (self._opened[1].evaluated if self._opened else 0)

    def tokens(self, text: str, *, special: bool = False) -> list[int]:
        """Tokens of ``text`` as it stands, without a BOS; with ``special``, names of special tokens mean those."""
        return self._model.vocabulary.tokens(text, whole=False, special=special)

    def prompt(self, text: str) -> list[int]:
        """Tokens of ``text`` as llama.cpp's programs read it: a BOS if the model wants one, special tokens known."""
        return self._model.vocabulary.tokens(text, whole=True, special=True)

    def text(self, ids: Sequence[int]) -> str:
        """The text of ``ids``, as an answer of these tokens has it."""
        return self._model.vocabulary.text(ids)

    def greedy(self, requests: Sequence[Request], progress: Progress | None = None) -> Iterator[tuple[int, Answer]]:
        """Continue each request greedily; yields (place in ``requests``, answer) in the order in which they finish.

        Raises:
            UsageError: a prompt is empty or does not fit ``n_ctx`` with its answer.
            RuntimeLibraryError: llama.cpp failed.
        """
        for index, request in enumerate(requests):
            self._check(f"request {index}", len(request.prompt), max(0, request.max_new - 1))
        return self._job(self._greedy(requests), len(requests), progress)

    def likelihoods(self, pairs: Sequence[Pair], progress: Progress | None = None) -> Iterator[tuple[int, Likelihood]]:
        """How likely each pair's second part is behind its first; yields (place in ``pairs``, likelihood).

        A pair is read at once: in a file whose frequencies follow the length, at the row of both parts together.

        Raises:
            UsageError: a first part is empty, or both parts do not fit ``n_ctx``.
            RuntimeLibraryError: llama.cpp failed.
        """
        for index, (context, continuation) in enumerate(pairs):
            self._check(f"pair {index}", len(context), max(0, len(continuation) - 1))
        return self._job(self._likelihoods(pairs), len(pairs), progress)

    def log_probs(self, ids: Sequence[int]) -> Iterator[npt.NDArray[np.float64]]:
        """Log-probabilities of the next token behind each token of ``ids``: blocks ``(positions, n_vocab)``, in order.

        Memory is that of a block, however long the text. A block's positions number at most 256, fewer for a large
        vocabulary; the text is read at the row of its whole length where frequencies follow that.

        Raises:
            UsageError: no token, or more than ``n_ctx``.
            UnsupportedModelError: the file orders heads anew for each prompt.
            RuntimeLibraryError: llama.cpp failed.
        """
        self._check("text", len(ids), 0)
        if self._model.per_prompt:
            raise UnsupportedModelError(
                f"{self._model.file}: its heads are ordered anew for each prompt, and a text without one has no order; "
                "convert it with --calibrate TEXT instead"
            )
        return self._job(self._log_probs(ids), 1, None)

    def close(self) -> None:
        """Free model and context."""
        self._close_context()
        self._model.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _check(self, name: str, prompt: int, more: int) -> None:
        if not prompt:
            raise UsageError(f"{name}: no token to begin with")
        if prompt + more > self.n_ctx:
            raise UsageError(f"{name}: {prompt} tokens and {more} behind them do not fit n_ctx {self.n_ctx}")

    def _greedy(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        vocabulary, points = self._model.vocabulary, self._model.points

        def shared(index: int) -> Stream:
            limit = longest_answer(points, len(requests[index].prompt))
            return Stream(requests[index], vocabulary, limit=limit, early=True, doubt=self._doubt)

        def single(index: int) -> Stream:
            return Stream(requests[index], vocabulary, late=self._hoping and not self._share)

        for index, stream in self._run(len(requests), shared, single):
            self.asked += stream.asked
            yield index, stream.writer.answer()

    def _likelihoods(self, pairs: Sequence[Pair]) -> Iterator[tuple[int, Likelihood]]:
        def shared(index: int) -> ScoredText:
            return ScoredText(*pairs[index], doubt=self._doubt)

        def single(index: int) -> ScoredText:
            return ScoredText(*pairs[index], apart=self._model.per_prompt)

        for index, text in self._run(len(pairs), shared, single):
            self.asked += text.asked
            yield index, text.likelihood

    def _run(self, count: int, shared: Callable[[int], _R], single: Callable[[int], _R]) -> Iterator[tuple[int, _R]]:
        """Run readings that share what they can, then those alone for which that gave nothing."""
        again: list[int] = list(range(count))
        if self._share:
            readings = [shared(index) for index in range(count)]
            again = []
            for index, reading in self._side_by_side(readings):
                self.repeated += reading is not readings[index] or reading.void
                if reading.void:
                    again.append(index)
                else:
                    yield index, reading
        for index in again:
            reading = single(index)
            if not reading.over:
                alone(self._context(), reading)
            yield index, reading

    def _side_by_side(self, readings: Sequence[_R]) -> Iterator[tuple[int, _R]]:
        yield from ((index, reading) for index, reading in enumerate(readings) if reading.over)
        rows: dict[int, list[int]] = {}
        for index, reading in enumerate(readings):
            if not reading.over:
                rows.setdefault(row_for(self._model.points, len(reading.prompt)).index, []).append(index)
        for row, group in sorted(rows.items()):
            context = self._context()
            context.clear(row=row)
            decoder = Decoder[_R](
                context, n_cells=self._n_cells, n_parallel=self._n_parallel, repeatable=self._model.repeatable
            )
            for family in families([readings[i].prompt for i in group], [readings[i].longest for i in group]):
                members = [group[place] for place in family.members]
                for place, reading in decoder.run([readings[index] for index in members], family.common):
                    yield members[place], reading

    def _log_probs(self, ids: Sequence[int]) -> Iterator[npt.NDArray[np.float64]]:
        context = self._context(streaming=True)
        context.clear(length=len(ids))
        for _, rows in context.decode([Feed(0, 0, ids, len(ids))]):
            yield log_softmax(rows)

    def _context(self, *, streaming: bool = False) -> Context:
        """The context for answers or for streaming, of which only one exists at a time."""
        if self._opened is None or self._opened[0] != streaming:
            self._close_context()
            rows = chunk_size(self.n_vocab)
            if streaming:
                rows = min(rows, max(1, _STREAMED // self.n_vocab))
                context = self._model.context(n_cells=self.n_ctx, n_seq=1, n_batch=rows, n_rows=rows)
            else:
                n_seq = self._n_parallel + 1 if self._share else 1
                n_batch = self.n_ctx if self._model.per_prompt else self._n_batch
                context = self._model.context(n_cells=self._n_cells, n_seq=n_seq, n_batch=n_batch, n_rows=rows)
            self._opened = streaming, context
        return self._opened[1]

    def _close_context(self) -> None:
        if self._opened is not None:
            self._closed_evaluated += self._opened[1].evaluated
            self._opened[1].close()
            self._opened = None

    def _job(self, results: Iterator[_T], total: int, progress: Progress | None) -> Iterator[_T]:
        """``results``, with reports, and safe from another job that uses the context meanwhile."""
        self._jobs += 1
        mine = self._jobs
        for done, result in enumerate(results, 1):
            if progress is not None:
                progress(done, total)
            yield result
            if self._jobs != mine:
                raise UsageError("another job began on this engine before this one ended; use one after the other")
