"""Values that load and make no sense: said in words, replaced by ``convert``, and no hindrance afterwards."""

from __future__ import annotations

import json
import math

import gguf_builder as gb
import numpy as np
import pytest

from ggufrope.cli import main
from ggufrope.modelfile.model_file import ModelFile

NAN, INF = math.nan, math.inf
YARN = {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0}
#: What is edited, what is said of it, and the key.
ODD = {
    "factor nan": (
        {**YARN, "rope.scaling.factor": NAN}, "rope.scaling.factor is nan, by which llama.cpp divides every position"
    ),
    "factor inf": ({"rope.scaling.factor": INF}, "rope.scaling.factor is inf, by which llama.cpp divides"),
    "factor negative": ({**YARN, "rope.scaling.factor": -4.0}, "rope.scaling.factor is -4, by which llama.cpp divides"),
    "old factor": ({"rope.scale_linear": -2.0}, "rope.scale_linear is -2, by which llama.cpp divides every position"),
    "attention 0": ({"rope.scaling.attn_factor": 0.0}, "rope.scaling.attn_factor is 0, by which llama.cpp multiplies"),
    "attention nan": ({**YARN, "rope.scaling.attn_factor": NAN}, "rope.scaling.attn_factor is nan, by which llama.cpp"),
    "attention inf": ({"rope.scaling.attn_factor": INF}, "rope.scaling.attn_factor is inf, by which llama.cpp"),
    "fast nan": ({**YARN, "rope.scaling.yarn_beta_fast": NAN}, "yarn_beta_fast is nan, of which llama.cpp takes"),
    "slow 0": ({**YARN, "rope.scaling.yarn_beta_slow": 0.0}, "yarn_beta_slow is 0, of which llama.cpp takes the log"),
    "fast negative": ({**YARN, "rope.scaling.yarn_beta_fast": -1.0}, "yarn_beta_fast is -1, of which llama.cpp takes"),
    "long original": (
        {**YARN, "rope.scaling.original_context_length": 1 << 31},
        "original_context_length is 2147483648, beyond the 2147483647 that llama.cpp's YaRN can count",
    ),
    "type": ({"rope.scaling.type": "spiral"}, "rope.scaling.type is 'spiral'"),
    "longrope, original 0": (
        {"rope.scaling.type": "longrope", "rope.scaling.original_context_length": 0},
        "original_context_length is 0, so that llama.cpp takes the long factors at every length",
    ),
}  # fmt: skip


def entries(edits, arch="mistral3", without=()):
    """Keys of a small model (mistral3 reads YaRN's ramp) with others in their place."""
    kinds = {str: gb.STR, int: gb.U32, float: gb.F32}
    gone = [gb.string(f"{arch}.{name}") for name in (*edits, *without)]
    kept = [e for e in gb.llama_entries(arch) if not any(e.startswith(label) for label in gone)]
    return kept + [gb.entry(f"{arch}.{name}", kinds[type(value)], value) for name, value in edits.items()]


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(edits, arch="mistral3", tensors=(), **options):
        (tmp_path / "odd.gguf").write_bytes(gb.build(entries(edits, arch, **options), [*gb.tiny_tensors(), *tensors]))
        return tmp_path / "odd.gguf"

    return write


