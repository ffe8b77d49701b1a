"""From tables to keys and back through a real file; and that stock's keys are used exactly when stock agrees."""

from __future__ import annotations

import gguf_builder as gb
import numpy as np
import pytest
from gguf import GGUFReader

from ggufrope.convert.conversion import plan, strip, write
from ggufrope.errors import GgufError, GgufropeError, NotHonouredError, UnsupportedModelError
from ggufrope.gguf import keys
from ggufrope.methods import METHODS, method_names
from ggufrope.methods.clex import ClexTable
from ggufrope.modelfile.model_file import ModelFile

FACTORS = {"short_factor": (1.0, 1.1, 1.2, 1.3), "long_factor": (1.0, 1.5, 2.0, 4.0)}
CLEX = ClexTable(
    tuple(tuple((10000.0 * (2 * t - 1) ** (8 / 6)) ** (-i / 4) for i in range(4)) for t in range(1, 4)), 64
)
PARAMS = {
    "none": {},
    "linear": {"factor": 3.0},
    "ntk": {"factor": 3.0},
    "dynamic-ntk": {"factor": 3.0, "slope": 2.0},
    "yarn": {"factor": 3.0},
    "llama3": {"factor": 8.0},
    "longrope": {"factor": 3.0, **FACTORS},
    "clex": {"clex_from": CLEX},
    "table": {"factor_table": [1.0, 1.1, 0.7, 1.6]},
    "ms-poe": {"from_wavelength": 0},
}


def params_of(name):
    return {k: v for part in name.split("+") for k, v in PARAMS[part].items()}


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.gguf"
    path.write_bytes(gb.tiny_llama())
    return path


def as_is(path):
    file = ModelFile.open(path)
    assert file.before.context == file.original.model.train_ctx  # the original can be read as well
    return file.decoded


def converted(path, name, params, **options):
    made = plan(ModelFile.open(path), name, params, **options)
    out = path.with_name(f"{name}.gguf")
    write(made, out)
    return made, out


@pytest.mark.parametrize("name", method_names())
def test_decoding_what_was_written_gives_the_method_s_own_frequencies(tiny, name):
    made, out = converted(tiny, name, params_of(name))
    found = as_is(out)
    assert found.method == name
    for length in (32, 64, 65, 10_000):
        for layer in range(3):
            for head in range(2):
                wanted = made.table.frequencies(made.model, layer, head, length)
                assert found.table.frequencies(found.model, layer, head, length) == pytest.approx(wanted, rel=3e-7)
    assert found.table.attn_scale == pytest.approx(made.table.attn_scale, rel=1e-7)
    assert found.context == made.context


@pytest.mark.parametrize("name", method_names())
def test_strip_gives_the_source_back_also_after_converting_twice(tiny, name):
    _, out = converted(tiny, name, params_of(name), require_patched=True)
    twice = out.with_suffix(".twice")
    write(plan(ModelFile.open(out), "ntk", {"factor": 2.0}), twice)
    for path in (out, twice):
        back = path.with_suffix(".back")
        assert strip(ModelFile.open(path), back).restored is True
        assert back.read_bytes() == tiny.read_bytes()


@pytest.mark.parametrize("name", method_names())
def test_converting_twice_equals_converting_once(tiny, name):
    _, first = converted(tiny, "yarn", {"factor": 7.0})
    once, twice = tiny.with_suffix(".once"), tiny.with_suffix(".twice")
    write(plan(ModelFile.open(tiny), name, params_of(name)), once)
    write(plan(ModelFile.open(first), name, params_of(name)), twice)
    a, b = as_is(once), as_is(twice)
    assert a.table.close_to(b.table, rtol=0)
    assert (a.method, a.params, a.context, a.model) == (b.method, b.params, b.context, b.model)
    assert {f.key for f in ModelFile.open(once).header.fields} == {f.key for f in ModelFile.open(twice).header.fields}


