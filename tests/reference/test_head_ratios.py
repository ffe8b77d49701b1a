"""Ms-PoE in PyTorch: against the authors' program, and against what must be the same."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_checkpoint

from ggufrope.errors import ParameterError
from ggufrope.reference import ReferenceSpec

pytest.importorskip("transformers", reason="pip install 'ggufrope[torch]'")
CASES = ("mha_l23", "mha_normal", "mha_past_max")


@pytest.fixture(scope="module")
def forward():
    import torch

    from ggufrope.reference import forward

    before = torch.get_num_threads()
    torch.set_num_threads(1)  # these models are too small for two
    yield forward
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def run(forward):
    def run(path, ids, method=None, params=(), ratios=(), **options):
        spec = ReferenceSpec(method, dict(params), ratios)
        return np.concatenate(list(forward.logits(forward.load_reference(path, spec, **options), ids)))

    return run


@pytest.fixture(scope="module", params=tiny_checkpoint.KINDS)
def tiny(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    tiny_checkpoint.make(request.param, folder)
    return folder


IDS = np.random.default_rng(5).integers(0, 96, 300)


def ratios_of(n_layer, n_kv, *steps):
    """The first layer at 1, the others with ``steps``, another head first in each."""
    rows = [np.roll(np.resize(steps, n_kv), layer) for layer in range(1, n_layer)]
    return ((1.0,) * n_kv, *(tuple(float(r) for r in row) for row in rows))


@pytest.mark.parametrize("case", CASES)
def test_authors_program_is_reproduced(run, shared, case):
    stored = np.load(shared / "oracles/mspoe_mha.npz")
    directory, ids = shared / "oracles/mspoe_model_mha", stored[f"{case}/input_ids"]
    ones = (1.0,) * 8
    given = [tuple(float(r) for r in stored[f"{case}/L{layer}/ratio_of_head"]) for layer in (2, 3)]
    assert np.abs(run(directory, ids) - stored[f"{case}/base_logits"]).max() < 1e-4
    # the program caches rotated keys under the ratios of the prompt, so decoding is a longer prefill
    whole = run(directory, [*ids, *stored[f"{case}/decode_tokens"]], ratios=(ones, ones, *given))
    assert np.abs(whole[: len(ids)] - stored[f"{case}/logits"]).max() < 1e-4
    assert np.abs(whole[len(ids) :] - stored[f"{case}/decode_logits"]).max() < 1e-4


def test_ratios_of_one_change_nothing(run, tiny):
    assert np.array_equal(run(tiny, IDS), run(tiny, IDS, ratios=((1.0, 1.0),) * 3))


def test_one_ratio_for_all_is_linear(run, tiny):
    plain, linear = run(tiny, IDS), run(tiny, IDS, "linear", {"factor": 1.7})
    ratio = run(tiny, IDS, ratios=((1.7, 1.7),) * 3)
    assert np.abs(ratio - linear).max() < 1e-3 < 0.1 < np.abs(ratio - plain).max()


def test_ratios_come_on_top_of_a_base(run, tiny):
    yarn = {"factor": 4.0, "original_context": 64}
    both = run(tiny, IDS, "yarn", yarn, ((1.3, 1.3),) * 3)
    assert np.abs(both - run(tiny, IDS, "yarn", yarn)).max() > 0.1
    # cos and sin keep yarn's factor: with ratios near 1 nothing else is left
    near = run(tiny, IDS, "yarn", yarn, ((1.0 + 1e-7, 1.0 + 1e-7),) * 3)
    assert np.abs(near - run(tiny, IDS, "yarn", yarn)).max() < 1e-2


def test_a_swap_of_two_heads_shows(run, tiny):
    a, b = ratios_of(3, 2, 1.2, 1.7), ratios_of(3, 2, 1.7, 1.2)
    assert np.abs(run(tiny, IDS, ratios=a) - run(tiny, IDS, ratios=b)).max() > 0.1


def test_float64_angles_are_what_float32_rounds(run, tiny):
    ratios = ratios_of(3, 2, 1.2, 1.7)
    exact = run(tiny, IDS, ratios=ratios, dtype="float64")
    assert exact.dtype == np.float64
    assert np.abs(run(tiny, IDS, ratios=ratios) - exact).max() < 1e-3


def test_a_group_s_ratio_is_that_of_its_copies(run, shared):
    """stories260K and its copy with every KV head doubled: ratio h // 2 of the one is ratio h of the other."""
    base, ids = shared / "models/stories260K", np.random.default_rng(0).integers(0, 512, 700)
    grouped = ratios_of(5, 4, 1.2, 1.35, 1.5, 1.65)
    doubled = tuple(tuple(r for r in row for _ in range(2)) for row in grouped)
    one, two = run(base / "hf", ids, ratios=grouped), run(base / "hf-mha", ids, ratios=doubled)
    assert np.abs(one - two).max() < 1e-4
    assert np.abs(one - run(base / "hf", ids)).max() > 1


