"""A table of factors on a model: which axes its numbers have, where they act, and what is refused in words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_matrix import MODEL

from ggufrope.errors import ParameterError, UnsupportedModelError
from ggufrope.methods import resolve
from ggufrope.methods.factor_table import FactorTable, digest_of
from ggufrope.methods.fitted import fit
from ggufrope.methods.given_table import GivenTable
from ggufrope.methods.table_file import table_from_json
from ggufrope.rope.stock import StockRope

#: 4 layers of 4 KV heads and 8 pairs: only 4 × 4 and 4 numbers alone may be more than one thing.
PAIRS = [1.0, 1.1, 0.9, 1.3, 1.4, 0.5, 1.6, 2.0]
RNG = np.random.default_rng(3)
LAYERS, HEADS, LAYER_PAIRS = (np.exp(RNG.normal(0, 0.2, shape)) for shape in ((4,), (4, 4), (4, 8)))
FULL = np.exp(RNG.normal(0, 0.2, (4, 4, 8)))


def table_on(given, model=MODEL, name="table", **params):
    return fit(name, {"factor_table": given, **params}, model, StockRope()).table


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (PAIRS, np.broadcast_to(PAIRS, (4, 4, 8))),
        ({"factors": LAYERS, "axes": ["layer"]}, np.broadcast_to(LAYERS[:, None, None], (4, 4, 8))),
        (LAYER_PAIRS, np.broadcast_to(LAYER_PAIRS[:, None], (4, 4, 8))),
        (HEADS, np.broadcast_to(HEADS[:, :, None], (4, 4, 8))),
        (FULL, FULL),
        ({"factors": FULL.ravel(), "axes": ["layer", "head", "pair"]}, FULL),
        ({"factors": HEADS.ravel(), "axes": ["layer", "head"]}, np.broadcast_to(HEADS[:, :, None], (4, 4, 8))),
        ({"factors": LAYER_PAIRS.ravel().tolist(), "axes": ["layer", "pair"]},
         np.broadcast_to(LAYER_PAIRS[:, None], (4, 4, 8))),
    ],
)  # fmt: skip
def test_what_every_shape_divides(given, expected):
    table, plain = table_on(given), MODEL.base_frequencies()
    for layer in range(4):
        for head in range(4):
            assert table.frequencies(MODEL, layer, head) == pytest.approx(plain / expected[layer][head], rel=1e-14)


def test_it_multiplies_into_a_base_at_every_length():
    base = fit("dynamic-ntk", {"factor": 4.0}, MODEL, StockRope()).table
    for given in (PAIRS, FULL):
        both = table_on(given, name="table+dynamic-ntk", factor=4.0)
        assert both.length_points == base.length_points
        alone = table_on(given)
        for length in base.length_points:
            ratio = both.frequencies(MODEL, 2, 3, length) / base.frequencies(MODEL, 2, 3, length)
            assert ratio == pytest.approx(alone.frequencies(MODEL, 2, 3) / MODEL.base_frequencies(), rel=1e-14)


def test_it_is_relative_to_what_the_file_declares():
    current = StockRope(scaling_type="yarn", factor=4.0, original_ctx=512)
    fitted = fit("table", {"factor_table": {"factors": PAIRS, "attn_scale": 1.1}}, MODEL, current)
    declared = current.table(MODEL)
    assert fitted.keeps_scaling
    assert fitted.context == MODEL.train_ctx
    assert fitted.table.factors == pytest.approx(declared.factors * PAIRS, rel=1e-14)
    assert fitted.table.attn_scale == pytest.approx(declared.attn_scale * 1.1, rel=1e-14)


def test_the_same_number_for_all_pairs_is_one_for_each_head():
    assert table_on(np.repeat(HEADS[:, :, None], 8, axis=2)).separable
    assert not table_on(FULL).separable


def test_two_meanings_are_not_guessed():
    four = replace(MODEL, rot_dim=8)  # 4 layers, 4 KV heads, 4 pairs
    with pytest.raises(ParameterError, match=r"table: 4 factors may be \[pair\] or \[layer\] of this model; say which"):
        table_on([1.0, 1.1, 1.2, 1.3], four)
    with pytest.raises(ParameterError, match=r"4 rows of 4 factors may be \[layer, pair\] or \[layer, head\] of this"):
        table_on(HEADS, four)
    said = table_on({"factors": HEADS, "axes": ["layer", "pair"]}, four)
    assert said.head_rows(1)[0] == pytest.approx(HEADS[1])
    assert said.head_rows(1)[3] == pytest.approx(HEADS[1])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([1.0] * 7, r"7 factors, but \[pair\] of this model is 8 pairs; or \[layer\] of this model is 4 layers; give"),
        (
            np.ones((4, 5)),
            r"4 rows of 5 factors, but \[layer, pair\] of this model is 4 layers × 8 pairs; or ",
        ),
        (np.ones((4, 8, 4)), r"4 rows of 8 × 4 factors, but \[layer, head, pair\] of this model is 4 layers × 4 KV he"),
        (
            {"factors": [1.0] * 8, "axes": ["layer"]},
            r"8 factors, but \[layer\] of this model is 4 layers; give as",
        ),
        (
            {"factors": [1.0] * 8, "axes": ["layer", "head"]},
            r"8 factors, but \[layer, head\] of this model is 4",
        ),
        ({"factors": np.ones((4, 8)), "axes": ["pair"]}, r'2 axes of factors, and "axes" names \[pair\]; correct it'),
        (
            {"factors": [1.0] * 8, "axes": ["head"]},
            r'"axes" is \[head\]; it is \[pair\] or \[layer\] or ',
        ),
    ],
)
def test_other_numbers_than_the_model_has(given, said):
    with pytest.raises(ParameterError, match=said):
        table_on(given)


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf"), 1e-60, 1e60])
def test_factors_are_finite_and_above_0(bad):
    full = FULL.copy()
    full[2, 1, 5] = bad
    with pytest.raises(ParameterError, match=r"table: factors\[2\]\[1\]\[5\] is .*; it must be a finite"):
        table_on(full)
    with pytest.raises(ParameterError, match=r"factors\[7\] is"):
        table_on([*PAIRS[:-1], bad])
    with pytest.raises(ParameterError, match='"attn_scale" is'):
        table_on({"factors": PAIRS, "attn_scale": bad})


def test_ragged_layers():
    model = replace(MODEL, n_head_kv=(4, 2, 0, 4), n_head=(8, 8, 0, 8))
    rows = [[1.1, 1.2, 1.3, 1.4], [1.5, 1.6], [], [1.0, 1.0, 1.0, 1.0]]
    table = table_on({"factors": rows}, model)
    assert table.head_rows(1).ravel() == pytest.approx([1.5, 1.6])
    full = [[[1.0 + 0.1 * h] * 8 for h in range(n)] for n in model.n_head_kv]
    full[1][1][7] = 3.0
    ragged = table_on(full, model)
    flat = table_on({"factors": np.concatenate([np.ravel(r) for r in full]), "axes": ["layer", "head", "pair"]}, model)
    assert ragged.close_to(flat, rtol=0)
    assert ragged.head_rows(1)[1][7] == 3.0
    with pytest.raises(ParameterError, match=r"4 rows of .* factors, but \[layer, pair\].* 0 or 2 or 4 KV heads; g"):
        table_on([[1.0] * 4, [1.0] * 4, [], [1.0] * 4], model)


def test_layers_that_do_not_rotate_have_1():
    model = replace(MODEL, rotating=(True, False, True, True))
    with pytest.raises(ParameterError, match="layer 1 of llama does not rotate; its factors must be 1"):
        table_on({"factors": LAYERS, "axes": ["layer"]}, model)
    recurrent = replace(MODEL, n_head_kv=(4, 0, 4, 4), n_head=(8, 0, 8, 8))
    with pytest.raises(ParameterError, match="layer 1 of llama does not rotate"):
        table_on({"factors": LAYERS, "axes": ["layer"]}, recurrent)
    ones = np.where(np.arange(4) == 1, 1.0, LAYERS)
    assert table_on({"factors": ones, "axes": ["layer"]}, model).head_rows(2)[0] == pytest.approx(LAYERS[2])
    pairs = table_on(PAIRS, model)
    assert pairs.factors[0] == pytest.approx(PAIRS)


def test_layers_that_share_k_have_the_same():
    model = replace(MODEL, leaders=(0, 1, 0, 1))
    with pytest.raises(ParameterError, match="layer 2 of llama uses what layer 0 caches or computes; give"):
        table_on(FULL, model)
    table_on(FULL[[0, 1, 0, 1]], model)


def test_heads_that_share_k_have_the_same():
    model = replace(MODEL, arch="deepseek2", mla=True)
    with pytest.raises(UnsupportedModelError, match=r"heads of layer 0 of deepseek2 share one rotated K \(MLA\); give"):
        table_on(FULL, model)
    assert table_on(LAYER_PAIRS, model).head_rows(3)[2] == pytest.approx(LAYER_PAIRS[3])
    assert table_on(np.repeat(LAYER_PAIRS[:, None], 4, axis=1), model).close_to(table_on(LAYER_PAIRS, model), rtol=0)
    with pytest.raises(ParameterError, match=r"4 rows of 1 × 8 factors, but"):
        table_on(LAYER_PAIRS[:, None], model)


WINDOWS = replace(MODEL, arch="gpt-oss", sliding=(True, False, True, False))


def test_pairs_leave_windows_alone_and_a_base_does_not():
    """gpt-oss: a factor of the file acts in all of its layers."""
    table, plain = table_on(PAIRS, WINDOWS), MODEL.base_frequencies()
    assert table.frequencies(WINDOWS, 0) == pytest.approx(plain)
    assert table.frequencies(WINDOWS, 1) == pytest.approx(plain / PAIRS)
    scaled = table_on({"factors": PAIRS, "attn_scale": 1.3}, WINDOWS, "table+linear", factor=2.0)
    assert scaled.frequencies(WINDOWS, 0) == pytest.approx(plain / 2)
    assert scaled.frequencies(WINDOWS, 1) == pytest.approx(plain / PAIRS / 2)
    assert [scaled.scale(WINDOWS, layer) for layer in range(2)] == [1.0, 1.3]


def test_a_layer_axis_names_windows_too():
    table, plain = table_on(FULL, WINDOWS), MODEL.base_frequencies()
    assert table.frequencies(WINDOWS, 0, 2) == pytest.approx(plain / FULL[0][2])
    notes = resolve("table", {"factor_table": FULL}, WINDOWS).notes(WINDOWS)
    assert "2 of 2 sliding-window layers have factors other than 1, as the table says" in notes
    notes = resolve("table", {"factor_table": PAIRS}, WINDOWS).notes(WINDOWS)
    assert "2 sliding-window layers keep their rotation (a table [layer, pair] may name them)" in notes


def test_windows_that_rotate_other_dimensions():
    model = replace(WINDOWS, sliding_rot_dim=8)  # 4 pairs there
    ragged = [FULL[layer][:, : (4 if layer % 2 == 0 else 8)].tolist() for layer in range(4)]
    with pytest.raises(ParameterError, match=r"layer 0 of gpt-oss has a sliding window and rotates 8 dimensions"):
        table_on(ragged, model)
    ragged[0] = ragged[2] = np.ones((4, 4)).tolist()
    table = table_on(ragged, model)
    assert table.frequencies(model, 1, 3) == pytest.approx(MODEL.base_frequencies() / FULL[1][3])
    assert len(table.frequencies(model, 0, 3)) == 4
    with pytest.raises(ParameterError, match="4 layers × 4 KV heads × 4 or 8 pairs"):
        table_on(FULL, model)


def test_a_model_of_windows_alone():
    model = replace(WINDOWS, sliding=(True,) * 4)
    with pytest.raises(UnsupportedModelError, match=r"every rotating layer of gpt-oss has a sliding window, .*\[layer"):
        table_on(PAIRS, model)
    assert table_on(LAYER_PAIRS, model).frequencies(model, 2) == pytest.approx(
        MODEL.base_frequencies() / LAYER_PAIRS[2]
    )


def test_ones_say_that_they_change_nothing():
    method = resolve("table", {"factor_table": np.ones((4, 4, 8))}, MODEL)
    assert method.notes(MODEL) == ["every factor of the table is 1, and so is its attention scale: it changes nothing"]
    assert not table_on(np.ones((4, 4, 8))).n_head_kv
    (said,) = resolve("table", {"factor_table": {"factors": [1.0] * 8, "attn_scale": 1.25}}, MODEL).notes(MODEL)
    assert said == "the table is [pair], factors 1 to 1, attention scale 1.25"


def test_what_the_parameters_record():
    params = {"seed": 3, "gain": {"kv": [0.2, 0.4]}}
    told = {"factors": FULL, "attn_scale": 1.5, "params": params}
    own = resolve("table", {"factor_table": told}, MODEL).params()["factor_table"]
    assert own == {
        "factors": "given",
        "axes": ["layer", "head", "pair"],
        "attn_scale": 1.5,
        "params": params,
        "sha256": digest_of(FULL),
    }
    changed = FULL.copy()
    changed[3, 3, 7] *= 1 + 1e-6
    assert digest_of(changed) != own["sha256"]
    assert resolve("table", {"factor_table": PAIRS}, MODEL).params() == {
        "factor_table": {"factors": PAIRS, "axes": ["pair"]}
    }
    with pytest.raises(ParameterError, match="its factors are in keys of the file that it stands in; give the numbers"):
        table_from_json(own)


def test_a_table_is_needed():
    for params in ({}, {"factor_table": None}):
        with pytest.raises(ParameterError, match=r"table: no factors given; pass --table FILE \(JSON or .npz, docs"):
            resolve("table", params, MODEL)
    assert isinstance(GivenTable(FactorTable(np.ones(8))), GivenTable)
