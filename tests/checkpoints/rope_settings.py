"""Rope settings as people's ``config.json`` files have them, for any model.

A setting is what stands in the (text) configuration instead of the toy's own rope keys. 256 tokens are the original
context where one is named.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "DYNAMIC",
    "HERE",
    "KEYS",
    "LINEAR",
    "LLAMA3",
    "LONG",
    "PAIRS",
    "TYPES",
    "YARN",
    "legacy",
    "lists",
    "new",
    "without",
]

PAIRS = 16  # of a head of 32
HERE = {"original_max_position_embeddings": 256}


def legacy(scaling: dict[str, Any] | None, **others: Any) -> dict[str, Any]:
    """The keys of a file written before transformers 5."""
    return {"rope_theta": 10000.0, "rope_scaling": scaling, **others}


def new(**parameters: Any) -> dict[str, Any]:
    """The keys of transformers 5."""
    return {"rope_parameters": {"rope_theta": 10000.0, **parameters}}


def lists(pairs: int) -> dict[str, Any]:
    """LongRoPE's short and long lists."""
    short = [1.0 + 0.03 * i for i in range(pairs)]
    return {"short_factor": short, "long_factor": [1.5 + 0.2 * i for i in range(pairs)]}


LINEAR = {"rope_type": "linear", "factor": 4.0}
DYNAMIC = {"rope_type": "dynamic", "factor": 4.0}
YARN = {"rope_type": "yarn", "factor": 4.0, **HERE}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, **HERE}
LONG = {"rope_type": "longrope", **lists(PAIRS), **HERE}
EQUAL = {
    "rope_type": "longrope",
    "short_factor": lists(PAIRS)["short_factor"],
    "long_factor": lists(PAIRS)["short_factor"],
}


def without(scaling: dict[str, Any], *names: str) -> dict[str, Any]:
    return {k: v for k, v in scaling.items() if k not in names}


#: What every architecture gets, for its rope type.
TYPES: dict[str, dict[str, Any]] = {
    "linear": legacy(LINEAR),
    "dynamic": legacy(DYNAMIC, max_position_embeddings=256),
    "yarn": legacy(YARN),
    "llama3": legacy(LLAMA3),
    "longrope": legacy(LONG),
}

