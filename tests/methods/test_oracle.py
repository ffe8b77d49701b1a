"""Our tables against transformers' own rope functions, and NTK against the reference, over many shapes."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest

from ggufrope.methods import resolve
from ggufrope.reference import ReferenceSpec
from ggufrope.rope.model import ModelRope

pytest.importorskip("transformers", reason="pip install 'ggufrope[torch]'")

#: (head_dim, base, original context); 96 gives YaRN's ramp a fractional width, 8 is stories260K's
SHAPES = [(128, 10000.0, 4096), (64, 500000.0, 8192), (96, 10000.0, 2048), (8, 10000.0, 512), (128, 1e6, 32768)]
FACTORS = [1.0, 2.0, 4.5, 16.0, 64.0]

YARN = [
    {},
    {"beta_fast": 16.0, "beta_slow": 2.0},
    {"truncate": False},
    {"attention_factor": 1.25},
    {"mscale": 0.707, "mscale_all_dim": 0.5},
    {"mscale": 1.0, "mscale_all_dim": 0.0},
]
LLAMA3 = [{}, {"low_freq_factor": 2.0, "high_freq_factor": 8.0}, {"low_freq_factor": 1.0, "high_freq_factor": 32.0}]


def cases():
    for (head_dim, base, original), factor in itertools.product(SHAPES, FACTORS):
        short = np.linspace(1.0, 1.0 + 0.1 * factor, head_dim // 2).tolist()
        long = np.geomspace(1.0, factor + 1, head_dim // 2).tolist()
        lists = {"short_factor": short, "long_factor": long}
        rows = [("none", {}), ("linear", {"factor": factor}), ("ntk", {"factor": factor})]
        rows += [("yarn", {"factor": factor, **more}) for more in YARN]
        # transformers needs both bounds, and so does its formula; ours have the defaults of Llama 3.1
        rows += [("llama3", {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "factor": factor, **m}) for m in LLAMA3]
        rows += [
            ("longrope", {"factor": factor, **lists}),
            ("longrope", {"attention_factor": 1.1, "factor": factor, **lists}),
        ]
        for (name, params), partial in itertools.product(rows, (1.0, 0.5)):
            rot_dim = int(head_dim * partial)
            fitting = {k: v[: rot_dim // 2] if isinstance(v, list) else v for k, v in params.items()}
            yield name, fitting, head_dim, rot_dim, base, original


def theirs(name, params, head_dim, rot_dim, base, original, length):
    """Frequencies and attention factor of a transformers model with these settings, at a length."""
    import torch
    from transformers import LlamaConfig, PhiConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    from ggufrope.reference.scaling import rope_parameters

    sizes = {"hidden_size": 2 * head_dim, "num_attention_heads": 2, "max_position_embeddings": original}
    config = (LlamaConfig if rot_dim == head_dim else PhiConfig)(
        **sizes,
        rope_parameters={"rope_type": "default", "rope_theta": base, "partial_rotary_factor": rot_dim / head_dim},
    )
    config.rope_parameters = rope_parameters(config, ReferenceSpec(name, params))
    kind = config.rope_parameters["rope_type"]
    if kind == "default":
        theta = config.rope_parameters["rope_theta"]
        return theta ** (-torch.arange(0, rot_dim, 2, dtype=torch.float64) / rot_dim), 1.0
    return ROPE_INIT_FUNCTIONS[kind](config, "cpu", seq_len=length)


def test_tables_equal_transformers():
    seen = 0
    for name, params, head_dim, rot_dim, base, original in cases():
        model = ModelRope("llama", (2,), (2,), head_dim, rot_dim, base, original, original)
        ours = {k: tuple(v) if isinstance(v, list) else v for k, v in params.items()}
        table = resolve(name, ours, model).table(model)
        for length in (original, original + 1) if name == "longrope" else (original,):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                frequencies, scale = theirs(name, params, head_dim, rot_dim, base, original, length)
            label = (name, params, head_dim, rot_dim, base, length)
            # theirs is float32; where YaRN mixes a little of the plain frequency in, its rounding counts factor times
            rel = max(2e-6, 1e-7 * params.get("factor", 1.0))
            got = table.frequencies(model, length=length)
            assert got == pytest.approx(frequencies.double().numpy(), rel=rel, abs=0), label
            assert table.attn_scale[table.row(length)] == pytest.approx(scale, rel=1e-6), label
            seen += 1
    assert seen > 600
