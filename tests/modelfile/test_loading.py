"""What llama.cpp's loader takes: each key in each wrong type is said, repaired to the same value, and restored."""

from __future__ import annotations

import json

import gguf_builder as gb
import numpy as np
import pytest

from ggufrope.cli import main
from ggufrope.gguf import ValueType, keys
from ggufrope.modelfile.loading import RULES, Form, faults
from ggufrope.modelfile.model_file import ModelFile

#: (key, the value that a model of ``gguf_builder`` can have there, what llama.cpp takes).
SINGLE = [
    ("context_length", 64, "u32"),
    ("embedding_length", 32, "u32"),
    ("block_count", 3, "u32"),
    ("nextn_predict_layers", 0, "u32"),
    ("attention.head_count", 4, "u32 or an array of 3 u32, i32 or bool"),
    ("attention.head_count_kv", 2, "u32 or an array of 3 u32, i32 or bool"),
    ("attention.key_length", 8, "u32"),
    ("attention.value_length", 8, "u32"),
    ("rope.dimension_count", 8, "u32"),
    ("rope.freq_base", 500000, "f32"),
    ("rope.scaling.factor", 4, "f32"),
    ("rope.scale_linear", 4, "f32"),
    ("rope.scaling.attn_factor", 2, "f32"),
    ("rope.scaling.original_context_length", 16, "u32"),
    ("rope.scaling.finetuned", 1, "bool"),
]
TYPES = {"u8": gb.U8, "i8": gb.I8, "u16": gb.U16, "i16": gb.I16, "u32": gb.U32, "i32": gb.I32, "u64": gb.U64,
         "i64": gb.I64, "f32": gb.F32, "f64": gb.F64, "bool": gb.BOOL, "str": gb.STR}  # fmt: skip
NAMES = {"UINT32": "u32", "FLOAT32": "f32", "BOOL": "bool"}


def with_key(name: str, entry: bytes) -> list[bytes]:
    """The keys of a small llama with one of them replaced or added."""
    label = gb.string(f"llama.{name}")
    return [e for e in gb.llama_entries() if not e.startswith(label)] + [entry]


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(entries, tensors=()):
        (tmp_path / "odd.gguf").write_bytes(gb.build(entries, [*gb.tiny_tensors(), *tensors]))
        return tmp_path / "odd.gguf"

    return write


def stored(path, name):
    """(type, value) of a key of a llama as it lies in a file."""
    value = ModelFile.open(path).typed(f"llama.{name}")
    return None if value is None else (NAMES.get(value.type.name, value.type.name), value.value)


def storable(kind: str, value: int) -> bool:
    return value < 128 or kind in ("bool", "str", "f32", "f64") or kind[1:] in ("32", "64")


MISTYPED = [
    (name, value, takes, kind)
    for name, value, takes in SINGLE
    for kind in TYPES
    if kind != takes.partition(" ")[0] and storable(kind, value)
]


@pytest.mark.parametrize(("name", "value", "takes", "kind"), MISTYPED)
def test_a_single_value_of_another_type(write, capsys, name, value, takes, kind):
    given = {"bool": bool(value), "str": str(value), "f32": float(value), "f64": float(value)}.get(kind, value)
    path = write(with_key(name, gb.entry(f"llama.{name}", TYPES[kind], given)))
    said = f"llama.{name} is {kind}, llama.cpp takes {takes}"
    assert [str(fault) for fault in faults(ModelFile.open(path))] == [said]
    code, shown = main(["inspect", "odd.gguf"]), capsys.readouterr()
    assert said in (shown.out if code == 0 else shown.err)
    assert "in full" not in shown.out
    code = main("convert odd.gguf -o out.gguf --method none".split())
    shown = capsys.readouterr()
    scaling = name.startswith(("rope.scal", "rope.scale_linear"))
    number = kind not in ("str", "bool") or (kind == "bool" and takes == "bool")
    number = number or (takes == "bool" and kind != "str")
    if not number and not scaling:
        assert code == 2
        assert said in shown.err
        assert "odd.gguf: " in shown.err
        return
    assert code == 0
    assert stored("out.gguf", name) == (None if scaling else (takes.partition(" ")[0], value))
    becomes = "removed" if scaling else f"written as {takes.partition(' ')[0]} now"
    assert f"note: {said}: it is {becomes}" in shown.out
    check_result(path, capsys)


