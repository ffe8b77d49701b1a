"""What a converter wrote, right or wrong, against what transformers computes: the words follow the comparison.

The weights' converter is replaced by a function that writes the keys that a test gives it, so that every mistake it
could make is tried, and no model is needed. What is expected is computed here from the papers, in float64.
"""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from gguf_builder import ARR, BOOL, F32, STR, U32, build, entry

from ggufrope.convert import from_checkpoint
from ggufrope.convert.pipeline import ConvertRequest, carry_out
from ggufrope.errors import GgufropeError
from ggufrope.modelfile.model_file import ModelFile

pytest.importorskip("transformers", reason="pip install 'ggufrope[torch]'")

HEAD, PAIRS, LAYERS = 32, 16, 2
BASE = 10000.0
SIZES = {
    "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": LAYERS, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": HEAD, "max_position_embeddings": 1024, "vocab_size": 32,
}  # fmt: skip
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256}
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}  # fmt: skip
LISTS = {"short_factor": [1.0 + 0.02 * i for i in range(PAIRS)], "long_factor": [1.0 + 0.2 * i for i in range(PAIRS)]}
LONG = {"rope_type": "longrope", **LISTS, "original_max_position_embeddings": 256}
STOCK_YARN = {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 256}


def plain(base=BASE):
    return base ** -(np.arange(PAIRS) / PAIRS)


def yarn(factor=4.0, original=256, fast=32.0, slow=1.0, truncate=True, base=BASE):
    """Frequencies by equations 19-23 of YaRN, ends of the ramp rounded outwards."""
    ends = [HEAD * math.log(original / (r * 2 * math.pi)) / (2 * math.log(base)) for r in (fast, slow)]
    low, high = (math.floor(ends[0]), math.ceil(ends[1])) if truncate else ends
    low, high = max(low, 0), min(high, HEAD - 1)
    high = high if high != low else high + 0.001
    keep = 1 - np.clip((np.arange(PAIRS) - low) / (high - low), 0, 1)
    return plain(base) * (keep + (1 - keep) / factor)


def llama3(factor=8.0, low=1.0, high=4.0, original=128):
    out = []
    for f in plain():
        turns = original * f / (2 * math.pi)
        if turns < low:
            out.append(f / factor)
        elif turns > high:
            out.append(f)
        else:
            smooth = (turns - low) / (high - low)
            out.append(f * ((1 - smooth) / factor + smooth))
    return np.array(out)


@pytest.fixture
def directory(tmp_path, monkeypatch):
    """A function: a directory with this configuration, whose converter writes these keys and tensors."""

    def make(config, written=None, arch="qwen3", tensors=(), context=1024, name="model"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(SIZES | {"model_type": "qwen3", "rope_theta": BASE} | config))
        (folder / "model.safetensors").touch()

        def convert(_directory, out, *_):
            out.write_bytes(
                build(entries(arch, context, written or {}), [("token_embd.weight", np.ones((32, 64))), *tensors])
            )

        monkeypatch.setattr(from_checkpoint, "convert_weights", convert)
        return folder

    return make


def entries(arch, context, written):
    numbers = {
        "context_length": context, "embedding_length": 64, "block_count": LAYERS, "feed_forward_length": 64,
        "attention.head_count": 2, "attention.head_count_kv": 1, "attention.key_length": HEAD,
        "rope.dimension_count": HEAD, **{k: v for k, v in written.items() if k == "block_count"},
    }  # fmt: skip
    written = {"rope.freq_base": BASE, **{k: v for k, v in written.items() if k not in numbers}}
    kinds = {str: STR, float: F32, int: U32, bool: BOOL}
    return [
        entry("general.architecture", STR, arch),
        *(entry(f"{arch}.{k}", U32, v) for k, v in numbers.items()),
        *(entry(f"{arch}.{k}", kinds[type(v)], v) for k, v in written.items()),
        entry("tokenizer.ggml.model", STR, "llama"),
        entry("tokenizer.ggml.tokens", ARR, [f"<{i}>" for i in range(32)], STR),
    ]


def converted(folder, **options):
    out = folder.parent / "out.gguf"
    done = carry_out(ConvertRequest(folder, out, options.pop("method", None), outtype="f32", overwrite=True, **options))
    return done, ModelFile.open(out)


