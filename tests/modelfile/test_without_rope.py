"""Models that llama.cpp does not rotate: they are described, copied by what asks for no scaling, and refused else."""

from __future__ import annotations

import json

import gguf_builder as gb
import pytest

from ggufrope.cli import main
from ggufrope.errors import UnsupportedModelError
from ggufrope.methods import method_names
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.rope import architectures

WITHOUT = sorted(a for a, pairing in architectures.PAIRING.items() if pairing == "none" and a != "gptj")
#: Architectures with RoPE, and the keys that leave no layer with it.
SWITCHED_OFF = {
    "granite": ([gb.entry("granite.rope.scaling.finetuned", gb.BOOL, False)], "rope.scaling.finetuned is false"),
    "granitehybrid": ([gb.entry("granitehybrid.rope.scaling.finetuned", gb.BOOL, False)], "finetuned is false"),
    "starcoder": ([], "to no layer of this model"),
    "baichuan": ([], "to no layer of this model"),  # 3 layers: not the one size that rotates
    "granite_swa": ([gb.entry("granite_swa.attention.rope_pattern", gb.ARR, [0, 0, 0], gb.U32)], "to no layer"),
    "qwen35": ([gb.entry("qwen35.attention.recurrent_layers", gb.ARR, [1, 1, 1], gb.U32)], "to no layer"),
}  # fmt: skip


def entries(arch: str, *extra: bytes, without: tuple[bytes, ...] = (b".rope.",)) -> list[bytes]:
    return [e for e in gb.llama_entries(arch) if not any(part in e for part in without)] + list(extra)


@pytest.fixture
def model(tmp_path, monkeypatch):
    """``model(entries)`` writes ``model.gguf``."""
    monkeypatch.chdir(tmp_path)

    def make(keys: list[bytes]):
        (tmp_path / "model.gguf").write_bytes(gb.build(keys, gb.tiny_tensors()))
        return tmp_path / "model.gguf"

    return make


def check(path, capsys, reason: str) -> None:
    """Described, copied, undone; no method that scales."""
    file = ModelFile.open(path)
    assert not file.rotates
    assert reason in file.unrotated
    with pytest.raises(UnsupportedModelError, match=r"model\.gguf: .* does not use RoPE: there is nothing to scale"):
        _ = file.decoded
    assert main(["inspect", "model.gguf"]) == 0
    assert f"does not rotate: {file.unrotated}" in capsys.readouterr().out.splitlines()[0]
    assert main(["inspect", "model.gguf", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["rotates"], found["unrotated_because"], found["rot_dim"]) == (False, file.unrotated, 0)
    assert found["frequencies"] == found["layer_classes"] == found["attention_scale"] == []
    assert main("convert model.gguf -o out.gguf --method none".split()) == 0
    assert "the model does not rotate" in capsys.readouterr().out
    assert main(["inspect", "out.gguf", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == found | {
        "file": "out.gguf", "converted_by_ggufrope": True, "slack_bytes": ModelFile.open("out.gguf").slack,
    }  # fmt: skip
    assert main("convert out.gguf -o twice.gguf --method none".split()) == 0
    assert main("strip twice.gguf -o back.gguf".split()) == 0
    assert (path.parent / "back.gguf").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("arch", WITHOUT)
def test_architectures_without_rope(model, capsys, arch):
    check(model(entries(arch)), capsys, "to this architecture")


@pytest.mark.parametrize("arch", SWITCHED_OFF)
def test_models_of_which_no_layer_rotates(model, capsys, arch):
    extra, reason = SWITCHED_OFF[arch]
    check(model([*gb.llama_entries(arch), *extra]), capsys, reason)


@pytest.mark.parametrize("arch", [a for a in SWITCHED_OFF if SWITCHED_OFF[a][0]])
def test_without_the_switch_they_rotate(model, arch):
    file = ModelFile.open(model(gb.llama_entries(arch, block_count=4)))
    assert file.rotates
    assert file.decoded.model.rot_dim == 8


def test_a_recurrent_model_has_no_heads(model, capsys):
    check(model(entries("mamba", without=(b".rope.", b".head_count"))), capsys, "to this architecture")
    capsys.readouterr()
    assert main(["inspect", "model.gguf"]) == 0
    assert capsys.readouterr().out.startswith("model.gguf: mamba, 3 layers, does not rotate: ")


@pytest.mark.parametrize("name", [name for name in method_names() if name != "none"])
def test_what_would_scale_is_refused(model, capsys, name):
    model(entries("gpt2"))
    assert main(["convert", "model.gguf", "-o", "out.gguf", "--method", name]) == 2
    assert "model.gguf: 'gpt2' does not use RoPE: there is nothing to scale" in capsys.readouterr().err


def test_a_context_asks_for_scaling(model, capsys):
    model(entries("gpt2"))
    assert main("convert model.gguf -o out.gguf --method none --context 128".split()) == 2
    assert "'gpt2' does not use RoPE" in capsys.readouterr().err


def test_a_copy_that_stock_refuses(model, capsys):
    model(entries("gpt2"))
    assert main("convert model.gguf -o out.gguf --method none --require-patched".split()) == 0
    assert "stock llama.cpp refuses the file" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["inspect model.gguf", "convert model.gguf -o out.gguf --method none"])
def test_an_architecture_that_the_pin_does_not_know(model, capsys, command):
    model(entries("nosuch"))
    assert main(command.split()) == 2
    said = capsys.readouterr().err
    assert "model.gguf: architecture 'nosuch' is unknown to the pinned llama.cpp, which cannot load the file; " in said