def test_gguf_py_reads_the_result(tiny):
    _, out = converted(tiny, "ms-poe+yarn", {"factor": 3.0, "from_wavelength": 0}, require_patched=True)
    reader = GGUFReader(out)
    ratios = reader.fields[keys.HEAD_FACTORS]
    flat = [float(ratios.parts[i][0]) for i in ratios.data]
    assert flat == pytest.approx([1, 1, 1, 1, 1.2, 1.5])
    assert [t.name for t in reader.tensors][-1] == keys.SENTINEL
    assert reader.fields["llama.rope.scaling.type"].contents() == "yarn"


@pytest.mark.parametrize(
    ("arch", "name", "params", "ours"),
    [
        ("llama", "yarn", {"factor": 3.0}, False),
        ("qwen2", "yarn", {"factor": 3.0}, False),
        ("qwen2", "yarn", {"factor": 3.0, "attention_factor": 1.3}, False),
        ("qwen2", "yarn", {"factor": 3.0, "beta_fast": 3.0, "truncate": False}, True),  # qwen2 never reads beta_fast
        ("mistral3", "yarn", {"factor": 3.0, "beta_fast": 4.0}, False),  # mistral3 does
        ("llama", "yarn", {"factor": 3.0, "beta_fast": 3.0, "truncate": False}, False),  # by rope_freqs.weight
        ("llama", "llama3", {"factor": 8.0}, False),
        ("qwen2", "llama3", {"factor": 8.0}, True),
        ("qwen2", "longrope", {"factor": 3.0, "short_factor": (2.0,) * 4, "long_factor": (2.0,) * 4}, True),
    ],
)
def test_stock_keys_wherever_stock_computes_the_same(tmp_path, arch, name, params, ours):
    path = tmp_path / "tiny.gguf"
    path.write_bytes(gb.tiny_llama(arch))
    made, out = converted(path, name, params)
    assert made.needs_patched is ours
    found = as_is(out)
    assert found.needs_patched is ours
    assert found.table.frequencies(found.model) == pytest.approx(made.table.frequencies(made.model), rel=3e-7)
    assert found.table.attn_scale == pytest.approx(made.table.attn_scale, rel=1e-6)
    context = ModelFile.open(out).header.get(f"{arch}.context_length")
    assert (context == 64) is ours, "the context is raised for stock only when stock can use it"


@pytest.mark.parametrize(("arch", "by_stock"), [("phi3", True), ("llama", True), ("qwen2", False)])
def test_longrope_by_length_in_use_and_stock_s_choice_beside_it(tmp_path, arch, by_stock):
    path = tmp_path / "tiny.gguf"
    path.write_bytes(gb.tiny_llama(arch))
    _, out = converted(path, "longrope", {"factor": 3.0, "attention_factor": 1.25, **FACTORS})
    found, plain = as_is(out), 10000.0 ** -(np.arange(4) / 4)
    assert found.by_length
    assert found.needs_patched
    for length, lists in ((1, "short_factor"), (64, "short_factor"), (65, "long_factor"), (192, "long_factor")):
        assert found.table.frequencies(found.model, length=length) == pytest.approx(plain / FACTORS[lists], rel=1e-6)
    assert found.table.attn_scale == pytest.approx([1.25, 1.25])
    header = ModelFile.open(out).header
    assert header.get(f"{arch}.context_length") == (192 if by_stock else 64)
    assert (header.tensor(keys.ROPE_LONG) is not None) == by_stock
    assert len(found.stock_table.factors) == 1 + by_stock
    # what stock already multiplies in stands in the rows no second time
    assert header.get(keys.LENGTH_ATTN_SCALE) == pytest.approx([1.0, 1.0] if by_stock else [1.25, 1.25])
    assert strip(ModelFile.open(out), tmp_path / "back.gguf").restored


def phi3_with_lists(path):
    """What upstream's converter makes of Phi-3."""
    more = [
        gb.entry("phi3.rope.scaling.type", gb.STR, "longrope"),
        gb.entry("phi3.rope.scaling.original_context_length", gb.U32, 16),
        gb.entry("phi3.rope.scaling.attn_factor", gb.F32, 1.19),
    ]
    lists = [(keys.ROPE_SHORT, "short_factor"), (keys.ROPE_LONG, "long_factor")]
    tensors = [*gb.tiny_tensors(), *((name, np.array(FACTORS[k], np.float32)) for name, k in lists)]
    path.write_bytes(gb.build([*gb.llama_entries("phi3"), *more], tensors))
    return path