def rotates_by(file, frequencies, scale=1.0, length=None):
    d = file.decoded
    for layer in d.model.one_of_each_kind():
        assert d.table.without_heads().frequencies(d.model, layer, length=length) == pytest.approx(
            frequencies, rel=1e-5
        )
        assert d.table.scale(d.model, layer, length) == pytest.approx(scale, rel=1e-5)


MSCALE = 1 + 0.1 * math.log(4)


@pytest.mark.parametrize(
    ("rope", "written", "frequencies", "scale"),
    [
        (None, {}, plain(), 1.0),
        (
            {"rope_type": "linear", "factor": 2.0},
            {"rope.scaling.type": "linear", "rope.scaling.factor": 2.0},
            plain() / 2,
            1.0,
        ),
        (YARN, STOCK_YARN, yarn(), MSCALE),
        ({**YARN, "mscale": 0.7}, STOCK_YARN, yarn(), MSCALE),  # only both together count
    ],
    ids=["default", "linear", "yarn", "one-mscale"],
)
def test_what_the_converter_wrote_rightly_is_left_alone(directory, rope, written, frequencies, scale):
    done, file = converted(directory({"rope_scaling": rope}, written))
    assert done.plan is None
    assert "agree with config.json as transformers' Qwen3RotaryEmbedding computes it" in done.compared
    rotates_by(file, frequencies, scale)


@pytest.mark.parametrize(
    ("rope", "written", "frequencies", "scale"),
    [
        # a scaling that the configuration does not have, and one that the file does not
        (None, STOCK_YARN, plain(), 1.0),
        (None, {"rope.scaling.type": "linear", "rope.scaling.factor": 2.0}, plain(), 1.0),
        (YARN, {}, yarn(), MSCALE),
        (LLAMA3, {}, llama3(), 1.0),
        # parameters that stock llama.cpp has no keys for on this architecture, or that were misread
        ({**YARN, "beta_fast": 8}, {**STOCK_YARN, "rope.scaling.yarn_beta_fast": 8.0}, yarn(fast=8), MSCALE),
        ({**YARN, "beta_fast": 1, "beta_slow": 1}, STOCK_YARN, yarn(fast=1), MSCALE),
        ({**YARN, "truncate": False}, STOCK_YARN, yarn(truncate=False), MSCALE),
        ({**YARN, "attention_factor": 1.7}, STOCK_YARN, yarn(), 1.7),
        ({**YARN, "mscale": 0.7, "mscale_all_dim": 0.5}, STOCK_YARN, yarn(),
         (1 + 0.07 * math.log(4)) / (1 + 0.05 * math.log(4))),
        ({**YARN, "factor": 3.0}, STOCK_YARN, yarn(factor=3.0), 1 + 0.1 * math.log(3)),
        ({**YARN, "beta_fast": 0, "beta_slow": None}, {}, yarn(), MSCALE),
        ({**LLAMA3, "high_freq_factor": 1.0}, {}, llama3(high=1.0), 1.0),
    ],
)  # fmt: skip
def test_what_it_wrote_wrongly_is_put_right(directory, rope, written, frequencies, scale):
    done, file = converted(directory({"rope_scaling": rope}, written))
    assert done.plan is not None
    assert "agree with config.json" in done.compared
    rotates_by(file, frequencies, scale)
    assert file.method_from_checkpoint


def test_two_settings_beside_each_other_are_read_as_transformers_reads_them(directory):
    both = {"rope_parameters": {"rope_type": "default", "rope_theta": BASE}, "rope_scaling": YARN}
    rotates_by(converted(directory(both))[1], yarn(), MSCALE)
    top = {"rope_scaling": YARN, "original_max_position_embeddings": 128}
    rotates_by(converted(directory(top, STOCK_YARN, name="top"))[1], yarn(original=128), MSCALE)


def test_a_class_default_is_its_own_and_not_llama_cpp_s(directory):
    """SmolLM3's base is 2 million where its config.json says nothing; a converter may have lost it."""
    folder = directory({"model_type": "smollm3", "rope_theta": None}, {}, arch="smollm3")
    config = json.loads((folder / "config.json").read_text())
    del config["rope_theta"]
    (folder / "config.json").write_text(json.dumps(config))
    done, file = converted(folder)
    rotates_by(file, plain(2e6))
    assert any("SmolLM3RotaryEmbedding computes other frequencies" in n for n in done.notes)


