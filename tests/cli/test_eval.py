"""``ggufrope eval`` from the command line, with an engine that is not one: output, bad input, interrupts."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from fake_engine import FakeEngine, model_file

from ggufrope.cli import main
from ggufrope.evals import machine, runner
from ggufrope.evals.results import RuntimeFacts


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two models, one with a chat template, texts, and results of every bad kind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runner, "_engine", lambda: FakeEngine)
    monkeypatch.setattr(
        "ggufrope.cli.eval.runtime_facts", lambda **_: RuntimeFacts("cpu", "0", None, None), raising=False
    )
    monkeypatch.setattr(machine, "locate", located)
    FakeEngine.reset()
    model_file(tmp_path / "a.gguf")
    model_file(tmp_path / "b.gguf", seed=1, template="<user>{{ messages[0].content }}</user>")
    model_file(tmp_path / "other.gguf", seed=2, tokens=["<unk>", "<s>", "</s>", "x"])
    (tmp_path / "copy.gguf").write_bytes((tmp_path / "a.gguf").read_bytes())
    (tmp_path / "text.gguf").write_bytes(b"hello, I am not a model")
    (tmp_path / "long.txt").write_text("".join(f" w{i % 41}" for i in range(3000)))
    (tmp_path / "brief.txt").write_text(" w1 w2")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 " * 99)
    (tmp_path / "blank.txt").write_text(" ")
    (tmp_path / "broken.jinja").write_text("{% if")
    lines = {"old": '{"schema": 0}\n', "foreign": "name,score\n", "half": '{"schema":1,"kind":"answers"}\n'}
    for name, line in lines.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.jsonl").write_text(line)
    return tmp_path


def located():
    from ggufrope.runtime.locate import Runtime

    return Runtime(Path("nowhere"), pin="1", patches="2", backend="cpu", programs=(), source="3")


NIAH = "eval a.gguf --task niah --set keys=3 --lengths 256"
CASES = [
    ("eval a.gguf", "no task given: --task NAME; --list-tasks shows all"),
    ("eval --task niah", "no FILE given"),
    ("eval absent.gguf --task niah", "absent.gguf: no such file"),
    ("eval text.gguf --task niah", "text.gguf: not a GGUF"),
    ("eval a.gguf --task naih", "unknown task 'naih': did you mean niah"),
    (NIAH + " --set kays=3", "unknown option 'kays': did you mean keys"),
    (NIAH + " --set keys", "--set keys: not NAME=VALUE"),
    (NIAH + " --set keys=4", "--set keys: given twice"),
    (NIAH + " --set haystack=long.txt --haystack long.txt", "--haystack: was also given with --set; give it once"),
    (NIAH + " --data long.txt", "niah: unknown option 'data'"),
    (NIAH + " --haystack absent.txt", "absent.txt: cannot be read"),
    (NIAH + " --wording latin.txt", "latin.txt: not UTF-8"),
    (NIAH + " --wording long.txt", "long.txt: not JSON"),
    (NIAH + " --lengths 1024", "--lengths 1024: a.gguf has a context of 512 tokens"),
    (NIAH + " --lengths 64,x", "--lengths 64,x: expected whole numbers separated by commas"),
    (NIAH + " --lengths ,", "--lengths ,: expected whole numbers"),
    (NIAH + " --lengths -5", "--lengths -5: at least 1 token"),
    (NIAH + " --lengths 30", "tokens are too few; the smallest length is"),
    (NIAH + " --lengths 256,256", "--lengths: 256 is given twice"),
    (NIAH + " --depths 0,2", "--depths 2: a depth must be from 0 (the beginning) to 1 (the end)"),
    (NIAH + " --depths -0.1", "--depths -0.1: a depth must be from 0"),
    (NIAH + " --depths deep", "--depths deep: expected numbers separated by commas"),
    (NIAH + " --depths 0.5,0.5", "--depths: 0.5 is given twice"),
    (NIAH + " --kv-type q8", "unknown type 'q8': did you mean q8_0"),
    (NIAH + " --kv-type f16,", "unknown type ''"),
    (NIAH + " --kv-type f16,F16", "--kv-type: f16 is given twice"),
    (NIAH + " --limit 0", "--limit 0: at least 1 text"),
    (NIAH + " --limit some", "'some' is not a valid integer"),
    (NIAH + " --chat-template default", "a.gguf: has no chat template; omit --chat-template"),
    (NIAH + " --chat-template absent", "absent: cannot be read"),
    (NIAH + " --chat-template broken.jinja", "broken.jinja: not a jinja2 template"),
    (NIAH + " --chat-template default --no-chat-template", "cannot be combined with --no-chat-template"),
    (NIAH + " --baseline b.gguf", "--baseline: niah has no baseline"),
    ("eval a.gguf copy.gguf --task niah", "a.gguf and copy.gguf are the same model"),
    ("eval a.gguf a.gguf --task niah", "a.gguf and a.gguf are the same model"),
    (NIAH + " -o old", "results.jsonl, line 1: results of schema 0, this ggufrope reads 1"),
    (NIAH + " -o foreign", "results.jsonl, line 1: not JSON"),
    (NIAH + " -o half", "results.jsonl, line 1: task is missing"),
    (NIAH + " -o long.txt", "cannot be written (File exists); name another directory with -o"),
    ("eval a.gguf --task ppl", "ppl: no text to read; give one with --text"),
    ("eval a.gguf --task ppl --text absent.txt", "absent.txt: cannot be read"),
    ("eval a.gguf --task ppl --text latin.txt", "latin.txt: not UTF-8 text (byte 3)"),
    ("eval a.gguf --task ppl --text blank.txt", "blank.txt: is empty"),
    ("eval a.gguf --task ppl --text brief.txt", "brief.txt: 3 tokens are less than one text of 512"),
    ("eval a.gguf --task ppl --text long.txt --depths 0", "--depths: ppl has no depths"),
    ("eval a.gguf --task ppl --text long.txt --set window=1024", "a window of 1024 is longer than the text"),
    ("eval a.gguf --task kl --text long.txt", "kl: a baseline is needed; name a file with --baseline"),
    ("eval a.gguf --task kl --text long.txt --baseline absent.gguf", "absent.gguf: no such file"),
    ("eval other.gguf --task kl --text long.txt --baseline a.gguf", "different tokenizers (vocabulary size 5 and 4)"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "said"), CASES, ids=[f"{c[0]}: {c[1]}"[:90] for c in CASES])
def test_one_clear_line_and_nothing_lost(folder, capsys, line, said):
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert main(line.split()) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_a_table_a_line_for_each_cell_and_json(folder, capsys):
    line = "eval a.gguf b.gguf --task niah --set keys=3 --lengths 256,512 --depths 0,1 --limit 3 -o out"
    assert main(line.split()) == 0
    out, err = capsys.readouterr()
    assert [text.split()[:3] for text in out.splitlines()[2:7]] == [
        ["file", "kv", "length"], ["a.gguf", "f16", "256"], ["a.gguf", "f16", "512"],
        ["b.gguf", "f16", "256"], ["b.gguf", "f16", "512"],
    ]  # fmt: skip
    assert out.splitlines()[2].split()[3:] == ["score", "95%", "0", "1"]
    assert "niah: mean score of 6 questions in each cell, by depth of the answer" in out
    assert [text[:5] for text in err.splitlines()] == ["[1/4]", "[2/4]", "[3/4]", "[4/4]"]
    assert " left" in err
    assert main([*line.split(), "--json"]) == 0
    again, err = capsys.readouterr()
    assert err == ""
    found = json.loads(again)
    assert found["schema"] == 1
    lines = (folder / "out/results.jsonl").read_text().splitlines()
    assert found["results"] == [json.loads(text) for text in lines]
    assert [r["options"]["chat_template"] for r in found["results"]] == ["none"] * 2 + ["the model's own"] * 2
    assert str(folder) not in "".join(lines)


def test_kl_says_what_it_compares(folder, capsys):
    assert main("eval a.gguf b.gguf --task kl --baseline a.gguf --text long.txt --lengths 256 --limit 3".split()) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("kl from a.gguf: nats per token")
    assert out[3].split()[3:6] == ["0.0000", "[0.000,", "0.000]"]


def test_the_chat_template_is_used(folder, monkeypatch, capsys):
    prompts = []
    monkeypatch.setattr(FakeEngine, "prompt", lambda self, text: prompts.append(text) or [0, *self.tokens(text)])
    (folder / "mine.jinja").write_text("[{{ messages[0].content }}]")
    hashed = hashlib.sha256(b"[{{ messages[0].content }}]").hexdigest()
    for options, begins, told in (
        ("", "<user>", "the model's own"),
        ("--no-chat-template", "Some code", "none"),
        ("--chat-template mine.jinja", "[Some code", {"name": "mine.jinja", "sha256": hashed}),
    ):
        prompts.clear()
        assert main(f"eval b.gguf --task niah --set keys=3 --lengths 256 --limit 1 --json {options}".split()) == 0
        assert all(text.startswith(begins) for text in prompts)
        assert json.loads(capsys.readouterr().out)["results"][0]["options"]["chat_template"] == told


def test_a_silent_model_is_said_to_be_one(folder, capsys):
    FakeEngine.reset("silent")
    assert main(f"{NIAH} --limit 2".split()) == 0
    assert "note: the model said nothing at all" in capsys.readouterr().out


def test_the_types_of_the_cache_that_help_names_are_those_there_are(capsys):
    from ggufrope.inference.kv_types import KV_TYPES

    assert main(["eval", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    named = said.partition("Types of the KV cache: ")[2].partition(".")[0]
    assert set(named.split(", ")) == set(KV_TYPES)


def test_list_tasks(folder, capsys):
    assert main("eval --list-tasks".split()) == 0
    out = capsys.readouterr().out
    for word in ("niah: ", "ppl: ", "kl: ", "--set keys=...", "--set window=..."):
        assert word in out


def test_ctrl_c_keeps_finished_cells_and_says_how_to_go_on(folder, capsys):
    FakeEngine.reset(mood=7)
    line = "eval a.gguf b.gguf --task niah --set keys=3 --lengths 256,512 --depths 0,1 --limit 3"
    assert main([*line.split(), "-o", "out"]) == 130
    err = capsys.readouterr().err
    assert "ggufrope: interrupted: 1 of 4 cells are in out/results.jsonl; the same command goes on from there" in err
    assert len((folder / "out/results.jsonl").read_text().splitlines()) == 1
    FakeEngine.reset(mood=7)
    assert main(line.split()) == 130
    assert "without -o nothing was kept" in capsys.readouterr().err
    FakeEngine.reset()
    assert main([*line.split(), "-o", "out"]) == 0
    assert "[2/4]" in capsys.readouterr().err
    assert len((folder / "out/results.jsonl").read_text().splitlines()) == 4
    with (folder / "out/results.jsonl").open("a") as file:
        file.write('{"schema":1,"kind":"ans')
    assert main([*line.split(), "-o", "out"]) == 0
    assert "the last line was cut off; it was moved to results.torn" in capsys.readouterr().err
