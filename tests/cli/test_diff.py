"""``ggufrope diff``: exit codes, text and JSON."""

import json

import gguf_builder as gb
import numpy as np
import pytest

from ggufrope.cli import main


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.gguf").write_bytes(gb.tiny_llama())
    return tmp_path


def test_equal_files_are_silent_whatever_their_order_and_slack(folder, capsys):
    entries = gb.llama_entries()
    moved = [*entries[:2], *entries[:1:-1], gb.entry("ggufrope.padding", gb.ARR, bytes(99), gb.U8)]
    (folder / "b.gguf").write_bytes(gb.build(moved, gb.tiny_tensors(seed=5)[::-1]))
    assert main("diff a.gguf b.gguf".split()) == 0
    assert capsys.readouterr() == ("", "")
    assert main("diff a.gguf b.gguf --json".split()) == 0
    assert json.loads(capsys.readouterr().out) == {"a": "a.gguf", "b": "b.gguf", "equal": True, "differences": []}


def test_a_conversion_in_place_or_not_differs_from_its_source_alike(folder, capsys):
    assert main("convert a.gguf -o b.gguf --method linear --factor 2".split()) == 0
    (folder / "c.gguf").write_bytes((folder / "a.gguf").read_bytes())
    assert main("convert c.gguf --in-place --method linear --factor 2".split()) == 0
    assert "edited c.gguf (" in capsys.readouterr().out
    assert main("diff b.gguf c.gguf".split()) == 0
    assert main("diff a.gguf b.gguf".split()) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "key llama.context_length: u32 64 → u32 128" in lines
    assert 'key ggufrope.method: - → str "linear"' in lines
    assert not any(line.startswith("key ggufrope.padding") for line in lines)
    assert main("strip c.gguf --in-place".split()) == 0
    assert "the source, byte for byte" in capsys.readouterr().out
    assert (folder / "c.gguf").read_bytes() == (folder / "a.gguf").read_bytes()


def test_every_kind_of_difference(folder, capsys):
    extra = [
        gb.entry("long", gb.ARR, [1.0] * 100, gb.F32),
        gb.entry("odd", gb.STR, b"\xff"),
        gb.entry("text", gb.STR, "x" * 300),
        gb.entry("general.description", gb.STR, "a\nb"),
    ]
    tensors = [*gb.tiny_tensors()[:2], ("output_norm.weight", np.ones(8, np.float32)), ("n", np.ones((2, 3), "f4"))]
    (folder / "b.gguf").write_bytes(gb.build([*gb.llama_entries(), *extra], tensors))
    assert main("diff a.gguf b.gguf".split()) == 1
    assert capsys.readouterr().out.splitlines() == [
        'key general.description: - → str "a\\nb"',
        "key long: - → f32[100]",
        "key odd: - → str",
        'key text: - → str "' + "x" * 198 + "…",
        "tensor n: - → F32 [3, 2]",
        "tensor output_norm.weight: F32 [9] → F32 [8]",
    ]
    assert main("diff b.gguf a.gguf --json".split()) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["equal"] is False and len(found["differences"]) == 6
    assert found["differences"][-1] == {
        "kind": "tensor",
        "name": "output_norm.weight",
        "a": {"type": "F32", "value": [8]},
        "b": {"type": "F32", "value": [9]},
    }