@pytest.mark.parametrize("wrapper", ["text_config", "llm_config", "language_config", "lm_config", "thinker_config"])
def test_a_nested_text_model_is_found(directory, wrapper):
    inner = SIZES | {"model_type": "qwen3", "rope_theta": BASE, "rope_scaling": YARN}
    nested = {wrapper: {"text_config": inner} if wrapper == "thinker_config" else inner}
    folder = directory({"model_type": "unheard_of", "rope_theta": None, **nested})
    rotates_by(converted(folder)[1], yarn(), MSCALE)


def test_a_model_of_no_class_is_read_by_the_general_functions_and_said_to_be(directory):
    done, file = converted(directory({"model_type": "unheard_of", "rope_scaling": YARN}, STOCK_YARN))
    assert "no class for model_type 'unheard_of'" in done.compared
    rotates_by(file, yarn(), MSCALE)
    known = {"model_type": "kimi_k2", "architectures": ["Qwen3ForCausalLM"], "rope_scaling": YARN}
    assert "read as qwen3's Qwen3ForCausalLM" in converted(directory(known, STOCK_YARN, name="known"))[0].compared


def test_dynamic_scaling_follows_the_length_whatever_its_factor(directory):
    for factor in (1.0, 3.0):
        rope = {"rope_type": "dynamic", "factor": factor}
        _, file = converted(directory({"rope_scaling": rope}, name=f"dynamic{factor}"))
        rotates_by(file, plain(), length=1024)
        for length in file.decoded.table.length_points:
            alpha = factor * length / 1024 - (factor - 1)
            rotates_by(file, plain(BASE * alpha ** (HEAD / (HEAD - 2))), length=length)
        assert file.decoded.context > 1024


def test_longrope_has_the_class_s_attention_scale(directory):
    def scale(factor):
        return math.sqrt(1 + math.log(factor) / math.log(256))

    for more, expected in (({}, scale(4)), ({"factor": 2.0}, scale(2)), ({"attention_factor": 1.3}, 1.3)):
        folder = directory({"rope_scaling": LONG | more}, name="-".join(["long", *more]))
        _, file = converted(folder)
        rotates_by(file, plain() / LISTS["short_factor"], expected, length=256)
        rotates_by(file, plain() / LISTS["long_factor"], expected, length=257)


def test_what_a_class_computes_otherwise_than_its_settings_say_is_taken_and_told(directory):
    """Phi-3.5-MoE: two scales, which the class reads from keys of its own; and it never uses the long list."""
    phi = {
        "model_type": "phimoe", "original_max_position_embeddings": 256, "num_local_experts": 2,
        "rope_scaling": LONG | {"short_mscale": 1.2, "long_mscale": 1.4},
    }  # fmt: skip
    done, file = converted(directory(phi, arch="phimoe"))
    rotates_by(file, plain() / LISTS["short_factor"], 1.2, length=256)
    rotates_by(file, plain() / LISTS["short_factor"], 1.4, length=1000)
    assert any("PhimoeRotaryEmbedding computes other frequencies" in n for n in done.notes)
    done, file = converted(directory(phi, arch="phimoe", name="vllm"), read_config_as="vllm")
    rotates_by(file, plain() / LISTS["short_factor"], 1.2, length=256)
    rotates_by(file, plain() / LISTS["long_factor"], 1.4, length=1000)
    assert "not compared" in done.compared
    assert not file.method_from_checkpoint


def test_engines_that_differ_are_told_and_can_be_chosen(directory):
    rope = YARN | {"attn_factor": 0.5}
    done, file = converted(directory({"rope_scaling": rope}, STOCK_YARN))
    rotates_by(file, yarn(), MSCALE)
    told = "config.json's attn_factor 0.5 is read by vLLM (attention_factor 0.569315) and not by transformers"
    assert any(told in n and "--read-config-as vllm" in n for n in done.notes)
    done, file = converted(directory({"rope_scaling": rope}, STOCK_YARN, name="vllm"), read_config_as="vllm")
    rotates_by(file, yarn(), MSCALE / 2)
    assert "not compared" in done.compared
    assert not file.method_from_checkpoint, "validate is to go by the file's own parameters"


