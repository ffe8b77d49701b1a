"""A table of factors in a file: stock's keys where stock computes it, else ours, on top of what the file declares."""

from __future__ import annotations

import json

import gguf_builder as gb
import numpy as np
import pytest

from ggufrope.cli import main
from ggufrope.convert.conversion import plan, strip, strip_in_place, write, write_in_place
from ggufrope.errors import NotHonouredError, UnsupportedModelError
from ggufrope.gguf import keys
from ggufrope.inspection.summary import Inspection
from ggufrope.methods.table_file import write_table
from ggufrope.modelfile.foreign_runtimes import Outcome
from ggufrope.modelfile.model_file import ModelFile

#: The tiny model has 3 layers of 2 KV heads and 4 pairs.
PAIRS = [1.0, 1.1, 0.7, 1.6]
FULL = np.exp(np.random.default_rng(2).normal(0, 0.2, (3, 2, 4)))
LAYOUT = ["layer", "head", "pair"]
SCALE = 1.25  # a float32


@pytest.fixture
def tiny(tmp_path):
    def make(arch="llama", *extra, tensors=()):
        path = tmp_path / f"{arch}.gguf"
        path.write_bytes(gb.build([*gb.llama_entries(arch), *extra], [*gb.tiny_tensors(), *tensors]))
        return path

    return make


def yarn(arch):
    return (
        gb.entry(f"{arch}.rope.scaling.type", gb.STR, "yarn"),
        gb.entry(f"{arch}.rope.scaling.factor", gb.F32, 4.0),
        gb.entry(f"{arch}.rope.scaling.original_context_length", gb.U32, 16),
    )


def converted(path, given, name="table", **params):
    made = plan(ModelFile.open(path), name, {"factor_table": given, **params})
    out = path.with_name("out.gguf")
    write(made, out)
    return made, ModelFile.open(out)


def turns(file, layer=0, head=0, length=None):
    decoded = file.decoded
    return decoded.table.frequencies(decoded.model, layer, head, length)


def ours(file):
    own = {keys.HEAD_FACTORS, keys.PAIR_FACTORS, keys.LENGTH_FACTORS}
    return {f.key for f in file.header.fields} & own


@pytest.mark.parametrize(
    ("arch", "given", "expected", "stock"),
    [
        ("llama", PAIRS, set(), Outcome.FULL),
        ("llama", {"factors": PAIRS, "attn_scale": SCALE}, set(), Outcome.FULL),
        ("qwen2", PAIRS, {keys.LENGTH_FACTORS}, Outcome.SOURCE),
        ("qwen2", {"factors": [1.0] * 4, "attn_scale": SCALE}, set(), Outcome.FULL),
        ("llama", [1.0, 1.5, 2.0], {keys.HEAD_FACTORS}, Outcome.SOURCE),
        ("llama", [[1.0, 1.5], [1.0, 0.5], [1.0, 1.0]], {keys.HEAD_FACTORS}, Outcome.SOURCE),
        ("llama", [PAIRS, PAIRS, PAIRS], {keys.PAIR_FACTORS}, Outcome.SOURCE),
        ("llama", FULL, {keys.PAIR_FACTORS}, Outcome.SOURCE),
        ("llama", {"factors": FULL, "attn_scale": SCALE}, {keys.PAIR_FACTORS}, Outcome.BASE),
        ("llama", np.ones((3, 2, 4)), set(), Outcome.FULL),
    ],
)
@pytest.mark.parametrize("declared", [False, True])
def test_which_keys_say_it(tiny, arch, given, expected, stock, declared):
    source = tiny(arch, *(yarn(arch) if declared else ()))
    before = ModelFile.open(source)
    made, file = converted(source, given)
    assert ours(file) == expected
    assert made.verdict.stock is stock
    assert bool(expected) == file.decoded.needs_patched
    factors = np.asarray(given["factors"] if isinstance(given, dict) else given)
    by_axes = {(4,): (1, 1, 4), (3,): (3, 1, 1), (3, 4): (3, 1, 4), (3, 2): (3, 2, 1), (3, 2, 4): (3, 2, 4)}
    full = np.broadcast_to(factors.reshape(by_axes[factors.shape]), (3, 2, 4))
    for layer in range(3):
        for head in range(2):
            assert turns(file, layer, head) == pytest.approx(turns(before, layer) / full[layer, head], rel=1e-6)
    scale = given.get("attn_scale", 1.0) if isinstance(given, dict) else 1.0
    assert file.decoded.table.attn_scale == pytest.approx(before.decoded.table.attn_scale * scale, rel=1e-6)
    assert file.decoded.context == before.decoded.context
    for key in ("rope.scaling.type", "rope.scaling.factor", "context_length"):
        assert file.get(f"{arch}.{key}") == before.get(f"{arch}.{key}"), "what the file declares stays"
    back = source.with_name("back.gguf")
    assert strip(file, back).restored is True
    assert back.read_bytes() == source.read_bytes()


