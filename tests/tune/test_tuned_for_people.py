"""A finished run as people see it: the lines, --json, `inspect` with --plot, and `report`."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from fake_engine import model_file
from fake_model import FakeTools, World

from ggufrope.cli import main
from ggufrope.convert.pipeline import ConvertRequest, carry_out
from ggufrope.inspection.factor_map import factor_map
from ggufrope.inspection.summary import Inspection
from ggufrope.methods.factor_table import FactorTable
from ggufrope.modelfile.model_file import ModelFile

WORDS = " ".join(f"w{i % 40}" for i in range(6000))
ARGUMENTS = [
    "--for", "kv-retrieval", "--for", "ppl:0.5", "--length", "192", "--text", "text.txt", "--space", "layers",
    "--space", "full", "--steps", "8", "--select-every", "4", "--depths", "0,1", "--report-texts", "12",
    "--also", "ruler-vt", "-o", "out.gguf",
]  # fmt: skip


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
    monkeypatch.chdir(tmp_path)
    model_file(tmp_path / "model.gguf")
    (tmp_path / "text.txt").write_text(WORDS)
    world = World(base=0.2, best=0.95)
    monkeypatch.setattr("ggufrope.tune.run_tools.RunTools", lambda: FakeTools(world))
    return world


def test_a_run_that_found_something(world, tmp_path, capsys):
    assert main(["tune", "model.gguf", *ARGUMENTS, "--write-anyway"]) == 0
    told = capsys.readouterr()
    assert "kv-retrieval at 192 tokens, 12 texts" in told.out and "wrote out.gguf" in told.out
    assert "ruler-vt at 192 tokens, not tuned for" in told.out and "loss on plain text, nats per token" in told.out
    assert told.err.count("step 4: selection") == 2 and "step 0:" not in told.err and "step 1:" not in told.err

    assert main(["inspect", "out.gguf", "--plot", "plot.png"]) == 0
    lines = capsys.readouterr().out
    assert "tuned            for kv-retrieval, ppl at 192 tokens: space " in lines and "  gain           +" in lines
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")

    for name in ("report.html", "report.md"):
        assert main(["report", "out.gguf.tune", "-o", name]) == 0
        page = (tmp_path / name).read_text()
        assert "Space layers" in page and "untouched" not in page.split("Space layers")[0]
        assert ("Objective on the selection split by step" in page) == (name == "report.html")  # a chart

    capsys.readouterr()
    assert main(["tune", "model.gguf", *ARGUMENTS, "--write-anyway", "--overwrite", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["written"] == ["out.gguf"] and [s["name"] for s in record["spaces"]] == ["layers", "full"]


def test_a_run_that_found_nothing(world, tmp_path, capsys):
    """One JSON object on standard output, the reason on standard error, and exit code 1; a report says it, too."""
    world.base = world.best = 0.4
    world.noise = 0.3
    assert main(["tune", "model.gguf", *ARGUMENTS, "--json"]) == 1
    told = capsys.readouterr()
    record = json.loads(told.out)
    assert record["reason"] and not record["written"] and record["reason"] in told.err
    (tmp_path / "run.json").write_text(told.out)
    assert main(["report", "run.json", "-o", "report.md"]) == 0
    assert "Nothing better was found" in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize("damage", ["request", "for", "file", "spaces"])
def test_a_damaged_run_is_refused_in_a_line(world, tmp_path, capsys, damage):
    main(["tune", "model.gguf", *ARGUMENTS])
    run = tmp_path / "out.gguf.tune" / "run.json"
    record = json.loads(run.read_text())
    holder = record if damage in record else record["request"]
    holder[damage] = 3
    run.write_text(json.dumps(record))
    capsys.readouterr()
    assert main(["report", "out.gguf.tune", "-o", "report.md"]) == 2
    assert "run.json: a damaged run" in capsys.readouterr().err


def test_an_interrupted_run_has_nothing_to_report(world, capsys):
    world.killed_at = 10
    assert main(["tune", "model.gguf", *ARGUMENTS]) == 130
    assert "all steps are in out.gguf.tune; the same command goes on from there" in capsys.readouterr().err
    assert main(["report", "out.gguf.tune", "-o", "report.md"]) == 2
    assert "out.gguf.tune" in capsys.readouterr().err


@pytest.mark.parametrize(
    "told", [3, {}, {"for": 3, "lengths": None}, {"for": {"niah": 1}, "gain": {}, "loss_rise": {"192": None}}]
)
def test_a_record_that_somebody_else_made(world, capsys, told):
    """`inspect` shows what is in it; it is no reason to fail."""
    table = FactorTable(np.linspace(1, 2, 4), ("pair",), params={"tune": told})
    carry_out(ConvertRequest(*map(type(ModelFile.open("model.gguf").path), ("model.gguf", "out.gguf")), "table",
                             {"factor_table": table}))  # fmt: skip
    assert main(["inspect", "out.gguf"]) == 0
    assert ("tuned  " in capsys.readouterr().out) == bool(told != 3)


def test_the_factor_map_and_single_layers(world, tmp_path, capsys):
    """Layers down, KV heads, pairs: what was given is what is drawn; one layer is called so."""
    factors = np.exp(np.random.default_rng(3).uniform(-1, 1, (3, 2, 4)))
    table = FactorTable(tuple(factors), ("layer", "head", "pair"))
    carry_out(ConvertRequest(tmp_path / "model.gguf", tmp_path / "out.gguf", "table", {"factor_table": table}))
    assert np.allclose(factor_map(Inspection(ModelFile.open("out.gguf"))), factors, rtol=1e-6)
    assert factor_map(Inspection(ModelFile.open("model.gguf"))) is None
    assert main(["inspect", "out.gguf", "--plot", "plot.svg"]) == 0
    said = capsys.readouterr().out
    assert "layer 0: " in said and "layers 0" not in said
    drawn = (tmp_path / "plot.svg").read_text()
    assert "<svg" in drawn and "</svg>" in drawn