@pytest.mark.parametrize("name", ["longrope", "ms-poe+longrope"])
def test_a_file_with_its_own_lists_learns_to_pick_by_length(tmp_path, name):
    path = phi3_with_lists(tmp_path / "phi3.gguf")
    before = as_is(path)
    made, out = converted(path, name, {})
    found, plain = as_is(out), 10000.0 ** -(np.arange(4) / 4)
    assert not made.edit.tensors
    assert all(k in keys.OURS for k in made.edit.set), "what stock reads stays as it is"
    assert found.stock_table.close_to(before.stock_table, rtol=0)
    assert (found.by_length, found.context, found.table.length_points) == (True, 64, (16, 64))
    for length, lists in ((16, "short_factor"), (17, "long_factor")):
        assert found.table.frequencies(found.model, length=length) == pytest.approx(plain / FACTORS[lists], rel=1e-6)
    assert found.table.attn_scale == pytest.approx([1.19, 1.19])
    assert strip(ModelFile.open(out), tmp_path / "back.gguf").restored
    assert (tmp_path / "back.gguf").read_bytes() == path.read_bytes()


def test_other_lists_than_the_file_s_own_are_refused(tmp_path):
    path = phi3_with_lists(tmp_path / "phi3.gguf")
    for params in ({**FACTORS, "long_factor": (1.0, 2.0, 3.0, 4.0)}, {"attention_factor": 1.5}):
        with pytest.raises(UnsupportedModelError, match="LongRoPE factors"):
            plan(ModelFile.open(path), "longrope", params)


def test_what_no_runtime_would_do_is_refused(tmp_path):
    path = tmp_path / "tiny.gguf"
    path.write_bytes(gb.build([*gb.llama_entries("gemma2"), gb.entry("gemma2.attention.sliding_window", gb.U32, 16)]))
    made = plan(ModelFile.open(path), "dynamic-ntk", {"factor": 8.0})
    assert any("2 sliding-window layers keep their rotation" in n for n in made.notes)
    everywhere = gb.entry("gemma2.attention.sliding_window_pattern", gb.ARR, [True] * 3, gb.BOOL)
    window = gb.entry("gemma2.attention.sliding_window", gb.U32, 16)
    path.write_bytes(gb.build([*gb.llama_entries("gemma2"), window, everywhere], gb.tiny_tensors()))
    with pytest.raises(NotHonouredError, match="every rotating layer has a sliding window"):
        plan(ModelFile.open(path), "dynamic-ntk", {"factor": 8.0})


def test_sliding_layers_are_left_alone_and_said(tmp_path):
    path = tmp_path / "tiny.gguf"
    entries = [*gb.llama_entries("gemma2", block_count=6), gb.entry("gemma2.attention.sliding_window", gb.U32, 16)]
    path.write_bytes(gb.build(entries, gb.tiny_tensors()))
    made = plan(ModelFile.open(path), "ms-poe", {"from_wavelength": 0})
    assert [set(r) == {1.0} for r in made.table.head_ratios] == [True, True, True, False, True, False]
    assert any("sliding-window layers stay at ratio 1.0" in n for n in made.notes)
    assert all(
        set(r) != {1.0}
        for r in plan(ModelFile.open(path), "ms-poe", {"sliding": True, "from_wavelength": 0}).table.head_ratios[2:]
    )


def test_a_scaled_file_that_hides_its_original_context(tmp_path):
    path = tmp_path / "legacy.gguf"
    path.write_bytes(gb.tiny_llama(extra=[gb.entry("llama.rope.scale_linear", gb.F32, 4.0)]))
    assert as_is(path).method == "linear"
    made = plan(ModelFile.open(path), "none", {})
    assert any("--original-context" in n for n in made.notes)
    assert made.edit.remove == {"llama.rope.scale_linear"}
    made, out = converted(path, "linear", {"original_context": 16}, context=64)
    assert (as_is(out).stock.factor, as_is(out).model.original_ctx, as_is(out).context) == (4.0, 16, 64)


