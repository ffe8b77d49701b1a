"""Tiny random models of transformers' architectures that llama.cpp's converter and runtime know.

Weights are large enough that positions matter. Routers take all experts: which of two equal experts comes first is no
question of rotation, and float32 answers it differently on both sides.
"""

from __future__ import annotations

from typing import Any

from toys import Toy

__all__ = ["TOYS"]

_MOE = {"num_experts": 4, "num_experts_per_tok": 4, "moe_intermediate_size": 32}
_LOCAL = {"num_local_experts": 4, "num_experts_per_tok": 4}
_MLA = {
    "num_key_value_heads": 4, "q_lora_rank": 64, "kv_lora_rank": 64, "qk_rope_head_dim": 32, "qk_nope_head_dim": 32,
    "v_head_dim": 32, "moe_intermediate_size": 32, "n_routed_experts": 4, "n_shared_experts": 1,
    "num_experts_per_tok": 4, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1,
}  # fmt: skip
_SSM = {"mamba_n_heads": 8, "mamba_d_head": 32, "mamba_d_state": 16, "mamba_n_groups": 1, "mamba_expand": 2}
_WINDOW = {"sliding_window": 64}
_ALTERNATING = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]
_TIED = {"tie_word_embeddings": True}
_SWA = {"num_hidden_layers": 4, "layer_types": _ALTERNATING, **_WINDOW}

_FOURTH = {"num_hidden_layers": 4, "layer_types": ["sliding_attention"] * 3 + ["full_attention"], **_WINDOW}
_SIXTH = {
    "num_hidden_layers": 7,
    "layer_types": [*["sliding_attention"] * 5, "full_attention", "sliding_attention"],
    **_WINDOW,
}

_VISION = {
    "depth": 1,
    "hidden_size": 32,
    "embed_dim": 32,
    "num_heads": 2,
    "intermediate_size": 32,
    "deepstack_visual_indexes": [0],
}


def _sections(sections: list[int]) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": sections}}


