"""The matrix that every method must pass. A method without a sample here fails the first test."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ggufrope.methods import METHODS, method_names, resolve
from ggufrope.methods.clex import ClexTable
from ggufrope.rope.model import ModelRope

MODEL = ModelRope(
    arch="llama",
    n_head=(8,) * 4,
    n_head_kv=(4,) * 4,
    head_dim=16,
    rot_dim=16,
    freq_base=10000.0,
    train_ctx=512,
    original_ctx=512,
)
SHORT, LONG = (1.0, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6), (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0)

#: A CLEX layer that learned nothing: NTK with α = 2t - 1, t = 1 to 4.
CLEX = ClexTable(
    tuple(tuple((10000.0 * (2 * t - 1) ** (16 / 14)) ** (-i / 8) for i in range(8)) for t in (1, 2, 3, 4)), 512
)
CLEX_1 = ClexTable(CLEX.frequencies[:1], 512)

#: Parameters that do something, and the factor-1 parameters that must do nothing.
SAMPLES = {
    "none": ({"freq_base": 500000.0}, {"freq_base": 10000.0}),
    "linear": ({"factor": 4.0}, {"factor": 1.0}),
    "ntk": ({"factor": 4.0}, {"factor": 1.0}),
    "dynamic-ntk": ({"factor": 4.0}, {"factor": 1.0}),
    "yarn": ({"factor": 4.0}, {"factor": 1.0}),
    "llama3": ({"factor": 8.0, "original_context": 256}, {"factor": 1.0}),
    "longrope": (
        {"factor": 4.0, "short_factor": SHORT, "long_factor": LONG},
        {"factor": 1.0, "short_factor": (1.0,) * 8, "long_factor": (1.0,) * 8},
    ),
    "clex": ({"clex_from": CLEX}, {"clex_from": CLEX_1}),
    "table": ({"factor_table": {"factors": LONG, "axes": ["pair"]}}, {"factor_table": {"factors": [1.0] * 4}}),
    "ms-poe": ({"min_ratio": 1.2, "max_ratio": 1.8}, {"min_ratio": 1.0, "max_ratio": 1.0}),
}


def test_every_method_has_a_sample():
    assert SAMPLES.keys() == METHODS.keys()


@pytest.fixture(params=method_names())
def name(request):
    return request.param


def params_of(name, which=0):
    return {k: v for part in name.split("+") for k, v in SAMPLES[part][which].items()}


def test_table_fits_the_model(name):
    table = resolve(name, params_of(name), MODEL).table(MODEL)
    assert table.factors.shape[1] == MODEL.n_pairs
    assert table.n_head_kv in ((), MODEL.n_head_kv)


def test_frequencies_fall_and_never_rise_above_the_plain_ones(name):
    table = resolve(name, params_of(name), MODEL).table(MODEL)
    for layer in range(MODEL.n_layer):
        for head in range(MODEL.n_head_kv[layer]):
            for length in table.length_points or (None,):
                frequencies = table.frequencies(MODEL, layer, head, length)
                assert (np.diff(frequencies) < 0).all()
                assert (frequencies <= MODEL.base_frequencies() * (1 + 1e-12)).all()


def test_factor_one_changes_nothing(name):
    table = resolve(name, params_of(name, 1), MODEL).table(MODEL)
    assert np.array_equal(table.factors, np.ones_like(table.factors))
    assert np.array_equal(table.attn_scale, np.ones_like(table.attn_scale))
    assert not table.per_head


def test_table_does_something_and_is_pure(name):
    method = resolve(name, params_of(name), MODEL)
    first, second = method.table(MODEL), method.table(MODEL)
    assert np.array_equal(first.factors, second.factors)
    assert np.array_equal(first.head_factors, second.head_factors)
    assert not np.allclose(first.factors, 1) or first.per_head


def test_plain_rope_without_another_base_does_nothing():
    assert np.array_equal(resolve("none", {}, MODEL).table(MODEL).factors, np.ones((1, MODEL.n_pairs)))


def test_params_survive_json_and_rebuild_the_table(name):
    method = resolve(name, params_of(name), MODEL)
    params = json.loads(json.dumps(method.params()))
    flat = {**params, **params.pop("base", {})}
    flat = {k: tuple(v) if isinstance(v, list) else v for k, v in flat.items() if k != "base"}
    if flat.get("clex_from") == "given":  # a table is in the file's own keys
        flat = {k: CLEX if k == "clex_from" else v for k, v in flat.items() if k != "context"}
    again = resolve(name, flat, MODEL).table(MODEL)
    assert np.array_equal(again.factors, method.table(MODEL).factors)
    assert np.array_equal(again.head_factors, method.table(MODEL).head_factors)


@pytest.mark.parametrize("cls", METHODS.values(), ids=METHODS)
def test_every_method_documents_itself(cls):
    assert cls.title
    assert "arXiv" in cls.paper
    assert len(cls.__doc__.splitlines()) > 1
    assert cls.__doc__.splitlines()[0].endswith(".")


# Computed with mpmath (30 digits) from the papers' formulas: rot_dim 16, factor 4.
SNAPSHOTS = {
    "linear": [4.0] * 8,
    "ntk": [1.0, 1.2190136542044754, 1.4859942891369484, 1.8114473285278133],
}


@pytest.mark.parametrize("name", SNAPSHOTS)
def test_snapshot(name):
    table = resolve(name, {"factor": 4.0}, MODEL).table(MODEL)
    expected = SNAPSHOTS[name]
    assert table.factors[0][: len(expected)] == pytest.approx(expected, rel=1e-14)
