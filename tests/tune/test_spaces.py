"""What every space must hold, and the shapes that papers name."""

from __future__ import annotations

import json

import numpy as np
import pytest
from test_layout import model

from ggufrope.errors import InputError, UnsupportedModelError, UsageError
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.tune.layout import PairLayout
from ggufrope.tune.spaces import SPACES, TiedSpace, space_named
from ggufrope.tune.spaces.score_curve import ScoreCurve
from ggufrope.tune.spaces.space import bezier

SPACE = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
TIED = pytest.mark.parametrize("space", [s for s in SPACES.values() if s.differentiable], ids=lambda s: s.name)

#: Five layers: one that slides, one that does not rotate, one that uses the first one's K.
FACTS = model(
    arch="gemma3n", n_head=(4,) * 5, n_head_kv=(2, 2, 2, 2, 2), sliding=(False, True, False, False, False),
    rotating=(True, True, False, True, True), leaders=(0, 1, 2, 3, 0),
)  # fmt: skip
LAYOUT = PairLayout.of(FACTS)


@pytest.fixture
def file(demo_file):
    return ModelFile.open(demo_file())


@SPACE
def test_starts_at_the_file_and_stays_within_its_bounds(space, file):
    layout = PairLayout.of(file.decoded.model)
    n, start, limits = space.n_parameters(layout), space.start(layout, file), space.limits(layout, file)
    assert start.shape == (n,)
    assert limits.shape == (n, 2)
    assert (limits[:, 0] < limits[:, 1]).all()
    assert (limits[:, 0] <= start).all()
    assert (start <= limits[:, 1]).all()
    assert not space.log_factors(start, layout, file).any()
    low, high = space.bounds
    for theta in (limits[:, 0], limits[:, 1], limits[:, 1] + 1):
        found = space.log_factors(theta, layout, file)
        assert found.shape == (layout.size,)
        assert low <= found.min() <= found.max() <= high
    assert np.abs(space.log_factors(limits[:, 1], layout, file)).max() > 0.5
    with pytest.raises(ValueError, match="parameters of shape"):
        space.log_factors(np.zeros(n + 1), layout, file)


@SPACE
def test_says_what_it_is(space):
    assert SPACES[space.name] is space_named(space.name) is space
    assert space.summary
    assert space.shape.startswith("[")
    assert "arXiv" in space.paper or space.name == "full"


@pytest.mark.parametrize("space", [s for s in SPACES.values() if "numbers" not in s.name], ids=lambda s: s.name)
def test_what_may_not_be_moved_stays_and_followers_follow(space):
    theta = np.random.default_rng(0).uniform(0.3, 1.0, space.n_parameters(LAYOUT))
    layers = LAYOUT.split(space.log_factors(theta, LAYOUT))
    assert not layers[1].any()
    assert not layers[2].any()
    assert (layers[0] != 0).all()
    assert (layers[3] != 0).all()
    np.testing.assert_array_equal(layers[4], layers[0])


@pytest.mark.parametrize(
    ("name", "n", "same"),
    [("pairs", 4, "lh"), ("layers", 2, "hi"), ("heads", 4, "i"), ("layer-pairs", 8, "h"), ("full", 16, "")],
)
def test_shapes_of_papers(name, n, same):
    space = SPACES[name]
    assert space.n_parameters(LAYOUT) == n
    table = np.stack([LAYOUT.split(space.log_factors(np.linspace(0.1, 1, n), LAYOUT))[layer] for layer in (0, 3)])
    for axis, letter in enumerate("lhi"):
        constant = (table == table.take([0], axis)).all()
        assert constant == (letter in same), f"axis {letter}"
    assert len(np.unique(table)) == n


@TIED
def test_the_index_is_what_log_factors_follow(space: TiedSpace):
    """The contract with whoever differentiates: concatenate([theta, [0]])[index]."""
    index, n = space.index(LAYOUT), space.n_parameters(LAYOUT)
    assert set(index.tolist()) == {-1, *range(n)}
    theta = np.random.default_rng(1).uniform(-1, 1, n)
    np.testing.assert_array_equal(np.append(theta, 0.0)[index], space.log_factors(theta, LAYOUT))


