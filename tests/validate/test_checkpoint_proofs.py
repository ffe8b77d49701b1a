"""Checkpoints on their whole way, through llama.cpp's converter: right ones pass by their own configuration."""

from __future__ import annotations

import json
import warnings
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest
from validate_path import validate

from ggufrope.convert.pipeline import ConvertRequest, carry_out
from ggufrope.errors import GgufropeError
from ggufrope.runtime.fetch import source_tree
from ggufrope.validate import validation

transformers = pytest.importorskip("transformers", reason="pip install 'ggufrope[torch]'")
pytestmark = [
    # found, not imported: the first import decides on which libllama the whole process runs
    pytest.mark.skipif(find_spec("llama_cpp") is None, reason="llama-cpp-python is missing; run scripts/setup"),
    pytest.mark.usefixtures("runtime_dir", "_one_thread"),
]

DEMO = Path(__file__).resolve().parents[2] / "models" / "demo"
SIZES = {
    "vocab_size": 896, "hidden_size": 64, "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 512, "initializer_range": 0.13,
}  # fmt: skip
#: Settings of the class: (configuration, what else it says)
KINDS = {
    "llama": ("LlamaConfig", {}),
    "qwen3": ("Qwen3Config", {}),
    "gemma3": (
        "Gemma3TextConfig",
        {"num_hidden_layers": 6, "sliding_window": 64, "query_pre_attn_scalar": 32, "tie_word_embeddings": True},
    ),
}
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip


@pytest.fixture(scope="module")
def _one_thread():
    import torch

    try:
        source_tree()
    except GgufropeError as error:
        pytest.skip(f"the pinned source could not be fetched: {error}")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation, "open_strict", partial(validation.open_strict, threads=1))
        yield
    torch.set_num_threads(before)


def make(kind, folder, settings):
    """A random model whose ``config.json`` has these rope settings, with the demo model's tokenizer."""
    import torch

    stem, more = KINDS[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        config = getattr(transformers, stem)(**(SIZES | more))
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    edit(folder, settings)
    for name in ("tokenizer.model", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).write_bytes((DEMO / name).read_bytes())
    return folder


def edit(folder, settings):
    config = json.loads((folder / "config.json").read_text())
    config.pop("rope_parameters", None)
    (folder / "config.json").write_text(json.dumps(config | settings))


def convert(source, name=None, **params):
    options = {"require_patched": params.pop("require_patched", False)}
    out = source.parent / f"{name}.gguf"
    outtype = "f32" if source.is_dir() else None
    carry_out(ConvertRequest(source, out, name, params, outtype=outtype, overwrite=True, **options))
    return out


def require_by_name(file, folder, name, **params):
    """A method by name in place of what the checkpoint asks for: right, and said."""
    result = validate(convert(file, name, **params), folder, length=300)
    assert result.passed, "\n".join(result.lines())
    assert result.claimed_from == "name"
    assert [note for note in result.notes if "counts as asked for by name and replaces what" in note]


def test_a_scaling_that_the_converter_drops_is_applied_once(tmp_path):
    folder = make("qwen3", tmp_path / "hf", {"rope_theta": 10000.0, "rope_scaling": LLAMA3})
    out = convert(folder)
    result = validate(out, folder, length=300)
    assert result.passed, "\n".join(result.lines())
    assert result.claimed_from == "checkpoint"
    assert result.declared.startswith("llama3 (factor 8, ")
    assert not result.notes
    require_by_name(out, folder, "yarn", factor=2.0)
    edit(folder, {"rope_theta": 10000.0, "rope_scaling": {**LLAMA3, "factor": 8.4}})  # as if it had been misread
    result = validate(out, folder, length=300)
    assert result.passed is False
    assert "does not rotate as" in result.disagreement


def test_factors_of_the_model_stay_under_a_method_asked_for_by_name(tmp_path):
    """llama3's, in Llama's family, whose GGUF has them."""
    folder = make("llama", tmp_path / "hf", {"rope_theta": 10000.0, "rope_scaling": LLAMA3})
    out = convert(folder, require_patched=True)
    result = validate(out, folder, length=300)
    assert result.passed, "\n".join(result.lines())
    assert result.claimed_from == "checkpoint"
    require_by_name(out, folder, "yarn", factor=2.0)


def test_layers_with_a_window_have_settings_of_their_own(tmp_path):
    own = {"rope_theta": 1e6, "rope_local_base_freq": 1e4, "rope_scaling": {"rope_type": "linear", "factor": 8.0}}
    folder = make("gemma3", tmp_path / "hf", own)
    out = convert(folder)
    result = validate(out, folder, length=100)
    assert result.passed, "\n".join(result.lines())
    assert result.claimed_from is None
    assert result.frequency_gap < 1e-6
    assert "full_attention: linear (factor 8" in result.declared
    require_by_name(out, folder, "linear", factor=2.0)