def test_stock_keeps_a_scaling_that_only_the_patched_runtime_could_replace(tmp_path):
    path = tmp_path / "qwen.gguf"
    original = gb.entry("qwen2.rope.scaling.original_context_length", gb.U32, 32)
    path.write_bytes(gb.tiny_llama("qwen2", extra=[original]))
    assert plan(ModelFile.open(path), "llama3", {"factor": 8.0}).needs_patched, "a context alone is no scaling"
    linear = [gb.entry("qwen2.rope.scaling.type", gb.STR, "linear"), gb.entry("qwen2.rope.scaling.factor", gb.F32, 2.0)]
    path.write_bytes(gb.tiny_llama("qwen2", extra=[original, *linear]))
    with pytest.raises(NotHonouredError, match=r"declares linear scaling.*--require-patched"):
        plan(ModelFile.open(path), "llama3", {"factor": 8.0})
    assert plan(ModelFile.open(path), "llama3", {"factor": 8.0}, require_patched=True).needs_patched


@pytest.mark.parametrize(
    ("arch", "stored", "scale"),
    [("mistral3", 1.0, 1.0), ("deepseek2", 0.0707, 1.0), ("deepseek2", 0.1, 1.0), ("llama", 1.0, 1 + 0.1 * np.log(4))],
)
def test_yarn_s_log_multiplier_counts_where_it_is_read(tmp_path, arch, stored, scale):
    path = tmp_path / "yarn.gguf"
    more = [
        gb.entry(f"{arch}.rope.scaling.type", gb.STR, "yarn"),
        gb.entry(f"{arch}.rope.scaling.factor", gb.F32, 4.0),
        gb.entry(f"{arch}.rope.scaling.yarn_log_multiplier", gb.F32, stored),
    ]
    path.write_bytes(gb.tiny_llama(arch, extra=more))
    assert as_is(path).table.attn_scale == pytest.approx(scale, rel=1e-6)
    with pytest.raises(UnsupportedModelError, match="attention scale"):
        plan(ModelFile.open(path), "linear", {"factor": 2.0})


@pytest.mark.parametrize(
    ("arch", "more", "rotating"),
    [
        ("smollm3", [], "11101110"),
        ("llama4", [], "11101110"),  # a window by default
        ("llama4", [gb.entry("llama4.attention.sliding_window", gb.U32, 0)], "11111111"),
        ("smallthinker", [gb.entry("smallthinker.attention.sliding_window", gb.U32, 16)], "01110111"),
        ("cohere2", [gb.entry("cohere2.attention.sliding_window", gb.U32, 16)], "11101110"),
        ("exaone4", [], "11111111"),
        ("qwen35", [], "00010001"),
        ("qwen35", [gb.entry("qwen35.full_attention_interval", gb.U32, 2)], "01010101"),
        (
            "qwen3next",
            [gb.entry("qwen3next.attention.recurrent_layers", gb.ARR, [True] * 6 + [False] * 2, gb.BOOL)],
            "00000011",
        ),
        ("glm4moe", [gb.entry("glm4moe.nextn_predict_layers", gb.U32, 1)], "11111110"),
    ],
)
def test_layers_that_do_not_rotate_get_no_ratio(tmp_path, arch, more, rotating):
    path = tmp_path / "tiny.gguf"
    path.write_bytes(gb.build([*gb.llama_entries(arch, block_count=8), *more], gb.tiny_tensors()))
    made = plan(ModelFile.open(path), "ms-poe", {"first_layer": 0, "sliding": True, "from_wavelength": 0})
    assert [set(r) != {1.0} for r in made.table.head_ratios] == [c == "1" for c in rotating]
    if "0" in rotating:
        assert any("do not rotate" in n for n in made.notes)
        with pytest.raises(GgufropeError, match="does not rotate"):
            plan(ModelFile.open(path), "ms-poe", {"from_wavelength": 0, "head_ratios": ((1.2, 1.2),) * 8})


