"""Methods whose frequencies follow the length: what must hold at every length, and against transformers at many."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest

from ggufrope.errors import GgufropeError
from ggufrope.methods import resolve
from ggufrope.methods.clex import ClexTable
from ggufrope.rope.model import ModelRope
from ggufrope.rope.table import RopeTable, geometric_points


def model_of(head_dim=64, base=10000.0, original=512, rot_dim=None):
    return ModelRope("llama", (2,), (2,), head_dim, rot_dim or head_dim, base, original, original)


MODEL = model_of()
NTK_CLEX = ClexTable(
    tuple(tuple((10000.0 * (2 * t - 1) ** (64 / 62)) ** (-i / 32) for i in range(32)) for t in range(1, 9)), 512
)
LISTS = {"short_factor": tuple(np.linspace(1, 1.2, 32)), "long_factor": tuple(np.geomspace(1, 9, 32))}
METHODS = {
    "dynamic-ntk": {"factor": 8.0},
    "yarn": {"factor": 8.0, "dynamic": True},
    "clex": {"clex_from": NTK_CLEX},
    "ms-poe+dynamic-ntk": {"factor": 8.0, "slope": 3.0, "first_layer": 0},
}
LENGTHS = [int(n) for n in np.geomspace(100, 4096, 20)]


@pytest.fixture(params=METHODS)
def method(request):
    return resolve(request.param, METHODS[request.param], MODEL)


def test_plain_rope_up_to_the_trained_context(method):
    table = method.table(MODEL)
    for length in (1, 100, 512):
        row = table.row(length)
        assert np.array_equal(table.factors[row], np.ones(32))
        assert table.attn_scale[row] == 1.0
    assert not np.allclose(table.factors[table.row(513)], 1.0)


def test_longer_texts_are_stretched_more(method):
    table = method.table(MODEL)
    assert (np.diff(table.factors, axis=0) >= 0).all()
    assert (np.diff(table.attn_scale) >= 0).all()
    assert table.length_points[0] == 512
    assert table.length_points[-1] == method.context(MODEL) == 4096


@pytest.mark.parametrize(("first", "last"), [(512, 4096), (512, 5000), (7, 9), (1, 50), (300, 300), (4096, 131072)])
@pytest.mark.parametrize("ratio", [1.01, 1.189207, 2.0])
def test_points_are_geometric_and_end_where_they_should(first, last, ratio):
    points = geometric_points(first, last, ratio)
    assert (points[0], points[-1]) == (first, last)
    assert all(a < b <= max(a * ratio + 1, a + 1) for a, b in pairwise(points))
    assert len(points) <= 2 + np.log(last / first) / np.log(ratio)


def test_granularity_1_2_and_4_per_doubling():
    sizes = [len(resolve("dynamic-ntk", {"factor": 8.0, "granularity": g}, MODEL).table(MODEL).factors)
             for g in (2.0, 2**0.5, 2**0.25)]  # fmt: skip
    assert sizes == [4, 7, 13]


@pytest.mark.parametrize(
    ("name", "params", "said"),
    [
        ("dynamic-ntk", {"factor": 2.0, "granularity": 1.0}, "granularity is 1"),
        ("dynamic-ntk", {"factor": 2.0, "granularity": float("nan")}, "granularity is nan"),
        ("dynamic-ntk", {"factor": 2.0, "slope": 0.0}, "slope is 0"),
        ("yarn", {"factor": 2.0, "granularity": 1.5}, "granularity needs dynamic"),
        ("yarn", {"factor": 2.0, "dynamic": True, "attention_factor": 1.1}, "cannot be combined with dynamic"),
        ("clex", {}, "--clex-from"),
        ("clex", {"clex_from": NTK_CLEX, "max_factor": 9}, "from 1 to 8"),
        ("clex", {"clex_from": NTK_CLEX, "max_factor": 0}, "from 1 to 8"),
    ],
)
def test_parameters_that_make_no_sense(name, params, said):
    with pytest.raises(GgufropeError, match=said):
        resolve(name, params, MODEL)


@pytest.mark.parametrize(
    ("model", "said"),
    [(model_of(base=5e5), "base 500000"), (model_of(head_dim=32), "16 pairs"), (model_of(rot_dim=32), "16 pairs")],
)
def test_a_layer_of_another_model(model, said):
    with pytest.raises(GgufropeError, match=said):
        resolve("clex", {"clex_from": NTK_CLEX}, model).table(model)


def test_clex_log_scale_needs_all_of_a_head():
    half = model_of(head_dim=128, rot_dim=64)
    assert resolve("clex", {"clex_from": NTK_CLEX}, half).table(half)
    with pytest.raises(GgufropeError, match="--no-log-scale"):
        resolve("clex", {"clex_from": NTK_CLEX, "log_scale": True}, half).table(half)


def test_clex_log_scale_follows_the_logarithm_of_the_length():
    table = resolve("clex", {"clex_from": NTK_CLEX, "log_scale": True}, MODEL).table(MODEL)
    for point, scale in zip(table.length_points, table.attn_scale, strict=True):
        assert scale**2 == pytest.approx(np.log(point) / np.log(512))
    plain = resolve("clex", {"clex_from": NTK_CLEX}, MODEL).table(MODEL)
    for length in LENGTHS:
        assert np.array_equal(table.factors[table.row(length)], plain.factors[plain.row(length)])


def test_clex_tables_of_impossible_contents():
    rows = ((1.0, 0.1), (0.9, 0.05))
    assert ClexTable(rows, 512)
    for bad, context in (
        ((), 512),
        (((1.0,), (1.0, 2.0)), 512),
        (((1.0, float("nan")),), 512),
        (((0.0,),), 512),
        (rows, 1),
    ):
        with pytest.raises(GgufropeError):
            ClexTable(bad, context)


def test_points_must_increase():
    for points in ((5, 5), (9, 3), (0, 4)):
        with pytest.raises(GgufropeError, match="increase"):
            RopeTable(np.ones((2, 4)), np.ones(2), length_points=points)


# --- against transformers, and against the authors' own layer ---


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """A function from a method, its parameters and a length to the reference's frequencies and attention scale."""
    pytest.importorskip("transformers", reason="pip install 'ggufrope[torch]'")
    from transformers import LlamaConfig

    from ggufrope.reference import ReferenceSpec
    from ggufrope.reference.lengths import frequencies

    def at(name, params, length, head_dim=64, base=10000.0, original=512):
        config = LlamaConfig(
            hidden_size=2 * head_dim, num_attention_heads=2, max_position_embeddings=original,
            rope_parameters={"rope_type": "default", "rope_theta": base},
        )  # fmt: skip
        found, scale = frequencies(tmp_path_factory.getbasetemp(), config, ReferenceSpec(name, params), length)
        return found.numpy(), scale

    return at


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("dynamic-ntk", {}),
        ("dynamic-ntk", {"slope": 4.0}),
        ("yarn", {"dynamic": True}),
        ("yarn", {"dynamic": True, "beta_fast": 16.0, "mscale": 0.7, "mscale_all_dim": 0.5}),
        ("longrope", {**LISTS, "factor": 8.0}),
        ("longrope", {**LISTS, "factor": 8.0, "attention_factor": 1.3}),
    ],
)
@pytest.mark.parametrize(("base", "original"), [(10000.0, 512), (5e5, 300)])
def test_transformers_at_twenty_lengths(theirs, name, params, base, original):
    model, changed = model_of(base=base, original=original), 0
    for length in LENGTHS:
        reach = max(length / original, 1.0)
        table = resolve(name, {"factor": reach, **params}, model).table(model)
        row = table.row(length)
        frequencies, scale = theirs(name, {"factor": reach, **params}, length, base=base, original=original)
        # theirs is float32; where YaRN mixes a little of the plain frequency in, its rounding counts factor times
        assert table.frequencies(model, length=length) == pytest.approx(frequencies, rel=max(2e-6, 1e-7 * reach))
        assert table.attn_scale[row] == pytest.approx(scale, rel=1e-6)
        changed += not np.allclose(table.factors[row], 1.0)
    assert changed >= 10


