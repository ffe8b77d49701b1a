"""RopeTable: every axis that a method may have, and what composing, comparing and replacing make of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ggufrope.errors import NotHonouredError, ParameterError, UnsupportedModelError
from ggufrope.modelfile.encoded import encode_heads, encode_scaling
from ggufrope.rope.model import ModelRope
from ggufrope.rope.table import RopeTable

ROT_DIM = 8
PAIRS = ROT_DIM // 2


def model_of(n_head_kv, own=()):
    heads = tuple(max(1, n) for n in n_head_kv)
    return ModelRope("llama", heads, tuple(n_head_kv), 16, ROT_DIM, 10000.0, 64, 64, own_factors=own)


@st.composite
def tables(draw, n_head_kv, axes=None):
    """A table for a model with these KV heads; ``axes``: whether length, layer, head, pair differ in its heads."""
    points = draw(st.lists(st.integers(1, 5000), min_size=1, max_size=4, unique=True).map(sorted))
    n_rows = len(points)
    axes = draw(st.tuples(*[st.booleans()] * 4)) if axes is None else axes
    full = (n_rows, len(n_head_kv), max(n_head_kv), PAIRS)
    shape = tuple(n if differs else 1 for n, differs in zip(full, axes, strict=True))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    factors, scale = rng.uniform(0.5, 8, (n_rows, PAIRS)), rng.uniform(0.9, 1.5, n_rows)
    return RopeTable(factors, scale, tuple(points), rng.uniform(0.5, 2, shape), tuple(n_head_kv))


MODELS = st.lists(st.integers(0, 4), min_size=1, max_size=4).filter(any)


def everywhere(model, points):
    """Every layer, KV head, and a length on either side of every point."""
    lengths = sorted({1, *points, *(p + 1 for p in points)})
    return [(layer, h, n) for layer, heads in enumerate(model.n_head_kv) for h in range(heads) for n in lengths]


@given(st.data(), MODELS)
@settings(max_examples=60, deadline=None)
def test_frequencies_are_read_back_as_they_were_put_in(data, n_head_kv):
    model = model_of(n_head_kv, own=(1.0, 1.0, 2.0, 8.0))
    table = data.draw(tables(n_head_kv))
    full = np.broadcast_to(table.head_factors, (table.n_rows, len(n_head_kv), max(n_head_kv), PAIRS))
    for layer, head, length in everywhere(model, table.length_points):
        row = next((k for k, p in enumerate(table.length_points) if length <= p), table.n_rows - 1)
        wanted = 10000.0 ** -(np.arange(PAIRS) / PAIRS) / ([1, 1, 2, 8] * table.factors[row] * full[row, layer, head])
        assert table.frequencies(model, layer, head, length) == pytest.approx(wanted, rel=1e-12)


@given(st.data(), MODELS)
@settings(max_examples=60, deadline=None)
def test_composing_multiplies_at_every_layer_head_and_length(data, n_head_kv):
    model = model_of(n_head_kv)
    a, b = data.draw(tables(n_head_kv)), data.draw(tables(n_head_kv))
    both, plain = a * b, model.base_frequencies()
    for layer, head, length in everywhere(model, (*a.length_points, *b.length_points)):
        divisors = [plain / t.frequencies(model, layer, head, length) for t in (a, b, both)]
        assert divisors[2] == pytest.approx(divisors[0] * divisors[1], rel=1e-12)
        scales = [t.attn_scale[t.row(length)] for t in (a, b, both)]
        assert scales[2] == pytest.approx(scales[0] * scales[1], rel=1e-12)
    assert both.close_to(b * a)
    assert (a * RopeTable.identity(model)).close_to(a, rtol=0)


@given(st.data(), MODELS)
@settings(max_examples=40, deadline=None)
def test_a_changed_entry_is_another_table(data, n_head_kv):
    table = data.draw(tables(n_head_kv, axes=(True,) * 4))
    assert table.close_to(replace(table), rtol=0)
    layer = n_head_kv.index(max(n_head_kv))
    for name, at in (("head_factors", (0, layer, 0, 1)), ("factors", (0, 1)), ("attn_scale", 0)):
        changed = getattr(table, name).copy()
        changed[at] *= 1.001
        assert not table.close_to(replace(table, **{name: changed})), name
        assert table.close_to(replace(table, **{name: changed}), rtol=0.01), name
    assert not table.close_to(table.without_heads())
    assert (table.without_heads() * replace(table, factors=np.ones_like(table.factors),
            attn_scale=np.ones_like(table.attn_scale))).close_to(table, rtol=0)  # fmt: skip


@given(st.data(), MODELS)
@settings(max_examples=40, deadline=None)
def test_ratios_are_what_separable_tables_have(data, n_head_kv):
    table = data.draw(tables(n_head_kv, axes=(False, *data.draw(st.tuples(st.booleans(), st.booleans())), False)))
    assert table.separable
    assert tuple(map(len, table.head_ratios)) == tuple(n_head_kv)
    model, ratios = model_of(n_head_kv), table.head_ratios
    assert RopeTable.of_heads(model, ratios).head_ratios == ratios
    made = table.without_heads() * RopeTable.of_heads(model, ratios)
    for layer, head, length in everywhere(model, table.length_points):
        assert np.array_equal(
            made.frequencies(model, layer, head, length), table.frequencies(model, layer, head, length)
        )
    written = encode_heads(table, model).set["ggufrope.head_factors"].value
    assert written == pytest.approx([r for row in ratios for r in row], rel=1e-7)


@pytest.mark.parametrize(
    ("axes", "said"),
    [((True, True, True, True), "by length, which"), ((True, True, True, False), "by length, which")],
)
def test_no_file_has_head_factors_that_follow_the_length(axes, said):
    full = (2, 3, 2, PAIRS)
    heads = np.full([n if differs else 1 for n, differs in zip(full, axes, strict=True)], 1.5)
    table = RopeTable(np.ones((2, PAIRS)), np.ones(2), (64, 128), heads, (2, 2, 2))
    assert not table.separable
    with pytest.raises(ParameterError, match="differ by pair or length"):
        _ = table.head_ratios
    with pytest.raises(NotHonouredError, match=said):
        encode_heads(table, model_of((2, 2, 2)))
    assert encode_scaling(table, None, model_of((2, 2, 2)), 128).needs_patched, "what all heads share has its keys"


@pytest.mark.parametrize(
    ("heads", "n_head_kv", "said"),
    [
        (np.ones((1, 2, 2, 1)), (2, 2, 2), "do not fit"),
        (np.ones((1, 3, 3, 1)), (2, 2, 2), "do not fit"),
        (np.ones((3, 3, 2, 1)), (2, 2, 2), "do not fit"),
        (np.ones((1, 3, 2, 3)), (2, 2, 2), "do not fit"),
        (np.ones((3, 2)), (2, 2, 2), "do not fit"),
        (np.ones((1, 3, 2, 1)), (), "do not fit"),
        (np.full((1, 1, 1, 1), 1.5), (), "1.5 without heads"),
        (np.full((1, 3, 2, 1), -1.0), (2, 2, 2), "head ratios of layer 0: found -1.0"),
        (np.array([1, 1, 1, 1, np.nan, 1]).reshape(1, 3, 2, 1), (2, 2, 2), "head ratios of layer 2: found nan"),
        (np.full((1, 3, 2, 1), 1e-50), (2, 2, 2), "fits into float32"),
    ],
)
def test_head_factors_that_make_no_table(heads, n_head_kv, said):
    with pytest.raises(ParameterError, match=said):
        RopeTable(np.ones((2, PAIRS)), np.ones(2), (64, 128), heads, n_head_kv)


def test_what_lies_beyond_a_layer_s_own_heads_means_nothing():
    heads = np.full((1, 3, 2, 1), 1.5)
    heads[0, 0], heads[0, 1, 0], heads[0, 2] = 1.2, 1.3, 1.0
    table = RopeTable(np.ones((1, PAIRS)), np.ones(1), (), heads, (2, 1, 2))
    assert table.head_ratios == ((1.2, 1.2), (1.3,), (1.0, 1.0))
    assert table.close_to(RopeTable.of_heads(model_of((2, 1, 2)), table.head_ratios), rtol=0)
    assert not RopeTable(np.ones((1, PAIRS)), np.ones(1), (), np.where(heads == 1.5, 1.5, 1.0), (2, 1, 2)).per_head


def test_tables_of_different_models_do_not_combine():
    table = RopeTable.of_heads(model_of((2, 2)), ((1.2, 1.5), (1.0, 1.1)))
    for other in (RopeTable.uniform(np.ones(PAIRS + 1)), RopeTable.of_heads(model_of((2, 1)), ((1.2, 1.5), (1.0,)))):
        with pytest.raises(ParameterError, match="do not combine"):
            _ = table * other
    with pytest.raises(ParameterError, match="the model has"):
        RopeTable.of_heads(model_of((2, 2)), ((1.2, 1.5),))


def test_a_table_is_no_larger_than_what_its_method_says():
    model = ModelRope("llama", (64,) * 80, (8,) * 80, 128, 128, 10000.0, 8192, 8192)
    rows = RopeTable.by_length([8192 * k for k in range(1, 21)], lambda n: np.full(64, n / 8192))
    table = rows * RopeTable.of_heads(model, ((1.2,) * 8,) * 80)
    assert table.factors.size + table.head_factors.size == 20 * 64 + 80 * 8


def test_ratios_that_are_all_one_are_said():
    model = model_of((2, 2))
    table = RopeTable.of_heads(model, ((1.0, 1.0),) * 2)
    assert (table.per_head, table.head_ratios) == (False, ((1.0, 1.0),) * 2)
    assert not table.close_to(RopeTable.identity(model)), "the one has keys in a file, the other has none"


def windowed(arch="gemma3", **facts):
    """Two layers with a window, then one without; the windows have another base."""
    facts = {"sliding": (True, True, False), "sliding_base": 100.0, "sliding_scaled": False, **facts}
    return ModelRope(arch, (2,) * 3, (2,) * 3, 16, ROT_DIM, 10000.0, 64, 64, **facts)


def plain(base, pairs=PAIRS):
    return base ** -(np.arange(pairs) / pairs)


def test_sliding_layers_have_a_base_of_their_own():
    model, table = windowed(), RopeTable.uniform(np.full(PAIRS, 2.0), 1.5)
    table = table.with_sliding(RopeTable.uniform(np.full(PAIRS, 4.0), 1.25))
    for layer, base, factor, scale in ((0, 100.0, 4, 1.25), (2, 10000.0, 2, 1.5), (None, 10000.0, 2, 1.5)):
        assert table.frequencies(model, layer) == pytest.approx(plain(base) / factor, rel=1e-12)
        assert table.scale(model, layer) == scale
    assert table.without_heads().sliding is table.sliding


@pytest.mark.parametrize(("arch", "acts"), [("gemma4", False), ("llama4", True)])
def test_own_factors_act_in_windows_where_the_architecture_has_them_there(arch, acts):
    model = windowed(arch, own_factors=(1.0, 1.0, 2.0, 8.0))
    table = RopeTable.identity(model)
    assert table.frequencies(model, 2) == pytest.approx(plain(10000.0) / [1, 1, 2, 8])
    assert table.frequencies(model, 0) == pytest.approx(plain(100.0) / ([1, 1, 2, 8] if acts else 1))


def test_sliding_layers_may_rotate_other_dimensions():
    model = windowed("gemma4", sliding_rot_dim=4)
    one = RopeTable.identity(model)
    assert one.frequencies(model, 1) == pytest.approx(plain(100.0, 2))
    both = one * RopeTable.uniform(np.full(PAIRS, 3.0)).with_sliding(RopeTable.uniform((5.0, 7.0)))
    assert both.frequencies(model, 1) == pytest.approx(plain(100.0, 2) / [5, 7])
    assert both.frequencies(model, 2) == pytest.approx(plain(10000.0) / 3)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_composing_multiplies_in_either_kind_of_layers(data):
    model, n_head_kv = windowed(), (2,) * 3
    sides = []
    for _ in range(2):
        table = data.draw(tables(n_head_kv))
        if data.draw(st.booleans()):
            table = table.with_sliding(data.draw(tables((1,), axes=(False,) * 4)).without_heads())
        sides.append(table)
    a, b, both = *sides, sides[0] * sides[1]
    points = {p for t in (a, b) for p in (*t.length_points, *t.of_sliding.length_points)}
    for layer, head, length in everywhere(model, sorted(points)):
        base = plain(100.0 if layer < 2 else 10000.0)
        divisors = [base / t.frequencies(model, layer, head, length) for t in (a, b, both)]
        assert divisors[2] == pytest.approx(divisors[0] * divisors[1], rel=1e-12)
        scales = [t.scale(model, layer, length) for t in (a, b, both)]
        assert scales[2] == pytest.approx(scales[0] * scales[1], rel=1e-12)
    assert both.close_to(b * a)


def test_another_sliding_part_is_another_table():
    table = RopeTable.uniform(np.full(PAIRS, 2.0), 1.5)
    same = table.with_sliding(RopeTable.uniform(np.full(PAIRS, 2.0), 1.5))
    assert same.sliding is None
    assert same.close_to(table, rtol=0)
    for other in (RopeTable.uniform(np.full(PAIRS, 2.001), 1.5), RopeTable.uniform(np.full(PAIRS, 2.0), 1.501)):
        changed = table.with_sliding(other)
        assert not changed.close_to(table)
        assert not table.close_to(changed)
        assert changed.close_to(table, rtol=0.01)
        assert changed.close_to(table.with_sliding(other), rtol=0)


def test_what_windows_have_of_their_own_is_no_table_of_heads():
    heads = RopeTable.of_heads(model_of((2, 2)), ((1.2, 1.5), (1.0, 1.1)))
    with pytest.raises(ParameterError, match="no heads"):
        replace(RopeTable.uniform(np.ones(PAIRS)), sliding=heads)


@pytest.mark.parametrize(
    ("facts", "said"),
    [({"sliding_base": 1.0}, "freq_base_swa is 1.0"), ({"sliding_base": float("nan")}, "freq_base_swa is nan"),
     ({"sliding_rot_dim": 3}, "dimension_count_swa is 3"), ({"sliding_rot_dim": 0}, "dimension_count_swa is 0")],
)  # fmt: skip
def test_impossible_facts_of_windows(facts, said):
    with pytest.raises(UnsupportedModelError, match=said):
        windowed(**facts)
