"""``ggufrope tune`` as one call: search each space, choose by the selection split, judge by the report split, write."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ggufrope.errors import UnsupportedModelError, UsageError
from ggufrope.evals.store import Store
from ggufrope.last_words import note
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.tune.layout import PairLayout
from ggufrope.tune.report_split import ALSO_READ, GOAL, CellMeasurer, CellProgress, ReportCell, ReportRow, report_split
from ggufrope.tune.run_journal import RunJournal, journal_folder
from ggufrope.tune.run_setup import report_cells, request_record, run_texts, started
from ggufrope.tune.search_state import SearchState
from ggufrope.tune.searcher import Searcher
from ggufrope.tune.selection_split import GroupReading, SelectionReading, SelectionSplit
from ggufrope.tune.space_search import SearchLimits, search_space
from ggufrope.tune.spaces import space_named
from ggufrope.tune.spaces.space import Space
from ggufrope.tune.step_texts import RunTexts, SelectionGroup
from ggufrope.tune.tune_outcome import UNTOUCHED, RowOutcome, compare_rows, finite, rivals
from ggufrope.tune.tune_request import TuneRequest, check_tune_request
from ggufrope.tune.tuned_file import FoundTable, write_found_table, write_tuned
from ggufrope.tune.tuning_texts import TextTokenizer, TuningText

__all__ = ["TuneProgress", "TuneTools", "Tuned", "TunedModel", "tune"]

Floats = NDArray[np.float64]


class TunedModel(CellMeasurer, Protocol):
    """The model on the runtime: read with any table, and asked."""

    own: Floats

    @property
    def file(self) -> ModelFile:
        """That factors are relative to."""
        ...

    @property
    def layout(self) -> PairLayout:
        """Of its pair factors."""
        ...

    @property
    def tokenizer(self) -> TextTokenizer:
        """Makes tokens."""
        ...

    def form(self, task: Any, length: int, depths: tuple[float, ...], n: int, seed: int) -> str:
        """What the untouched model writes before an answer; see ``answer_form``."""
        ...

    def make(
        self, task: Any, length: int, depths: tuple[float, ...], n: int, seed: int, lead: str | None
    ) -> Sequence[TuningText]:
        """Texts of a task; see ``texts_of``."""
        ...

    def read(self, log_factors: Floats, texts: Sequence[TuningText]) -> Sequence[Sequence[Any]]:
        """Readings of each text's questions."""
        ...

    def close(self) -> None:
        """Free it."""
        ...


class TuneTools(Protocol):
    """What a run needs from outside: a model, searchers, and what others published."""

    def open_model(self, file: ModelFile, request: TuneRequest) -> TunedModel:
        """The model on the runtime, with a context that the longest text fits."""
        ...

    def engine(self, file: ModelFile, space: Space, request: TuneRequest) -> tuple[str, str]:
        """Which engine searches a space, and what is to be said of that choice; may be empty.

        Raises:
            UsageError, UnsupportedModelError: the one that was asked for cannot.
        """
        ...

    def searcher(
        self, engine: str, space: Space, model: TunedModel, texts: RunTexts, request: TuneRequest, journal: RunJournal
    ) -> Searcher:
        """A searcher at its start.

        Raises:
            UnsupportedModelError, UsageError: the engine cannot search the space of this model.
        """
        ...

    def published(
        self, model: TunedModel, texts: RunTexts, request: TuneRequest, journal: RunJournal
    ) -> list[ReportRow]:
        """Rows to compare with."""
        ...


@dataclass(frozen=True, slots=True)
class TuneProgress:
    """Who is told what.

    Attributes:
        say: called with a sentence at the beginning of each part.
        step: called after each step, with the space and how far it is.
        cell: called with what the report reads; gives what is called with questions done and in all.
    """

    say: Callable[[str], None] = lambda _text: None
    step: Callable[[str, SearchState], None] = lambda _space, _state: None
    cell: Callable[[str], CellProgress] = lambda _text: lambda _done, _of: None


