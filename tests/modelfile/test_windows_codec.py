"""Models with sliding windows: what becomes of a method in either kind of layers, in stock's keys and in our rows."""

from __future__ import annotations

import gguf_builder as gb
import numpy as np
import pytest

from ggufrope.cli._inspect_text import lines
from ggufrope.convert.conversion import plan, strip, write
from ggufrope.errors import GgufError, NotHonouredError
from ggufrope.gguf import differences, keys
from ggufrope.inspection.summary import Inspection
from ggufrope.inspection.wavelengths import plot_wavelengths
from ggufrope.modelfile.encoded import encode_rows
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.modelfile.verdict import verdict_of
from ggufrope.rope.stock import StockRope
from ggufrope.rope.table import RopeTable, yarn_factors

RAGGED = {"factor": 3.0, "truncate": False, "beta_fast": 3.0}  # no architecture here computes that by itself
SHARP = {"factor": 3.0, "attention_factor": 1.3}
EXACT = yarn_factors(8, 10000.0, 3.0, 64, 3.0, 1.0, False)
FULL, SLIDING = 2, 0


def entries(arch, *extra, pattern=(True, True, False), **numbers):
    marks = gb.entry(f"{arch}.attention.sliding_window_pattern", gb.ARR, list(pattern), gb.BOOL)
    return [*gb.llama_entries(arch, **{"attention.sliding_window": 16, **numbers}), marks, *extra]


@pytest.fixture
def make(tmp_path):
    """A function that writes a small model of an architecture with windows, and converts it."""

    def make(arch, name, params, *extra, **options):
        path = tmp_path / f"{arch}.gguf"
        path.write_bytes(gb.build(entries(arch, *extra, **options), gb.tiny_tensors()))
        made = plan(ModelFile.open(path), name, params)
        write(made, tmp_path / "out.gguf")
        back = tmp_path / "back.gguf"
        assert strip(ModelFile.open(tmp_path / "out.gguf"), back).restored
        assert back.read_bytes() == path.read_bytes()
        back.unlink()
        return made, ModelFile.open(tmp_path / "out.gguf")

    return make


def version(file):
    return file.header.get(keys.VERSION)


def turns(file, layer, table=None):
    decoded = file.decoded
    return (table or decoded.table).frequencies(decoded.model, layer)


def plain(base=10000.0):
    return base ** -(np.arange(4) / 4)


@pytest.mark.parametrize("arch", ["gpt-oss", "gemma2", "llama4", "cohere2", "exaone-moe", "afmoe", "smallthinker"])
def test_rows_for_all_layers_where_they_rotate_alike(make, arch):
    made, file = make(arch, "yarn", RAGGED)
    model = file.model
    stays = arch in ("llama4", "exaone-moe")  # they load rope_freqs.weight: stock computes it from that
    assert made.needs_patched != stays
    assert version(file) == (1 if stays else 2)
    if not stays:
        assert file.header.get(keys.LENGTH_LAYERS).tolist() == [model.rotates(layer) for layer in range(3)]
    for layer in model.one_of_each_kind():
        assert turns(file, layer) == pytest.approx(plain() / EXACT, rel=3e-7)
        assert file.decoded.table.scale(model, layer) == pytest.approx(1 + 0.1 * np.log(3))
        assert (turns(file, layer, file.decoded.stock_table) == pytest.approx(plain())) != stays


@pytest.mark.parametrize("arch", ["gemma3", "gemma3n", "olmo2", "mellum", "mimo2"])
@pytest.mark.parametrize("params", [RAGGED, SHARP])
def test_rows_for_some_layers_are_as_old_runtimes_read_them(make, arch, params):
    made, file = make(arch, "yarn", params, gb.entry(f"{arch}.rope.freq_base_swa", gb.F32, 500.0))
    stock = params is SHARP and arch in ("olmo2", "mellum")  # whose windows no attention factor reaches
    assert made.needs_patched != stock
    assert version(file) == 1
    assert keys.LENGTH_LAYERS not in file
    base = 500.0 if arch not in ("olmo2", "mellum") else 10000.0
    assert turns(file, SLIDING) == pytest.approx(plain(base))
    assert file.decoded.table.scale(file.model, SLIDING) == 1.0
    assert file.decoded.table.scale(file.model, FULL) == pytest.approx(
        params.get("attention_factor", 1 + 0.1 * np.log(3))
    )
    assert any("2 sliding-window layers keep their rotation" in note for note in made.notes)