@pytest.mark.parametrize(("name", "params"), [("dynamic-ntk", {"slope": 2.0}), ("yarn", {"dynamic": True})])
def test_between_points_the_row_of_the_next_point_serves(theirs, name, params):
    table = resolve(name, {"factor": 8.0, **params}, MODEL).table(MODEL)
    for length in LENGTHS:
        point = table.length_points[table.row(length)]
        assert point >= length
        frequencies, scale = theirs(name, params, point)
        assert table.frequencies(MODEL, length=length) == pytest.approx(frequencies, rel=2e-6)
        assert table.attn_scale[table.row(length)] == pytest.approx(scale, rel=1e-6)


@pytest.fixture(scope="module")
def authors(shared, tmp_path_factory):
    """The layer that the CLEX authors' program was run on, as a checkpoint; its outputs; its settings."""
    torch = pytest.importorskip("torch", reason="pip install 'ggufrope[torch]'")
    from safetensors.torch import save_file

    told = json.loads((shared / "oracles/clex.json").read_text())["d128_llama_silu"]
    stored = np.load(shared / "oracles/clex.npz")
    folder = tmp_path_factory.mktemp("clex")
    names = ("inv_freq", "proj_func.ode_up_proj", "proj_func.ode_down_proj")
    tensors = {f"model.clex_layer.{n}": torch.tensor(stored[f"d128_llama_silu/param/{n}"]) for n in names}
    save_file(tensors, folder / "model.safetensors")
    keys = ("max_factor", "param_factor", "act", "time_dt")
    rope = {"type": "clex", "factor": 1, **{k: told[k] for k in keys}}
    config = {"model_type": "llama", "max_position_embeddings": told["max_position_embeddings"], "rope_scaling": rope}
    (folder / "config.json").write_text(json.dumps(config))
    return folder, {k.partition("/")[2]: stored[k] for k in stored}, told