@dataclass(frozen=True, slots=True)
class Tuned:
    """A finished run.

    Attributes:
        record: all of it as JSON; docs/tune.md has the keys.
        cells: of the report.
        rows: of the report, the untouched file first.
        searches: of each space.
        chosen: the space whose candidate the selection split liked best; empty where none was better.
        reason: why nothing was written; empty where something was.
        written: what was written.
        journal: the run's folder.
        notes: what a person should know.
    """

    record: dict[str, Any]
    cells: tuple[ReportCell, ...]
    rows: tuple[RowOutcome, ...]
    searches: dict[str, SearchState]
    chosen: str
    reason: str
    written: tuple[Path, ...]
    journal: Path
    notes: tuple[str, ...] = field(default=())


def tune(request: TuneRequest, tools: TuneTools, progress: TuneProgress | None = None) -> Tuned:
    """Carry a run out, from where its journal is.

    Raises:
        GgufropeError: see ``errors``; what was found so far is in the journal, and the same request goes on from there.
        KeyboardInterrupt: likewise.
    """
    check_tune_request(request)
    told = request_record(request)
    target = request.output or request.table
    if target is None:  # refused by check_tune_request
        raise UsageError("no output given: add -o OUT.gguf")
    begin, folder = time.monotonic(), journal_folder(target)
    with RunJournal(folder, told, overwrite=request.overwrite) as journal:
        note("kept", f"all steps are in {folder}, and the same command goes on from there")
        start = started(request, journal)
        model = tools.open_model(start, request)
        try:
            run = _Run(request, tools, progress or TuneProgress(), journal, start, model, told)
            return run.carry_out(begin)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"all steps are in {folder}; the same command goes on from there") from None
        finally:
            model.close()


