"""What a run is made of: its request as JSON, the file that it starts from, its texts, and the cells of its report."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

from ggufrope import __version__
from ggufrope.convert.pipeline import ConvertRequest, carry_out
from ggufrope.evals.answer_kind import ANSWERS
from ggufrope.evals.tasks import record
from ggufrope.evals.tasks.perplexity import Perplexity
from ggufrope.files import read_bytes
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.tune.file_parts import in_parts
from ggufrope.tune.plain_text import PlainText
from ggufrope.tune.report_split import ALSO_READ, GOAL, LOSS, ReportCell
from ggufrope.tune.split_seeds import REPORT, TRAIN, split_seed
from ggufrope.tune.step_texts import GoalTexts, RunTexts, TextMaker
from ggufrope.tune.tune_request import TuneGoal, TuneRequest, task_of
from ggufrope.tune.tuning_texts import TextTokenizer

__all__ = ["report_cells", "request_record", "run_texts", "started"]

#: Texts of a task that is reported and not tuned for, at most.
_ALSO_TEXTS = 20


#: Texts from which the form of a model's answers is taken.
_FORM_TEXTS = 3
_FORM = "form"


class _Kept(Protocol):
    """The part of a journal that is needed here."""

    def get(self, name: str) -> Any | None:
        """What ``put`` wrote."""
        ...

    def put(self, name: str, value: Any) -> None:
        """Write a JSON file."""
        ...

    @property
    def folder(self) -> Path:
        """Where it is."""
        ...


def request_record(request: TuneRequest) -> dict[str, Any]:
    """All that decides what a run finds, as JSON; files by name and sha256.

    Raises:
        InputError, GgufError: a file that cannot be read.
    """
    tasks = [*(goal.task for goal in request.goals), *request.reported]
    chat: Any = request.chat_template
    return {
        "ggufrope": __version__,
        "file": {"name": request.file.path.name, "header": request.file.header_hash,
                 "weights": request.file.identity.weights},
        "for": {goal.task: goal.weight for goal in request.goals},
        "tasks": {name: record(task_of(name, request.settings_of(name))) for name in tasks},
        "texts": [_file(path) for path in request.texts],
        "lengths": list(request.lengths), "depths": list(request.depths), "spaces": list(request.spaces),
        "engine": request.engine, "from": None if request.start is None else asdict(request.start),
        "steps": request.steps, "minutes": request.minutes, "seed": request.seed, "step_texts": request.step_texts,
        "select_every": request.select_every, "select_texts": request.select_texts, "patience": request.patience,
        "report_texts": request.report_texts, "also": list(request.reported), "allow": request.allow,
        "sliding": request.sliding, "dtype": request.dtype,
        "chat_template": _file(chat) if isinstance(chat, Path) else chat,
    }  # fmt: skip


def _file(path: Path) -> dict[str, str]:
    return {"name": path.name, "sha256": hashlib.sha256(read_bytes(path)).hexdigest()}


def started(request: TuneRequest, journal: _Kept) -> ModelFile:
    """The file that factors are relative to: the model itself, or one with the method of ``--from`` in the journal.

    Raises:
        GgufropeError: see ``carry_out``.
    """
    if request.start is None:
        return request.file
    path = journal.folder / "start.gguf"
    if not path.exists():
        params = dict(request.start.params)
        carry_out(ConvertRequest(request.file.path, path, request.start.method, params, context=request.longest))
    return ModelFile.open(path)


class _Texts(Protocol):
    """The part of a model that is needed here."""

    @property
    def tokenizer(self) -> TextTokenizer:
        """Makes tokens."""
        ...

    @property
    def make(self) -> TextMaker:
        """Makes texts with questions."""
        ...

    def form(self, task: Any, length: int, depths: tuple[float, ...], n: int, seed: int) -> str:
        """What the model writes before an answer."""
        ...


def run_texts(request: TuneRequest, journal: _Kept, model: _Texts) -> RunTexts:
    """The texts of the run; parts of files are written to the journal, and so is the form of the model's answers.

    Raises:
        UsageError, InputError: a text or data file has too little, or cannot be read.
    """
    folder = journal.folder / "parts"
    folder.mkdir(exist_ok=True)
    plain = tuple(PlainText.read(path, model.tokenizer) for path in request.texts)
    texts = RunTexts((), plain, model.make, request.lengths, request.seed, request.step_texts, request.select_texts)
    texts.require_enough()
    forms = journal.get("forms.json") or {}
    goals = tuple(_goal(request, goal, folder, model, forms) for goal in request.goals)
    journal.put("forms.json", forms)
    return replace(texts, goals=goals)


def _goal(request: TuneRequest, goal: TuneGoal, folder: Path, model: _Texts, forms: dict[str, str]) -> GoalTexts:
    task: Any = task_of(goal.task, request.settings)
    if task.kind is not ANSWERS:
        return GoalTexts(goal.task, goal.weight, None, ())
    parts, depths = in_parts(task, folder), request.depths if task.by_depth else ()
    if goal.task not in forms:
        seed = split_seed(request.seed, _FORM)
        forms[goal.task] = model.form(parts[TRAIN], min(request.lengths), depths, _FORM_TEXTS, seed)
    return GoalTexts(goal.task, goal.weight, parts, depths, forms[goal.task])


def report_cells(request: TuneRequest, journal: _Kept, texts: RunTexts) -> list[ReportCell]:
    """What is read for the report: the goals, other tasks, and plain text, short and long.

    Raises:
        UsageError, InputError: see ``in_parts``.
    """
    cells = [
        _cell(request, journal, texts, goal.task, length, GOAL, goal.weight)
        for goal in request.goals
        for length in request.lengths
    ]
    for name in request.reported:
        cells += [_cell(request, journal, texts, name, length, ALSO_READ, 1.0) for length in request.lengths]
    return [*cells, *(_cell(request, journal, texts, Perplexity.name, n, LOSS, 1.0) for n in texts.kept_lengths)]


def _cell(
    request: TuneRequest, journal: _Kept, texts: RunTexts, name: str, length: int, role: str, weight: float
) -> ReportCell:
    seed = split_seed(request.seed, REPORT)
    task: Any = task_of(name, request.settings_of(name))
    if task.kind is not ANSWERS:
        plain = texts.report_kept(length)
        options = {"texts": [_file(path) for path in request.texts]}
        return ReportCell(task, options, length, (), len(plain), seed, role, weight, plain)
    limit = request.report_texts if role == GOAL else min(_ALSO_TEXTS, request.report_texts)
    part: Any = in_parts(task, journal.folder / "parts")[REPORT]
    depths = request.depths if task.by_depth else ()
    return ReportCell(part, record(part), length, depths, limit, seed, role, weight)
