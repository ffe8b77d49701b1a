"""Texts read on the patched runtime, with any table: one loaded model, another set of factors for each candidate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from ggufrope.errors import UnsupportedModelError, UsageError
from ggufrope.inference.engine import Engine
from ggufrope.inference.requests import TokenLikelihoods
from ggufrope.methods.head_order import PER_PROMPT
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.tune.layout import PairLayout
from ggufrope.tune.tuning_texts import TuningText

__all__ = ["AnswerReading", "RuntimeReader"]

Floats = NDArray[np.float64]

#: How likely a right answer's tokens are: log-probabilities and margins, ``(n_answer,)`` each.
AnswerReading = TokenLikelihoods


class RuntimeReader:
    """A file on the patched runtime that reads texts with factors of anyone's choice.

    Attributes:
        file: the file.
        layout: of its pair factors.
        engine: what reads; greedy decoding with the same factors is its ``greedy``.
    """

    def __init__(
        self,
        file: ModelFile | Path,
        *,
        n_ctx: int,
        threads: int | None = None,
        kv_type: str = "f16",
        sliding: bool = False,
    ) -> None:
        """Open ``file``.

        Args:
            file: a GGUF file, with or without keys of ours.
            n_ctx: tokens of the longest prompt with its answer. A file that rotates by the context that was allocated
                (LongRoPE without rows by length) reads shorter texts as in a context of this size.
            threads: as many as there are cores if None.
            kv_type: type of cached K and V.
            sliding: see ``PairLayout.of``.

        Raises:
            UsageError: an option that makes no sense.
            UnsupportedModelError: the file orders its heads anew for each prompt, or cannot carry factors by head.
            RuntimeLibraryError, InputError: the runtime is not built, or refused the file.
        """
        self.file = ModelFile.of(file)
        self.layout = PairLayout.of(self.file.decoded.model, sliding=sliding)
        if self.file.decoded.head_order in PER_PROMPT:
            raise UnsupportedModelError(
                f"{self.file.path}: its heads are ordered anew for each prompt, so that it has no table to tune; "
                "convert it with --calibrate TEXT, or with --method none, and tune that"
            )
        self.engine = Engine(self.file, n_ctx=n_ctx, kv_type=kv_type, threads=threads)
        try:
            self._own = self.engine.pair_factors().astype(np.float64)
        except BaseException:
            self.engine.close()
            raise

    def set(self, log_factors: Floats) -> None:
        """Read with the file's factors times ``exp(log_factors)`` from now on.

        Args:
            log_factors: ``(layout.size,)``; 0 is the file as it is.

        Raises:
            UsageError: their number is wrong, or one is not finite.
            ParameterError, RuntimeLibraryError: the runtime refuses the factors.
        """
        given = np.asarray(log_factors, np.float64)
        if given.shape != self._own.shape or not np.isfinite(given).all():
            raise UsageError(
                f"{self.file.path}: log factors of shape {given.shape}, finite ones of shape {self._own.shape} are "
                "needed; make them with a space on this file's layout"
            )
        self.engine.set_pair_factors(self._own * np.exp(given))

    def read(self, texts: Sequence[TuningText]) -> list[list[AnswerReading]]:
        """How likely each text's right answers are, with each prefix read once; a reading for each question.

        In a file whose frequencies follow the length, each question is read at the row of its own length.

        Raises:
            UsageError: a text does not fit the context.
            RuntimeLibraryError: llama.cpp failed, or the model computes no numbers with these factors.
        """
        return [self._read(text) for text in texts]

    def _read(self, text: TuningText) -> list[AnswerReading]:
        found = dict(self.engine.likelihoods(text.pairs(), by_token=True))
        return [tokens for place in range(len(found)) if (tokens := found[place].tokens) is not None]

    @property
    def tokens(self) -> int:
        """Tokens that were read so far."""
        return self.engine.evaluated

    def close(self) -> None:
        """Free model and context."""
        self.engine.close()

    def __enter__(self) -> RuntimeReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
