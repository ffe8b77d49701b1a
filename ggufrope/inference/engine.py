"""Asks a model: greedy answers and likelihoods beside log-probabilities, each token evaluated as rarely as possible."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from ggufrope.errors import UsageError
from ggufrope.inference.context import Context
from ggufrope.inference.decoder import Decoder, Reading, alone
from ggufrope.inference.likelihood import ScoredText
from ggufrope.inference.margin import margin
from ggufrope.inference.opening import UBATCH, InferenceSettings
from ggufrope.inference.prefixes import families
from ggufrope.inference.requests import Answer, Likelihood, Request
from ggufrope.inference.session import Progress, Session, chunk_size
from ggufrope.inference.stream import Stream, longest_answer
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.rope.length_rows import row_for

__all__ = ["Engine"]

Pair = tuple[tuple[int, ...], tuple[int, ...]]
_R = TypeVar("_R", bound=Reading)

_MAX_SEQ = 256  # LLAMA_MAX_SEQ
_SPARE = 64  # cells beyond n_ctx for each of the answers that are decoded side by side


class Engine(Session):
    """A GGUF file on the patched llama.cpp, to be asked many questions.

    Prompts that begin alike are evaluated once; answers go on side by side; a draft of an answer is checked in the
    pass that reads the prompt. ``share=False`` does none of this.

    Attributes, beside those of ``Session``:
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
            given = f"n_ctx {n_ctx}, n_batch {n_batch}, n_parallel {n_parallel}"
            raise UsageError(f"{given}: each must be at least 1, n_parallel at most {_MAX_SEQ - 1}")
        file = ModelFile.of(file)
        super().__init__(file, n_ctx=n_ctx, settings=InferenceSettings.choose(kv_type, threads, flash_attn))
        self._margin = margin(file, kv_type, flash_attn=self.settings.flash_attn)
        self._share = share and self._model.divisible and not self._model.per_prompt and n_batch > 1
        self._drafting = share and self._model.divisible
        self._n_cells = n_ctx + self._model.spare(n_ctx, _SPARE * n_parallel if self._share else 0)
        self._n_batch = min(n_batch, UBATCH, self._n_cells)
        self._n_parallel = min(n_parallel, self._n_batch - 1)
        self.asked = self.repeated = 0

    def greedy(self, requests: Sequence[Request], progress: Progress | None = None) -> Iterator[tuple[int, Answer]]:
        """Continue each request greedily; yields (place in ``requests``, answer) in the order in which they finish.

        Raises:
            UsageError: a prompt is empty or does not fit ``n_ctx`` with its answer.
            RuntimeLibraryError: llama.cpp failed.
        """
        for index, request in enumerate(requests):
            self._check(f"request {index}", len(request.prompt), max(0, request.max_new - 1))
        return self._job(self._greedy(requests), len(requests), progress)

    def likelihoods(
        self, pairs: Sequence[Pair], progress: Progress | None = None, *, by_token: bool = False
    ) -> Iterator[tuple[int, Likelihood]]:
        """How likely each pair's second part is behind its first; yields (place in ``pairs``, likelihood).

        A pair is read at once: in a file whose frequencies follow the length, at the row of both parts together.

        Args:
            pairs: context and continuation.
            progress: called with the pairs done and in all.
            by_token: whether to say how likely each token is. Each pair is then read once: ``greedy`` and ``margins``
                are what reading in company gives, even where decoding alone may find another token the likeliest.

        Raises:
            UsageError: a first part is empty, or both parts do not fit ``n_ctx``.
            RuntimeLibraryError: llama.cpp failed.
        """
        for index, (context, continuation) in enumerate(pairs):
            self._check(f"pair {index}", len(context), max(0, len(continuation) - 1))
        return self._job(self._likelihoods(pairs, by_token), len(pairs), progress)

    def _greedy(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        vocabulary, points = self._model.vocabulary, self._model.points

        def shared(index: int) -> Stream:
            limit = longest_answer(points, len(requests[index].prompt))
            return Stream(requests[index], vocabulary, limit=limit, early=True, margin=self._margin)

        def single(index: int) -> Stream:
            return Stream(requests[index], vocabulary, late=self._drafting and not self._share)

        for index, stream in self._run(len(requests), shared, single):
            self.asked += stream.asked
            yield index, stream.writer.answer()

    def _likelihoods(self, pairs: Sequence[Pair], by_token: bool) -> Iterator[tuple[int, Likelihood]]:
        margin = 0.0 if by_token else self._margin

        def shared(index: int) -> ScoredText:
            return ScoredText(*pairs[index], margin=margin, by_token=by_token)

        def single(index: int) -> ScoredText:
            return ScoredText(*pairs[index], apart=self._model.per_prompt, by_token=by_token)

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
                alone(self._answering(), reading)
            yield index, reading

    def _side_by_side(self, readings: Sequence[_R]) -> Iterator[tuple[int, _R]]:
        yield from ((index, reading) for index, reading in enumerate(readings) if reading.over)
        rows: dict[int, list[int]] = {}
        for index, reading in enumerate(readings):
            if not reading.over:
                rows.setdefault(row_for(self._model.points, len(reading.prompt)).index, []).append(index)
        for row, group in sorted(rows.items()):
            context = self._answering()
            context.clear(row=row)
            decoder = Decoder[_R](
                context, n_cells=self._n_cells, n_parallel=self._n_parallel, repeatable=self._model.repeatable
            )
            for family in families([readings[i].prompt for i in group], [readings[i].longest for i in group]):
                members = [group[place] for place in family.members]
                for place, reading in decoder.run([readings[index] for index in members], family.common):
                    yield members[place], reading

    def _answering(self) -> Context:
        """The context for answers."""
        n_seq = self._n_parallel + 1 if self._share else 1
        n_batch = self.n_ctx if self._model.per_prompt else self._n_batch
        rows = chunk_size(self.n_vocab, itemsize=4)
        return self._context(
            "answers",
            lambda: self._model.context(n_cells=self._n_cells, n_seq=n_seq, n_batch=n_batch, n_rows=rows),
        )