class _Run:
    """A run with its model opened."""

    def __init__(
        self, request: TuneRequest, tools: TuneTools, progress: TuneProgress, journal: RunJournal, start: ModelFile,
        model: TunedModel, told: dict[str, Any],
    ) -> None:  # fmt: skip
        self.request, self.tools, self.progress, self.journal = request, tools, progress, journal
        self.start, self.model, self.told, self.notes = start, model, told, list[str]()
        self.spaces = [space_named(name) for name in request.spaces]
        self.engines = {}
        for space in self.spaces:
            self.engines[space.name], said = tools.engine(start, space, request)
            self.notes += [said] * bool(said and said not in self.notes)
        self.texts = run_texts(request, journal, model)
        self._require_engines()
        self.cells = [cell for cell in report_cells(request, journal, self.texts) if self._fits(cell)]

    def _require_engines(self) -> None:
        """Refuse to go on with another engine's state: which one there is depends on what is installed."""
        before = self.journal.get("engines.json") or {}
        for name, engine in self.engines.items():
            if before.get(name, engine) != engine and self.journal.load(name) is not None:
                raise UsageError(
                    f"{self.journal.folder}: space {name} was begun by the {before[name]} engine, and is now for the "
                    f"{engine} engine; give back what that one needs, or delete the folder to start anew"
                )
        self.journal.put("engines.json", self.engines)

    def _fits(self, cell: ReportCell) -> bool:
        """Whether a cell can be read; said now, not after the search. A task that nobody named is left out, if not."""
        if cell.texts:
            return True
        try:
            self.model.make(cell.task, cell.length, cell.depths, 1, cell.seed, None)
        except UsageError as error:
            if cell.role != ALSO_READ or self.request.also:
                raise
            why = str(error).partition(";")[0]
            self.notes.append(f"{cell.task.name} at {cell.length} tokens is not in the report: {why}")
            return False
        return True

    def carry_out(self, begin: float) -> Tuned:
        """Search, choose, judge, write."""
        selection = self._selection()
        searches = {space.name: self._search(space, selection) for space in self.spaces}
        better = {name: state for name, state in searches.items() if state.best_point.step > 0}
        chosen = min(better, key=lambda name: better[name].best_point.objective, default="")
        rows = self._rows(searches)
        self.progress.say("reading the report split")
        with Store(self.journal.folder / "report") as store:
            found = report_split(self.model, rows, self.cells, _hash(self.told), store, self.progress.cell)
        outcomes = compare_rows(rows, self.cells, found, self.request.allow)
        self.notes += rivals(outcomes, chosen, self._behind_a_method())
        reason, written = self._write(chosen, searches, outcomes)
        record = self._record(searches, chosen, outcomes, reason, written, time.monotonic() - begin)
        self.journal.put("run.json", record)
        return Tuned(
            record, tuple(self.cells), tuple(outcomes), searches, chosen, reason, written, self.journal.folder,
            tuple(self.notes),
        )  # fmt: skip

    def _behind_a_method(self) -> str:
        """Base, context and calibration of the rows to compare with, as ``convert`` takes them."""
        start, measured = self.request.start, self.journal.get("calibrated.json")
        base = "" if start is None else f"+{start.method} --context {self.request.longest}"
        return base + " --calibrate TEXT" * bool(measured)

    def _zero(self) -> Floats:
        return np.zeros(self.model.layout.size)

    def _selection(self) -> SelectionSplit:
        """The selection split, with what it says of the untouched file; refuses tasks with nothing to gain."""
        kept = self.journal.get("untouched.json")
        groups = self.texts.selection()
        losses = None if kept is None else {int(n): values for n, values in kept["losses"].items()}
        split = SelectionSplit(groups, self.texts.selection_kept(), self.model.read, losses)
        if kept is None:
            self.progress.say("reading the selection split with the untouched file")
            split.read_untouched(self._zero())
            reading = split.read(self._zero())
            self._require_finite(reading)
            self._require_something_to_gain(groups, reading)
            told = {"losses": split.untouched, "groups": [asdict(group) for group in reading.groups]}
            self.journal.put("untouched.json", told)
        return split

    def _require_finite(self, reading: SelectionReading) -> None:
        numbers = [*(rise.after for rise in reading.rises), *(group.objective for group in reading.groups)]
        if not np.isfinite(numbers).all():
            raise UnsupportedModelError(
                f"{self.request.file.path}: computes NaN or infinities on the selection split as it is, so that "
                "nothing can be compared with it; check the file, and the --text"
            )

    def _require_something_to_gain(self, groups: Sequence[SelectionGroup], reading: SelectionReading) -> None:
        for task in dict.fromkeys(group.task for group in groups):
            own = [group for group in reading.groups if group.task == task]
            if all(group.right in (0.0, 1.0) for group in own):
                _refuse_saturated(self.request, own, [self._greedy(group) for group in own])

    def _greedy(self, group: GroupReading) -> float:
        """The score of a task in the selection split by greedy decoding: what answers really are."""
        cell = next(c for c in self.cells if c.role == GOAL and (c.task.name, c.length) == (group.task, group.length))
        goal = next(goal for goal in self.texts.goals if goal.task == group.task)
        selected = self.texts.selection_cell(cell, goal, self.request.select_texts)
        self.progress.say(f"asking {group.task} at {group.length} tokens, untouched")
        measured = self.model.measure(self._zero(), selected, self.progress.cell("untouched"))
        return float(measured.parts["score"])

    def _search(self, space: Space, selection: SelectionSplit) -> SearchState:
        layout, request = self.model.layout, self.request
        start = space.start(layout, self.start)
        limits = SearchLimits(
            request.steps, None if request.minutes is None else 60 * request.minutes, request.select_every,
            request.patience, request.allow,
        )  # fmt: skip
        engine = self.engines[space.name]
        self.progress.say(f"space {space.name}: {space.n_parameters(layout)} numbers, {engine} engine")
        return search_space(
            space.name,
            lambda: self.tools.searcher(engine, space, self.model, self.texts, request, self.journal),
            lambda theta: selection.read(space.log_factors(theta, layout, self.start)),
            start,
            limits,
            self.journal,
            lambda state: self.progress.step(space.name, state),
        )

    def _rows(self, searches: dict[str, SearchState]) -> list[ReportRow]:
        rows = [ReportRow(UNTOUCHED, self._zero())]
        rows += self.tools.published(self.model, self.texts, self.request, self.journal)
        for space in self.spaces:
            state = searches[space.name]
            if state.best_point.step > 0:
                log_factors = self._found(space, state)
                rows.append(ReportRow(space.name, log_factors, f"tuned {space.name}", {"space": space.name}, True))
            else:
                self.notes.append(f"space {space.name}: no candidate was better on the selection split, so no row")
        return rows

    def _found(self, space: Space, state: SearchState) -> Floats:
        return space.log_factors(state.best, self.model.layout, self.start)

    def _write(
        self, chosen: str, searches: dict[str, SearchState], outcomes: Sequence[RowOutcome]
    ) -> tuple[str, tuple[Path, ...]]:
        if not chosen:
            return "no candidate was better on the selection split", ()
        outcome = next(outcome for outcome in outcomes if outcome.row.space and outcome.row.name == chosen)
        reason = outcome.gain.reason if outcome.gain else "it was not measured"
        if reason and not self.request.write_anyway:
            return reason, ()
        params = {"tune": self._params(chosen, searches[chosen], outcome)}
        factors = self.model.own * np.exp(outcome.row.log_factors)
        found = FoundTable(self.start, self.model.layout, factors, params)
        written = []
        if self.request.table is not None:
            write_found_table(self.request.table, found)
            written.append(self.request.table)
        if self.request.output is not None:
            source, output = self.request.file.path, self.request.output
            written.append(write_tuned(source, output, found, overwrite=self.request.overwrite))
        return reason, tuple(written)

    def _params(self, chosen: str, state: SearchState, outcome: RowOutcome) -> dict[str, Any]:
        """How the table was found, for ``ggufrope.params``."""
        gained = outcome.gain
        own = {
            **{name: self.told[name] for name in ("for", "lengths", "seed", "texts", "allow")},
            "space": chosen, "engine": self.engines[chosen], "steps": state.best_point.step,
            "forms": self.journal.get("forms.json"),
        }  # fmt: skip
        if gained is None:
            return own
        loss = {str(rise.length): round(rise.share, 6) for rise in gained.rises}
        shown = {"value": gained.value, "low": gained.low, "high": gained.high}
        told = {**own, "gain": {k: None if v is None else round(v, 6) for k, v in shown.items()}, "loss_rise": loss}
        return dict(finite(told))

    def _record(
        self, searches: dict[str, SearchState], chosen: str, outcomes: Sequence[RowOutcome], reason: str,
        written: Sequence[Path], seconds: float,
    ) -> dict[str, Any]:  # fmt: skip
        layout = self.model.layout
        spaces = [
            {
                "name": space.name, "engine": self.engines[space.name], "parameters": space.n_parameters(layout),
                "best_step": searches[space.name].best_point.step, **searches[space.name].record(),
            }
            for space in self.spaces
        ]  # fmt: skip
        told = {
            "schema": 1, "kind": "tune", "request": self.told, "spaces": spaces, "chosen": chosen or None,
            "rows": [outcome.as_json(self.cells) for outcome in outcomes], "written": [path.name for path in written],
            "forms": self.journal.get("forms.json"), "agreement": self.journal.get("agreement.json"),
            "reason": reason, "notes": self.notes, "seconds": round(seconds, 1), "peak_memory": _peak_memory(),
        }  # fmt: skip
        return dict(finite(told))