def test_mla_takes_one_ratio_per_layer_only(tmp_path):
    path = tmp_path / "mla.gguf"
    entries = gb.llama_entries("deepseek2", **{"attention.kv_lora_rank": 16, "attention.head_count_kv": 1})
    path.write_bytes(gb.build(entries, gb.tiny_tensors()))
    with pytest.raises(UnsupportedModelError, match=r"MLA.*--head-ratios"):
        plan(ModelFile.open(path), "ms-poe", {"from_wavelength": 0})
    assert plan(
        ModelFile.open(path), "ms-poe", {"from_wavelength": 0, "head_ratios": ((1.0,), (1.2,), (1.4,))}
    ).needs_patched
    old = gb.llama_entries("deepseek2", **{"attention.kv_lora_rank": 16})
    path.write_bytes(gb.build(old, gb.tiny_tensors()))
    with pytest.raises(UnsupportedModelError, match="several ratios"):
        plan(
            ModelFile.open(path), "ms-poe", {"from_wavelength": 0, "head_ratios": ((1.0, 1.0), (1.2, 1.3), (1.4, 1.4))}
        )


def test_a_model_s_own_factors_stay_and_multiply(tmp_path):
    path = tmp_path / "llama31.gguf"
    own = np.array([1, 1, 2, 8], dtype=np.float32)
    path.write_bytes(gb.build(gb.llama_entries(), [*gb.tiny_tensors(), (keys.ROPE_FREQS, own)]))
    made, out = converted(path, "linear", {"factor": 2.0})
    assert any(keys.ROPE_FREQS in n for n in made.notes)
    base = 10000.0 ** -(np.arange(4) / 4)
    assert as_is(out).table.frequencies(as_is(out).model) == pytest.approx(base / own / 2, rel=1e-6)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (keys.HEAD_FACTORS, gb.entry(keys.HEAD_FACTORS, gb.ARR, [1.0] * 5, gb.F32), "5 entries, expected 6"),
        (keys.HEAD_FACTORS, gb.entry(keys.HEAD_FACTORS, gb.ARR, [1.0] * 6, gb.F64), "type f32"),
        (keys.HEAD_FACTORS, gb.entry(keys.HEAD_FACTORS, gb.ARR, [1, 1, 1, 1, 0, 1], gb.F32), "finite number above 0"),
        (keys.HEAD_FACTORS, gb.entry(keys.HEAD_FACTORS, gb.ARR, [float("nan")] * 6, gb.F32), "finite number above 0"),
        (keys.VERSION, gb.entry(keys.VERSION, gb.U32, 4), "update"),
        (keys.VERSION, gb.entry(keys.VERSION, gb.ARR, [], gb.U32), "update"),
        (keys.METHOD, gb.entry(keys.METHOD, gb.ARR, [1, 2], gb.U32), "a value of type str is needed"),
        (keys.HEAD_ORDER, gb.entry(keys.HEAD_ORDER, gb.ARR, [], gb.U32), "a value of type str is needed"),
        (keys.HEAD_ORDER, gb.entry(keys.HEAD_ORDER, gb.STR, ""), "knows static and per-prompt"),
        (keys.PARAMS, gb.entry(keys.PARAMS, gb.STR, "{"), "not JSON"),
        (keys.ORIGINAL, gb.entry(keys.ORIGINAL, gb.STR, "{}"), "missing or damaged"),
        (keys.ORIGINAL, gb.entry(keys.ORIGINAL, gb.STR, "[1]"), "missing or damaged"),
    ],
)
def test_damaged_keys_of_ours_are_named(tiny, key, value, said):
    _, out = converted(tiny, "ms-poe", {"from_wavelength": 0})
    header = ModelFile.open(out).header
    entries = [value if f.key == key else header.raw(f) for f in header.fields]
    out.write_bytes(gb.build(entries, gb.tiny_tensors()))
    with pytest.raises(GgufError, match=said) as error:
        as_is(out)
    assert str(out) in str(error.value)


