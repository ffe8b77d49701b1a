"""Files on the patched runtime against the reference: they agree, and where something is wrong they do not."""

from __future__ import annotations

import json
from functools import partial
from importlib.util import find_spec

import numpy as np
import pytest
import tiny_checkpoint
from validate_path import validate

from ggufrope.cli import main
from ggufrope.convert.pipeline import ConvertRequest, carry_out
from ggufrope.gguf import read_header, rewrite
from ggufrope.inference.session import open_strict
from ggufrope.validate import sides, validation

pytest.importorskip("transformers", reason="pip install 'ggufrope[torch]'")
pytestmark = [
    # found, not imported: the first import decides on which libllama the whole process runs
    pytest.mark.skipif(find_spec("llama_cpp") is None, reason="llama-cpp-python is missing; run scripts/setup"),
    pytest.mark.usefixtures("runtime_dir", "_one_thread"),
]

LISTS = {"short_factor": (1.0, 1.1, 1.2, 1.3), "long_factor": (1.0, 1.5, 2.5, 4.0)}
#: A factor for each layer, KV head and pair of the model.
TABLE = np.exp(np.random.default_rng(5).uniform(0, 0.5, (5, 4, 4))).tolist()
METHODS = {
    "none": {},
    "linear": {"factor": 4.0},
    "ntk": {"factor": 4.0},
    "yarn": {"factor": 4.0},
    "llama3": {"factor": 4.0, "original_context": 64},
    "longrope": {"factor": 4.0, **LISTS},
    "ms-poe": {},
    "ms-poe as published": {"from_wavelength": 0},
    "ms-poe by parts": {"from_wavelength": 50.0},
    "ms-poe+yarn by parts": {"factor": 4.0, "from_wavelength": 50.0, "head_order": "random:3"},
    "ms-poe+linear": {"factor": 2.0},
    "ms-poe+ntk": {"factor": 4.0, "head_order": "random:3"},
    "ms-poe+yarn": {"factor": 4.0, "head_order": "reverse", "spacing": "paper"},
    "ms-poe+llama3": {"factor": 4.0, "original_context": 64},
    "ms-poe+longrope": {"factor": 4.0, **LISTS},
    "table": {"factor_table": TABLE},
    "table of pairs": {"factor_table": {"factors": [1.0, 1.3, 0.8, 2.0], "attn_scale": 1.1}},
    "table+yarn": {"factor": 4.0, "factor_table": TABLE},
}


@pytest.fixture(scope="module")
def _one_thread():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:  # on a busy machine two threads mostly wait for each other
        for module in (validation, sides):
            patch.setattr(module, "open_strict", partial(open_strict, threads=1))
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=tiny_checkpoint.KINDS)
def tiny(request, tmp_path_factory):
    return tiny_checkpoint.make(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def stories(shared):
    return shared / "models/stories260K"


def convert(source, out, name, params):
    carry_out(ConvertRequest(source, out, name, params))
    return out


def broken_runtime(monkeypatch, change):
    """Have ``validate`` open the file and then spoil its head factors with ``change``."""
    real = validation.open_strict

    def opened(*args, **options):
        session = real(*args, **options)
        factors = session.head_factors()
        change(factors)
        session.set_head_factors(factors)
        return session

    monkeypatch.setattr(validation, "open_strict", opened)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("none", {}),
        ("ms-poe", {"from_wavelength": 0}),
        ("ms-poe", {"from_wavelength": 20.0}),
        ("ms-poe+yarn", {"factor": 4.0}),
    ],
)
def test_random_models_of_every_kind(tiny, tmp_path, name, params):
    if "ms-poe" in name:
        params = {"first_layer": 1, **params}
    result = validate(convert(tiny, tmp_path / "out.gguf", name, params), tiny.parent, length=600)
    assert result.passed, "\n".join(result.lines())
    assert result.total.max_kl > 0
    if "phi2" not in tiny.read_bytes()[:200].decode(errors="replace"):  # llama.cpp looks its GELU up in an F16 table
        assert result.total.max_abs < 1e-3