def _refuse_saturated(request: TuneRequest, groups: Sequence[GroupReading], scores: Sequence[float]) -> None:
    """Refuse a task that the untouched file answers always, or never, at every length."""
    if not all(score in (0.0, 1.0) for score in scores):
        return
    task, lengths = groups[0].task, ", ".join(str(group.length) for group in groups)
    if all(score == 1.0 for score in scores):
        found, other = "every answer is right (score 1.00 everywhere)", _longer(request)
    elif not any(scores):
        shorter = max(groups[0].length // 2, 64)
        found, other = "no answer is right (score 0.00 everywhere)", f"a shorter one, such as {shorter}"
    else:
        found, other = "every answer is right at some lengths and none at others", "one in between"
    raise UsageError(
        f"--for {task}: at --length {lengths} the untouched {request.file.path} has nothing to gain: {found} of "
        f"{groups[0].questions} in the selection split; try {other}"
    )


def _longer(request: TuneRequest) -> str:
    """A length that may be too much for the untouched file, and how to ask for it."""
    most = 2 * request.longest if request.start else min(2 * request.longest, request.file.decoded.context)
    if most > request.longest:
        return f"a longer one, such as {most}"
    return f"a longer one, such as {2 * request.longest} with --from yarn, or a harder task"


def _hash(told: dict[str, Any]) -> str:
    import hashlib
    import json

    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _peak_memory() -> int | None:
    """Bytes; of this process, from its beginning. None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
