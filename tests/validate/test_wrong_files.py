"""No wrong file passes: every number that carries a method, changed in the file alone, makes ``validate`` fail.

Each sample is converted and passes. Then one thing after the other is changed: a key or a tensor, or the parameters in
``ggufrope.params``; and of a method that was read from a checkpoint also both together, as a converter that misreads
``config.json`` would write them. A method without a sample here fails the first tests.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec

import numpy as np
import pytest
import tiny_checkpoint
from test_validate_length import with_clex_layer
from validate_path import validate

from ggufrope.convert.conversion import plan, write
from ggufrope.convert.declared_scaling import declared_scaling
from ggufrope.convert.hf_config import read_hf_config
from ggufrope.convert.trained_layers import with_trained_layer
from ggufrope.errors import GgufropeError
from ggufrope.gguf import TypedValue, ValueType, keys, read_header, rewrite
from ggufrope.methods import METHODS
from ggufrope.methods.clex import ClexTable
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.validate import validation

pytest.importorskip("transformers", reason="pip install 'ggufrope[torch]'")
pytestmark = [
    # found, not imported: the first import decides on which libllama the whole process runs
    pytest.mark.skipif(find_spec("llama_cpp") is None, reason="llama-cpp-python is missing; run scripts/setup"),
    pytest.mark.usefixtures("runtime_dir", "_one_thread"),
]

ORIGINAL = 128
LENGTH = 150
SHORT = [1.0 + 0.02 * i for i in range(16)]
LONG = [1.0 + 0.2 * i for i in range(16)]
LISTS = {"short_factor": SHORT, "long_factor": LONG}
MIXED = {"factor": 4.0, "original_max_position_embeddings": ORIGINAL}
PIECEWISE = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}

CONTEXT_ONLY = "says how far the context reaches, not how anything rotates"
NOT_READ = "llama.cpp does not read it for this architecture"
ROUNDED = "the ends of the ramp are rounded to whole pairs, and stay where they are"
BOOKKEEPING = "this rotation does not depend on the context before scaling"
OF_NUMBERS = (
    "the numbers stand in a key of their own, for each layer, KV head and pair; this says what they were given by"
)
ONE_STATEMENT = "given ratios stand in this key alone: nothing in the file or the checkpoint says them once more"


@dataclass(frozen=True)
class Sample:
    """A method on a tiny model.

    Attributes:
        method: its name; None where it is what ``rope`` asks for.
        params: its parameters.
        kind: of the model, a key of ``tiny_checkpoint.KINDS``.
        rope: ``rope_parameters`` of the checkpoint.
        still: what does not change the rotation, and why. Misread from a checkpoint: ``misread NAME``.
        config: what else its ``config.json`` says.
    """

    method: str | None
    params: dict = field(default_factory=dict)
    kind: str = "llama"
    rope: dict = field(default_factory=dict)
    still: dict = field(default_factory=dict)
    config: dict = field(default_factory=dict)


def read(kind, rope, still=None, config=None):
    return Sample(None, kind=kind, rope=rope, still=still or {}, config=config or {})


def kept_betas(arch, params="params."):
    """Of YaRN where the ramp's ends are rounded to whole pairs, in stock's keys."""
    return {f"{arch}.rope.scaling.yarn_beta_{end}": NOT_READ for end in ("fast", "slow")} | rounded_betas(params)


def rounded_betas(params="params."):
    return {f"{params}beta_{end}": ROUNDED for end in ("fast", "slow")}


def kept_original(arch):
    return {f"{arch}.rope.scaling.original_context_length": BOOKKEEPING}


def axes(params):
    """Of a table whose numbers are in keys of their own."""
    return {f"{params}factor_table.axes": OF_NUMBERS}


ONE_ROW = {"ggufrope.length_points": "there is one row, for all lengths"}
SAMPLES = {
    "none": Sample("none"),
    "none, base": Sample("none", {"freq_base": 20000.0}),
    "none, own factors": Sample("none", rope={"rope_type": "llama3", **PIECEWISE}),
    "linear": Sample("linear", {"factor": 4.0}, still=kept_original("llama")),
    "linear, own factors": Sample(
        "linear", {"factor": 2.0}, rope={"rope_type": "llama3", **PIECEWISE}, still=kept_original("llama")
    ),
    "linear, in place of another": Sample(
        "linear", {"factor": 2.0}, "qwen2", {"rope_type": "yarn", **MIXED}, kept_original("qwen2")
    ),
    "ntk": Sample("ntk", {"factor": 4.0}, still=kept_original("llama")),
    "dynamic-ntk": Sample("dynamic-ntk", {"factor": 2.0, "slope": 2.0, "granularity": 1.5}),
    "yarn": Sample("yarn", {"factor": 4.0}, still=kept_betas("llama")),
    "yarn, ramp": Sample(
        "yarn",
        {"factor": 4.0, "beta_fast": 8.0, "beta_slow": 2.0, "truncate": False},
        still=kept_original("llama"),
    ),
    "yarn, mscale": Sample("yarn", {"factor": 4.0, "mscale": 1.0, "mscale_all_dim": 0.5}, still=kept_betas("llama")),
    "yarn, attention": Sample("yarn", {"factor": 4.0, "attention_factor": 1.2}, "qwen2", still=kept_betas("qwen2")),
    "yarn, dynamic": Sample(
        "yarn", {"factor": 2.0, "dynamic": True, "original_context": 100}, "qwen3", still=rounded_betas()
    ),
    "llama3": Sample("llama3", {"factor": 8.0, "original_context": 64}, still=kept_original("llama")),
    "llama3, rows": Sample("llama3", {"factor": 8.0, "original_context": 64}, "qwen2", still=ONE_ROW),
    "longrope": Sample("longrope", {"factor": 4.0, **LISTS}),
    "longrope, attention": Sample(
        "longrope",
        {
            "factor": 4.0,
            "attention_factor": 1.1,
            "short_attention_factor": 1.05,
            "short_factor": SHORT[:8],
            "long_factor": LONG[:8],
        },
        "phi3",
    ),
    "clex": Sample("clex"),
    "clex, log": Sample("clex", {"log_scale": True, "max_factor": 3}, "qwen2"),
    "table": Sample("table", {"factor_table": {"factors": LONG, "attn_scale": 1.1}}),
    "table, own factors": Sample(
        "table", {"factor_table": LONG}, rope={"rope_type": "llama3", **PIECEWISE}, still=ONE_ROW
    ),
    "table, rows": Sample("table", {"factor_table": {"factors": SHORT, "attn_scale": 0.9}}, "qwen2", still=ONE_ROW),
    "table, layers": Sample("table", {"factor_table": {"factors": [1.0, 1.3, 0.8], "attn_scale": 1.1}}, "qwen2"),
    "table, heads": Sample(
        "table", {"factor_table": [[1.0, 1.2], [0.7, 1.5], [1.3, 1.1]]}, "qwen3", still=axes("params.")
    ),
    "table, all": Sample(
        "table", {"factor_table": [[SHORT, LONG], [LONG, SHORT], [SHORT, SHORT]]}, still=axes("params.")
    ),
    "table+yarn": Sample(
        "table+yarn",
        {"factor": 4.0, "factor_table": {"factors": [SHORT, LONG, SHORT], "attn_scale": 1.1}},
        "mistral",
        still=axes("params.") | rounded_betas("params.base.") | kept_original("llama"),
    ),
    "table+ntk": Sample("table+ntk", {"factor": 4.0, "factor_table": SHORT}, still=kept_original("llama")),
    "table+dynamic-ntk": Sample(
        "table+dynamic-ntk", {"factor": 2.0, "granularity": 1.5, "factor_table": SHORT}, "qwen2"
    ),
    "ms-poe": Sample("ms-poe", {"first_layer": 1, "from_wavelength": 0}),
    "ms-poe, order": Sample(
        "ms-poe", {"first_layer": 1, "from_wavelength": 0, "head_order": "random:3", "spacing": "paper"}, "qwen3"
    ),
    "ms-poe, given": Sample(
        "ms-poe",
        {"head_ratios": ((1.0, 1.0), (1.5, 1.2), (1.3, 1.1)), "from_wavelength": 0},
        still={"ggufrope.head_factors": ONE_STATEMENT},
    ),
    "ms-poe, slow pairs": Sample("ms-poe", {"first_layer": 1, "from_wavelength": 60.0}, "qwen2"),
    "ms-poe, slow pairs, given": Sample(
        "ms-poe", {"head_ratios": ((1.0, 1.0), (1.5, 1.2), (1.3, 1.1)), "from_wavelength": 30.0}, "phi3"
    ),
    "ms-poe+yarn": Sample(
        "ms-poe+yarn",
        {"factor": 4.0, "first_layer": 1, "from_wavelength": 0},
        "mistral",
        still=kept_betas("llama", "params.base."),
    ),
}
FROM_CHECKPOINT = {
    "linear": read("qwen2", {"rope_type": "linear", "factor": 4.0}, kept_original("qwen2")),
    "dynamic": read("llama", {"rope_type": "dynamic", "factor": 2.0}, {"misread factor": CONTEXT_ONLY}),
    "yarn": read("llama", {"rope_type": "yarn", **MIXED}, kept_betas("llama")),
    "yarn, ramp": read(
        "qwen3", {"rope_type": "yarn", **MIXED, "beta_fast": 8.0, "beta_slow": 2.0, "truncate": False}, ONE_ROW
    ),
    "yarn, mscale": read(
        "qwen2", {"rope_type": "yarn", **MIXED, "mscale": 1.0, "mscale_all_dim": 0.5}, kept_betas("qwen2")
    ),
    "llama3": read("llama", {"rope_type": "llama3", **PIECEWISE}),
    "llama3, rows": read("qwen2", {"rope_type": "llama3", **PIECEWISE}, ONE_ROW),
    "longrope": read(
        "phi3",
        {"rope_type": "longrope", "short_factor": SHORT[:8], "long_factor": LONG[:8]},
        None,
        {"original_max_position_embeddings": ORIGINAL, "max_position_embeddings": 4 * ORIGINAL},
    ),
    "longrope, llama": read(
        "llama", {"rope_type": "longrope", **MIXED, **LISTS}, config={"max_position_embeddings": 4 * ORIGINAL}
    ),
    "clex": read("qwen2", {"rope_type": "clex"}),
}


@pytest.fixture(scope="module")
def _one_thread():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation, "open_strict", partial(validation.open_strict, threads=1))
        yield
    torch.set_num_threads(before)


def test_every_method_has_a_sample():
    named = {part for sample in SAMPLES.values() for part in sample.method.split("+")}
    assert named == METHODS.keys()


def test_every_method_that_a_configuration_can_ask_for_has_a_sample_of_that():
    asked = {sample.rope["rope_type"] for sample in FROM_CHECKPOINT.values()}
    for name, method in METHODS.items():
        assert not method.traits.hf_types or asked & set(method.traits.hf_types), name


def checkpoint(sample, folder):
    """The sample's directory and the GGUF that llama.cpp's converter would make of it."""
    gguf = tiny_checkpoint.make(sample.kind, folder, max_position_embeddings=ORIGINAL)
    if "clex" in (sample.method, sample.rope.get("rope_type")):
        with_clex_layer(
            folder, ORIGINAL, read_header(gguf).get(f"{read_header(gguf).architecture}.rope.dimension_count") // 2
        )
    elif sample.rope or sample.config:
        config = json.loads((folder / "config.json").read_text())
        config["rope_parameters"] |= sample.rope
        (folder / "config.json").write_text(json.dumps(config | sample.config))
    if sample.kind == "llama" and sample.rope.get("rope_type") == "llama3":
        rewrite(read_header(gguf), folder / "with-factors.gguf", add_tensors={keys.ROPE_FREQS: own_factors(folder)})
        return folder / "with-factors.gguf"
    return gguf


def own_factors(folder):
    """What the converter stores for a llama3 checkpoint, by transformers' own function."""
    import transformers
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config = transformers.AutoConfig.from_pretrained(folder)
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config)
    return (10000.0 ** -(np.arange(16) / 16) / scaled.double().numpy()).astype(np.float32)