@pytest.mark.parametrize(
    ("arch", "name", "params"),
    [
        ("gemma3", "yarn", {"factor": 3.0}),
        ("gemma3", "linear", {"factor": 3.0}),
        ("gemma3", "ntk", {"factor": 3.0}),
        ("gpt-oss", "yarn", SHARP),
        ("gpt-oss", "ntk", {"factor": 3.0}),
        ("olmo2", "yarn", SHARP),
        ("olmo2", "ntk", {"factor": 3.0}),
        ("llama4", "llama3", {"factor": 8.0}),
    ],
)
def test_stock_s_keys_where_stock_computes_the_same_in_either_kind(make, arch, name, params):
    made, file = make(arch, name, params)
    assert not made.needs_patched
    assert not file.decoded.needs_patched
    assert "stock llama.cpp as well" in verdict_of(file).runs_on()
    for layer in file.model.one_of_each_kind():
        wanted = made.table.frequencies(made.model, layer)
        assert turns(file, layer) == pytest.approx(wanted, rel=3e-7)
        assert file.decoded.table.scale(file.model, layer) == pytest.approx(made.table.scale(made.model, layer))


def test_layers_of_both_kinds_with_rows_of_their_own_are_refused(make):
    with pytest.raises(NotHonouredError, match="window need other factors than the rest"):
        make("gpt-oss", "yarn", RAGGED, gb.entry("gpt-oss.rope.freq_base_swa", gb.F32, 500.0))
    made, file = make("gpt-oss", "linear", {"factor": 3.0}, gb.entry("gpt-oss.rope.freq_base_swa", gb.F32, 500.0))
    assert not made.needs_patched
    assert turns(file, SLIDING) == pytest.approx(plain(500.0) / 3)


@pytest.mark.parametrize(
    ("arch", "name", "params", "use"),
    [
        ("muse-glimmer", "yarn", {"factor": 3.0}, "use ntk"),
        ("muse-glimmer", "linear", {"factor": 3.0}, "use ntk"),
        ("cohere2", "dynamic-ntk", {"factor": 3.0}, "use linear or ntk"),
        ("exaone-moe", "yarn", {"factor": 3.0, "dynamic": True}, "use linear or ntk"),
    ],
)
def test_what_would_change_no_layer_that_rotates_is_refused(make, arch, name, params, use):
    with pytest.raises(NotHonouredError, match=f"every rotating layer has a sliding window.*{use}"):
        make(arch, name, params)


def test_rows_for_windows_alone(make):
    """Cohere 2 rotates in those layers only."""
    _, file = make("cohere2", "yarn", RAGGED)
    assert file.header.get(keys.LENGTH_LAYERS).tolist() == [True, True, False]


def test_rows_that_no_layer_rotates_by_are_refused(make):
    """As the runtime refuses them: Cohere 2 rotates in its windows only, and these rows leave windows alone."""
    made, _ = make("cohere2", "none", {})
    model = made.source.model
    outside = RopeTable.uniform(EXACT, 1.4).with_sliding(RopeTable.identity(model.of_sliding))
    with pytest.raises(NotHonouredError, match="every rotating layer has a sliding window"):
        encode_rows(outside, StockRope(), model, 192)
    assert keys.LENGTH_LAYERS in encode_rows(RopeTable.uniform(EXACT, 1.4), StockRope(), model, 192).set


def test_rows_relative_to_keys_that_stay(make):
    """Gemma 3 with stock's YaRN and an attention factor, which must not act in windows: rows that take it back."""
    keyed = [
        gb.entry("gemma3.rope.scaling.type", gb.STR, "yarn"),
        gb.entry("gemma3.rope.scaling.factor", gb.F32, 3.0),
        gb.entry("gemma3.rope.scaling.attn_factor", gb.F32, 1.25),
    ]
    made, _ = make("gemma3", "none", {}, *keyed)
    model, stock = made.source.model, made.source.stock
    table = stock.table(model)
    wanted = table.with_sliding(RopeTable.identity(model.of_sliding))
    edit = encode_rows(wanted, stock, model, 192)
    assert edit.set[keys.LENGTH_LAYERS].value.tolist() == [True, True, False]
    assert edit.set[keys.LENGTH_FACTORS].value == pytest.approx([1] * 4)
    assert edit.set[keys.LENGTH_ATTN_SCALE].value == pytest.approx([1 / 1.25])
    exact = RopeTable.uniform(EXACT, 1.4).with_sliding(RopeTable.uniform(np.ones(4), 1.25))
    edit = encode_rows(exact, stock, model, 192)
    assert keys.LENGTH_LAYERS not in edit.set
    assert edit.set[keys.LENGTH_FACTORS].value == pytest.approx(EXACT / yarn_factors(8, 10000.0, 3.0, 64))
    with pytest.raises(NotHonouredError, match="other factors than the rest"):
        encode_rows(exact.with_sliding(RopeTable.identity(model.of_sliding)), stock, model, 192)
    rows = RopeTable(np.ones((2, 4)), np.array([1.0, 1.2]), (64, 192))
    with pytest.raises(NotHonouredError, match="cannot follow the length"):
        encode_rows(rows, StockRope(), model, 192)  # as many rows in windows