def test_the_authors_clex_layer_at_every_t(authors):
    from ggufrope.convert.clex_solver import solve_clex

    folder, stored, told = authors
    table = solve_clex(folder)
    model = model_of(head_dim=128, original=4096)
    made = resolve("clex", {"clex_from": table}, model).table(model)
    assert made.length_points == tuple(4096 * t for t in range(1, told["max_factor"] + 1))
    for t in range(1, told["max_factor"] + 1):
        got = made.frequencies(model, length=4096 * t)
        assert got == pytest.approx(stored["inv_freq_by_t"][t - 1], rel=5e-5)
        assert got == pytest.approx(stored["inv_freq_by_t_f64"][t - 1], rel=1e-6)
    for length, what in told["lens"].items():
        frequencies = made.frequencies(model, length=int(length))
        assert made.row(int(length)) == what["t"] - 1
        # the authors' angles are float32: position · frequency
        angles = stored[f"len{length}/pos"][:, None] * np.tile(frequencies, 2)
        error = np.abs(np.exp(1j * angles) - (stored[f"len{length}/cos"] + 1j * stored[f"len{length}/sin"])).max()
        assert error < 5e-5 * max(1.0, angles.max())


def test_the_reference_s_own_clex_layer_agrees(authors):
    from ggufrope.reference.clex_ode import load_clex

    folder, stored, _ = authors
    layer, told = load_clex(folder)
    assert told == {"context": 4096, "max_factor": 16, "log_scale": False}
    for t in (1, 2, 5):
        assert layer.frequencies(t).numpy() == pytest.approx(stored["inv_freq_by_t_f64"][t - 1], rel=1e-6)
