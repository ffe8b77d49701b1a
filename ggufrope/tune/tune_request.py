"""What ``ggufrope tune`` is asked for, and what of it is refused before a model is run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ggufrope.errors import UsageError
from ggufrope.evals.answer_kind import ANSWERS
from ggufrope.evals.task_kind import Task
from ggufrope.evals.tasks import TASKS, make, options
from ggufrope.files import check_output, real_path
from ggufrope.gguf import output_names
from ggufrope.methods.head_order import PER_PROMPT
from ggufrope.methods.table_file import check_table_name
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.text import did_you_mean

__all__ = ["ALSO", "DEPTHS", "Start", "TuneGoal", "TuneRequest", "check_tune_request", "goal_of", "task_of"]

DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)

#: Tasks that are read beside those that are tuned for, as far as they are not among them. Loss on plain text always is.
ALSO = ("niah", "kv-retrieval")

#: Texts of a report below which an interval of a difference is not computed (``report.difference``).
_FEWEST_REPORT = 6


@dataclass(frozen=True, slots=True)
class TuneGoal:
    """A task that is tuned for; ``weight``: how much it counts, and the share of the texts that training gets of it."""

    task: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Start:
    """The method that a run starts from, where a length is beyond the context: its name and parameters."""

    method: str
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TuneRequest:
    """What a person asked for; see ``ggufrope tune --help``.

    Attributes:
        file: the model.
        goals: the tasks that are tuned for.
        texts: plain texts, whose loss must not rise; training, selection and report get a part of each.
        lengths: of the tasks' texts, in tokens; a step's text has one of them.
        output: the file to write; None: none.
        table: the table to write as ``.npz``; None: none.
        settings: options of the tasks by name.
        also: tasks to report beside those that are tuned for.
        spaces: names, tried one after the other.
        engine: ``gradient``, ``blind`` or ``coordinate``; None: the first where it can be.
        start: the method to start from; None: the file as it is.
        depths: where answers stand, 0 to 1.
        steps: of each space, at most.
        minutes: for each space, at most.
        seed: of everything that is random.
        step_texts: texts of a step, beside one of plain text.
        select_every: steps from one reading of the selection split to the next.
        select_texts: texts of the selection split for each task and length.
        patience: readings without a better candidate, after which a space is left.
        report_texts: texts of the report split for each task and length.
        allow: the largest rise of the plain-text loss, as a share of itself.
        sliding: whether layers with a sliding window may be moved.
        chat_template: as ``evals.grid.Order`` has it.
        threads: as many as there are cores if None.
        device: of the gradient engine.
        dtype: of the gradient engine.
        overwrite: replace outputs, and a journal of another request.
        write_anyway: write the best candidate whatever the report says.
    """

    file: ModelFile
    goals: tuple[TuneGoal, ...]
    texts: tuple[Path, ...]
    lengths: tuple[int, ...]
    output: Path | None = None
    table: Path | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    also: tuple[str, ...] = ()
    spaces: tuple[str, ...] = ("full",)
    engine: str | None = None
    start: Start | None = None
    depths: tuple[float, ...] = DEPTHS
    steps: int | None = None
    minutes: float | None = None
    seed: int = 0
    step_texts: int = 1
    select_every: int = 10
    select_texts: int = 8
    patience: int = 5
    report_texts: int = 40
    allow: float = 0.01
    sliding: bool = False
    chat_template: Path | str | None = None
    threads: int | None = None
    device: str | None = None
    dtype: str | None = None
    overwrite: bool = False
    write_anyway: bool = False

    @property
    def longest(self) -> int:
        """The longest text, in tokens."""
        return max(self.lengths)

    @property
    def reported(self) -> tuple[str, ...]:
        """Tasks that are reported though nothing is tuned for them."""
        goals = {goal.task for goal in self.goals}
        return tuple(name for name in self.also or ALSO if name not in goals)

    def settings_of(self, task: str) -> Mapping[str, Any]:
        """Options for a task. One that nobody named has its defaults: a data file is not for it."""
        named = {goal.task for goal in self.goals}.union(self.also)
        return self.settings if task in named else {}


def goal_of(text: str) -> TuneGoal:
    """``kv-retrieval`` or ``kv-retrieval:2``, a task with a weight.

    Raises:
        UsageError: no such task, one that only compares, or a weight that is no number above 0.
    """
    name, colon, weight = text.partition(":")
    _known(name, "--for")
    try:
        value = float(weight) if colon else 1.0
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise UsageError(f"--for {text}: the weight behind the colon must be a number above 0")
    return TuneGoal(name, value)


def task_of(name: str, settings: Mapping[str, Any]) -> Task:
    """A task with those of the settings that it has.

    Raises:
        UsageError: a value that is not what the option is.
        InputError: a data file that cannot be used.
    """
    own = options(TASKS[name])
    return make(TASKS[name], {k: v for k, v in settings.items() if k.replace("-", "_") in own})


def check_tune_request(request: TuneRequest) -> None:
    """Refuse what cannot be carried out, before a model is run or anything is written.

    Raises:
        UsageError: options that make no sense, alone or together.
        OutputError: an output that would harm a file, see ``files.check_output``.
        InputError, GgufError, UnsupportedModelError: a model or data that cannot be used.
    """
    _check_options(request)
    _check_tasks(request)
    _check_model(request)
    _check_outputs(request)


def _check_outputs(request: TuneRequest) -> None:
    shards = request.file.headers
    given = [*request.texts, *request.settings.values(), request.chat_template]
    reads = [*(header.path for header in shards), *(Path(path) for path in given if isinstance(path, (str, Path)))]
    outputs = [] if request.output is None else [*output_names(request.output, len(shards))]
    if request.table is not None:
        check_table_name(request.table)
        if any(real_path(request.table) == real_path(output) for output in (request.output, *outputs) if output):
            raise UsageError(f"--table {request.table}: is also the name of -o; give it another one")
        outputs.append(request.table)
    for output in outputs:
        check_output(output, reads, overwrite=request.overwrite)


def _check_options(request: TuneRequest) -> None:
    if request.output is None and request.table is None:
        raise UsageError("no output given: add -o OUT.gguf, or --table OUT.npz for the table alone")
    if not request.goals:
        raise UsageError("no task given: add --for TASK, such as --for kv-retrieval")
    if request.steps is None and request.minutes is None:
        raise UsageError("no limit given: add --steps N or --minutes M")
    if not request.texts:
        raise UsageError("no text given: add --text FILE, plain text whose loss must not rise")
    counts = {
        "--steps": request.steps, "--step-texts": request.step_texts, "--select-every": request.select_every,
        "--select-texts": request.select_texts, "--patience": request.patience, "--threads": request.threads,
    }  # fmt: skip
    for name, count in counts.items():
        if count is not None and count < 1:
            raise UsageError(f"{name} {count}: must be 1 or more")
    if request.report_texts < _FEWEST_REPORT:
        raise UsageError(
            f"--report-texts {request.report_texts}: no interval comes out of so few; {_FEWEST_REPORT} are needed"
        )
    if request.minutes is not None and not 0 < request.minutes < math.inf:
        raise UsageError(f"--minutes {request.minutes:g}: a number above 0 is needed")
    if not 0 <= request.allow < 1:
        raise UsageError(f"--allow {request.allow:g}: a share from 0 to 1 is needed, such as 0.01 for 1%")
    if request.seed < 0:
        raise UsageError(f"--seed {request.seed}: a seed must be 0 or more")
    _each_once("--for", [goal.task for goal in request.goals])
    _each_once("--also", request.also)
    _each_once("--text", [real_path(path) for path in request.texts])
    _each_once("--depths", request.depths)
    _each_once("--space", request.spaces)
    _each_once("--length", request.lengths)
    if bad := [d for d in request.depths if not 0 <= d <= 1]:
        raise UsageError(f"--depths {bad[0]:g}: a depth must be from 0 (the beginning) to 1 (the end)")


def _check_tasks(request: TuneRequest) -> None:
    for name in request.also:
        _known(name, "--also")
    tasks = [task_of(name, request.settings) for name in (*(g.task for g in request.goals), *request.also)]
    for setting in request.settings:
        if not any(setting.replace("-", "_") in options(type(task)) for task in tasks):
            names = ", ".join(dict.fromkeys(task.name for task in tasks))
            raise UsageError(f"--set {setting}: none of the tasks ({names}) has this option; drop it")
    if twice := [t.name for t in tasks if t.kind is not ANSWERS and getattr(t, "window", None) is not None]:
        raise UsageError(f"--set window: {twice[0]} is tuned on whole texts; drop it")
    for task in tasks:
        for length in request.lengths:
            task.kind.check_length(task, length)


def _check_model(request: TuneRequest) -> None:
    file = request.file
    if file.unrotated:
        raise UsageError(f"{file.path}: {file.unrotated}, so there are no frequencies to tune; give another model")
    decoded = file.decoded
    if decoded.head_order in PER_PROMPT:
        raise UsageError(
            f"{file.path}: its heads are ordered anew for each prompt, and a table cannot be; tune the original "
            "(`ggufrope strip` restores it)"
        )
    if request.longest > decoded.context and request.start is None:
        raise UsageError(
            f"--length {request.longest}: {file.path} has a context of {decoded.context} tokens; add --from yarn (or "
            "another method that extends it) to start from, or give a smaller length"
        )
    if request.start is not None and request.longest <= decoded.context:
        raise UsageError(
            f"--from {request.start.method}: lengths up to {request.longest} are within the context of "
            f"{decoded.context} tokens, which no method has to extend; drop it"
        )


def _known(name: str, option: str) -> None:
    if name not in TASKS:
        hint = did_you_mean(name, TASKS, f"it is one of {', '.join(TASKS)}")
        raise UsageError(f"{option} {name}: unknown task: {hint}")
    if TASKS[name].kind.compares(TASKS[name]):
        raise UsageError(f"{option} {name}: the task compares two files, and has no answers or text; give another one")


def _each_once(name: str, values: Sequence[Any]) -> None:
    if twice := [v for i, v in enumerate(values) if v in values[:i]]:
        raise UsageError(f"{name} {twice[0]}: is given twice; once is enough")