def test_the_context_follows_yarn_s_factor_where_the_recipe_leaves_it(directory):
    done, file = converted(directory({"rope_scaling": YARN, "max_position_embeddings": 300}, STOCK_YARN, context=300))
    assert file.decoded.context == 1024
    assert any("leaves the context at 300" in n and "reaches 1024" in n for n in done.notes)
    done, file = converted(directory({"rope_scaling": LLAMA3, "max_position_embeddings": 4096}, context=4096, name="l"))
    assert file.decoded.context == 4096, "llama3's factor is no ratio of contexts"


def test_keys_that_tie_attention_to_yarn_stay(directory):
    """DeepSeek's: the attention's own scale hangs on the file's YaRN keys, so ours are relative to them."""
    keys = STOCK_YARN | {"rope.scaling.yarn_log_multiplier": 1.0}
    rope = YARN | {"beta_fast": 1.0, "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0}
    _, file = converted(directory({"rope_scaling": rope}, keys, arch="mistral3"))
    rotates_by(file, yarn(fast=1.0), 1.0)
    assert file.header.get("mistral3.rope.scaling.yarn_log_multiplier") == 1.0
    assert file.header.get("mistral3.rope.scaling.type") == "yarn"


@pytest.mark.parametrize(
    ("rope", "words"),
    [
        ({"rope_type": "no-such-thing"}, "neither transformers nor ggufrope knows; give --method"),
        ({"rope_type": "yarn"}, "refuses it"),
        ({"rope_type": "linear", "factor": None}, "incomplete or not numbers"),
        ({"rope_type": "linear", "factor": "x"}, "rope factor is 'x'; give a number above 0"),
        ({"rope_type": "linear", "factor": "2.0"}, "rope factor is '2.0'"),
        (YARN | {"factor": 0}, "rope factor is 0; give"),
        (YARN | {"attention_factor": 0}, "rope attention_factor is 0; give"),
        (YARN | {"factor": -4.0}, r"rope factor is -4\.0; give"),
        (YARN | {"original_max_position_embeddings": -1}, "original_max_position_embeddings is -1"),
        (LONG | {"short_factor": [1.0] * 3}, "short_factor has 3 entries, expected rot_dim/2 = 16"),
        (5, "refuses it"),
    ],
)
def test_settings_that_make_no_sense_are_refused_with_the_directory_s_name(directory, rope, words):
    folder = directory({"rope_scaling": rope}, {})
    with pytest.raises(GgufropeError, match=words) as raised:
        converted(folder)
    assert str(folder) in str(raised.value)
    assert "weights.gguf" not in str(raised.value)
    assert not list(folder.parent.glob("*.gguf"))


def test_no_message_names_our_temporary_file(directory):
    tied = directory({"rope_scaling": YARN}, STOCK_YARN | {"rope.scaling.yarn_log_multiplier": 0.1}, arch="deepseek2")
    with pytest.raises(GgufropeError, match="yarn_log_multiplier ties") as raised:
        converted(tied, method="yarn", params={"factor": 8.0})
    assert str(raised.value).startswith(f"{tied}: ")
    with pytest.raises(GgufropeError, match="llama3: high_freq_factor") as raised:
        converted(tied, method="llama3", params={"factor": 8.0, "high_freq_factor": 0.5})
    assert str(raised.value).startswith(f"{tied}: ")


def test_none_over_factors_that_stay_says_one_thing(directory):
    factors = (plain() / llama3()).astype(np.float32)
    folder = directory(
        {"model_type": "llama", "rope_scaling": LLAMA3}, arch="llama", tensors=[("rope_freqs.weight", factors)]
    )
    done, file = converted(folder)
    assert done.plan is None
    rotates_by(file, llama3())
    done, _ = converted(folder, method="none")
    assert [("replaced" in n, "stays and multiplies" in n) for n in done.notes] == [(False, True)]
    done, _ = converted(directory({"rope_scaling": LLAMA3}, name="qwen"), method="none")
    assert any("(llama3) is replaced by none" in n for n in done.notes)
    assert not any("stays" in n for n in done.notes)


def test_a_model_that_only_transformers_rotates_is_refused(directory):
    keys = {"rope.scaling.finetuned": False}
    folder = directory({"model_type": "granite"}, keys, arch="granite")
    with pytest.raises(GgufropeError, match="GraniteRotaryEmbedding rotates this model"):
        converted(folder)
    done, _ = converted(folder, method="none")
    assert done.plan is not None


def test_a_scaling_of_sliding_window_layers_that_no_table_has_is_refused(directory):
    """llama.cpp scales one kind of Gemma 3's layers; a configuration could ask for the other."""
    rope = {
        "sliding_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": BASE},
        "full_attention": {"rope_type": "default", "rope_theta": BASE},
    }
    gemma = {"model_type": "gemma3_text", "rope_parameters": rope, "sliding_window": 64, "sliding_window_pattern": 2}
    types = {"layer_types": ["sliding_attention", "full_attention"]}
    keys = {"attention.sliding_window": 64, "attention.sliding_window_pattern": 2}
    folder = directory(gemma | types, keys, arch="gemma3")
    with pytest.raises(GgufropeError, match=r"no conversion rotates as it asks for: pair [0-9]+ of layer 0") as raised:
        converted(folder)
    assert "give" in str(raised.value) or "--method" in str(raised.value)
    plain_rope = {**rope, "sliding_attention": {"rope_type": "default", "rope_theta": BASE}}
    done, _ = converted(directory(gemma | types | {"rope_parameters": plain_rope}, keys, arch="gemma3", name="plain"))
    assert done.plan is None
    assert "2 layers agree with config.json" in done.compared


