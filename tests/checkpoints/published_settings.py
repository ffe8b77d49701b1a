"""Rope settings of single models: parts of heads, kinds of layers, what their authors publish, other nesting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rope_settings import DYNAMIC, HERE, LINEAR, LLAMA3, LONG, YARN, legacy, new, without

__all__ = ["DISGUISED", "DISGUISES", "SPECIAL"]

#: Other rope settings of single architectures: rotated parts of heads, kinds of layers, what their authors publish.
SPECIAL: list[tuple[str, str, dict[str, Any]]] = [
    ("phi", "partial-missing", legacy(YARN | {}, partial_rotary_factor=None)),
    ("phi3", "su", legacy(without(LONG, "rope_type") | {"type": "su"})),
    ("phi3", "window", legacy(LONG, sliding_window=2048)),
    ("mistral", "window", legacy(YARN, sliding_window=4096)),
    ("mistral", "window-dynamic", legacy(DYNAMIC, sliding_window=4096, max_position_embeddings=256)),
    ("mixtral", "window-llama3", legacy(LLAMA3, sliding_window=4096)),
    ("qwen2", "window", legacy(YARN, use_sliding_window=True, sliding_window=4096, max_window_layers=1)),
    ("qwen3", "window-llama3", legacy(LLAMA3, use_sliding_window=True, sliding_window=4096, max_window_layers=1)),
    ("starcoder2", "window-longrope", legacy(LONG, sliding_window=4096)),
    ("phi3", "yarn-type", legacy(without(LONG, "rope_type") | {"type": "yarn"})),
    ("phi3", "original-outside", legacy(without(LONG, *HERE)) | HERE),
    (
        "phimoe",
        "mscales",
        legacy(
            without(LONG, "rope_type") | {"type": "longrope", "short_mscale": 1.24, "long_mscale": 1.3},
            original_max_position_embeddings=256,
        ),
    ),
    (
        "gpt_neox",
        "saved",
        {
            "rope_parameters": {"rope_theta": 10000.0, "partial_rotary_factor": 0.5, "rope_type": "default"},
            "rotary_pct": None,
        },
    ),
    ("gpt_neox", "emb-base", {"rotary_emb_base": 20000, "rope_scaling": None}),
    ("cohere2", "saved", {"rotary_pct": None}),
    ("llama4_text", "scout", legacy(LLAMA3 | {"factor": 16.0, "high_freq_factor": 1.0}, rope_theta=500000.0)),
    (
        "deepseek_v3",
        "r1",
        legacy(YARN | {"factor": 40, "mscale": 1.0, "mscale_all_dim": 1.0, "beta_fast": 32, "beta_slow": 1}),
    ),
    (
        "deepseek_v3",
        "kimi-k2",
        legacy(
            YARN | {"factor": 32.0, "mscale": 1.0, "mscale_all_dim": 1.0, "beta_fast": 1.0, "beta_slow": 1.0},
            rope_theta=50000.0,
        ),
    ),
    (
        "deepseek_v2",
        "v2",
        legacy(YARN | {"factor": 40, "mscale": 0.707, "mscale_all_dim": 0.707, "beta_fast": 32, "beta_slow": 1}),
    ),
    ("deepseek_v3", "mscale-different", legacy(YARN | {"mscale": 1.0, "mscale_all_dim": 0.5})),
    (
        "gpt_oss",
        "published",
        legacy(YARN | {"factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False}, rope_theta=150000),
    ),
    ("gpt_oss", "truncate", legacy(YARN | {"truncate": True}, rope_theta=150000)),
    (
        "gemma3_text",
        "published",
        {
            "rope_theta": 1000000.0,
            "rope_local_base_freq": 10000.0,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        },
    ),
    ("gemma3_text", "local-default", {"rope_theta": 1000000.0, "rope_scaling": None}),
    (
        "gemma3_text",
        "yarn-attention-factor",
        {
            "rope_parameters": {
                "full_attention": YARN | {"rope_theta": 1000000.0, "attention_factor": 1.3},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            }
        },
    ),
    (
        "gemma3_text",
        "yarn-full",
        {
            "rope_parameters": {
                "full_attention": YARN | {"rope_theta": 1000000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            }
        },
    ),
    (
        "gemma3_text",
        "llama3-full",
        {
            "rope_parameters": {
                "full_attention": LLAMA3 | {"rope_theta": 1000000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            }
        },
    ),
    (
        "gemma3_text",
        "linear-sliding",
        {
            "rope_parameters": {
                "full_attention": {"rope_type": "default", "rope_theta": 1000000.0},
                "sliding_attention": LINEAR | {"rope_theta": 10000.0},
            }
        },
    ),
    (
        "gemma3_text",
        "linear-both",
        {
            "rope_parameters": {
                "full_attention": LINEAR | {"rope_theta": 1000000.0},
                "sliding_attention": LINEAR | {"rope_theta": 10000.0},
            }
        },
    ),
    (
        "gemma3_text",
        "same-base",
        {
            "rope_parameters": {
                "full_attention": YARN | {"rope_theta": 10000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            }
        },
    ),
    (
        "gemma4_text",
        "yarn-full",
        {
            "rope_parameters": {
                "full_attention": YARN | {"rope_theta": 1000000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            }
        },
    ),
    (
        "gemma4_text",
        "proportional-factor",
        {
            "rope_parameters": {
                "full_attention": {
                    "rope_type": "proportional",
                    "factor": 4.0,
                    "partial_rotary_factor": 0.25,
                    "rope_theta": 1000000.0,
                },
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            }
        },
    ),
    (
        "mellum",
        "published",
        {
            "rope_parameters": {
                "full_attention": YARN | {"rope_theta": 500000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 500000.0},
            }
        },
    ),
    (
        "mellum",
        "other-bases",
        {
            "rope_parameters": {
                "full_attention": {"rope_type": "default", "rope_theta": 500000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            }
        },
    ),
    ("qwen2_vl", "mrope", {"rope_theta": 1000000.0, "rope_scaling": {"type": "mrope", "mrope_section": [4, 6, 6]}}),
    (
        "qwen2_5_vl",
        "mrope",
        {
            "rope_theta": 1000000.0,
            "rope_scaling": {"type": "mrope", "rope_type": "default", "mrope_section": [4, 6, 6]},
        },
    ),
    ("qwen2_5_vl", "yarn", {"rope_theta": 1000000.0, "rope_scaling": YARN | {"mrope_section": [4, 6, 6]}}),
    (
        "qwen2_5_vl",
        "yarn-type",
        {
            "rope_theta": 1000000.0,
            "rope_scaling": without(YARN, "rope_type") | {"type": "yarn", "mrope_section": [4, 6, 6]},
        },
    ),
    (
        "qwen2_5_vl",
        "dynamic",
        {"rope_theta": 10000.0, "max_position_embeddings": 256, "rope_scaling": DYNAMIC | {"mrope_section": [4, 6, 6]}},
    ),
    (
        "qwen3_vl",
        "yarn",
        {"rope_theta": 1000000.0, "rope_scaling": YARN | {"mrope_section": [6, 5, 5], "mrope_interleaved": True}},
    ),
    (
        "qwen3_vl",
        "llama3",
        {"rope_theta": 1000000.0, "rope_scaling": LLAMA3 | {"mrope_section": [6, 5, 5], "mrope_interleaved": True}},
    ),
    ("qwen3", "proportional", new(rope_type="proportional", partial_rotary_factor=0.5)),
    (
        "olmo3",
        "published",
        legacy(
            YARN | {"factor": 8.0, "attention_factor": 1.2079441541679836, "beta_fast": 32.0, "beta_slow": 1.0},
            rope_theta=500000,
        ),
    ),
    (
        "hunyuan_v1_dense",
        "published",
        legacy(
            {
                "alpha": 1000.0,
                "beta_fast": 32,
                "beta_slow": 1,
                "factor": 1.0,
                "mscale": 1.0,
                "mscale_all_dim": 1.0,
                "type": "dynamic",
            },
            max_position_embeddings=262144,
        ),
    ),
    ("minimax_m2", "rotary-dim", {"rope_theta": 5000000, "rotary_dim": 16}),
    (
        "ministral3",
        "published",
        {
            "rope_parameters": {
                "rope_type": "yarn",
                "factor": 16.0,
                "original_max_position_embeddings": 256,
                "beta_fast": 32.0,
                "beta_slow": 1.0,
                "mscale": 1.0,
                "mscale_all_dim": 1.0,
                "rope_theta": 1000000.0,
                "llama_4_scaling_beta": 0.1,
            },
            "max_position_embeddings": 4096,
        },
    ),
    ("bamba", "saved", {"attn_rotary_emb": None}),
    ("solar_open", "saved", {"partial_rotary_factor": None}),
    ("granitemoehybrid", "saved", {"layer_types": ["linear_attention", "full_attention", "full_attention"]}),
]

#: What transformers has no class for, but llama.cpp's converter does, made of a toy's own configuration: transformers
#: runs the toy without it. ``su`` is the first name that LongRoPE had.
DISGUISES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "text_config": lambda c: {
        "architectures": ["KimiVLForConditionalGeneration"],
        "model_type": "kimi_vl",
        "text_config": c,
    },
    "llm_config": lambda c: {"architectures": ["InternVLChatModel"], "model_type": "internvl_chat", "llm_config": c},
    "language_config": lambda c: {
        "architectures": ["DeepseekOCRForCausalLM"],
        "model_type": "deepseek_vl_v2",
        "language_config": c,
    },
    "lm_config": lambda c: {"architectures": ["GlmasrModel"], "model_type": "glmasr_remote", "lm_config": c},
    "thinker_config": lambda c: {
        "architectures": ["Qwen2_5OmniModel"],
        "model_type": "qwen2_5_omni_remote",
        "thinker_config": {"text_config": c},
    },
    "su": lambda c: c | {"rope_scaling": without(c["rope_scaling"], "rope_type") | {"type": "su"}},
    "minicpm": lambda c: (
        c
        | {
            "architectures": ["MiniCPMForCausalLM"],
            "model_type": "minicpm",
            "scale_emb": 1,
            "scale_depth": c["num_hidden_layers"] ** 0.5,
            "dim_model_base": c["hidden_size"],
        }
    ),
}
#: (toy, disguise, setting)
DISGUISED = [
    ("llama", "su", "longrope"),
    ("qwen3", "su", "longrope"),
    *(
        (toy, nest, kind)
        for nest in ("text_config", "llm_config", "language_config", "lm_config", "thinker_config")
        for toy, kind in (("qwen2", "yarn"), ("qwen3", "dynamic"), ("llama", "llama3"), ("qwen2", "linear"))
    ),
    ("qwen3", "llm_config", "yarn-attn-factor"),
    ("qwen3", "language_config", "base-missing"),
    ("qwen3", "llm_config", "dynamic-1"),
    ("llama", "llm_config", "longrope"),
    *(
        ("llama-spm", "minicpm", kind)
        for kind in ("longrope", "longrope-equal", "longrope-factor", "scaling-null", "yarn", "dynamic", "linear")
    ),
]