#: Keys null, missing, beside each other, or more than there should be.
KEYS: dict[str, dict[str, Any]] = {
    # where the numbers stand
    "base-int": legacy(YARN, rope_theta=50000),
    "base-in-parameters": new(**YARN | {"rope_theta": 50000.0}),
    "base-in-both": new(**YARN | {"rope_theta": 50000.0}) | {"rope_theta": 20000.0},
    "base-missing": {"rope_scaling": YARN},
    "scaling-null": legacy(None),
    "scaling-empty": legacy({}),
    "scaling-default": legacy({"rope_type": "default"}),
    "type-null": legacy({"rope_type": None, "factor": 4.0}),
    "type-unknown": legacy({"rope_type": "tangent", "factor": 4.0}),
    "type-upper-case": legacy(YARN | {"rope_type": "YaRN"}),
    "legacy-type": legacy(without(YARN, "rope_type") | {"type": "yarn"}),
    "both-types": legacy(YARN | {"type": "linear"}),
    "scaling-beside-parameters": legacy(YARN) | new(rope_type="default"),
    "dynamic-beside-parameters": legacy(DYNAMIC, max_position_embeddings=256) | new(rope_type="default"),
    "llama3-beside-parameters": legacy(LLAMA3) | new(rope_type="default"),
    # linear
    "linear-new": new(**LINEAR),
    "linear-int": legacy(LINEAR | {"factor": 4}),
    "linear-1": legacy(LINEAR | {"factor": 1.0}),
    "linear-factor-missing": legacy({"rope_type": "linear"}),
    "linear-factor-null": legacy({"rope_type": "linear", "factor": None}),
    "linear-extra": legacy(LINEAR | {"attention_factor": 1.3, "finetuned": True}),
    # dynamic
    "dynamic-1": legacy(DYNAMIC | {"factor": 1.0}, max_position_embeddings=256),
    "dynamic-original": legacy(DYNAMIC | HERE),
    "dynamic-alpha": legacy(DYNAMIC | {"alpha": 1000.0}, max_position_embeddings=256),
    "dynamic-factor-missing": legacy({"rope_type": "dynamic"}, max_position_embeddings=256),
    # yarn
    "yarn-new": new(**YARN),
    "yarn-attention-factor": legacy(YARN | {"attention_factor": 1.3}),
    "yarn-attention-factor-1": legacy(YARN | {"attention_factor": 1.0}),
    "yarn-attention-factor-null": legacy(YARN | {"attention_factor": None}),
    "yarn-attn-factor": legacy(YARN | {"attn_factor": 0.8782488562869419}),
    "yarn-both-attention-factors": legacy(YARN | {"attn_factor": 0.9, "attention_factor": 1.2}),
    "yarn-mscale-equal": legacy(YARN | {"mscale": 0.707, "mscale_all_dim": 0.707}),
    "yarn-mscale-1": legacy(YARN | {"mscale": 1.0, "mscale_all_dim": 1.0}),
    "yarn-mscale-different": legacy(YARN | {"mscale": 1.0, "mscale_all_dim": 0.8}),
    "yarn-mscale-alone": legacy(YARN | {"mscale": 0.707}),
    "yarn-mscale-all-dim-alone": legacy(YARN | {"mscale_all_dim": 0.707}),
    "yarn-mscale-0": legacy(YARN | {"mscale": 0.0, "mscale_all_dim": 0.0}),
    "yarn-betas": legacy(YARN | {"beta_fast": 8.0, "beta_slow": 0.5}),
    "yarn-betas-int": legacy(YARN | {"beta_fast": 32, "beta_slow": 1}),
    "yarn-betas-null": legacy(YARN | {"beta_fast": None, "beta_slow": None}),
    "yarn-beta-slow-null": legacy(YARN | {"beta_fast": 16, "beta_slow": None}),
    "yarn-betas-equal": legacy(YARN | {"beta_fast": 1.0, "beta_slow": 1.0}),
    "yarn-truncate": legacy(YARN | {"truncate": True}),
    "yarn-no-truncate": legacy(YARN | {"truncate": False}),
    "yarn-factor-missing": legacy(without(YARN, "factor")),
    "yarn-factor-null": legacy(YARN | {"factor": None}),
    "yarn-factor-int": legacy(YARN | {"factor": 4}),
    "yarn-factor-1": legacy(YARN | {"factor": 1.0}),
    "yarn-original-missing": legacy(without(YARN, *HERE)),
    "yarn-original-float": legacy(YARN | {"original_max_position_embeddings": 256.0}),
    "yarn-original-outside": legacy(without(YARN, *HERE)) | HERE,
    "yarn-original-both": legacy(YARN, original_max_position_embeddings=128),
    "yarn-context-of-a-card": legacy(YARN, max_position_embeddings=320),
    "yarn-extra": legacy(YARN | {"finetuned": True, "extrapolation_factor": 1.0}),
    # llama3
    "llama3-new": new(**LLAMA3),
    "llama3-step": legacy(LLAMA3 | {"high_freq_factor": 1.0}),
    "llama3-factor-1": legacy(LLAMA3 | {"factor": 1.0}),
    "llama3-original-missing": legacy(without(LLAMA3, *HERE)),
    "llama3-low-missing": legacy(without(LLAMA3, "low_freq_factor")),
    "llama3-extra": legacy(LLAMA3 | {"attention_factor": 1.3}),
    # longrope
    "longrope-new": new(**LONG),
    "longrope-factor": legacy(LONG | {"factor": 2.0}),
    "longrope-attention-factor": legacy(LONG | {"attention_factor": 1.25}),
    "longrope-original-outside": legacy(without(LONG, *HERE)) | HERE,
    "longrope-original-missing": legacy(without(LONG, *HERE)),
    "longrope-equal": legacy(EQUAL, original_max_position_embeddings=1024),
    "longrope-equal-raised": legacy(EQUAL | HERE),
    "longrope-mscales": legacy(LONG | {"short_mscale": 1.24, "long_mscale": 1.3}),
    "longrope-short-list": legacy(LONG | {"long_factor": [2.0] * 4}),
    "longrope-list-missing": legacy(without(LONG, "long_factor")),
}