def test_a_model_s_own_factors_stay(tiny):
    source = tiny(tensors=[(keys.ROPE_FREQS, np.array([1, 1, 2, 4], np.float32))])
    _, file = converted(source, PAIRS)
    assert ours(file) == {keys.LENGTH_FACTORS}
    assert turns(file) == pytest.approx(turns(ModelFile.open(source)) / PAIRS, rel=1e-6)


def test_on_lists_of_longrope_stock_s_choice_between_them_stays(tiny):
    lists = [
        (f"rope_factors_{n}.weight", np.array(v, np.float32))
        for n, v in (("short", [1, 1, 1.2, 1.2]), ("long", [1, 2, 3, 4]))
    ]
    extra = (
        gb.entry("phi3.rope.scaling.type", gb.STR, "longrope"),
        gb.entry("phi3.rope.scaling.original_context_length", gb.U32, 32),
    )
    source = tiny("phi3", *extra, tensors=lists)
    before = ModelFile.open(source)
    made, file = converted(source, {"factors": PAIRS, "attn_scale": SCALE})
    assert ours(file) == {keys.PAIR_FACTORS}
    assert file.decoded.by_length is False
    assert made.table.close_to(file.decoded.table)
    for length in (16, 33):
        assert turns(file, 1, 1, length) == pytest.approx(turns(before, 1, 1, length) / PAIRS, rel=1e-6)
    assert file.decoded.table.attn_scale == pytest.approx(before.decoded.table.attn_scale * SCALE)


@pytest.mark.parametrize("factors", [PAIRS, [1.0] * 4])
def test_attention_that_follows_the_file_s_scale_is_not_squared_again(tiny, factors):
    """DeepSeek's attention has attn_factor in its own multiplier: the key would count twice."""
    source = tiny("deepseek2", *yarn("deepseek2"))
    before = ModelFile.open(source).decoded
    _, file = converted(source, {"factors": factors, "attn_scale": SCALE})
    assert ours(file) == {keys.LENGTH_FACTORS}
    now = file.decoded
    assert now.stock.attention_multiplier("deepseek2") == before.stock.attention_multiplier("deepseek2")
    assert now.table.attn_scale == pytest.approx(before.table.attn_scale * SCALE, rel=1e-6)


def test_in_place_and_back(tiny):
    source = tiny()
    before = source.read_bytes()
    write_in_place(plan(ModelFile.open(source), "table", {"factor_table": FULL}))
    assert turns(ModelFile.open(source), 2, 1) == pytest.approx(10000.0 ** (-np.arange(4) / 4) / FULL[2, 1], rel=1e-6)
    assert strip_in_place(ModelFile.open(source)).restored is True
    assert source.read_bytes() == before


def test_inspect_tells_of_it(tiny):
    _, file = converted(tiny(), {"factors": FULL, "axes": LAYOUT, "params": {"seed": 3}})
    told = Inspection(file).as_json()
    assert told["params"]["factor_table"]["params"] == {"seed": 3}
    assert [c["layers"] for c in told["layer_classes"]] == [[0], [1], [2]]


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(tiny, tmp_path, monkeypatch, capsys):
    tiny()
    monkeypatch.chdir(tmp_path)

    def run(*words):
        code = main(["convert", "llama.gguf", "-o", "out.gguf", "--overwrite", *words])
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


def identity(path, **changed):
    return ModelFile.open(path).identity.as_json() | changed


def test_a_table_of_this_model(run, tmp_path):
    write_table(tmp_path / "t.npz", FULL, LAYOUT, model=identity("llama.gguf"), params={"seed": 3})
    code, said = run("--method", "table", "--table", "t.npz")
    assert code == 0, said
    assert "note: the table is [layer, head, pair], factors 0.6" in said
    assert "quantization" not in said
    assert ModelFile.open(tmp_path / "out.gguf").decoded.params["factor_table"]["params"] == {"seed": 3}
    code, said = run("--method", "table+yarn", "--factor", "2", "--table", "t.npz")
    assert (code, ModelFile.open(tmp_path / "out.gguf").decoded.method) == (0, "table+yarn"), said


def test_a_table_of_a_converted_file_is_one_of_the_original(run, tmp_path):
    """Identities are of the original: a table that was made for a converted file is this model's as well."""
    assert run("--method", "yarn", "--factor", "2")[0] == 0
    write_table(tmp_path / "t.json", PAIRS, ["pair"], model=identity("out.gguf"))
    code, said = run("--method", "table", "--table", "t.json")
    assert code == 0, said