def test_attention_that_follows_the_file_s_factor_is_compared_too(directory):
    """DeepSeek's attention: llama.cpp squares YaRN's scale into it wherever the file has a factor; transformers where
    ``mscale_all_dim`` says so. So the keys stay in the one case, and go in the other."""
    sizes = {
        "model_type": "deepseek_v3", "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": HEAD,
        "qk_nope_head_dim": 16, "v_head_dim": 16, "moe_intermediate_size": 16, "n_routed_experts": 2,
        "n_shared_experts": 1, "num_experts_per_tok": 1, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1,
    }  # fmt: skip
    for more, log_mul, kept in (
        ({"mscale": 1.0, "mscale_all_dim": 1.0}, 0.1, True),
        ({"mscale": 1.0, "mscale_all_dim": 0.5}, 0.05, True),
        ({}, None, False),
    ):
        keys = STOCK_YARN | ({} if log_mul is None else {"rope.scaling.yarn_log_multiplier": log_mul})
        folder = directory(
            sizes | {"rope_scaling": YARN | more}, keys, arch="deepseek2", name=f"mla{len(more)}{log_mul}"
        )
        done, file = converted(folder)
        all_dim, scale = more.get("mscale_all_dim", 0), more.get("mscale", 1)
        ratio = (1 + 0.1 * scale * math.log(4)) / (1 + 0.1 * all_dim * math.log(4))
        rotates_by(file, yarn(), ratio if more else MSCALE)
        assert ("deepseek2.rope.scaling.factor" in file.header) is kept, more
        expected = (1 + 0.1 * all_dim * math.log(4)) ** 2  # modeling_deepseek_v3.py, yarn_apply_mscale
        assert file.decoded.stock.attention_multiplier("deepseek2") == pytest.approx(expected, rel=1e-6)
        assert "agree" in done.compared
    linear = {"rope_type": "linear", "factor": 2.0}
    keys = {"rope.scaling.type": "linear", "rope.scaling.factor": 2.0}
    _, file = converted(directory(sizes | {"rope_scaling": linear}, keys, arch="deepseek2", name="mla-linear"))
    rotates_by(file, plain() / 2)
    assert "deepseek2.rope.scaling.factor" not in file.header