@pytest.mark.parametrize("method", ["none", "linear --factor 2", "yarn --factor 2"])
@pytest.mark.parametrize("case", ODD)
def test_what_makes_no_sense_is_replaced(write, capsys, case, method):
    edits, said = ODD[case]
    path = write(edits)
    assert main(["inspect", "odd.gguf"]) == 2
    error = capsys.readouterr().err
    assert "odd.gguf: " in error
    assert said in error
    assert main(["convert", "odd.gguf", "-o", "out.gguf", "--method", *method.split()]) == 0
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if line.startswith("note: mistral3.") and said in line]
    # of the result: described, with the original in words, converted again, undone
    assert main(["inspect", "out.gguf"]) == 0
    shown = capsys.readouterr().out
    assert "its scaling made no sense: mistral3." in shown
    assert said in shown
    assert main(["inspect", "out.gguf", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert said in found["original_fault"]
    assert found["honoured_by"]["stock"].startswith("runs it in full")
    assert ModelFile.open("out.gguf").before.table.without_heads().factors.max() == 1.0
    assert main("convert out.gguf -o twice.gguf --method ntk --factor 2".split()) == 0
    assert main(["plan", "out.gguf", "--context", "128"]) == 0
    for name in ("out", "twice"):
        assert main(f"strip {name}.gguf -o back.gguf --overwrite".split()) == 0
        assert (path.parent / "back.gguf").read_bytes() == path.read_bytes()


def test_rows_by_length_over_a_scaling_that_makes_no_sense(write, capsys):
    """Stock runs the result as plain RoPE: not as the source, which it rotates by nonsense."""
    write({"rope.scaling.attn_factor": NAN})
    assert main("convert odd.gguf -o out.gguf --method dynamic-ntk --factor 2".split()) == 0
    assert main(["inspect", "out.gguf"]) == 0
    assert "stock llama.cpp    runs plain RoPE only: it ignores the length in use" in capsys.readouterr().out


@pytest.mark.parametrize("case", [name for name in ODD if name != "type"])
def test_a_method_that_keeps_the_scaling_refuses(write, capsys, case):
    edits, said = ODD[case]
    write(edits)
    assert main("convert odd.gguf -o out.gguf --method ms-poe".split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("ggufrope: odd.gguf: mistral3.")
    assert said in error
    assert "`ggufrope convert --method none`" in error


@pytest.mark.parametrize(
    ("edits", "kind", "factor", "original"),
    [
        ({"rope.scaling.factor": 0.0}, "none", 1.0, 64),
        ({**YARN, "rope.scaling.factor": 0.0}, "yarn", 1.0, 64),
        ({"rope.scaling.factor": 0.0, "rope.scale_linear": 4.0}, "none", 1.0, 64),
        ({"rope.scale_linear": 4.0}, "linear", 4.0, 64),
        ({"rope.scaling.factor": 2.0, "rope.scale_linear": 4.0}, "linear", 2.0, 64),
        ({"rope.scaling.type": "none", "rope.scaling.factor": NAN}, "none", 1.0, 64),
        ({**YARN, "rope.scaling.original_context_length": 0}, "yarn", 4.0, 64),
        ({**YARN, "rope.scaling.original_context_length": 16}, "yarn", 4.0, 16),
    ],
)
def test_what_llama_cpp_makes_something_of(write, edits, kind, factor, original):
    """``load_hparams``: a factor of 0 is 1, one that is absent has an older name, an original of 0 is none."""
    file = ModelFile.open(write(edits))
    assert (file.stock.kind, file.stock.factor, file.model.original_ctx) == (kind, factor, original)
    assert file.decoded.stock_table.n_rows == 1


@pytest.mark.parametrize("context", [0, 1 << 31, (1 << 32) - 1])
def test_contexts(write, capsys, context):
    write({"context_length": context}, "llama")
    code, shown = main(["inspect", "odd.gguf"]), capsys.readouterr()
    if context:
        assert code == 0
        assert f"warning: llama.context_length is {context}, beyond the 2147483647 positions" in shown.out
    else:
        assert code == 2
        assert "odd.gguf: llama.context_length is 0; llama.cpp loads that and makes no context unless" in shown.err


def test_yarn_over_a_context_that_it_cannot_count(write, capsys):
    write({**YARN, "context_length": (1 << 32) - 1}, "llama")
    assert main(["inspect", "odd.gguf"]) == 2
    assert "odd.gguf: llama.context_length is 4294967295, beyond the 2147483647 that" in capsys.readouterr().err
    write({**YARN, "context_length": (1 << 32) - 1, "rope.scaling.original_context_length": 64}, "llama")
    assert main(["inspect", "odd.gguf"]) == 0


@pytest.mark.parametrize("base", [0.0, 1.0, -10000.0, NAN, INF])
def test_a_base_that_makes_no_sense(write, capsys, base):
    path = write({"rope.freq_base": base}, "llama")
    for command in ("inspect odd.gguf", "convert odd.gguf -o out.gguf --method none"):
        assert main(command.split()) == 2
        said = f"odd.gguf: llama.rope.freq_base is {base:g}, from which llama.cpp computes every frequency; it must be "
        assert said in capsys.readouterr().err
    assert main("convert odd.gguf -o out.gguf --method none --freq-base 500000".split()) == 0
    out = capsys.readouterr().out
    assert f"note: llama.rope.freq_base is {base:g}, from which llama.cpp computes every frequency: it is " in out
    assert main(["inspect", "out.gguf"]) == 0
    assert "original         its scaling made no sense: llama.rope.freq_base" in capsys.readouterr().out
    assert main("convert out.gguf -o twice.gguf --method none --freq-base 1000".split()) == 0
    assert main("strip twice.gguf -o back.gguf".split()) == 0
    assert (path.parent / "back.gguf").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("count", [0, 3, 10, 1 << 31])
def test_dimensions(write, capsys, count):
    """phi2 may rotate a part of its heads, of 8 dimensions here."""
    write({"rope.dimension_count": count}, "phi2")
    for command in ("inspect odd.gguf", "convert odd.gguf -o out.gguf --method none"):
        assert main(command.split()) == 2
        error = capsys.readouterr().err
        assert f"odd.gguf: phi2: rope.dimension_count is {count}; it must be even, ≥ 2 and at most the head" in error
        assert "gguf_new_metadata" in error


@pytest.mark.parametrize("value", [NAN, 0.0, -1.0])
def test_factors_in_a_tensor(write, capsys, value):
    write({}, "llama", [("rope_freqs.weight", np.array([1, 1, value, 1], np.float32))])
    assert main(["inspect", "odd.gguf"]) == 2
    assert "odd.gguf: llama: rope_freqs.weight has entries that are not positive numbers; " in capsys.readouterr().err


def test_where_the_base_comes_from(write, capsys):
    missing = "10000 (llama.cpp's default: the file has no llama.rope.freq_base)\n"
    for without, text, told in (
        ((), "frequency base   10000\n", "file"),
        (("rope.freq_base",), missing, "llama.cpp's default"),
    ):
        write({}, "llama", without=without)
        assert main(["inspect", "odd.gguf"]) == 0
        assert text in capsys.readouterr().out
        assert main(["inspect", "odd.gguf", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["freq_base_from"] == told
    write({"rope.freq_base": 500.0}, "cogvlm")
    assert main(["inspect", "odd.gguf"]) == 0
    assert "10000 (llama.cpp's default: which it takes whatever the file says)" in capsys.readouterr().out


def test_another_base(write, capsys):
    path = write({}, "llama", without=("rope.freq_base",))
    assert main("convert odd.gguf -o out.gguf --method none --freq-base 500000".split()) == 0
    out = capsys.readouterr().out
    assert "note: the base of the frequencies is set from 10000 to 500000" in out.splitlines()
    assert "runs on: stock llama.cpp as well as the patched one" in out
    file = ModelFile.open("out.gguf")
    assert file.typed("llama.rope.freq_base").spelled == "f32"
    assert (file.decoded.method, file.decoded.params) == ("none", {"freq_base": 500000.0})
    assert np.allclose(file.decoded.table.frequencies(file.model), 500000.0 ** (-np.arange(4) / 4))
    assert main(["inspect", "out.gguf"]) == 0
    assert "frequency base   500000 (was 10000)" in capsys.readouterr().out
    assert main("strip out.gguf -o back.gguf".split()) == 0
    assert (path.parent / "back.gguf").read_bytes() == path.read_bytes()
    assert main("convert out.gguf -o plain.gguf --method none".split()) == 0
    assert "llama.rope.freq_base" not in ModelFile.open("plain.gguf"), "it starts from the original"


def test_sliding_layers_keep_a_base_of_their_own(write, capsys):
    write({"attention.sliding_window": 16}, "gemma3")
    assert main("convert odd.gguf -o out.gguf --method none --freq-base 500000".split()) == 2
    assert "every rotating layer has a sliding window" in capsys.readouterr().err, "three layers: nothing would change"
    write({"attention.sliding_window": 16, "block_count": 6}, "gemma3")
    assert main("convert odd.gguf -o out.gguf --method none --freq-base 500000".split()) == 0
    assert "is set from 10000 to 500000; sliding-window layers keep theirs, 10000" in capsys.readouterr().out
    model = ModelFile.open("out.gguf").model
    assert (model.freq_base, model.sliding_base) == (500000.0, 10000.0)


@pytest.mark.parametrize("value", ["1", "0", "-5", "nan", "inf", "1e39"])
def test_a_base_that_cannot_be_set(write, capsys, value):
    write({}, "llama")
    assert main(["convert", "odd.gguf", "-o", "out.gguf", "--method", "none", "--freq-base", value]) == 2
    assert "none: freq_base is" in capsys.readouterr().err


def test_a_base_that_llama_cpp_would_ignore(write, capsys):
    write({}, "cogvlm")
    assert main("convert odd.gguf -o out.gguf --method none --freq-base 500000".split()) == 2
    assert "cogvlm: llama.cpp rotates it with a base of 10000 whatever the file says" in capsys.readouterr().err
