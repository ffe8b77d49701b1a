"""What stock llama.cpp computes in layers with a sliding window, by architecture: numbers worked out by hand.

Read at the pin: ``llama_context``'s set-up of YaRN, ``rope_yarn`` in ggml's CPU kernel, and each architecture's graph.
"""

from __future__ import annotations

import math
from dataclasses import replace

import gguf_builder as gb
import numpy as np
import pytest

from ggufrope.methods import METHODS
from ggufrope.methods.fitted import fit
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.rope.stock import StockRope
from ggufrope.rope.table import yarn_factors

PAIRS, CONTEXT = 4, 64
YARN = StockRope(scaling_type="yarn", factor=4.0, original_ctx=CONTEXT, attn_factor=1.3)
MSCALE = 1 + 0.1 * math.log(4)

#: Architecture: base without a key, base with ``rope.freq_base_swa`` 500, whether a factor and ``attn_factor`` act.
#: The file's own base is 10000 in no case.
KINDS = {
    "gemma3": (10000.0, 500.0, False, True),
    "gemma3n": (10000.0, 500.0, False, True),
    "mimo2": (10000.0, 500.0, False, True),
    "dots3note": (10000.0, 500.0, True, True),
    "gemma2": (20000.0, 500.0, True, True),
    "gpt-oss": (20000.0, 500.0, True, True),
    "llama4": (20000.0, 500.0, True, True),
    "muse-glimmer": (20000.0, 500.0, False, True),
    "cohere2": (20000.0, 20000.0, True, True),
    "exaone-moe": (20000.0, 20000.0, True, True),
    "granite_swa": (20000.0, 20000.0, True, True),
    "olmo2": (20000.0, 20000.0, False, False),
    "mellum": (20000.0, 20000.0, False, False),
    "laguna": (20000.0, 500.0, False, False),
}


def entries(arch, *extra):
    pattern = gb.entry(f"{arch}.attention.sliding_window_pattern", gb.ARR, [True, True, False], gb.BOOL)
    made = [gb.entry(f"{arch}.attention.sliding_window", gb.U32, 16), pattern, *extra]
    made += [gb.entry(f"{arch}.rope.freq_base", gb.F32, 20000.0)]
    return [e for e in gb.llama_entries(arch) if b"rope.freq_base" not in e] + made


def model_of(path, arch, *extra):
    path.write_bytes(gb.build(entries(arch, *extra), gb.tiny_tensors()))
    return ModelFile.open(path).model


def plain(base):
    return base ** -(np.arange(PAIRS) / PAIRS)


@pytest.mark.parametrize("arch", KINDS)
@pytest.mark.parametrize("keyed", [False, True])
def test_base(tmp_path, arch, keyed):
    key = [gb.entry(f"{arch}.rope.freq_base_swa", gb.F32, 500.0)] * keyed
    model = model_of(tmp_path / "m.gguf", arch, *key)
    table = StockRope().table(model)
    assert table.frequencies(model, 0) == pytest.approx(plain(KINDS[arch][keyed]))
    assert table.frequencies(model, 2) == pytest.approx(plain(20000.0))
    raised = StockRope(freq_base=40000.0).table(model)
    follows = KINDS[arch][keyed] == 20000.0
    assert raised.frequencies(model, 0) == pytest.approx(plain(40000.0 if follows else KINDS[arch][keyed]))
    assert raised.frequencies(model, 2) == pytest.approx(plain(40000.0))


@pytest.mark.parametrize("arch", KINDS)
def test_scaling(tmp_path, arch):
    model = model_of(tmp_path / "m.gguf", arch)
    base, _, scaled, attn = KINDS[arch]
    table = YARN.table(model)
    assert table.frequencies(model, 2) == pytest.approx(plain(20000.0) / yarn_factors(8, 20000.0, 4.0, CONTEXT))
    assert table.scale(model, 2) == pytest.approx(1.3 * MSCALE)
    divisors = yarn_factors(8, base, 4.0, CONTEXT) if scaled else 1.0
    assert table.frequencies(model, 0) == pytest.approx(plain(base) / divisors)
    assert table.scale(model, 0) == pytest.approx(1.3 * MSCALE if scaled else 1.3 if attn else 1.0)
    linear = replace(YARN, scaling_type="linear").table(model)
    assert linear.frequencies(model, 0) == pytest.approx(plain(base) / (4.0 if scaled else 1.0))
    assert linear.scale(model, 0) == pytest.approx(1.3 if attn else 1.0)


