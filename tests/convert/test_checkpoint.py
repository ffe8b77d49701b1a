"""Hugging Face directories: what a configuration asks for is done, or refused with the reason."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest

from ggufrope.convert import upstream_converter
from ggufrope.convert.pipeline import ConvertRequest, carry_out
from ggufrope.errors import CheckpointError, GgufropeError
from ggufrope.gguf import keys
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.runtime.fetch import source_tree

DEMO = Path(__file__).resolve().parents[2] / "models" / "demo"
SIZES = {
    "vocab_size": 896,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}


@pytest.fixture(scope="module", autouse=True)
def _needs():
    pytest.importorskip("transformers", reason="pip install 'ggufrope[torch]'")
    try:
        source_tree()
    except GgufropeError as error:
        pytest.skip(f"the pinned source could not be fetched: {error}")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A function that makes a random model with a given rope scaling; its tokenizer is the demo model's."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

    kinds = {"llama": (LlamaConfig, LlamaForCausalLM), "qwen2": (Qwen2Config, Qwen2ForCausalLM)}

    def make(kind: str, rope: dict | None):
        folder = tmp_path_factory.mktemp(kind)
        config_class, model_class = kinds[kind]
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model_class(config_class(**SIZES)).save_pretrained(folder)
        config = json.loads((folder / "config.json").read_text())
        config.pop("rope_parameters", None)
        config |= {"rope_theta": 10000.0, "rope_scaling": rope}
        (folder / "config.json").write_text(json.dumps(config))
        for name in ("tokenizer.model", "tokenizer_config.json", "special_tokens_map.json"):
            (folder / name).write_bytes((DEMO / name).read_bytes())
        return folder

    return make


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
LONG = {
    "rope_type": "longrope",
    "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7],
    "long_factor": [1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0],
    "factor": 4.0,
    "original_max_position_embeddings": 64,
}


@pytest.mark.parametrize(
    ("kind", "rope", "method"),
    [
        ("llama", None, "none"),
        ("llama", {"rope_type": "linear", "factor": 3.0}, "linear"),
        ("llama", YARN, "yarn"),
        ("llama", {**YARN, "attention_factor": 1.7}, "yarn"),  # upstream writes it where llama.cpp overwrites it
        ("qwen2", {**YARN, "mscale": 0.7, "mscale_all_dim": 0.5}, "yarn"),
        ("qwen2", {**YARN, "beta_fast": 8}, "yarn"),  # qwen2 never reads beta_fast
        ("llama", LLAMA3, "none"),  # upstream writes rope_freqs.weight
        ("qwen2", LLAMA3, "llama3"),  # upstream drops it
        ("llama", LONG, "longrope"),  # upstream drops the lists
    ],
    ids=lambda v: v if isinstance(v, str) else "-".join(map(str, v.values()))[:30] if v else "plain",
)
def test_a_configuration_s_scaling_arrives(checkpoint, tmp_path, kind, rope, method):
    from transformers import AutoConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    folder, out = checkpoint(kind, rope), tmp_path / "out.gguf"
    carry_out(ConvertRequest(folder, out, None, outtype="f32", require_patched=bool(rope and "beta_fast" in rope)))
    found = ModelFile.open(out)
    assert found.decoded.method == method
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = AutoConfig.from_pretrained(folder)
    if rope is None:
        wanted, scale = 10000.0 ** -(np.arange(8) / 8), 1.0
    else:
        wanted, scale = ROPE_INIT_FUNCTIONS[rope["rope_type"]](config, "cpu", seq_len=256)
        wanted = np.asarray(wanted)
    got = found.decoded.table.frequencies(found.decoded.model, length=256)
    assert got == pytest.approx(wanted, rel=2e-6)
    assert found.decoded.table.attn_scale == pytest.approx(scale, rel=1e-6)


def test_stock_keeps_its_coarser_keys_and_ours_make_them_exact(checkpoint, tmp_path):
    folder = checkpoint("qwen2", {**YARN, "beta_fast": 8, "attention_factor": 1.4})
    done = carry_out(ConvertRequest(folder, tmp_path / "out.gguf", None, outtype="f32"))
    assert "agree with config.json" in done.compared
    found = ModelFile.open(tmp_path / "out.gguf").decoded
    assert (found.method, found.stock.kind, found.stock.factor) == ("yarn", "yarn", 4.0)
    assert found.table.attn_scale == pytest.approx(1.4)
    assert found.needs_patched
    ratio = 10000.0 ** -(np.arange(8) / 8) / found.table.frequencies(found.model)
    assert ratio == pytest.approx(yarn_by_hand(16, 10000.0, 4.0, 256, 8.0, 1.0), rel=1e-5)


def test_what_a_tensor_can_say_needs_no_approximation(checkpoint, tmp_path):
    folder = checkpoint("llama", {**YARN, "beta_fast": 8, "attention_factor": 1.4})
    for method in (None, "ms-poe"):
        done = carry_out(ConvertRequest(folder, tmp_path / f"{method}.gguf", method, outtype="f32"))
        assert not any("differ" in n for n in done.notes)
        found = ModelFile.open(tmp_path / f"{method}.gguf").decoded
        assert found.table.attn_scale == pytest.approx(1.4)
        base = 10000.0 ** -(np.arange(8) / 8)
        ratio = base / found.table.without_heads().frequencies(found.model)
        assert ratio == pytest.approx(yarn_by_hand(16, 10000.0, 4.0, 256, 8.0, 1.0), rel=1e-5)


def yarn_by_hand(dim, base, factor, original, fast, slow):
    """Equations 19-23 of the paper, a loop at a time."""
    low, high = (dim * np.log(original / (r * 2 * np.pi)) / (2 * np.log(base)) for r in (fast, slow))
    low, high = max(np.floor(low), 0), min(np.ceil(high), dim - 1)
    mixed = []
    for i in range(dim // 2):
        keep = 1 - min(max((i - low) / (high - low), 0), 1)
        mixed.append(1 / (keep + (1 - keep) / factor))
    return mixed


def test_options_without_a_method_change_the_configuration_s_own(checkpoint, tmp_path):
    folder = checkpoint("llama", {"rope_type": "linear", "factor": 3.0})
    cases = {"factor": ({"factor": 2.0}, None, 2.0), "context": ({}, 1024, 4.0), "none": ({}, None, 3.0)}
    for name, (params, context, factor) in cases.items():
        out = tmp_path / f"{name}.gguf"
        carry_out(ConvertRequest(folder, out, None, params, context, outtype="f32"))
        assert ModelFile.open(out).decoded.stock.factor == factor
    plain = checkpoint("llama", None)
    for more in ({"params": {"factor": 2.0}}, {"context": 1024}):
        with pytest.raises(GgufropeError, match="add --method"):
            carry_out(ConvertRequest(plain, tmp_path / "no.gguf", None, **more))
    for kind in (plain, folder):
        out = tmp_path / f"{kind.name}-patched.gguf"
        carry_out(ConvertRequest(kind, out, None, outtype="f32", require_patched=True))
        assert ModelFile.open(out).requires_patched
    assert ModelFile.open(out).decoded.stock.factor == 3.0


def test_ms_poe_keeps_the_configuration_s_scaling(checkpoint, tmp_path):
    out = tmp_path / "out.gguf"
    carry_out(ConvertRequest(checkpoint("qwen2", LLAMA3), out, "ms-poe", outtype="f32"))
    found = ModelFile.open(out).decoded
    assert found.method == "ms-poe+llama3"
    assert found.table.per_head
    assert not np.allclose(found.table.factors, 1)


@pytest.mark.parametrize(
    "scaling", [None, {"rope_type": "dynamic", "factor": 4.0}, LLAMA3], ids=["none", "dynamic", "llama3"]
)
def test_a_table_comes_on_top_of_the_configuration_s_scaling(checkpoint, tmp_path, scaling):
    """What is compared with config.json is the file without the table; a table is no difference from it."""
    folder, out, pure = checkpoint("qwen2", scaling), tmp_path / "out.gguf", tmp_path / "pure.gguf"
    carry_out(ConvertRequest(folder, pure, None, outtype="f32"))
    plain = ModelFile.open(pure).decoded
    factors = np.linspace(0.8, 1.6, plain.model.n_pairs)
    params = {"factor_table": {"factors": factors, "axes": ["pair"], "attn_scale": 1.25}}
    done = carry_out(ConvertRequest(folder, out, "table", params, outtype="f32"))
    assert "agree with config.json" in done.compared
    found = ModelFile.open(out).decoded
    for length in (10, 100_000):
        wanted = plain.table.frequencies(plain.model, 1, 0, length) / factors
        assert found.table.frequencies(found.model, 1, 0, length) == pytest.approx(wanted, rel=1e-6)
    assert found.table.attn_scale == pytest.approx(plain.table.attn_scale * 1.25)


def test_a_method_replaces_the_configuration_s_scaling_and_says_so(checkpoint, tmp_path):
    folder = checkpoint("llama", {"rope_type": "dynamic", "factor": 2.0})
    done = carry_out(ConvertRequest(folder, tmp_path / "out.gguf", "ntk", {"factor": 2.0}, outtype="f32"))
    made, notes = done.plan, done.notes
    assert made.name == "ntk"
    assert any("replaced by ntk" in n for n in notes)


@pytest.mark.parametrize(("method", "name"), [(None, "dynamic-ntk"), ("ms-poe", "ms-poe+dynamic-ntk")])
def test_dynamic_scaling_arrives_although_upstream_drops_it(checkpoint, tmp_path, method, name):
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    folder, out = checkpoint("llama", {"rope_type": "dynamic", "factor": 4.0}), tmp_path / "out.gguf"
    carry_out(ConvertRequest(folder, out, method, outtype="f32"))
    found = ModelFile.open(out).decoded
    assert (found.method, found.context, found.stock.kind) == (name, 1024, "none")
    assert ModelFile.open(out).header.get("llama.context_length") == 256, "stock still runs it as it was trained"
    config = LlamaConfig.from_pretrained(folder)
    plain = found.table.without_heads()
    for length in plain.length_points:
        wanted, _ = ROPE_INIT_FUNCTIONS["dynamic"](config, "cpu", seq_len=length)
        assert plain.frequencies(found.model, length=length) == pytest.approx(np.asarray(wanted), rel=2e-6)
    carry_out(ConvertRequest(folder, tmp_path / "far.gguf", None, {}, 4096, outtype="f32"))
    far = ModelFile.open(tmp_path / "far.gguf").decoded
    assert (far.context, far.params["slope"]) == (4096, 4.0)
    assert np.allclose(far.table.factors[:9], plain.factors)


@pytest.fixture(scope="module")
def clex(checkpoint):
    """A CLEX checkpoint over a trained context of 256, with a layer that learned something."""
    import torch
    from safetensors.torch import load_file, save_file

    folder = checkpoint("llama", None)
    torch.manual_seed(1)
    layer = {"inv_freq": 10000.0 ** -(torch.arange(8) / 8), "proj_func.ode_up_proj": torch.randn(8, 32),
             "proj_func.ode_down_proj": 0.02 * torch.randn(32, 8)}  # fmt: skip
    weights = load_file(folder / "model.safetensors")
    weights |= {f"model.clex_layer.{n}": t.float() for n, t in layer.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    rope = {"type": "clex", "max_factor": 4, "param_factor": 2, "act": "tanh", "time_dt": 0.01, "factor": 1}
    config = json.loads((folder / "config.json").read_text())
    config.pop("rope_parameters", None)
    (folder / "config.json").write_text(json.dumps(config | {"rope_scaling": rope, "rope_theta": 10000.0}))
    return folder


@pytest.mark.parametrize(
    ("method", "params", "name"),
    [
        (None, {}, "clex"),
        ("clex", {"max_factor": 3}, "clex"),
        ("ms-poe", {}, "ms-poe+clex"),
        ("ms-poe+clex", {"log_scale": True}, "ms-poe+clex"),
    ],
)
def test_a_clex_checkpoint_carries_over(clex, tmp_path, method, params, name):
    from ggufrope.reference.clex_ode import load_clex

    out, layer = tmp_path / "out.gguf", load_clex(clex)[0]
    carry_out(ConvertRequest(clex, out, method, params, outtype="f32"))
    found = ModelFile.open(out).decoded
    assert (found.method, found.context) == (name, 256 * params.get("max_factor", 4))
    plain = found.table.without_heads()
    for length in plain.length_points:
        wanted = layer.frequencies(-(-length // 256)).numpy()
        assert plain.frequencies(found.model, length=length) == pytest.approx(wanted, rel=1e-6)
    assert np.allclose(found.table.factors[0], 1)
    assert not np.allclose(found.table.factors[1], 1, rtol=0.2)
    assert not any("clex" in t.name for t in ModelFile.open(out).header.tensors)


def test_a_clex_checkpoint_s_weights_are_those_of_a_plain_one(clex, checkpoint, tmp_path):
    for folder, method in ((clex, "yarn"), (checkpoint("llama", None), "yarn")):
        done = carry_out(
            ConvertRequest(folder, tmp_path / f"{folder.name}.gguf", method, {"factor": 2.0}, outtype="f32")
        )
        assert any("replaced by yarn" in n for n in done.notes) == (folder is clex)
    left, right = (ModelFile.open(p).header for p in sorted(tmp_path.glob("*.gguf")))
    assert [t.name for t in left.tensors] == [t.name for t in right.tensors]
    assert all(_bytes(left, t.name) == _bytes(right, t.name) for t in left.tensors)


def test_directory_and_gguf_give_the_same_file(shared, tmp_path):
    """stories260K from its directory and from its GGUF: the same tensors and rope keys, with every method."""
    lists = {"short_factor": (1.0, 1.1, 1.2, 1.3), "long_factor": (1.0, 2.0, 3.0, 4.0)}
    methods = {
        "none": {},
        "linear": {"factor": 4.0},
        "ntk": {"factor": 4.0},
        "yarn": {"factor": 4.0},
        "llama3": {"factor": 4.0},
        "longrope": {"factor": 4.0, **lists},
        "ms-poe": {},
        "ms-poe+yarn": {"factor": 4.0},
    }
    base = shared / "models/stories260K"
    weights = tmp_path / "weights.gguf"
    upstream_converter.convert_weights(base / "hf", weights, "f32")
    for name, params in methods.items():
        a, b = tmp_path / f"a-{name}.gguf", tmp_path / f"b-{name}.gguf"
        carry_out(ConvertRequest(weights, a, name, params))
        carry_out(ConvertRequest(base / "stories260K-f32.gguf", b, name, params))
        left, right = ModelFile.open(a).header, ModelFile.open(b).header
        rope = [k for k in {f.key for f in left.fields} | {f.key for f in right.fields} if _is_rope(k)]
        assert {k: _plain(left.get(k)) for k in rope} == {k: _plain(right.get(k)) for k in rope}, name
        assert {t.name: (t.shape, t.ggml_type) for t in left.tensors} == {
            t.name: (t.shape, t.ggml_type) for t in right.tensors
        }
        for info in left.tensors:
            assert _bytes(left, info.name) == _bytes(right, info.name), (name, info.name)
    through, direct = tmp_path / "through.gguf", tmp_path / "a-ms-poe.gguf"
    carry_out(ConvertRequest(base / "hf", through, "ms-poe", outtype="f32"))
    assert through.read_bytes() == direct.read_bytes()


def _is_rope(key):
    return ("rope" in key and key not in (keys.ORIGINAL, keys.PADDING)) or key.endswith("context_length")


def _plain(value):
    return value.tolist() if hasattr(value, "tolist") else value


def _bytes(header, name):
    info = header.tensor(name)
    begin = header.data_offset + info.offset
    return header.read(begin, begin + info.nbytes)


def test_what_the_converter_says_is_passed_on(tmp_path):
    (tmp_path / "config.json").write_text('{"architectures": ["NoSuchModel"], "num_hidden_layers": 1}')
    (tmp_path / "model.safetensors").write_bytes((8).to_bytes(8, "little") + b"{}      ")
    with pytest.raises(CheckpointError, match="NoSuchModel"):
        carry_out(ConvertRequest(tmp_path, tmp_path / "out.gguf", None))
    assert not list(tmp_path.glob("*.gguf"))
