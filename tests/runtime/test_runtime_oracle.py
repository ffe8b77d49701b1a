"""The Ms-PoE authors' program, captured: its logits and decode steps, its ratios given explicitly."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from gguf_builder import ARR, F32, STR, U32, build, entry
from llama_process import run_job

safetensors = pytest.importorskip("safetensors.numpy")

CASES = ("mha_l23", "mha_normal", "mha_past_max")
NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip
TOP = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def convert(directory: Path, ratios: np.ndarray | None, order: str = "static") -> bytes:
    """The Llama checkpoint as F32 GGUF without a vocabulary, as the model has none."""
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    n_head, n_embd = config["num_attention_heads"], config["hidden_size"]
    numbers = {
        "context_length": config["max_position_embeddings"], "embedding_length": n_embd,
        "block_count": config["num_hidden_layers"], "feed_forward_length": config["intermediate_size"],
        "attention.head_count": n_head, "attention.head_count_kv": n_head,
        "rope.dimension_count": n_embd // n_head, "vocab_size": config["vocab_size"],
    }  # fmt: skip
    tensors = []
    for name, loaded in safetensors.load_file(directory / "model.safetensors").items():
        array = loaded
        stem, _, _ = name.rpartition(".")
        if stem in TOP:
            tensors.append((f"{TOP[stem]}.weight", array))
        elif (short := stem.split(".", 3)[-1]) in NAMES:
            if short.endswith(("q_proj", "k_proj")):  # halves become neighbouring pairs
                array = array.reshape(n_head, 2, -1, n_embd).swapaxes(1, 2).reshape(array.shape)
            tensors.append((f"blk.{stem.split('.')[2]}.{NAMES[short]}.weight", array))
    keys = []
    if ratios is not None:
        keys = [entry("ggufrope.version", U32, 1), entry("ggufrope.method", STR, "ms-poe")]
        keys.append(entry("ggufrope.head_factors", ARR, ratios.ravel().tolist(), F32))
        keys.append(entry("ggufrope.head_order", STR, order))
    entries = [
        entry("general.architecture", STR, "llama"),
        *(entry(f"llama.{name}", U32, number) for name, number in numbers.items()),
        entry("llama.attention.layer_norm_rms_epsilon", F32, config["rms_norm_eps"]),
        entry("llama.rope.freq_base", F32, config["rope_theta"]),
        entry("tokenizer.ggml.model", STR, "no_vocab"),
        *keys,
    ]
    return build(entries, tensors)


@pytest.mark.parametrize("case", CASES)
def test_program_is_reproduced(runtime_dir: Path, shared: Path, tmp_path: Path, case: str) -> None:
    with np.load(shared / "oracles" / "mspoe_mha.npz") as archive:
        captured = {name.removeprefix(f"{case}/"): archive[name] for name in archive.files if name.startswith(case)}
    ratios = np.ones((4, 8), np.float32)
    for layer in (2, 3):
        ratios[layer] = captured[f"L{layer}/ratio_of_head"]
    tokens, answers = captured["input_ids"].tolist(), captured["decode_tokens"].tolist()
    path = tmp_path / "model.gguf"

    path.write_bytes(convert(shared / "oracles" / "mspoe_model_mha", None))
    base = run_job(runtime_dir, path, [["eval", tokens, 0, 0]])
    np.testing.assert_allclose(base.arrays[0], captured["base_logits"], atol=1e-4)

    path.write_bytes(convert(shared / "oracles" / "mspoe_model_mha", ratios))
    steps = [["eval", tokens, 0, 0], *(["eval", [t], len(tokens) + i, 0] for i, t in enumerate(answers))]
    outcome = run_job(runtime_dir, path, steps)
    np.testing.assert_allclose(outcome.arrays[0], captured["logits"], atol=1e-4)
    np.testing.assert_allclose(np.concatenate(outcome.arrays[1:]), captured["decode_logits"], atol=1e-4)