def rows_entry(key, values, kind):
    return key, gb.entry(key, gb.ARR, values, kind)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (*rows_entry(keys.LENGTH_POINTS, [64, 64, 192], gb.U32), "must increase"),
        (*rows_entry(keys.LENGTH_POINTS, [64, 192, 128], gb.U32), "must increase"),
        (*rows_entry(keys.LENGTH_POINTS, [0, 64, 192], gb.U32), "must increase"),
        (*rows_entry(keys.LENGTH_POINTS, [64, 192], gb.U32), "expected 2 × rot_dim/2 = 8"),
        (
            *rows_entry(keys.LENGTH_POINTS, [64, 128, 191], gb.U32),
            "192, beyond the last of ggufrope.length_points, 191",
        ),
        (*rows_entry(keys.LENGTH_POINTS, [64.0, 128.0, 192.0], gb.F32), "an array of uint32"),
        (*rows_entry(keys.LENGTH_FACTORS, [1.0] * 11, gb.F32), "has 11 entries"),
        (*rows_entry(keys.LENGTH_FACTORS, [1.0] * 11 + [0.0], gb.F32), "found 0.0"),
        (*rows_entry(keys.LENGTH_FACTORS, [1.0] * 11 + [-1.0], gb.F32), "found -1.0"),
        (*rows_entry(keys.LENGTH_FACTORS, [1.0] * 11 + [float("nan")], gb.F32), "found nan"),
        (*rows_entry(keys.LENGTH_FACTORS, [1.0] * 12, gb.F64), "an array of float32"),
        (*rows_entry(keys.LENGTH_ATTN_SCALE, [1.0, 1.0], gb.F32), "length_attn_scale 2 for 3"),
        (*rows_entry(keys.LENGTH_ATTN_SCALE, [1.0, 1.0, float("inf")], gb.F32), "found inf"),
        (keys.LENGTH_ATTN_SCALE, gb.entry(keys.LENGTH_ATTN_SCALE, gb.F32, 1.0), "an array of float32"),
    ],
)
def test_damaged_rows_are_named(tiny, key, value, said):
    _, out = converted(tiny, "dynamic-ntk", {"factor": 3.0, "granularity": 2.0})
    header = ModelFile.open(out).header
    assert as_is(out).table.length_points == (64, 128, 192)
    out.write_bytes(gb.build([value if f.key == key else header.raw(f) for f in header.fields], gb.tiny_tensors()))
    with pytest.raises(GgufError, match=said) as error:
        as_is(out)
    assert str(out) in str(error.value)


def test_every_key_we_write_is_documented(tiny):
    known = {keys.stock(k.name, "llama") for k in keys.KEYS}
    for name in METHODS:
        assert set(plan(ModelFile.open(tiny), name, params_of(name)).edit.set) <= known


def test_source_index_counts_keys_of_the_original(tiny):
    before = [f.key for f in ModelFile.open(tiny).header.fields]
    _, out = converted(tiny, "none", {})
    _, out = converted(tiny, "ntk", {"factor": 2.0})
    source = ModelFile.open(out).original
    assert [source.index(k) for k in before] == list(range(len(before)))


def test_an_unknown_scaling_type_is_refused(tmp_path):
    path = tmp_path / "odd.gguf"
    path.write_bytes(gb.tiny_llama(extra=[gb.entry("llama.rope.scaling.type", gb.STR, "dynamic")]))
    with pytest.raises(GgufropeError, match="aborts"):
        _ = ModelFile.open(path).decoded
    with pytest.raises(GgufropeError, match="aborts"):
        plan(ModelFile.open(path), "ms-poe", {"from_wavelength": 0})  # keeps the file's scaling
    assert "llama.rope.scaling.type" in plan(ModelFile.open(path), "none", {}).edit.remove


def test_a_model_s_own_factors_are_never_overwritten_even_by_equal_ones(tmp_path):
    path = tmp_path / "own.gguf"
    path.write_bytes(gb.build(gb.llama_entries(), [*gb.tiny_tensors(), ("rope_freqs.weight", np.ones(4, np.float32))]))
    made, out = converted(path, "llama3", {"factor": 8.0})
    assert not made.edit.tensors
    assert made.needs_patched
    assert strip(ModelFile.open(out), tmp_path / "back.gguf").restored


def test_a_context_that_shrinks_is_told(tiny):
    shrinks = plan(ModelFile.open(tiny), "linear", {"factor": 2.0, "original_context": 16})
    assert shrinks.context == 32
    assert any("context shrinks" in note and "to 32 tokens" in note for note in shrinks.notes)
    assert not any("context shrinks" in note for note in plan(ModelFile.open(tiny), "linear", {"factor": 2.0}).notes)
