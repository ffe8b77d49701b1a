"""What is to be run: files × types of the KV cache × lengths, checked before anything starts."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ggufrope import __version__
from ggufrope.errors import UsageError
from ggufrope.evals.chat_wrapping import chosen_template
from ggufrope.evals.file_facts import describe, require_same_tokenizer
from ggufrope.evals.results import SCHEMA, FileFacts, RuntimeFacts
from ggufrope.evals.task_kind import Task
from ggufrope.evals.tasks import TASKS, make, record
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.text import did_you_mean

__all__ = ["DEFAULT_DEPTHS", "Cell", "Grid", "Order", "plan"]

DEFAULT_DEPTHS = tuple(i / 8 for i in range(9))


@dataclass(frozen=True, slots=True)
class Order:
    """What somebody asked for.

    Attributes:
        files: GGUF files, each under a name of its own.
        task: name of a task.
        settings: the task's options by name: text, or values.
        lengths: tokens of an example; empty: the smallest context that the files have.
        depths: where answers stand, 0 to 1; empty: nine places from 0 to 1.
        kv_types: types of the KV cache.
        limit: texts in each cell.
        seed: of everything that is drawn.
        threads: None for as many as the machine has.
        baseline: what ``kl`` compares with.
        beyond_context: whether lengths beyond a file's context are meant.
        chat_template: a file with one; ``default``: the model's own, which it must have; ``none``; None: the model's
            own if it has one.
    """

    files: tuple[Path, ...]
    task: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    lengths: tuple[int, ...] = ()
    depths: tuple[float, ...] = ()
    kv_types: tuple[str, ...] = ("f16",)
    limit: int = 20
    seed: int = 0
    threads: int | None = None
    baseline: Path | None = None
    beyond_context: bool = False
    chat_template: Path | str | None = None


@dataclass(frozen=True, slots=True)
class Cell:
    """One line of the results to be.

    Attributes:
        model: the file.
        file: what there is to say about it.
        kv_type: type of the KV cache.
        length: tokens of an example.
        together: those that are read together: fewer where windows slide over a text.
        id: sha256 of everything that decides the result.
        chat: the chat template around its prompts; None for none.
    """

    model: ModelFile
    file: FileFacts
    kv_type: str
    length: int
    together: int
    id: str
    chat: str | None


@dataclass(frozen=True, slots=True)
class Grid:
    """A checked order.

    Attributes:
        order: what was asked for.
        task: the task with its options.
        options: those options for the results: files by name and sha256.
        depths: as they are asked; empty for tasks without.
        cells: file by file, type by type, shortest first: what belongs to one engine stands together.
        baseline: about ``order.baseline``.
        baseline_model: that file.
    """

    order: Order
    task: Task
    options: dict[str, Any]
    depths: tuple[float, ...]
    cells: tuple[Cell, ...]
    baseline: FileFacts | None
    baseline_model: ModelFile | None

    def engines(self) -> Iterator[tuple[ModelFile, str, list[Cell]]]:
        """The cells of each file and type of the KV cache."""
        groups: dict[tuple[ModelFile, str], list[Cell]] = {}
        for cell in self.cells:
            groups.setdefault((cell.model, cell.kv_type), []).append(cell)
        yield from ((model, kv_type, cells) for (model, kv_type), cells in groups.items())


def plan(order: Order, runtime: RuntimeFacts) -> Grid:
    """Check an order and name its cells. Nothing is run or written.

    Args:
        order: what was asked for.
        runtime: what will compute.

    Raises:
        UsageError: something in the order makes no sense; says what and how to put it right.
        InputError: a file that cannot be used.
    """
    task = _task(order)
    kept, depths = record(task), _depths(order, task)
    _each_once("--kv-type", order.kv_types)
    if order.limit < 1:
        raise UsageError(f"--limit {order.limit}: at least 1 text is needed")
    if order.seed < 0:
        raise UsageError(f"--seed {order.seed}: a seed must be 0 or more")
    if order.threads is not None and order.threads < 1:
        raise UsageError(f"--threads {order.threads}: at least one is needed")
    files = _files(order.files)
    base_model = _baseline(order, task, list(files))
    baseline = describe(base_model) if base_model else None
    lengths = _lengths(order, task, [*files.values(), *([baseline] if baseline else [])])
    fixed = {
        "schema": SCHEMA, "ggufrope": __version__, "task": order.task, "options": _nameless(kept), "depths": depths,
        "seed": order.seed, "limit": order.limit, "fingerprint": runtime.fingerprint, "flash_attn": runtime.flash_attn,
        "baseline": [baseline.header, baseline.weights] if baseline else None,
    }  # fmt: skip
    cells = []
    for model, facts in files.items():
        chat = chosen_template(model, order.chat_template) if task.kind.templated else None
        chat_hash = hashlib.sha256(chat.encode()).hexdigest() if chat is not None else None
        for kv_type in order.kv_types:
            for length in lengths:
                mine = {"header": facts.header, "weights": facts.weights, "kv": kv_type, "length": length}
                id_ = _hash({**fixed, **mine, "chat": chat_hash})
                together = task.kind.together(task, length)
                cells.append(Cell(model, facts, kv_type, length, together, id_, chat))
    return Grid(order, task, kept, depths, tuple(cells), baseline, base_model)


def _task(order: Order) -> Task:
    if order.task not in TASKS:
        hint = did_you_mean(order.task, TASKS, f"it is one of {', '.join(TASKS)}")
        raise UsageError(f"--task: unknown task '{order.task}': {hint}")
    task = make(TASKS[order.task], order.settings)
    task.kind.check(task)
    return task


def _depths(order: Order, task: Task) -> tuple[float, ...]:
    if task.kind.by_depth(task):
        for depth in order.depths:
            if not 0 <= depth <= 1 or math.isnan(depth):
                raise UsageError(f"--depths {depth:g}: a depth must be from 0 (the beginning) to 1 (the end)")
        _each_once("--depths", order.depths)
        return tuple(depth + 0.0 for depth in order.depths) or DEFAULT_DEPTHS  # 0.0 for 0 and -0.0
    if order.depths:
        raise UsageError(f"--depths: {task.name} has no depths; omit the option")
    return ()


def _files(paths: Sequence[Path]) -> dict[ModelFile, FileFacts]:
    if not paths:
        raise UsageError("no FILE given; name one or more GGUF files")
    known: dict[ModelFile, FileFacts] = {}
    for path in paths:
        facts = describe(model := ModelFile.open(path))
        for other, theirs in known.items():
            if (facts.header, facts.weights) == (theirs.header, theirs.weights):
                raise UsageError(
                    f"{other.path} and {path} are the same model, byte for byte as far as was looked; drop one"
                )
            if facts.name == theirs.name:
                raise UsageError(f"{other.path} and {path} would have the same name in the results; rename one")
        known[model] = facts
    return known


def _baseline(order: Order, task: Task, files: Sequence[ModelFile]) -> ModelFile | None:
    if not task.kind.compares(task):
        if order.baseline is not None:
            raise UsageError(f"--baseline: {task.name} has no baseline; the option is for kl")
        return None
    if order.baseline is None:
        raise UsageError(f"{task.name}: a baseline is needed; name a file with --baseline")
    wanted = order.baseline
    baseline = next((f for f in files if f.path == wanted), None) or ModelFile.open(wanted)
    for file in files:
        require_same_tokenizer(baseline, file)
    return baseline


def _lengths(order: Order, task: Task, files: list[FileFacts]) -> list[int]:
    lengths = sorted(order.lengths) or [min(f.context for f in files)]
    _each_once("--lengths", lengths)
    for length in lengths:
        if length < 1:
            raise UsageError(f"--lengths {length}: at least 1 token is needed")
        task.kind.check_length(task, length)
        for facts in files:
            if task.kind.together(task, length) > facts.context and not order.beyond_context:
                raise UsageError(
                    f"--lengths {length}: {facts.name} has a context of {facts.context} tokens; convert it for more "
                    "(`ggufrope plan` shows how), or add --beyond-context to see what it does there"
                )
    return lengths


def _each_once(name: str, values: Sequence[Any]) -> None:
    if not values and name == "--kv-type":
        raise UsageError(f"{name}: none given; name at least one")
    if twice := [v for i, v in enumerate(values) if v in values[:i]]:
        raise UsageError(f"{name}: {twice[0]} is given twice; once is enough")


def _nameless(value: Any) -> Any:
    """Options without the names of files: a file that was renamed is still the same."""
    if isinstance(value, dict):
        return {k: _nameless(v) for k, v in value.items() if not (k == "name" and "sha256" in value)}
    return value


def _hash(value: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
