"""What ``eval`` says where other programs keep the cores busy: one line, on standard error, and only where it helps."""

from __future__ import annotations

import json
import os

import pytest
from fake_engine import FakeEngine, model_file

from ggufrope.cli import _load, main
from ggufrope.cli._load import load_note
from ggufrope.evals import machine, runner
from ggufrope.runtime.locate import Runtime

LINE = "eval a.gguf --task niah --set keys=3 --lengths 256 --depths 0,1 --limit 2 -o out"
NOTE = "note: the machine is busy (load average 1.3, 2 cores): --threads 1 is often faster there than 2 threads"


@pytest.fixture
def busy(tmp_path, monkeypatch, request):
    """A model, and a load average of 1.3 on two cores."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runner, "_engine", lambda: FakeEngine)
    found = Runtime(tmp_path, pin="1", patches="2", backend="cpu", programs=(), source="3")
    monkeypatch.setattr(machine, "locate", lambda: found)
    loaded(monkeypatch, 1.3, 2, 2)
    FakeEngine.reset()
    model_file(tmp_path / "a.gguf")


def loaded(monkeypatch, load, usable, cores):
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 9.0, 9.0), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.setattr(_load, "cores_of_process", lambda: usable)


@pytest.mark.parametrize(
    ("load", "usable", "cores", "threads"),
    [
        (0.0, 2, 2, None), (0.4, 2, 2, None), (0.6, 2, 2, 1), (1.3, 2, 2, 1), (25.0, 2, 2, 1),
        (4.2, 16, 16, 12), (15.8, 16, 16, 1), (0.3, 16, 16, None), (30.0, 1, 1, None),
        (1.0, 2, 64, None),  # of the 64 cores that the load is of, this process may use 2
        (40.0, 2, 64, 1),
    ],
)  # fmt: skip
def test_as_many_threads_as_cores_are_free(monkeypatch, load, usable, cores, threads):
    loaded(monkeypatch, load, usable, cores)
    assert load_note(2) == ""
    said = load_note(None)
    if threads is None:
        assert said == ""
    else:
        assert f"(load average {load:.1f}, {usable} cores): --threads {threads} is" in said
        assert "\n" not in said


@pytest.mark.parametrize("error", [AttributeError, OSError])
def test_a_system_that_knows_no_load_says_nothing(monkeypatch, error):
    def unknown():
        raise error

    loaded(monkeypatch, 9.0, 2, 2)
    monkeypatch.setattr(os, "getloadavg", unknown, raising=False)
    assert load_note(None) == ""


def test_it_is_said_once_before_the_first_cell_and_not_in_json(busy, capsys):
    assert main([*LINE.split(), "--kv-type", "f16,q8_0", "--json"]) == 0
    out, err = capsys.readouterr()
    assert len(json.loads(out)["results"]) == 2
    lines = err.splitlines()
    assert lines[0].startswith(NOTE)
    assert [line[:5] for line in lines[1:]] == ["[1/2]", "[2/2]"]


def test_it_is_not_said_to_who_chose_nor_where_nothing_runs(busy, capsys):
    assert main([*LINE.split(), "--threads", "2"]) == 0
    assert "busy" not in capsys.readouterr().err
    assert main(LINE.split()) == 0  # every cell is there
    assert capsys.readouterr().err == ""
    assert main("eval a.gguf --task niah --lengths 9".split()) == 2  # and an error stays one line
    assert capsys.readouterr().err.count("\n") == 1