def test_heads_that_share_one_k_have_one_factor():
    layout = PairLayout.of(model(arch="deepseek2", mla=True))
    assert SPACES["heads"].n_parameters(layout) == SPACES["layers"].n_parameters(layout) == 3
    assert SPACES["full"].n_parameters(layout) == SPACES["layer-pairs"].n_parameters(layout) == 12


def test_a_curve_is_bezier_s():
    at = np.linspace(0, 1, 7)
    a, b, c, d = heights = np.array([0.3, -1.0, 2.0, 0.7])
    expected = (1 - at) ** 3 * a + 3 * (1 - at) ** 2 * at * b + 3 * (1 - at) * at**2 * c + at**3 * d
    np.testing.assert_allclose(bezier(heights, at), expected, atol=1e-15)


def test_curves_run_over_layers_and_pairs():
    heights = np.array([0.1, 0.2, 0.5, 1.0])
    layers = LAYOUT.split(SPACES["layer-curve"].log_factors(heights, LAYOUT))
    assert set(layers[0].ravel()) == {0.1}
    assert set(layers[3].ravel()) == {1.0}, "the last layer that follows no other"
    rows = LAYOUT.split(SPACES["pair-curve"].log_factors(heights, LAYOUT))
    np.testing.assert_allclose(rows[3], np.tile(bezier(heights, np.arange(4) / 3), (2, 1)))


@pytest.mark.parametrize(
    ("method", "space", "theta"),
    [("yarn", "yarn-numbers", (4.0, 16.0, 2.0)), ("ntk", "ntk-numbers", (4.0,))],
)
def test_a_method_s_numbers_give_its_table(file, demo_file, method, space, theta):
    """The untouched file with the space's log factors rotates as the file that ``convert`` makes."""
    params = dict(zip(SPACES[space].numbers, theta, strict=True))
    made = ModelFile.open(demo_file(method, **params))
    layout = PairLayout.of(file.decoded.model)
    found = rotated(file, layout, SPACES[space].log_factors(np.log(theta), layout, file))
    np.testing.assert_allclose(found, made.decoded.table.frequencies(made.decoded.model), rtol=1e-6)
    # and from the made file on: it begins where the file has the numbers, and leads back to the untouched one
    np.testing.assert_allclose(np.exp(SPACES[space].start(layout, made)), theta)
    back = SPACES[space].log_factors(np.log([1.0, *theta[1:]]), layout, made)
    np.testing.assert_allclose(
        rotated(made, layout, back), file.decoded.table.frequencies(file.decoded.model), rtol=1e-6
    )


def rotated(file, layout, log_factors):
    """Frequencies of the first layer's first head."""
    own = file.decoded.table.frequencies(file.decoded.model)
    return own / np.exp(layout.split(log_factors)[0][0])


def test_frequencies_that_follow_the_length_have_no_numbers(demo_file):
    file = ModelFile.open(demo_file("dynamic-ntk", factor=4.0))
    layout = PairLayout.of(file.decoded.model)
    with pytest.raises(UnsupportedModelError, match="follow the length of a text"):
        SPACES["ntk-numbers"].log_factors(np.zeros(1), layout, file)
    with pytest.raises(UsageError, match="relative to a file"):
        SPACES["ntk-numbers"].start(layout)


def test_ranks_of_scores():
    scores = [np.array([0.2, 0.1]), *[np.full(2, np.nan)] * 2, np.array([0.1, 0.3]), np.full(2, np.nan)]
    layers = LAYOUT.split(ScoreCurve(scores).log_factors(np.array([0.1, 0.2, 0.4]), LAYOUT))
    assert layers[0][:, 0].tolist() == [0.4, 0.1]
    assert layers[3][:, 0].tolist() == [0.1, 0.4]
    np.testing.assert_array_equal(layers[4], layers[0])
    assert not layers[1].any()
    with pytest.raises(InputError, match="scores of 4 KV heads in 2 layers; the model has 10 in 5"):
        ScoreCurve(scores[:2]).log_factors(np.zeros(3), LAYOUT)


def test_scores_come_from_heads_json(tmp_path):
    identity = {}
    path = tmp_path / "heads.json"
    path.write_text(json.dumps({"ratios": [[1.0]], "model": identity}))
    with pytest.raises(InputError, match="not a record of `ggufrope calibrate`"):
        ScoreCurve.read(path)


def test_an_unknown_space():
    with pytest.raises(UsageError, match="--space layrs: unknown: did you mean layers"):
        space_named("layrs")