def test_diff_and_inspection_of_rows_for_all_layers(make, tmp_path):
    _, file = make("gpt-oss", "yarn", RAGGED)
    shown = {d.name: d for d in differences(ModelFile.open(tmp_path / "gpt-oss.gguf").headers, file.headers)}
    assert keys.LENGTH_LAYERS in shown
    said = Inspection(file).as_json()
    assert said["frequencies"] == [pytest.approx(plain() / EXACT, rel=1e-6)]
    assert said["sliding_frequencies"] == said["sliding_attention_scale"] == []
    assert said["honoured_by"]["stock"] == "runs it as the source model: it ignores the ggufrope keys"


def test_inspection_shows_windows_that_rotate_otherwise(make, tmp_path):
    keyed = gb.entry("gemma3.rope.freq_base_swa", gb.F32, 500.0)
    for params in (SHARP, {"factor": 3.0, "dynamic": True}):
        _, file = make("gemma3", "yarn", params, keyed)
        inspection = Inspection(file)
        said = inspection.as_json()
        assert said["sliding_frequencies"] == [pytest.approx(plain(500.0))]
        assert said["sliding_attention_scale"] == [1.0]
        assert len(said["frequencies"]) == len(said["attention_scale"]) == max(1, len(said["length_points"]))
        assert "sliding windows  base 500, attention scale 1" in lines(inspection)
        assert inspection.wavelengths()["after, in sliding windows"] == pytest.approx(2 * np.pi / plain(500.0))
        assert plot_wavelengths(inspection, tmp_path / "plot.svg").stat().st_size
        (tmp_path / "plot.svg").unlink()
    _, file = make("laguna", "linear", {"factor": 3.0}, **{"rope.dimension_count_swa": 4})
    assert any(line.endswith("attention scale 1, 4 dimensions") for line in lines(Inspection(file)))
    assert Inspection(file).as_json()["sliding_frequencies"] == [pytest.approx(10000.0 ** -(np.arange(2) / 2))]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({keys.LENGTH_LAYERS: (gb.ARR, [True, True], gb.BOOL)}, "array of 3 bool values"),
        ({keys.LENGTH_LAYERS: (gb.ARR, [1, 1, 1], gb.U8)}, "array of 3 bool values"),
        ({keys.LENGTH_LAYERS: (gb.BOOL, True)}, "array of 3 bool values"),
        ({keys.LENGTH_LAYERS: (gb.ARR, [False] * 3, gb.BOOL)}, "true for no layer"),
        (
            {keys.LENGTH_LAYERS: (gb.ARR, [True, False, True], gb.BOOL)},
            "some layers with a sliding window, not for all",
        ),
        ({keys.VERSION: (gb.U32, 1)}, "version is 1 beside ggufrope.length_layers; 2 is needed"),
        ({keys.LENGTH_FACTORS: None}, "length_factors is None; an array of float32"),
        (
            {
                keys.LENGTH_POINTS: (gb.ARR, [64, 192], gb.U32),
                keys.LENGTH_FACTORS: (gb.ARR, [1.0] * 8, gb.F32),
                keys.LENGTH_ATTN_SCALE: (gb.ARR, [1.0] * 2, gb.F32),
            },
            "layers with a sliding window; their rotation cannot follow the length",
        ),
    ],
)
def test_damaged_layers_are_named(make, tmp_path, change, said):
    _, file = make("gpt-oss", "yarn", RAGGED)
    kept = [file.header.raw(f) for f in file.header.fields if f.key not in change]
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(gb.build([*kept, *(gb.entry(k, *v) for k, v in change.items() if v)], gb.tiny_tensors()))
    with pytest.raises(GgufError, match=said) as error:
        _ = ModelFile.open(bad).decoded
    assert str(bad) in str(error.value)


def test_a_layer_that_does_not_rotate_takes_no_row(make, tmp_path):
    _, file = make("cohere2", "yarn", RAGGED)
    kept = [file.header.raw(f) for f in file.header.fields if f.key != keys.LENGTH_LAYERS]
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(gb.build([*kept, gb.entry(keys.LENGTH_LAYERS, gb.ARR, [True] * 3, gb.BOOL)], gb.tiny_tensors()))
    with pytest.raises(GgufError, match="true for layer 2, which does not rotate"):
        _ = ModelFile.open(bad).decoded