def test_another_quantization_is_noted_and_another_model_refused(run, tmp_path):
    write_table(tmp_path / "t.json", PAIRS, ["pair"], model=identity("llama.gguf", weights="0" * 64))
    code, said = run("--method", "table", "--table", "t.json")
    assert code == 0
    assert "note: t.json was made on another quantization of this model" in said
    for change, why in (
        ({"vectors": "0" * 64}, "which has other norms or biases"),
        ({"n_head_kv": [2, 2, 4]}, "which has n_head_kv 2, not 4 in layer 2"),
    ):
        write_table(tmp_path / "t.json", PAIRS, ["pair"], model=identity("llama.gguf", **change))
        (tmp_path / "out.gguf").unlink(missing_ok=True)
        code, said = run("--method", "table", "--table", "t.json")
        assert code == 2
        assert (
            f"ggufrope: t.json: was made on another model than llama.gguf, {why}; run `ggufrope tune llama.gguf`"
            in said
        )
        assert not (tmp_path / "out.gguf").exists()
    (tmp_path / "t.json").write_text(json.dumps({"factors": PAIRS, "model": {"architecture": "llama"}}))
    code, said = run("--method", "table", "--table", "t.json")
    assert (code, 't.json: "model" is damaged; run `ggufrope tune` again' in said) == (2, True), said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--method", "table"], "llama.gguf: table: no factors given; pass --table FILE (JSON or .npz, docs/table.md)"),
        (["--method", "tabel", "--table", "p.json"], "unknown method 'tabel': did you mean table"),
        (["--method", "table", "--table", "none.json"], "none.json: cannot be read (No such file or directory); check"),
        (["--method", "table", "--table", "bad.json"], "bad.json: neither an .npz nor JSON"),
        (["--method", "table", "--table", "long.json"], "long.json: 5 factors, but [pair] of this model is 4 pairs;"),
        (["--method", "table", "--table", "nan.json"], "nan.json: factors[1] is nan; it must be a finite number"),
        (["--method", "table", "--table", "p.json", "--head-ratios", "p.json"], "p.json: no \"ratios\" found"),
        (["--method", "table", "--table", "p.json", "--factor", "2"], "--factor: method 'table' has no such parameter "
         "(it takes --table)"),
        (["--method", "yarn", "--factor", "2", "--table", "p.json"], "--table: method 'yarn' has no such parameter"),
        (["--method", "ms-poe", "--table", "p.json"], "--table: method 'ms-poe' has no such parameter (it takes"),
        (["--method", "table", "--table", "p.json", "--context", "128"], "table alone keeps the model's context (64); "
         "to extend it use --method table+yarn (or +ntk, +linear)"),
        (["--table", "p.json"], "no method given"),
        (["--method", "table", "--table", "p.json", "--calibrate", "p.json"], "--calibrate measures the head order of"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(run, tmp_path, words, said):
    for name, text in (("p", json.dumps(PAIRS)), ("bad", "{"), ("long", "[1,1,1,1,2]"), ("nan", "[1, NaN, 1, 1]")):
        (tmp_path / f"{name}.json").write_text(text)
    code, found = run(*words)
    assert code == 2
    assert said in found
    assert len(found.strip().splitlines()) == 1
    assert not (tmp_path / "out.gguf").exists()


def test_head_ratios_of_both_kinds_are_refused(run, tmp_path):
    (tmp_path / "p.json").write_text(json.dumps(PAIRS))
    (tmp_path / "h.json").write_text(json.dumps({"ratios": [[1.0, 1.0]] * 3}))
    code, said = run("--method", "table", "--table", "p.json", "--head-ratios", "h.json")
    assert (code, "--head-ratios: method 'table' has no such parameter (it takes --table)" in said) == (2, True), said


def test_the_output_is_not_the_table(tiny, tmp_path, monkeypatch, capsys):
    tiny()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.json").write_text(json.dumps(PAIRS))
    words = "convert llama.gguf -o p.json --overwrite --method table --table p.json"
    assert main(words.split()) == 2
    assert "p.json: is the same file as one that is read here" in capsys.readouterr().err
    assert json.loads((tmp_path / "p.json").read_text()) == PAIRS


@pytest.mark.parametrize("arch", ["deepseek4", "graniteswitch"])
@pytest.mark.parametrize("given", [PAIRS, [1.0, 1.5, 2.0]])
def test_an_architecture_that_no_runtime_gives_factors(tiny, arch, given):
    with pytest.raises((NotHonouredError, UnsupportedModelError), match=f"{arch}: it .* runtime takes"):
        plan(ModelFile.open(tiny(arch)), "table", {"factor_table": given})
