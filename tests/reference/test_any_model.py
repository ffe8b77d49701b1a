"""Any causal model of transformers as a reference: its own settings untouched, and a method where it can be put in."""

from __future__ import annotations

import json
import re
import warnings

import numpy as np
import pytest

from ggufrope.errors import UnsupportedModelError
from ggufrope.reference import ReferenceSpec

transformers = pytest.importorskip("transformers", reason="pip install 'ggufrope[torch]'")
torch = pytest.importorskip("torch")

SIZES = {
    "vocab_size": 96, "hidden_size": 64, "intermediate_size": 80, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 256, "initializer_range": 0.13,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
LATENT = {
    "q_lora_rank": 32, "kv_lora_rank": 32, "qk_rope_head_dim": 16, "qk_nope_head_dim": 16, "v_head_dim": 16,
    "moe_intermediate_size": 32, "n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2,
    "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1, "num_key_value_heads": 4,
}  # fmt: skip
WINDOWS = {"sliding_window": 32, "layer_types": ["sliding_attention", "full_attention"] * 2}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
#: model_type: (class of its configuration, further settings)
MODELS = {
    "gemma3_text": ("Gemma3TextConfig", WINDOWS),
    "gemma2": ("Gemma2Config", {"sliding_window": 32}),
    "gpt_oss": ("GptOssConfig", {**EXPERTS, **WINDOWS, "rope_parameters": {**YARN, "rope_theta": 150000.0}}),
    "deepseek_v3": ("DeepseekV3Config", {**LATENT, "rope_parameters": {**YARN, "mscale": 1.0, "mscale_all_dim": 1.0}}),
    "glm4": ("Glm4Config", {}),
    "cohere2": ("Cohere2Config", {"sliding_window": 32}),
    "olmo2": ("Olmo2Config", {}),
}


def make(name, folder, edit=None):
    """A random model's directory; ``edit`` changes its ``config.json``."""
    stem, more = MODELS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = getattr(transformers, stem)(**(SIZES | more))
        torch.manual_seed(0)
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **(edit or {})}))
    return folder


def plain(folder, ids):
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
        return model, torch.log_softmax(model(torch.tensor([ids])).logits[0].double(), -1).numpy()


@pytest.fixture(scope="module")
def forward():
    from ggufrope.reference import forward

    return forward


@pytest.mark.parametrize("name", MODELS)
def test_a_directory_s_own_settings_are_left_as_they_are(forward, tmp_path, name):
    from ggufrope.reference.rotary import rotations

    ids = list(range(3, 90))
    model, wanted = plain(make(name, tmp_path), ids)
    reference = forward.load_reference(tmp_path)
    got = np.concatenate(list(forward.log_probs(reference, ids, 32)))
    assert np.abs(got - wanted).max() < 1e-5
    found = rotations(reference, len(ids))
    assert found
    for kind, rotation in found.items():
        prefix = f"{kind}_" if kind else ""
        buffer = getattr(model.base_model.rotary_emb, f"{prefix}inv_freq")
        assert rotation.frequencies == pytest.approx(buffer.double().tolist(), rel=3e-7)
        assert rotation.scale == pytest.approx(getattr(model.base_model.rotary_emb, f"{prefix}attention_scaling"))


def test_a_method_goes_into_layers_without_a_window_where_kinds_have_their_own(forward, tmp_path):
    from ggufrope.reference.rotary import rotations

    own = rotations(forward.load_reference(make("gemma3_text", tmp_path)), 64)
    got = rotations(forward.load_reference(tmp_path, ReferenceSpec("linear", {"factor": 4.0})), 64)
    assert got["sliding_attention"] == own["sliding_attention"]
    assert np.allclose(np.array(own["full_attention"].frequencies) / got["full_attention"].frequencies, 4.0)


@pytest.mark.parametrize("name", ["gpt_oss", "deepseek_v3", "glm4", "olmo2"])
def test_a_method_goes_into_all_layers_where_they_share_one_rotation(forward, tmp_path, name):
    from ggufrope.reference.rotary import rotations

    make(name, tmp_path)
    none = rotations(forward.load_reference(tmp_path, ReferenceSpec("none")), 64)[""]
    got = rotations(forward.load_reference(tmp_path, ReferenceSpec("ntk", {"factor": 4.0})), 64)[""]
    n = len(none.frequencies)
    assert (none.scale, got.scale) == pytest.approx((1.0, 1.0))
    wanted = 4.0 ** (np.arange(n) / (n - 1))  # from 1 to the factor
    assert np.allclose(np.array(none.frequencies) / got.frequencies, wanted, rtol=1e-5)


def test_the_frequencies_of_a_length_that_was_served_stay_for_shorter_texts(forward, tmp_path):
    from ggufrope.reference.rotary import rotations

    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    make("olmo2", tmp_path, {"rope_parameters": rope, "max_position_embeddings": 64})
    model = forward.load_reference(tmp_path, length=128)
    for ids, length in ((list(range(90)), 128), (list(range(40)), 64)):
        list(forward.logits(model, ids))
        buffer = model.base_model.rotary_emb.inv_freq.double().tolist()
        assert rotations(model, length)[""].frequencies == pytest.approx(buffer, rel=3e-7)
    assert rotations(model, 64)[""] != rotations(model, 128)[""]


def test_a_class_whose_scale_follows_the_length_is_asked_what_it_computes(tmp_path):
    """Phi-3.5-MoE's has its scales in settings of its own, not in the module's ``attention_scaling``."""
    from transformers.models.phimoe.modeling_phimoe import PhimoeRotaryEmbedding

    from ggufrope.reference.rotary import Rotary

    lists = {"short_factor": [1.0] * 8, "long_factor": [2.0] * 8, "short_mscale": 1.2, "long_mscale": 1.3}
    rope = {"rope_type": "longrope", **lists, "original_max_position_embeddings": 64, "factor": 4.0}
    config = transformers.PhimoeConfig(**(SIZES | {"rope_parameters": {**rope, "rope_theta": 10000.0}}))
    module = Rotary(PhimoeRotaryEmbedding(config))
    assert [module.at(length).scale for length in (1, 64, 65)] == pytest.approx([1.2, 1.2, 1.3])


def test_a_class_that_does_not_follow_the_settings_is_refused(forward, tmp_path, monkeypatch):
    from transformers.models.olmo2.modeling_olmo2 import Olmo2RotaryEmbedding

    make("olmo2", tmp_path)
    right = Olmo2RotaryEmbedding.__init__

    def deaf(self, *args, **kwargs):
        right(self, *args, **kwargs)
        self.rope_type = "default"

    monkeypatch.setattr(Olmo2RotaryEmbedding, "__init__", deaf)
    forward.load_reference(tmp_path)
    with pytest.raises(UnsupportedModelError, match="'olmo2': transformers' class for it does not rotate as"):
        forward.load_reference(tmp_path, ReferenceSpec("linear", {"factor": 2.0}))


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        ({}, r"full_attention: default \(rope_theta 1000000\); sliding_attention: default \(rope_theta 10000\)"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 8.0}, "rope_parameters": None}, r"linear \(factor 8, "),
    ],
)
def test_what_a_directory_asks_for_is_described(tmp_path, edit, said):
    from ggufrope.reference.declared import config_of, describe, scales, text_of

    config = text_of(config_of(make("gemma3_text", tmp_path, edit)))
    assert re.search(said, describe(config)), describe(config)
    assert scales(config) is bool(edit)