def check_result(path, capsys) -> None:
    """A file that convert wrote can be inspected, converted again and stripped, back to the byte."""
    assert not faults(ModelFile.open("out.gguf"))
    capsys.readouterr()
    assert main(["inspect", "out.gguf", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["not_loaded_because"] == []
    assert main(["inspect", "out.gguf"]) == 0
    assert "in full" in capsys.readouterr().out
    assert main("convert out.gguf -o twice.gguf --method linear --factor 2".split()) == 0
    assert main("convert twice.gguf -o again.gguf --method none".split()) == 0
    assert (path.parent / "again.gguf").read_bytes() == (path.parent / "out.gguf").read_bytes()
    for name in ("out", "twice"):
        assert main(f"strip {name}.gguf -o {name}-back.gguf".split()) == 0
        assert (path.parent / f"{name}-back.gguf").read_bytes() == path.read_bytes()
    capsys.readouterr()


ARRAYS = [
    # name, items, their type, what is repaired: the value, or None for a refusal, or "" where nothing is wrong
    ("attention.head_count", [4, 4, 4], "u64", [4, 4, 4]),
    ("attention.head_count", [4, 4, 4], "i16", [4, 4, 4]),
    ("attention.head_count", [4.0, 4.0, 4.0], "f32", [4, 4, 4]),
    ("attention.head_count", [4, 4, 4], "i32", ""),
    ("attention.head_count", [4, 4, 4], "u32", ""),
    ("attention.head_count_kv", [2, 2, 2, 2], "u32", 2),
    ("attention.head_count_kv", [2, 2], "i64", 2),
    ("attention.head_count_kv", [2, 1, 2, 1], "u32", None),
    ("attention.head_count_kv", [2, 1], "u32", None),
    ("attention.head_count_kv", [2, 1, 2], "u64", [2, 1, 2]),
    ("attention.head_count_kv", ["2", "2", "2"], "str", None),
    ("context_length", [64, 64, 64], "u32", 64),
    ("context_length", [64, 32, 64], "u32", None),
    ("rope.dimension_count", [8], "u32", 8),
    ("rope.dimension_count", [8, 8, 8], "i32", 8),
    ("rope.freq_base", [10000.0], "f32", 10000.0),
    ("rope.freq_base", [10000.0, 500.0], "f32", None),
]


@pytest.mark.parametrize(("name", "items", "kind", "repaired"), ARRAYS)
def test_an_array(write, capsys, name, items, kind, repaired):
    path = write(with_key(name, gb.entry(f"llama.{name}", gb.ARR, items, TYPES[kind])))
    found = [str(fault) for fault in faults(ModelFile.open(path))]
    if repaired == "":
        assert found == []
        return
    assert len(found) == 1
    assert found[0].startswith(f"llama.{name} is an array of {len(items)} {kind}, llama.cpp takes ")
    main(["inspect", "odd.gguf"])
    shown = capsys.readouterr()
    assert found[0] in shown.out + shown.err
    code = main("convert odd.gguf -o out.gguf --method none".split())
    shown = capsys.readouterr()
    assert code == (2 if repaired is None else 0)
    if repaired is None:
        assert f"odd.gguf: {found[0]}; " in shown.err
        return
    value = stored("out.gguf", name)[1]
    assert (value.tolist() if isinstance(value, np.ndarray) else value) == repaired
    check_result(path, capsys)


def test_a_value_that_does_not_fit(write, capsys):
    write(with_key("context_length", gb.entry("llama.context_length", gb.U64, 1 << 32)))
    assert main("convert odd.gguf -o out.gguf --method none".split()) == 2
    assert "llama.context_length is u64, llama.cpp takes u32; " in capsys.readouterr().err


def test_a_precise_base_is_rounded_to_float32(write, capsys):
    path = write(with_key("rope.freq_base", gb.entry("llama.rope.freq_base", gb.F64, 10000.1)))
    assert main("convert odd.gguf -o out.gguf --method none".split()) == 0
    assert stored("out.gguf", "rope.freq_base") == ("f32", float(np.float32(10000.1)))
    check_result(path, capsys)


def test_a_method_that_keeps_the_scaling_repairs_its_keys(write, capsys):
    path = write([
        *gb.llama_entries(),
        gb.entry("llama.rope.scaling.type", gb.STR, "yarn"),
        gb.entry("llama.rope.scaling.factor", gb.F64, 4.0),
        gb.entry("llama.rope.scaling.original_context_length", gb.U64, 16),
    ])  # fmt: skip
    assert main("convert odd.gguf -o out.gguf --method ms-poe".split()) == 0
    assert "llama.rope.scaling.factor is f64, llama.cpp takes f32: it is written as f32 now" in capsys.readouterr().out
    assert stored("out.gguf", "rope.scaling.factor") == ("f32", 4.0)
    assert stored("out.gguf", "rope.scaling.original_context_length") == ("u32", 16)
    assert not faults(ModelFile.open("out.gguf"))
    assert main("strip out.gguf -o back.gguf".split()) == 0
    assert (path.parent / "back.gguf").read_bytes() == path.read_bytes()


def test_keys_that_an_architecture_does_not_read_may_have_any_type(write):
    for name in ("attention.sliding_window", "rope.scaling.yarn_beta_fast", "leading_dense_block_count"):
        path = write([*gb.llama_entries(), gb.entry(f"llama.{name}", gb.STR, "x")])
        assert not faults(ModelFile.open(path))
    path = write([*gb.llama_entries(), gb.entry("llama.rope.scaling.factor", gb.F32, 2.0),
                  gb.entry("llama.rope.scale_linear", gb.F64, 2.0)])  # fmt: skip
    assert not faults(ModelFile.open(path)), "the old name is read only where the new one is absent"


@pytest.mark.parametrize("rule", [r for r in RULES if r.readers], ids=lambda r: f"{r.key}-{r.form.name}")
def test_readers_refuse_and_others_do_not(tmp_path, rule):
    def found(arch):
        entries = gb.llama_entries(arch, **{"attention.sliding_window": 16})
        path = tmp_path / f"{arch}.gguf"
        label = gb.string(keys.stock(rule.key, arch))
        odd = gb.entry(keys.stock(rule.key, arch), gb.ARR, ["x"], gb.STR)
        path.write_bytes(gb.build([*(e for e in entries if not e.startswith(label)), odd], gb.tiny_tensors()))
        return [fault.name for fault in faults(ModelFile.open(path))]

    for arch in sorted(rule.readers)[:3]:
        when = arch == "exaone4" and rule.when is not None  # which reads them in one size only
        assert found(arch) == ([] if when else [keys.stock(rule.key, arch)]), arch
    assert found("qwen2") == []


def test_a_pattern_needs_an_array_where_there_is_no_period(tmp_path):
    def found(arch, *entry):
        path = tmp_path / "odd.gguf"
        entries = gb.llama_entries(arch, **{"attention.sliding_window": 16})
        entries.append(gb.entry(f"{arch}.attention.sliding_window_pattern", *entry))
        path.write_bytes(gb.build(entries, gb.tiny_tensors()))
        return [str(fault) for fault in faults(ModelFile.open(path))]

    assert found("gemma3", gb.U32, 2) == found("gemma3", gb.ARR, [True] * 3, gb.BOOL) == []
    assert found("mimo2", gb.ARR, [True] * 3, gb.BOOL) == found("mimo2", gb.ARR, [1] * 2, gb.U32) == []
    assert found("mimo2", gb.U32, 2) == [
        "mimo2.attention.sliding_window_pattern is u32, llama.cpp takes an array of u32, i32 or bool"
    ]
    assert len(found("gemma3", gb.ARR, [1.0] * 3, gb.F32)) == len(found("gemma3", gb.U64, 2)) == 1


ONES = np.ones(4, np.float32)
FREQS, SHORT, LONG = ((f"rope_{name}.weight", ONES) for name in ("freqs", "factors_short", "factors_long"))
TENSORS = [
    ("llama", None, [FREQS], []),
    ("llama", "longrope", [SHORT, LONG], []),
    ("llama", "longrope", [FREQS], ["rope_freqs.weight"]),
    ("llama", "yarn", [SHORT, LONG], ["rope_factors_short.weight", "rope_factors_long.weight"]),
    ("llama", None, [FREQS, SHORT, LONG], ["rope_factors_short.weight", "rope_factors_long.weight"]),
    ("qwen2", None, [FREQS], ["rope_freqs.weight"]),
    ("qwen2", "longrope", [SHORT], ["rope_factors_short.weight"]),
    ("phi3", None, [SHORT, LONG], []),
    ("phi3", None, [FREQS], ["rope_freqs.weight"]),
    ("apertus", "longrope", [FREQS, SHORT, LONG], ["rope_freqs.weight"]),
    ("llama", None, [("rope_freqs.weight", np.ones(3, np.float32))], ["rope_freqs.weight"]),
    ("phi3", "longrope", [SHORT, ("rope_factors_long.weight", np.ones(8, np.float32))], ["rope_factors_long.weight"]),
]


@pytest.mark.parametrize(("arch", "kind", "tensors", "names"), TENSORS)
def test_tensors_that_llama_cpp_does_not_load(write, capsys, arch, kind, tensors, names):
    typed = [gb.entry(f"{arch}.rope.scaling.type", gb.STR, kind)] if kind else []
    path = write([*gb.llama_entries(arch), *typed], tensors)
    found = faults(ModelFile.open(path))
    assert [fault.name for fault in found] == names
    code, shown = main(["inspect", "odd.gguf"]), capsys.readouterr()
    assert not names or all(str(fault) in (shown.out if code == 0 else shown.err) for fault in found)
    if names and not (kind == "longrope" and arch == "llama"):  # without that type it is loaded
        assert main("convert odd.gguf -o out.gguf --method none".split()) == 2
        assert "odd.gguf: " in capsys.readouterr().err


def test_a_tensor_that_the_new_scaling_has_loaded(write, capsys):
    write([*gb.llama_entries(), gb.entry("llama.rope.scaling.type", gb.STR, "longrope")], [FREQS])
    assert main("convert odd.gguf -o out.gguf --method none".split()) == 0
    assert not faults(ModelFile.open("out.gguf"))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("rope.scaling.type", "spiral", "llama.cpp knows none, linear, yarn and longrope, and aborts on anything else"),
        ("nextn_predict_layers", 4, "llama.cpp aborts where it is above the 3 layers that there are"),
        ("rope.dimension_count", 4, "llama.cpp takes the head size 8 and nothing else for llama"),
    ],
)
def test_values_that_end_the_loading(write, capsys, name, value, said):
    kind = gb.STR if isinstance(value, str) else gb.U32
    path = write(with_key(name, gb.entry(f"llama.{name}", kind, value)))
    (fault,) = faults(ModelFile.open(path))
    assert str(fault) == f"llama.{name} is {value!r}, {said}"
    code, shown = main(["inspect", "odd.gguf"]), capsys.readouterr()
    assert str(fault) in (shown.out if code == 0 else shown.err)


