"""The model that is tuned, on the patched runtime: loaded once, read and asked with one table after the other."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ggufrope.evals.chat_wrapping import chosen_template, wrapper
from ggufrope.evals.file_facts import describe
from ggufrope.evals.machine import runtime_facts
from ggufrope.evals.positions import Sums
from ggufrope.evals.results import RuntimeFacts, TokenCounts
from ggufrope.evals.task_kind import CellRun, Measured
from ggufrope.inference.engine import Engine
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.tune.answer_form import answer_form
from ggufrope.tune.layout import PairLayout
from ggufrope.tune.report_split import CellProgress, ReportCell
from ggufrope.tune.runtime_reader import AnswerReading, RuntimeReader
from ggufrope.tune.tuning_texts import TuningText, texts_of
from ggufrope.validate.position_errors import edges

__all__ = ["ModelOnRuntime"]

Floats = NDArray[np.float64]


class ModelOnRuntime:
    """A ``CellMeasurer`` that also reads ``TuningText``.

    Attributes:
        reader: what reads.
        own: the pair factors that the file has, ``(layout.size,)``.
        facts: about the file, for results.
        runtime: what computes.
        chat: about the chat template, for results.
        wrap: puts it around what a user says.
    """

    def __init__(
        self, file: ModelFile, *, n_ctx: int, threads: int | None, sliding: bool, chat_template: Path | str | None
    ) -> None:
        """Open the file.

        Raises:
            GgufropeError: see ``RuntimeReader``, ``chosen_template`` and ``runtime_facts``.
        """
        facts = runtime_facts(threads=threads, flash_attn=None)
        template = chosen_template(file, chat_template)
        self.facts, self.chat = describe(file), _about(template, chat_template)
        self.reader = RuntimeReader(file, n_ctx=n_ctx, threads=threads, sliding=sliding)
        engine = self.reader.engine
        self.runtime = RuntimeFacts(
            facts.backend, facts.fingerprint, engine.settings.threads, engine.settings.flash_attn
        )
        self.own = np.asarray(engine.pair_factors(), np.float64)
        self.wrap = wrapper(file, template, chat_template, adds_bos=engine.begins_with_bos)

    @property
    def file(self) -> ModelFile:
        """That factors are relative to."""
        return self.reader.file

    @property
    def layout(self) -> PairLayout:
        """Of its pair factors."""
        return self.reader.layout

    @property
    def tokenizer(self) -> Engine:
        """Makes tokens."""
        return self.reader.engine

    def form(self, task: Any, length: int, depths: tuple[float, ...], n: int, seed: int) -> str:
        """What the model writes before an answer; see ``answer_form``."""
        self.reader.set(np.zeros(self.layout.size))
        return answer_form(self.reader.engine, task, length=length, depths=depths, n=n, seed=seed, wrap=self.wrap)

    def make(
        self, task: Any, length: int, depths: tuple[float, ...], n: int, seed: int, lead: str | None
    ) -> list[TuningText]:
        """Texts of a task; see ``texts_of``."""
        engine = self.reader.engine
        return texts_of(task, engine, length=length, depths=depths, n=n, seed=seed, wrap=self.wrap, lead=lead)

    def read(self, log_factors: Floats, texts: Sequence[TuningText]) -> list[list[AnswerReading]]:
        """Read texts with a table; see ``RuntimeReader.read``."""
        self.reader.set(log_factors)
        return self.reader.read(texts)

    def measure(self, log_factors: Floats, cell: ReportCell, progress: CellProgress) -> Measured:
        """See ``CellMeasurer``."""
        if cell.texts:
            return self._predicted(log_factors, cell, progress)
        self.reader.set(log_factors)
        run = CellRun(
            engine=self.reader.engine, baseline=None, length=cell.length, depths=cell.depths, limit=cell.limit,
            seed=cell.seed, file=self.facts, baseline_file=None, wrap=self.wrap, progress=progress,
        )  # fmt: skip
        return cell.task.kind.measure(cell.task, run)

    def _predicted(self, log_factors: Floats, cell: ReportCell, progress: CellProgress) -> Measured:
        """The loss of plain texts, by position, as the kind of task that reads texts has it."""
        sums = Sums(edges(cell.length, self.facts.trained))
        for done, text in enumerate(cell.texts):
            progress(done, len(cell.texts))
            question = text.questions[0]
            sums.begin((*text.prefix, *question.answer))
            sums.add(0, -np.asarray(self.read(log_factors, [text])[0][0].log_probs, np.float64))
        means = sums.means(cell.seed)
        parts = {
            "unit": "nats per token", "mean": means.mean, "by_position": means.by_position, "by_text": means.by_text,
            "baseline": None, "top1": None,
        }  # fmt: skip
        return Measured(means.n, means.low, means.high, means.interval, parts)

    def tokens(self) -> TokenCounts:
        """See ``CellMeasurer``."""
        engine = self.reader.engine
        return TokenCounts(engine.evaluated, max(engine.asked, engine.evaluated))

    def close(self) -> None:
        """Free model and context."""
        self.reader.close()

    def __enter__(self) -> ModelOnRuntime:
        return self

    def __exit__(self, _kind: type | None, _value: BaseException | None, _trace: TracebackType | None) -> None:
        self.close()


def _about(template: str | None, given: Path | str | None) -> Any:
    """What a line of results says of the chat template, as ``eval``'s do."""
    if template is None:
        return "none"
    if isinstance(given, Path):
        return {"name": given.name, "sha256": hashlib.sha256(template.encode()).hexdigest()}
    return "the model's own"