TOYS = {
    toy.name: toy
    for toy in (
        Toy("llama", "Llama"),
        Toy("llama-spm", "Llama", {}, "spm"),
        Toy("mistral", "Mistral", {"sliding_window": None}),
        Toy("ministral3", "Ministral3"),
        Toy("mixtral", "Mixtral", {"head_dim": 32, "sliding_window": None, **_LOCAL}),
        Toy("qwen2", "Qwen2"),
        Toy("qwen2_moe", "Qwen2Moe", {**_MOE, "shared_expert_intermediate_size": 32}),
        Toy("qwen3", "Qwen3", {"head_dim": 32}),
        Toy("qwen3_moe", "Qwen3Moe", {**_MOE, "head_dim": 32}),
        Toy(
            "qwen3_next",
            "Qwen3Next",
            {
                **_MOE,
                "head_dim": 32,
                "num_hidden_layers": 4,
                "shared_expert_intermediate_size": 32,
                "partial_rotary_factor": 0.25,
                "linear_num_value_heads": 4,
                "linear_num_key_heads": 2,
                "linear_key_head_dim": 16,
                "linear_value_head_dim": 16,
            },
            options=("--converter-option=--no-mtp",),
        ),
        Toy("gemma", "Gemma", {"head_dim": 32, **_TIED}, "spm"),
        Toy("gemma2", "Gemma2", {"head_dim": 32, "query_pre_attn_scalar": 32, **_SWA, **_TIED}, "spm"),
        Toy("gemma3_text", "Gemma3", {"head_dim": 32, "query_pre_attn_scalar": 32, **_SIXTH, **_TIED}, "spm"),
        Toy(
            "gemma4_text",
            "Gemma4",
            {
                "head_dim": 32,
                "global_head_dim": 64,
                "final_logit_softcapping": 30.0,
                "num_kv_shared_layers": 0,
                "hidden_size_per_layer_input": 0,
                **_SWA,
                **_TIED,
            },
            "hf",
        ),
        Toy(
            "phi",
            "Phi",
            {"intermediate_size": 512, "num_key_value_heads": 4, "partial_rotary_factor": 0.5, "resid_pdrop": 0.0},
        ),
        Toy("phi3", "Phi3", {"sliding_window": None, "original_max_position_embeddings": 256}, "spm"),
        Toy(
            "phimoe",
            "Phimoe",
            {**_LOCAL, "lm_head_bias": True, "attention_bias": True, "sliding_window": None},
            "spm",
            written={"architectures": ["PhiMoEForCausalLM"], "original_max_position_embeddings": 256},
            plain=True,
        ),
        Toy("gpt_neox", "GPTNeoX", {"rotary_pct": 0.5, "num_key_value_heads": None}, written={"rotary_pct": 0.5}),
        Toy("stablelm", "StableLm", {"partial_rotary_factor": 0.5}),
        Toy("starcoder2", "Starcoder2", {"sliding_window": None}),
        Toy("olmo", "Olmo"),
        Toy("olmo2", "Olmo2"),
        Toy("olmo3", "Olmo3", _SWA),
        Toy("olmoe", "Olmoe", {"num_key_value_heads": 4, "num_experts": 4, "num_experts_per_tok": 4}),
        Toy("cohere", "Cohere", _TIED),
        Toy("cohere2", "Cohere2", {"head_dim": 32, **_FOURTH, **_TIED}, written={"rotary_pct": 1.0}),
        Toy("granite", "Granite"),
        Toy("granitemoe", "GraniteMoe", _LOCAL),
        Toy("granitemoeshared", "GraniteMoeShared", {**_LOCAL, "shared_intermediate_size": 32}),
        Toy(
            "granitemoehybrid",
            "GraniteMoeHybrid",
            {
                **_LOCAL,
                **_SSM,
                "shared_intermediate_size": 32,
                "position_embedding_type": "rope",
                "layer_types": ["mamba", "attention", "attention"],
            },
            written={"layer_types": ["mamba", "attention", "attention"]},
        ),
        Toy(
            "granitemoehybrid-nope",
            "GraniteMoeHybrid",
            {
                **_LOCAL,
                **_SSM,
                "shared_intermediate_size": 32,
                "position_embedding_type": "nope",
                "layer_types": ["mamba", "attention", "attention"],
            },
            written={"layer_types": ["mamba", "attention", "attention"]},
        ),
        Toy("deepseek_v2", "DeepseekV2", _MLA),
        Toy("deepseek_v3", "DeepseekV3", _MLA, written={"scoring_func": "sigmoid"}),
        Toy("glm", "Glm", {"rms_norm_eps": 1e-5, "head_dim": 32, "partial_rotary_factor": 0.5}),
        Toy("glm4", "Glm4", {"head_dim": 32, "partial_rotary_factor": 0.5}),
        Toy(
            "glm4_moe",
            "Glm4Moe",
            {
                "head_dim": 32,
                "partial_rotary_factor": 0.5,
                "moe_intermediate_size": 32,
                "n_routed_experts": 4,
                "num_experts_per_tok": 4,
                "first_k_dense_replace": 1,
            },
        ),
        Toy("gpt_oss", "GptOss", {"head_dim": 32, **_LOCAL, **_SWA}),
        Toy("exaone4", "Exaone4", {"sliding_window": None, "layer_types": ["full_attention"] * 3}),
        Toy("exaone4-32b", "Exaone4", {"num_hidden_layers": 64, "hidden_size": 64, "sliding_window": 64}),
        Toy("smollm3", "SmolLM3", {"num_hidden_layers": 4, "no_rope_layers": [1, 1, 1, 0]}),
        Toy(
            "llama4_text",
            "Llama4",
            {
                "head_dim": 32,
                "intermediate_size_mlp": 96,
                **_LOCAL,
                "interleave_moe_layer_step": 2,
                "num_hidden_layers": 4,
                "no_rope_layers": [1, 1, 1, 0],
            },
        ),
        Toy("nemotron", "Nemotron", {"partial_rotary_factor": 0.5}, "spm"),
        Toy(
            "falcon",
            "Falcon",
            {
                "num_kv_heads": 2,
                "new_decoder_architecture": True,
                "alibi": False,
                "bias": False,
                "num_key_value_heads": None,
            },
        ),
        Toy(
            "falcon_h1",
            "FalconH1",
            {
                "mamba_d_ssm": 256,
                "mamba_n_heads": 8,
                "mamba_d_head": 32,
                "mamba_d_state": 16,
                "mamba_n_groups": 1,
                "head_dim": 32,
            },
        ),
        Toy("hunyuan_v1_dense", "HunYuanDenseV1", {"head_dim": 128}),
        Toy("seed_oss", "SeedOss", {"head_dim": 32}),
        Toy("ernie4_5", "Ernie4_5", {"head_dim": 32}, "spm"),
        Toy(
            "ernie4_5_moe",
            "Ernie4_5_Moe",
            {"moe_num_experts": 4, "moe_k": 4, "moe_intermediate_size": 48, "moe_num_shared_experts": 1},
            "spm",
        ),
        Toy("apertus", "Apertus"),
        Toy("arcee", "Arcee"),
        Toy(
            "minimax_m2", "MiniMaxM2", {"head_dim": 32, "rotary_dim": 16, **_LOCAL}, written={"scoring_func": "sigmoid"}
        ),
        Toy(
            "lfm2",
            "Lfm2",
            {"layer_types": ["conv", "full_attention", "full_attention"], "block_auto_adjust_ff_dim": False},
        ),
        Toy(
            "dots1",
            "Dots1",
            {
                "num_key_value_heads": 4,
                "head_dim": 32,
                "moe_intermediate_size": 32,
                "n_routed_experts": 4,
                "num_experts_per_tok": 4,
                "first_k_dense_replace": 1,
                "n_shared_experts": 1,
            },
            written={"scoring_func": "sigmoid"},
        ),
        Toy(
            "afmoe",
            "Afmoe",
            {**_MOE, "head_dim": 32, **_FOURTH, "num_dense_layers": 1, "mup_enabled": True},
            written={"route_norm": True},
        ),
        Toy(
            "bamba",
            "Bamba",
            {**_SSM, "attn_layer_indices": [1, 2], "partial_rotary_factor": 0.5},
            written={"attn_rotary_emb": 16},
        ),
        Toy("glm4_moe_lite", "Glm4MoeLite", _MLA, written={"scoring_func": "sigmoid"}),
        Toy("jais2", "Jais2", {"head_dim": 32}),
        Toy("mellum", "Mellum", {**_MOE, "head_dim": 32, **_FOURTH}),
        Toy(
            "minicpm3",
            "MiniCPM3",
            {
                "q_lora_rank": 64,
                "kv_lora_rank": 64,
                "qk_rope_head_dim": 32,
                "qk_nope_head_dim": 32,
                "v_head_dim": 32,
                "num_key_value_heads": 4,
            },
            "spm",
        ),
        Toy(
            "solar_open",
            "SolarOpen",
            {
                "n_shared_experts": 1,
                "head_dim": 32,
                "moe_intermediate_size": 32,
                "n_routed_experts": 4,
                "num_experts_per_tok": 4,
            },
            written={"partial_rotary_factor": 1.0, "scoring_func": "sigmoid"},
        ),
        Toy(
            "youtu",
            "Youtu",
            {
                "num_key_value_heads": 4,
                "q_lora_rank": 64,
                "kv_lora_rank": 64,
                "qk_rope_head_dim": 32,
                "qk_nope_head_dim": 32,
                "v_head_dim": 32,
            },
        ),
        Toy(
            "exaone_moe", "ExaoneMoe", {**_MOE, **_FOURTH, "num_shared_experts": 1}, written={"scoring_func": "sigmoid"}
        ),
        Toy(
            "lfm2_moe",
            "Lfm2Moe",
            {**_MOE, "layer_types": ["conv", "full_attention", "full_attention"], "num_dense_layers": 1, **_TIED},
        ),
        Toy(
            "qwen3_5_text",
            "Qwen3_5",
            {
                "head_dim": 32,
                "num_hidden_layers": 4,
                "partial_rotary_factor": 0.25,
                "linear_num_value_heads": 4,
                "linear_num_key_heads": 2,
                "linear_key_head_dim": 16,
                "linear_value_head_dim": 16,
            },
            options=("--converter-option=--no-mtp",),
        ),
        Toy("granite_swa", "GraniteSWA", _SWA),
        Toy("qwen2_vl", "Qwen2VL", {"rms_norm_eps": 1e-6, **_sections([4, 6, 6])}, vision=_VISION),
        Toy(
            "qwen2_5_vl",
            "Qwen2_5_VL",
            {"rms_norm_eps": 1e-6, **_sections([4, 6, 6])},
            vision=_VISION | {"out_hidden_size": 128},
        ),
        Toy("qwen3_vl", "Qwen3VL", {"head_dim": 32, **_sections([6, 5, 5])}, vision=_VISION | {"out_hidden_size": 128}),
        Toy("hy_v3", "HYV3", {**_MOE, "head_dim": 32}),
    )
}