@pytest.mark.parametrize("arch", ["qwen2", "gemma3", "phi3"])
def test_lists_of_ones_are_no_tensors_where_they_are_not_loaded(write, capsys, tmp_path, arch):
    """Plain rotation is what stock computes without them, too."""
    path = write(gb.llama_entries(arch))
    (tmp_path / "ones.json").write_text("[1, 1, 1, 1]")
    lists = "--short-factor ones.json --long-factor ones.json --factor 1"
    assert main(f"convert odd.gguf -o out.gguf --method longrope {lists}".split()) == 0
    assert not faults(ModelFile.open("out.gguf"))
    assert arch == "phi3" or not ModelFile.open("out.gguf").has_tensor("rope_factors_long.weight")
    assert main("strip out.gguf -o back.gguf".split()) == 0
    assert (tmp_path / "back.gguf").read_bytes() == path.read_bytes()


def test_an_architecture_with_a_name_alone(write, capsys):
    write(gb.llama_entries("gptj"))
    assert main(["inspect", "odd.gguf"]) == 0
    assert "does not load the file: general.architecture is gptj, a name that llama.cpp has no model for" in (
        capsys.readouterr().out
    )
    assert main("convert odd.gguf -o out.gguf --method none".split()) == 2
    assert "odd.gguf: general.architecture is gptj" in capsys.readouterr().err


def test_type_names():
    assert [kind.short for kind in ValueType] == ["u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "str", "array",
                                                  "u64", "i64", "f64"]  # fmt: skip
    assert all(rule.form is not Form.ARRAY or rule.readers for rule in RULES)