def test_hooks_can_be_taken_away(forward, tiny):
    from ggufrope.reference.head_ratios import HeadRotation

    model = forward.load_reference(tiny)
    before = np.concatenate(list(forward.logits(model, IDS)))
    rotation = HeadRotation(model, ((1.5, 1.2),) * 3)
    assert not np.array_equal(np.concatenate(list(forward.logits(model, IDS))), before)
    rotation.remove()
    assert np.array_equal(np.concatenate(list(forward.logits(model, IDS))), before)


@pytest.mark.parametrize("from_wavelength", [0.0, 20.0])
def test_transformers_own_attention_agrees_with_the_formulas(forward, tiny, from_wavelength):
    """Two ways that share no rotation: formulas on projections, and the class's own functions called head by head."""
    import torch

    from ggufrope.reference.head_ratios import part_factors
    from ggufrope.reference.heads_in_attention import HeadsInAttention

    ratios = ratios_of(3, 2, 1.2, 1.7)
    spec = ReferenceSpec(head_ratios=ratios, from_wavelength=from_wavelength)
    written = np.concatenate(list(forward.logits(forward.load_reference(tiny, spec), IDS)))
    model = forward.load_reference(tiny)
    plain = np.concatenate(list(forward.logits(model, IDS)))
    pairs = len(model.base_model.rotary_emb.inv_freq)
    trained = 10000.0 ** (-torch.arange(pairs, dtype=torch.float64) / pairs)
    rotation = HeadsInAttention(model, [part_factors(row, trained, from_wavelength) for row in ratios])
    assert (
        np.abs(np.concatenate(list(forward.logits(model, IDS))) - written).max() < 1e-3 < np.abs(plain - written).max()
    )
    rotation.remove()
    assert np.array_equal(np.concatenate(list(forward.logits(model, IDS))), plain)


def test_given_factors_and_scales_are_what_ratios_and_yarn_make(run, forward, tiny):
    """A table's numbers, against formulas that it shares nothing with."""
    ratios = ratios_of(3, 2, 1.2, 1.7)
    plain = run(tiny, IDS)
    pairs = len(forward.load_reference(tiny).base_model.rotary_emb.inv_freq)
    rows = tuple(tuple((ratio,) * pairs for ratio in row) for row in ratios)
    given = ReferenceSpec(pair_factors=rows, layer_scales=(1.0,) * 3)
    found = np.concatenate(list(forward.logits(forward.load_reference(tiny, given), IDS)))
    assert np.abs(found - run(tiny, IDS, ratios=ratios)).max() < 1e-3 < np.abs(found - plain).max()
    ones = tuple(tuple((1.0,) * pairs for _ in row) for row in ratios)
    scaled = ReferenceSpec(pair_factors=ones, layer_scales=(1.3,) * 3)
    found = np.concatenate(list(forward.logits(forward.load_reference(tiny, scaled), IDS)))
    yarn = run(tiny, IDS, "yarn", {"factor": 1.0, "attention_factor": 1.3})
    assert np.abs(found - yarn).max() < 1e-3 < np.abs(found - plain).max()


def test_wrong_ratios_are_refused(forward, tiny):
    for ratios, said in (
        (((1.5, 1.2),) * 2, "2 layers of"),
        (((1.5, 1.2, 1.1),) * 3, r"3 layers of \[3\]"),
    ):
        with pytest.raises(ParameterError, match=said):
            forward.load_reference(tiny, ReferenceSpec(head_ratios=ratios))
    for bad in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ParameterError, match="layer 1, KV head 0"):
            ReferenceSpec(head_ratios=((1.0, 1.0), (bad, 1.0)))
