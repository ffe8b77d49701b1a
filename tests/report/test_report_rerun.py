"""The command that a report prints makes the same cells again: options → results → command → options."""

from __future__ import annotations

import json
import shlex

import pytest
import results_maker as made
from fake_engine import FakeEngine, model_file

from ggufrope.cli._eval_options import make_order
from ggufrope.cli.eval import command
from ggufrope.evals.grid import plan
from ggufrope.evals.results import RuntimeFacts
from ggufrope.evals.runner import run
from ggufrope.evals.store import Store
from ggufrope.evals.tasks import TASKS
from ggufrope.report.rerun import command_lines
from ggufrope.report.study import study

RUNTIME = RuntimeFacts("cpu", "0", None, None)
WORDING = {
    "needle": "{key} is {value}.", "question": " What is {key}?", "start": "{key} is", "keys": ["a", "b", "c"],
    "filler": ["it rains.", "it snows."],
}  # fmt: skip
PAIRS = [[f"k{i}", f"v{i}"] for i in range(40)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Models and files with names that a shell or a parser of options could take for something else."""
    monkeypatch.chdir(tmp_path)
    FakeEngine.reset()
    for seed, name in enumerate(("a.gguf", "-it's a model.gguf", "$b.gguf")):
        model_file(tmp_path / name, seed=seed, template="<{{ messages[0].content }}>" if name == "$b.gguf" else None)
    model_file(tmp_path / "long.gguf", seed=9, context=1024)
    (tmp_path / "a text.txt").write_text("".join(f" w{i % 41}" for i in range(3000)))
    for name in ("my 'own' template.jinja", "default"):
        (tmp_path / name).write_text("[{{ messages[0].content }}]")
    (tmp_path / '-"wording".json').write_text(json.dumps(WORDING))
    (tmp_path / "hay=stack.txt").write_text("It rains here. It snows there. " * 200)
    (tmp_path / "pairs,1.jsonl").write_text(
        "\n".join(json.dumps({"ordered_kv_records": PAIRS, "key": k, "value": v}) for k, v in PAIRS[:3])
    )
    (tmp_path / "asked;.jsonl").write_text("\n".join(json.dumps(question(i)) for i in range(40)))
    return tmp_path


def question(i):
    """A line for mdqa."""
    return {"question": f"who {i}", "answers": [f"x{i}"], "ctxs": [{"title": f"t{i}", "text": f"It was x{i}."}]}


def planned(words):
    """The cells that a command names, by what ``ggufrope eval`` itself makes of its options."""
    with command.make_context("eval", list(words)) as context:
        options = dict(context.params)
    return plan(make_order(options.pop("files"), options), RUNTIME)


def again(folder):
    """What the commands of a report on all results are, as words behind ``ggufrope eval``."""
    lines = [line for group in study([folder / "out"]).groups for line in command_lines(group)]
    assert all(line.startswith("ggufrope eval ") and line.endswith(" -o results/") for line in lines)
    return [shlex.split(line)[2:] for line in lines]


NIAH = "--task niah --set keys=3 --lengths 256 --limit 2"
EVERY = [
    f"a.gguf {NIAH}",
    f"a.gguf long.gguf {NIAH} --set shuffled=true --set answer-tokens=7 --seed 7 --lengths 256,300 --kv-type f16,q8_0",
    f"a.gguf {NIAH} --depths 0,0.0000001,0.1,0.30000000000000004,1",
    f"'$b.gguf' {NIAH}",
    f"'$b.gguf' {NIAH} --chat-template default",
    f"'$b.gguf' {NIAH} --no-chat-template",
    f"a.gguf {NIAH} --chat-template \"my 'own' template.jinja\"",
    f"'$b.gguf' {NIAH} --chat-template ./default",
    f'"./-it\'s a model.gguf" {NIAH} --wording \'-"wording".json\'',
    f"a.gguf {NIAH} --haystack hay=stack.txt",
    "a.gguf --task kv-retrieval --data pairs,1.jsonl --set keys=20 --lengths 512 --depths 0,1 --limit 9",
    "a.gguf --task passkey --set digits=4 --lengths 256 --limit 2 --threads 3",
    "a.gguf --task mdqa --data 'asked;.jsonl' --set documents=3 --set question_first=true --lengths 400 --depths 0,1",
    "a.gguf --task babi-who --set facts=1 --set chains=2 --lengths 450 --depths 1 --limit 2",
    "a.gguf --task ruler-vt --lengths 300 --limit 3 --set chains=1 --set hops=2",
    "a.gguf --task ppl --text 'a text.txt' --lengths 600,1400 --set window=400 --set stride=100 --limit 2",
    "a.gguf --task ppl --text 'a text.txt' --lengths 600 --limit 2 --beyond-context",
    "'$b.gguf' --task kl --baseline \"./-it's a model.gguf\" --text 'a text.txt' --lengths 300 --limit 2",
    "long.gguf --task kl --baseline a.gguf --text 'a text.txt' --lengths 600 --limit 1 --beyond-context",
]


@pytest.mark.parametrize("line", EVERY)
def test_a_run_is_named_by_its_results(folder, line):
    grid = planned(shlex.split(line))
    with Store(folder / "out") as store:
        threads = {done.result.runtime.threads for done in run(grid, RUNTIME, store, open_engine=FakeEngine)}
    (words,) = again(folder)
    repeated = planned(words)
    assert [cell.id for cell in repeated.cells] == [cell.id for cell in grid.cells]
    assert {repeated.order.threads} == threads  # FakeEngine always has flash attention on
    with Store(folder / "out") as store:
        assert not any(done.fresh for done in run(repeated, RUNTIME, store, open_engine=FakeEngine))


def test_an_edition_is_no_option(folder, monkeypatch):
    monkeypatch.setattr(TASKS["niah"], "edition", 2, raising=False)
    test_a_run_is_named_by_its_results(folder, f"a.gguf {NIAH}")


def test_several_runs_are_named_by_commands_that_make_their_cells_and_no_others(folder):
    runs = [
        f"a.gguf '$b.gguf' {NIAH} --no-chat-template",
        f"a.gguf {NIAH} --lengths 300",
        f"a.gguf {NIAH} --kv-type q8_0",
        f"long.gguf {NIAH} --lengths 256,1000",
        f"long.gguf {NIAH} --threads 2 --lengths 700",
        f"long.gguf {NIAH} --limit 3 --lengths 800",
    ]
    grids = [planned(shlex.split(line)) for line in runs]
    with Store(folder / "out") as store:
        for grid in grids:
            list(run(grid, RUNTIME, store, open_engine=FakeEngine))
    cells = [cell.id for words in again(folder) for cell in planned(words).cells]
    assert sorted(cells) == sorted(cell.id for grid in grids for cell in grid.cells)


def test_threads_are_named_where_flash_attention_made_the_sums(tmp_path):
    line = made.answers(made.facts())
    for flash_attn, named in ((True, True), (False, False), (None, False)):
        runtime = line["runtime"] | {"flash_attn": flash_attn}
        (group,) = study([made.write(tmp_path, [line | {"runtime": runtime}])]).groups
        assert ("--threads 2" in command_lines(group)[0]) == named