@pytest.mark.parametrize("length", [512, 2000])
@pytest.mark.parametrize("name", METHODS)
def test_a_trained_model_with_every_method(stories, tmp_path, name, length):
    file = convert(stories / "stories260K-f32.gguf", tmp_path / "out.gguf", name.split()[0], METHODS[name])
    result = validate(file, stories / "hf", length=length)
    assert result.passed, "\n".join(result.lines())
    # this model's attention is not so sharp as to need the whole limit, but with random factors half a float32 step in
    # them is 8e-4 at 2000 tokens, thirty times what it is with a method's
    assert result.total.max_abs < (5e-3 if "factor_table" in METHODS[name] else 1e-3)
    assert result.total.mean_kl < 1e-8


def test_methods_differ_from_one_another(stories, tmp_path):
    """A check that passes everything proves nothing: the same file against the plain model fails."""
    file = convert(stories / "stories260K-f32.gguf", tmp_path / "out.gguf", "ntk", {"factor": 4.0})
    keys = [f.key for f in read_header(file).fields if f.key.startswith("ggufrope.")]
    rewrite(read_header(file), tmp_path / "anonymous.gguf", remove=keys)
    result = validate(tmp_path / "anonymous.gguf", stories / "hf", length=300)
    assert result.passed is False
    assert result.total.max_abs > 0.1


def test_one_percent_on_one_ratio_fails(tiny, tmp_path, monkeypatch):
    file = convert(tiny, tmp_path / "out.gguf", "ms-poe", {"first_layer": 1, "from_wavelength": 0})

    def change(factors):
        factors[3] *= 1.01

    assert validate(file, tiny.parent, length=300).passed
    broken_runtime(monkeypatch, change)
    assert validate(file, tiny.parent, length=300).passed is False


def test_two_heads_swapped_fail(stories, tmp_path, monkeypatch):
    file = convert(stories / "stories260K-f16.gguf", tmp_path / "out.gguf", "ms-poe", {"from_wavelength": 0})
    assert validate(file, stories / "hf", length=300).passed

    def change(factors):
        factors[[8, 9]] = factors[[9, 8]]

    broken_runtime(monkeypatch, change)
    assert validate(file, stories / "hf", length=300).passed is False


def test_a_lost_attention_factor_fails(stories, tmp_path):
    params = {"factor": 4.0, "attention_factor": 1.05}
    file = convert(stories / "stories260K-f32.gguf", tmp_path / "out.gguf", "yarn", params)
    assert validate(file, stories / "hf", length=200).passed
    rewrite(read_header(file), tmp_path / "less.gguf", remove=["llama.rope.scaling.attn_factor"])
    assert validate(tmp_path / "less.gguf", stories / "hf", length=200).passed is False


def test_a_scaling_that_the_converter_dropped_shows(stories, tmp_path):
    """config.json asks for linear scaling, the GGUF knows nothing of it."""
    folder = tmp_path / "hf"
    folder.mkdir()
    for path in (stories / "hf").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}))
    assert validate(stories / "stories260K-f32.gguf", folder, length=200).passed is False


def test_longrope_goes_by_the_length_in_use(stories, tmp_path):
    """llama.cpp pads 290 tokens to a context of 512 and would take the long factors, beyond the original 300."""
    params = {"factor": 4.0, "original_context": 300, **LISTS}
    file = convert(stories / "stories260K-f32.gguf", tmp_path / "out.gguf", "longrope", params)
    for length in (256, 290, 300, 301):
        result = validate(file, stories / "hf", length=length)
        assert result.passed, "\n".join(result.lines())
        assert result.total.max_abs < 1e-3
    keys = [f.key for f in read_header(file).fields if f.key.startswith("ggufrope.length_")]
    rewrite(read_header(file), tmp_path / "by-allocation.gguf", remove=keys)
    result = validate(tmp_path / "by-allocation.gguf", stories / "hf", length=290)
    assert result.passed is False
    assert any("pads the context to 512" in note for note in result.notes)


