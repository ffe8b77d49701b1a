"""A further kind of task is one class: a toy kind goes through grid, runner, store, command line and report."""

from __future__ import annotations

import ast
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from fake_engine import FakeEngine, model_file

import ggufrope
from ggufrope.cli import main
from ggufrope.errors import UsageError
from ggufrope.evals import machine, runner
from ggufrope.evals.intervals import bootstrap
from ggufrope.evals.result_line import from_json
from ggufrope.evals.store import read_results
from ggufrope.evals.task_kind import CellRun, Column, Measured, TaskKind
from ggufrope.evals.tasks import TASKS, kinds
from ggufrope.inference.requests import Request
from ggufrope.methods.protocol import option
from ggufrope.runtime.locate import Runtime

PACKAGE = Path(ggufrope.__file__).parent


class SpeedKind(TaskKind["Speed"]):
    """Tokens per second behind prompts of a length: no text, no depths, no answers that are right or wrong."""

    name: ClassVar[str] = "speed"
    parts: ClassVar[frozenset[str]] = frozenset({"unit", "mean"})
    required: ClassVar[tuple[str, ...]] = ("unit", "mean")

    def check_length(self, task, length):
        if length <= task.new:
            raise UsageError(f"speed: --lengths {length} is too short for {task.new} tokens; give more")

    def together(self, task, length):
        return length + task.new

    def measure(self, task: Speed, run: CellRun) -> Measured:
        rates = []
        for i in range(run.limit):
            start = time.perf_counter()
            prompt = tuple(run.engine.tokens(" w1" * (run.length - task.new)))
            list(run.engine.greedy([Request(prompt, max_new=task.new)], lambda *_, i=i: run.progress(i, run.limit)))
            rates.append(task.new / (time.perf_counter() - start))
        interval = bootstrap(rates, [1] * len(rates), run.seed)
        parts = {"unit": "tokens per second", "mean": sum(rates) / len(rates)}
        return Measured(len(rates), interval.low, interval.high, interval.kind, parts)

    def overall(self, result):
        return result.mean

    def unit(self, result):
        return result.unit

    def value(self, result):
        return f"{result.mean:.0f} tokens per second"

    def title(self, results):
        return f"{results[0].task}: {results[0].unit}, mean of {results[0].n} runs"

    def columns(self, results):
        return [Column("mean", lambda r: f"{r.mean:.0f}"), Column("runs", lambda r: str(r.n))]


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast a model writes."""

    kind: ClassVar[TaskKind[Any]] = SpeedKind()
    name: ClassVar[str] = "speed"
    summary: ClassVar[str] = "tokens per second behind a prompt"
    paper: ClassVar[str] = ""

    new: int = option(8, "tokens to write")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two models, and a registry with one task more, of a kind of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(TASKS, "speed", Speed)
    monkeypatch.setattr(runner, "_engine", lambda: FakeEngine)
    found = Runtime(Path("nowhere"), pin="1", patches="2", backend="cpu", programs=(), source="3")
    monkeypatch.setattr(machine, "locate", lambda: found)
    FakeEngine.reset()
    model_file(tmp_path / "a.gguf")
    model_file(tmp_path / "b.gguf", seed=1, template="<user>{{ messages[0].content }}</user>")
    return tmp_path


LINE = "eval a.gguf b.gguf --task speed --lengths 32,64 --limit 3 --set new=4 -o out"


def test_a_kind_of_its_own_goes_all_the_way(folder, capsys):
    assert main(LINE.split()) == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert lines[0] == "speed: tokens per second, mean of 3 runs"
    assert lines[2].split() == ["file", "kv", "length", "mean", "runs"]
    assert [line.split()[:3] for line in lines[3:7]] == [
        [f, "f16", n] for f in ("a.gguf", "b.gguf") for n in ("32", "64")
    ]
    assert all(line.split()[-1] == "3" and float(line.split()[3]) > 0 for line in lines[3:7])
    assert shown.err.count(" tokens per second (") == 4
    assert {engine.n_ctx for engine in FakeEngine.opened} == {68}  # what is read together, not the length

    stored = [json.loads(line) for line in (folder / "out/results.jsonl").read_text().splitlines()]
    assert [(made["kind"], made["task"], made["n"], made["options"]) for made in stored] == [
        ("speed", "speed", 3, {"new": 4, "limit": 3})  # no chat template: nothing is said
    ] * 4
    assert not {"score", "examples", "by_depth", "by_position", "baseline", "top1"} & stored[0].keys()
    assert stored[0]["unit"] == "tokens per second"

    # the same grid again: every cell is there, none is run
    FakeEngine.reset()
    assert main([*LINE.split(), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["results"] == stored
    assert FakeEngine.opened == []


def test_what_a_kind_refuses_is_refused_before_anything_runs(folder, capsys):
    for line, said in {
        LINE.replace("32,64", "3"): "speed: --lengths 3 is too short for 4 tokens",
        f"{LINE} --depths 0.5": "--depths: speed has no depths",
        f"{LINE} --baseline b.gguf": "--baseline: speed has no baseline",
        LINE.replace("32,64", "510"): "a.gguf has a context of 512 tokens",  # 514 with what is written
    }.items():
        assert main(line.split()) == 2
        assert said in capsys.readouterr().err
    assert FakeEngine.opened == []
    assert main(["eval", "--list-tasks"]) == 0
    assert "speed: tokens per second behind a prompt" in capsys.readouterr().out


def test_a_report_shows_it(folder, capsys):
    assert main(LINE.split()) == 0
    assert main("report out -o page.html -o page.md".split()) == 0
    page = (folder / "page.md").read_text()
    assert "tokens per second" in page
    assert "speed" in page


def test_lines_of_a_kind_need_its_parts(folder):
    assert main(LINE.split()) == 0
    line = json.loads((folder / "out/results.jsonl").read_text().splitlines()[0])
    assert from_json(line, "here") == read_results(folder / "out")[0][0]
    with pytest.raises(Exception, match="here: unit is missing"):
        from_json({k: v for k, v in line.items() if k != "unit"}, "here")
    with pytest.raises(Exception, match="kind is 'slow', not answers or positions or speed"):
        from_json(line | {"kind": "slow"}, "here")


def test_every_task_has_a_kind_and_every_kind_its_own_name():
    assert list(kinds()) == ["answers", "positions"]
    assert all(isinstance(task.kind, TaskKind) for task in TASKS.values())
    assert len({type(task.kind) for task in TASKS.values()}) == len(kinds())
    for kind in kinds().values():
        assert kind.result_by.__doc__ and set(kind.required) <= kind.parts | {"low", "high"}


def test_nobody_asks_which_kind_a_task_is():
    """Kinds are known by their methods: no ``isinstance`` on tasks, no comparison with a kind's name."""
    asked = []
    for path in (p for package in ("evals", "cli", "report") for p in (PACKAGE / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
            by_class = isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("isinstance", "issubclass")
            values = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
            by_name = isinstance(node, ast.Compare) and bool(values & set(kinds()))
            if by_name or (by_class and any(name.endswith(("Task", "Kind")) for name in names)):
                asked.append(f"{path.name}:{node.lineno}")
    assert asked == []