def test_without_windows_there_is_nothing_of_their_own(tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(gb.tiny_llama("gemma3", [gb.entry("gemma3.rope.freq_base_swa", gb.F32, 500.0)]))
    model = ModelFile.open(path).model
    assert (model.sliding_base, model.of_sliding, YARN.table(model).sliding) == (None, model, None)


FACTORS = {"short_factor": (1.0, 1.1, 1.2, 1.3), "long_factor": (1.0, 1.5, 2.0, 4.0)}
ONE_ROW = {"linear": {}, "yarn": {"attention_factor": 1.3, "truncate": False}, "llama3": {}}
BY_LENGTH = {"dynamic-ntk": {}, "yarn": {"dynamic": True}, "longrope": FACTORS}


@pytest.mark.parametrize("arch", KINDS)
@pytest.mark.parametrize("name", ONE_ROW)
def test_a_method_acts_in_windows_where_a_factor_does(tmp_path, arch, name):
    model = model_of(tmp_path / "m.gguf", arch)
    method = METHODS[name](factor=4.0, **ONE_ROW[name])
    table = fit(name, {"factor": 4.0, **ONE_ROW[name]}, model, StockRope()).table
    base, _, scaled, _ = KINDS[arch]
    alone = method.table(replace(model, freq_base=base, sliding=(), sliding_base=None))  # one kind of layers
    assert table.frequencies(model, 0) == pytest.approx(plain(base) / (alone.factors[0] if scaled else 1.0))
    assert table.scale(model, 0) == pytest.approx(alone.attn_scale[0] if scaled else 1.0)
    assert not np.allclose(table.factors, 1)


@pytest.mark.parametrize("arch", ["gemma3", "gpt-oss", "olmo2"])
@pytest.mark.parametrize("name", BY_LENGTH)
def test_frequencies_that_follow_the_length_leave_windows_alone(tmp_path, arch, name):
    model = model_of(tmp_path / "m.gguf", arch)
    table = fit(name, {"factor": 4.0, **BY_LENGTH[name]}, model, StockRope()).table
    assert table.n_rows > 1
    for length in (1, CONTEXT, CONTEXT + 1, 4 * CONTEXT):
        assert table.frequencies(model, 0, length=length) == pytest.approx(plain(KINDS[arch][0]))
        assert table.scale(model, 0, length) == 1.0


@pytest.mark.parametrize("arch", KINDS)
def test_ntk_acts_where_the_base_is_the_file_s(tmp_path, arch):
    model = model_of(tmp_path / "m.gguf", arch)
    fitted = fit("ms-poe+ntk" if arch == "gpt-oss" else "ntk", {"factor": 4.0}, model, StockRope())
    base, table = KINDS[arch][0], fitted.table.without_heads()
    raised = 20000.0 * 4 ** (8 / 6)
    assert table.frequencies(model, 2) == pytest.approx(plain(raised))
    assert table.frequencies(model, 0) == pytest.approx(plain(raised if base == 20000.0 else base))
    assert fitted.stock.table(model).close_to(table), "so stock expresses it"


def test_windows_with_other_dimensions(tmp_path):
    model = model_of(tmp_path / "m.gguf", "laguna", gb.entry("laguna.rope.dimension_count_swa", gb.U32, 4))
    assert (model.n_pairs, model.of_sliding.n_pairs) == (4, 2)
    for name in ("none", "linear", "yarn", "ms-poe", "ms-poe+linear"):
        table = fit(name, {"factor": 4.0} if name in ("linear", "yarn", "ms-poe+linear") else {}, model, YARN).table
        assert table.frequencies(model, 0) == pytest.approx(20000.0 ** -(np.arange(2) / 2)), name
    raised = fit("ntk", {"factor": 4.0}, model, YARN).table
    assert raised.frequencies(model, 0) == pytest.approx((20000.0 * 4 ** (8 / 6)) ** -(np.arange(2) / 2))
