"""Small random Hugging Face directories, and the same models as F32 GGUF without a vocabulary.

``llama`` rotates neighbouring pairs in llama.cpp, the others pairs half a rotation apart; ``qwen2`` has biases and
gets no factors upstream, ``qwen3`` norms its heads before rotating, ``phi`` and ``phi3`` rotate half of each head and
``phi3`` has one fused projection. Queries are grouped. Weights are large enough that positions matter.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from gguf_builder import F32, STR, U32, build, entry

__all__ = ["KINDS", "make"]

SIZES = {
    "vocab_size": 96, "hidden_size": 128, "intermediate_size": 160, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "initializer_range": 0.13, "tie_word_embeddings": False,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
#: model_type: (classes' stem, architecture in GGUF, further configuration)
KINDS = {
    "llama": ("Llama", "llama", {}),
    "mistral": ("Mistral", "llama", {"sliding_window": None}),
    "qwen2": ("Qwen2", "qwen2", {}),
    "qwen3": ("Qwen3", "qwen3", {"head_dim": 32}),
    "phi": ("Phi", "phi2", {"partial_rotary_factor": 0.5, "resid_pdrop": 0.0}),
    "phi3": ("Phi3", "phi3", {"partial_rotary_factor": 0.5, "sliding_window": None}),
}
NAMES = {
    "embed_tokens": "token_embd", "norm": "output_norm", "final_layernorm": "output_norm", "lm_head": "output",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.qkv_proj": "attn_qkv",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "self_attn.q_layernorm": "attn_q_norm",
    "self_attn.k_layernorm": "attn_k_norm", "self_attn.o_proj": "attn_output", "self_attn.dense": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.gate_up_proj": "ffn_up", "mlp.fc1": "ffn_up",
    "mlp.down_proj": "ffn_down", "mlp.fc2": "ffn_down",
}  # fmt: skip


def make(kind: str, folder: Path, **config: object) -> Path:
    """Write the checkpoint to ``folder`` and the model to ``folder/model.gguf``; answers the latter."""
    import torch
    import transformers

    stem, arch, more = KINDS[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        settings = getattr(transformers, f"{stem}Config")(**(SIZES | more | config))
        torch.manual_seed(len(kind))
        model = getattr(transformers, f"{stem}ForCausalLM")(settings)
        with torch.no_grad():
            for value in (p for p in model.parameters() if p.dim() == 1):  # norms start as 1, biases as 0
                value.add_(0.2 * torch.randn_like(value))
        model.save_pretrained(folder)
    tensors = [_tensor(arch, n, v.detach().numpy()) for n, v in model.named_parameters()]
    out = folder / "model.gguf"
    out.write_bytes(build(_entries(arch, settings), tensors))
    return out


def _tensor(arch: str, name: str, array: np.ndarray) -> tuple[str, np.ndarray]:
    stem, _, kind = name.removeprefix("model.").rpartition(".")
    layer = ""
    if stem.startswith("layers."):
        _, number, stem = stem.split(".", 2)
        layer = f"blk.{number}."
    if arch == "llama" and stem.endswith(("q_proj", "k_proj")):  # halves become neighbouring pairs
        heads = SIZES["num_attention_heads" if "q_proj" in stem else "num_key_value_heads"]
        array = array.reshape(heads, 2, -1, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)
    return f"{layer}{NAMES[stem]}.{kind}", array


def _entries(arch: str, config) -> list[bytes]:
    rope = config.rope_parameters
    head_dim = config.hidden_size // config.num_attention_heads
    numbers = {
        "context_length": config.max_position_embeddings, "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers, "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads, "attention.head_count_kv": config.num_key_value_heads,
        "rope.dimension_count": int(head_dim * rope.get("partial_rotary_factor", 1.0)), "vocab_size": config.vocab_size,
    }  # fmt: skip
    norm = "layer_norm_epsilon" if arch == "phi2" else "layer_norm_rms_epsilon"
    epsilon = config.layer_norm_eps if arch == "phi2" else config.rms_norm_eps
    return [
        entry("general.architecture", STR, arch),
        *(entry(f"{arch}.{name}", U32, number) for name, number in numbers.items()),
        entry(f"{arch}.attention.{norm}", F32, epsilon),
        entry(f"{arch}.rope.freq_base", F32, rope["rope_theta"]),
        entry("tokenizer.ggml.model", STR, "no_vocab"),
    ]