def wrong(value):
    """Visibly another value of the same type, for each of its parts."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [2 * value or 1]
    if isinstance(value, float):
        return [value * 1.05]
    if isinstance(value, str):
        return {"code": ["paper"], "paper": ["code"], "sequential": ["reverse"], "random:3": ["random:4"]}.get(
            value,
            [value[::-1]] if len(value) == 64 else [],  # a digest
        )
    if isinstance(value, ClexTable):
        return [replace(value, context=value.context + 12)]
    if isinstance(value[0], str):  # axes
        return [["layer", "head"] if value != ["layer", "head"] else ["layer"]]
    if isinstance(value[0], list):  # of layers
        return [[*value[:i], [*row[:-1], row[-1] * 1.05], *value[i + 1 :]] for i, row in enumerate(value)]
    return [[*value[:i], value[i] * 1.05, *value[i + 1 :]] for i in (0, len(value) - 1)]


def wrong_params(params):
    """(name, parameters with it changed) for each; those of a base, too."""
    for name, value in params.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{inner}", params | {name: other}) for inner, other in wrong_params(value))
        else:
            yield from ((name, params | {name: other}) for other in wrong(value))


def wrong_arrays(array):
    for i in sorted({0, array.size - 1}):
        changed = array.copy()
        changed.flat[i] = changed.flat[i] * 1.05 if array.dtype.kind == "f" else changed.flat[i] + 7
        yield changed


PER_NUMBER = (
    keys.HEAD_FACTORS, keys.PAIR_FACTORS, keys.LENGTH_POINTS, keys.LENGTH_FACTORS, keys.LENGTH_ATTN_SCALE
)  # fmt: skip


def wrong_files(header):
    """(what, edits) for every key and tensor that decides how the file rotates, and for its parameters."""
    for entry in header.fields:
        value = header.get(entry.key)
        mine = entry.key in PER_NUMBER
        rope = entry.key.startswith(f"{header.architecture}.rope.") and not entry.key.endswith("dimension_count")
        if not (mine or rope):
            continue
        kind = header.typed(entry.key)
        others = wrong_arrays(value) if mine else ["none"] if isinstance(value, str) else wrong(value)
        for other in others:
            yield entry.key, {"set": {entry.key: TypedValue(kind.type, other, kind.item_type)}}
    for name in (keys.ROPE_FREQS, keys.ROPE_LONG, keys.ROPE_SHORT):
        if header.tensor(name) is not None:
            for other in wrong_arrays(header.tensor_data(name)):
                yield name, {"drop_tensors": [name], "add_tensors": {name: other}}
    if header.get(keys.METHOD, "none") != "none":
        yield keys.METHOD, {"set": {keys.METHOD: TypedValue(ValueType.STRING, "none")}}
    params = json.loads(header.get(keys.PARAMS, "{}"))
    for name, other in wrong_params(params):
        yield f"params.{name}", {"set": {keys.PARAMS: TypedValue(ValueType.STRING, json.dumps(other))}}


def seen(file, folder):
    """Whether ``validate`` does not pass ``file``, or refuses it."""
    try:
        return validate(file, folder, length=LENGTH).passed is False
    except GgufropeError as error:
        assert str(error)
        return True


def require_noticed(sample, file, folder, tmp_path):
    result = validate(file, folder, length=LENGTH)
    assert result.passed, "\n".join(result.lines())
    assert result.total.max_abs < 1e-3
    assert result.frequency_gap < 1e-6
    tried, green = set(), set()
    for what, edits in wrong_files(read_header(file)):
        rewrite(read_header(file), tmp_path / "wrong.gguf", **edits)
        tried.add(what)
        if not seen(tmp_path / "wrong.gguf", folder):
            green.add(what)
    assert green == {what for what in sample.still if not what.startswith("misread ")}
    assert tried - green
    for key in (f"{read_header(file).architecture}.context_length", keys.CONTEXT):
        if key in read_header(file):  # how far, not how
            rewrite(read_header(file), tmp_path / "shorter.gguf", set={key: TypedValue(ValueType.UINT32, ORIGINAL - 8)})
            assert validate(tmp_path / "shorter.gguf", folder, length=100).passed, key


@pytest.mark.parametrize("label", SAMPLES)
def test_of_a_method_asked_for_by_name(tmp_path, label):
    sample, folder = SAMPLES[label], tmp_path / "hf"
    gguf, params = checkpoint(sample, folder), dict(sample.params)
    if sample.method == "clex":
        from ggufrope.convert.clex_solver import solve_clex

        params["clex_from"] = solve_clex(folder)
    out = tmp_path / "out.gguf"
    write(plan(ModelFile.open(gguf), sample.method, params), out)
    assert validate(out, folder, length=LENGTH).claimed_from == "name"
    require_noticed(sample, out, folder, tmp_path)


@pytest.mark.parametrize("label", FROM_CHECKPOINT)
def test_of_a_method_read_from_the_checkpoint(tmp_path, label):
    sample, folder = FROM_CHECKPOINT[label], tmp_path / "hf"
    gguf, out = checkpoint(sample, folder), tmp_path / "out.gguf"
    declared = with_trained_layer(declared_scaling(read_hf_config(folder)), folder, None)
    if keys.ROPE_FREQS in {t.name for t in read_header(gguf).tensors}:  # as the converter wrote it, nothing remains
        require_noticed(sample, gguf, folder, tmp_path)
        return
    write(plan(ModelFile.open(gguf), declared.method, declared.params, from_checkpoint=True), out)
    assert validate(out, folder, length=LENGTH).claimed_from == "checkpoint"
    require_noticed(sample, out, folder, tmp_path)
    green = set()
    for name, params in wrong_params(dict(declared.params)):
        misread = plan(ModelFile.open(gguf), declared.method, params, from_checkpoint=True)
        write(misread, tmp_path / "misread.gguf")
        if not seen(tmp_path / "misread.gguf", folder):
            green.add(f"misread {name}")
    assert green == {what for what in sample.still if what.startswith("misread ")}