def test_a_context_that_the_converter_got_wrong_is_config_json_s(directory):
    done, file = converted(directory({}, {}, context=64))
    assert file.decoded.context == 1024
    assert any("the context is config.json's, 1024; llama.cpp's converter wrote 64" in n for n in done.notes)
    _, file = converted(directory({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, {}, context=64, name="d"))
    rotates_by(file, plain(), length=1024)
    rotates_by(file, plain(BASE * 3.0 ** (HEAD / (HEAD - 2))), length=2048)


GPT_OSS = {
    "model_type": "gpt_oss", "layer_types": ["sliding_attention", "full_attention"], "sliding_window": 64,
    "num_local_experts": 2, "num_experts_per_tok": 1,
}  # fmt: skip
WINDOWS = {"attention.sliding_window": 64}


def test_a_ramp_in_layers_with_windows_too(directory):
    """gpt-oss: one rotation for all layers, and a ramp whose ends llama.cpp rounds."""
    folder = directory(GPT_OSS | {"rope_scaling": {**YARN, "truncate": False}}, STOCK_YARN | WINDOWS, arch="gpt-oss")
    done, file = converted(folder)
    rotates_by(file, yarn(truncate=False), MSCALE)
    assert "2 layers agree" in done.compared
    assert file.header.get("gpt-oss.rope.scaling.type") == "yarn", "stock llama.cpp keeps its coarser one"
    gap = np.abs(yarn() / yarn(truncate=False) - 1).max()
    assert any(f"a stock llama.cpp is up to {gap:.1%} off" in n for n in done.notes)


def test_windows_that_would_have_to_follow_the_length_are_refused(directory):
    rope = {"rope_type": "dynamic", "factor": 4.0}
    folder = directory(GPT_OSS | {"rope_scaling": rope}, WINDOWS, arch="gpt-oss")
    with pytest.raises(GgufropeError, match="layers with a sliding window cannot follow the length") as raised:
        converted(folder)
    assert "GptOssRotaryEmbedding" in str(raised.value)


def test_an_attention_factor_leaves_windows_alone_where_the_scaling_does(directory):
    """Gemma 3: stock llama.cpp's attn_factor would act in every layer."""
    full = {**YARN, "attention_factor": 1.7, "rope_theta": BASE}
    rope = {"sliding_attention": {"rope_type": "default", "rope_theta": 5000.0}, "full_attention": full}
    gemma = {
        "model_type": "gemma3_text", "rope_parameters": rope, "sliding_window": 64, "sliding_window_pattern": 2,
        "layer_types": ["sliding_attention", "full_attention"],
    }  # fmt: skip
    keys = WINDOWS | STOCK_YARN | {"attention.sliding_window_pattern": 2, "rope.freq_base_swa": 5000.0}
    done, file = converted(directory(gemma, keys, arch="gemma3"))
    d = file.decoded
    assert d.table.frequencies(d.model, 0) == pytest.approx(plain(5000.0), rel=1e-6)
    assert d.table.frequencies(d.model, 1) == pytest.approx(yarn(), rel=1e-6)
    assert [d.table.scale(d.model, layer) for layer in (0, 1)] == pytest.approx([1.0, 1.7], rel=1e-6)
    assert "2 layers agree" in done.compared


def test_layers_that_llama_cpp_rotates_or_windows_by_its_own_rule_are_compared(directory):
    """SmolLM3 has layers without rotation where config.json says; in llama.cpp it is every fourth one."""
    smol = {"model_type": "smollm3", "num_hidden_layers": 4, "pad_token_id": 0, "rope_theta": BASE}
    block = {"block_count": 4}
    for flags, right in (([1, 1, 1, 0], True), ([1, 0, 1, 0], False), ([1, 1, 1, 1], False)):
        folder = directory(
            smol | {"no_rope_layers": flags}, block, arch="smollm3", name=f"smol{flags}".replace(" ", "")
        )
        if right:
            assert "3 layers agree" in converted(folder)[0].compared
            continue
        with pytest.raises(GgufropeError, match=r"layers 0, .* rotate; in llama.cpp's smollm3 layers 0, 1, 2 do"):
            converted(folder)
        assert "model.gguf" not in converted(folder, method="none")[0].compared, "by name it goes through"
    types = ["full_attention", "sliding_attention"]
    folder = directory(GPT_OSS | {"layer_types": types, "rope_scaling": None}, WINDOWS, arch="gpt-oss", name="swapped")
    with pytest.raises(GgufropeError, match=r"layers 1 have a sliding window; in llama\.cpp's gpt-oss layers 0 do"):
        converted(folder)