def test_half_precision_is_held_to_its_own_limits(stories, tmp_path):
    file = convert(stories / "stories260K-f16.gguf", tmp_path / "out.gguf", "ms-poe+yarn", {"factor": 4.0})
    result = validate(file, stories / "hf", length=1000)
    assert result.passed, "\n".join(result.lines())
    assert result.limits.name == "F16 weights"
    assert any("rounded to float16" in note for note in result.notes)
    assert validate(file, stories / "hf", length=100, tolerance=1e-6).passed is False


def test_quantized_files_are_reported(stories, tmp_path, runtime_dir):
    from ggufrope.runtime.programs import quantize

    quantize(stories / "stories260K-f32.gguf", tmp_path / "q8.gguf", "Q8_0")
    result = validate(tmp_path / "q8.gguf", stories / "hf", length=100)
    assert result.weights == "F16+Q8_0"
    assert result.limits.name == "Q8_0 weights"
    assert 1e-3 < result.total.max_abs < 2
    quantize(stories / "stories260K-f32.gguf", tmp_path / "q5.gguf", "Q5_1")
    result = validate(tmp_path / "q5.gguf", stories / "hf", length=100)
    assert result.passed is None
    assert "no set limit for F16+Q5_1+Q8_0 weights" in result.verdict
    assert validate(tmp_path / "q5.gguf", stories / "hf", length=100, tolerance=5).passed


def test_text(stories, shared):
    text = shared / "data/tinystories-valid-excerpt.txt"
    result = validate(stories / "stories260K-f32.gguf", stories / "hf", length=300, text=text)
    assert result.passed
    assert result.tokens == str(text)


def test_chunked_runtime_equals_one_batch(stories):
    ids, path = list(range(3, 400)), stories / "stories260K-f32.gguf"
    found = []
    for chunk in (512, 100, 31):
        with open_strict(path, len(ids), chunk=chunk, threads=1) as session:
            found += [np.concatenate(list(session.log_probs(ids))) for _ in range(2)]  # the second one starts afresh
    for other in found[1:]:
        assert np.abs(other - found[0]).max() < 1e-4


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["--length", "100"], 0, "passed: max"),
        (["--length", "100", "--tolerance", "1e-9"], 1, "FAILED: max"),
        (["--length", "0"], 2, "at least one position"),
        (["--length", "100", "--text", "nowhere.txt"], 2, "nowhere.txt: cannot be read"),
        (["--length", "100", "--any-method"], 2, "is a directory, which PyTorch rotates in one way"),
    ],
)
def test_command(stories, capsys, args, code, said):
    line = ["validate", str(stories / "stories260K-f32.gguf"), "--reference", str(stories / "hf"), *args]
    assert main(line) == code
    shown = capsys.readouterr()
    assert said in (shown.err if code else shown.out)
    assert "Traceback" not in shown.err


def test_command_prints_json(stories, capsys):
    line = ["validate", str(stories / "stories260K-f32.gguf"), "--reference", str(stories / "hf"), "--length", "70"]
    assert main([*line, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["passed"] is True
    assert [(b["start"], b["end"]) for b in found["buckets"]] == [(0, 64), (64, 70)]


def test_another_model_s_directory(stories, shared, tiny, capsys):
    line = ["validate", str(stories / "stories260K-f32.gguf"), "--reference"]
    assert main([*line, str(tiny.parent), "--length", "20"]) == 2
    assert "512 tokens" in capsys.readouterr().err
    assert main([*line, str(shared / "oracles"), "--length", "20"]) == 2
    assert "no config.json" in capsys.readouterr().err
