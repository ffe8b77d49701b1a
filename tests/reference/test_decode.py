"""Decoding with a cache that is rotated anew at every step: equal to a prefill where it must be, and not elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_checkpoint

from ggufrope.errors import GgufropeError, ParameterError
from ggufrope.reference import LengthRows, ReferenceSpec

pytest.importorskip("transformers", reason="pip install 'ggufrope[torch]'")

IDS = [int(i) for i in np.random.default_rng(3).integers(0, 96, 60)]
EXACT = 1e-9  # of log-probabilities in float64


@pytest.fixture(scope="module")
def torch():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield torch
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=tiny_checkpoint.KINDS)
def tiny(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    tiny_checkpoint.make(request.param, folder)
    return folder


@pytest.fixture(scope="module")
def shallow(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shallow")
    tiny_checkpoint.make("llama", folder, num_hidden_layers=1)
    return folder


def decoder(folder, rows, ratios=()):
    from ggufrope.reference.decode import LengthDecoder
    from ggufrope.reference.forward import load_reference

    return LengthDecoder(load_reference(folder, ReferenceSpec("none"), dtype="float64"), rows, ratios)


def rows_for(folder, *stretched):
    """Rows up to 20, 40, ... tokens, stretched as said, with another attention scale each."""
    import transformers

    from ggufrope.reference.scaling import rot_dim

    config = transformers.AutoConfig.from_pretrained(folder)
    n = rot_dim(config) // 2
    divisors = [[s ** (i / max(n - 1, 1)) for i in range(n)] for s in stretched]
    scales = [1 + 0.1 * np.log(s) for s in stretched]
    points = [20 * (k + 1) for k in range(len(stretched))]
    return LengthRows.from_divisors(points, divisors, scales, config.rope_parameters["rope_theta"])


def in_parts(decode, *sizes, hint=0):
    ids, found = list(IDS), []
    for size in sizes:
        found.append(decode(ids[:size], hint))
        ids = ids[size:]
    return np.concatenate(found)


def test_one_row_equals_transformers_own_prefill(torch, tiny):
    from ggufrope.reference.forward import load_reference, log_probs

    plain = load_reference(tiny, ReferenceSpec("none"), dtype="float64")
    wanted = np.concatenate(list(log_probs(plain, IDS)))
    found = in_parts(decoder(tiny, rows_for(tiny, 1.0)), 30, *[1] * 30)
    assert np.abs(found - wanted).max() < 1e-4  # transformers' cos and sin are float32


def test_chunks_within_one_row_do_not_matter(torch, tiny):
    rows = rows_for(tiny, 1.0, 1.5, 2.0)
    ratios = ((1.0, 1.0), (1.2, 1.5), (1.8, 1.3))
    whole = in_parts(decoder(tiny, rows, ratios), 60)
    for sizes in ((7, 53), (1,) * 60, (20, 20, 20)):
        decode = decoder(tiny, rows, ratios)
        assert np.abs(in_parts(decode, *sizes, hint=60) - whole).max() < EXACT
        decode.clear()
        assert decode.row == 0


def test_a_switch_on_one_layer_equals_a_prefill_at_the_new_row(torch, shallow):
    rows = rows_for(shallow, 1.0, 1.5, 2.0)
    whole = in_parts(decoder(shallow, rows), 60)
    stepwise = in_parts(decoder(shallow, rows), 15, *[1] * 45)
    assert np.abs(stepwise[40:] - whole[40:]).max() < EXACT
    assert np.abs(stepwise[20:40] - whole[20:40]).max() > 0.1  # another row served these


def test_a_switch_on_a_deep_model_does_not(torch, tiny):
    """Hidden states of past tokens keep what the old row made of them."""
    rows = rows_for(tiny, 1.0, 1.5, 2.0)
    whole = in_parts(decoder(tiny, rows), 60)
    stepwise = in_parts(decoder(tiny, rows), 15, *[1] * 45)
    assert np.abs(stepwise[40:] - whole[40:]).max() > 1e-3


def test_rows_follow_the_length_and_only_fall_when_the_cache_is_empty(torch, shallow):
    decode = decoder(shallow, rows_for(shallow, 1.0, 1.5, 2.0))
    seen = []
    for size in (20, 1, 19, 1):
        decode(IDS[:size])
        seen.append(decode.row)
    assert seen == [0, 1, 1, 2]
    decode.forget(5, 35)
    decode(IDS[:1])
    assert decode.row == 2
    decode.forget(0, len(decode.positions))
    assert decode.row == 0


def test_forgetting_moves_the_rest_back(torch, shallow):
    """On one layer, keys depend on their own token alone: shifted is as if the others had never been there."""
    rows = rows_for(shallow, 1.5)
    decode, other = decoder(shallow, rows), decoder(shallow, rows)
    decode(IDS[:20])
    decode.forget(3, 9)
    other([*IDS[:3], *IDS[9:20]])
    assert np.abs(decode([5, 6]) - other([5, 6])).max() < EXACT


@pytest.mark.parametrize(
    ("points", "row", "scale"), [((5, 5), 1.0, 1.0), ((0,), 1.0, 1.0), ((5,), 0.0, 1.0), ((5,), 1.0, float("nan"))]
)
def test_rows_that_make_no_sense(points, row, scale):
    n = len(points)
    with pytest.raises(ParameterError):
        LengthRows(points, ((row,),) * n, (scale,) * n)


def test_usage_errors(torch, shallow):
    rows = rows_for(shallow, 1.0)
    with pytest.raises(ParameterError, match="KV heads"):
        decoder(shallow, rows, ((1.0,),))
    decode = decoder(shallow, rows)
    for call in (lambda: decode([]), lambda: decode.forget(0, 1)):
        with pytest.raises(GgufropeError):
            call()


def test_a_new_order_turns_what_is_cached(torch, shallow):
    """On one layer nothing but the rotation depends on ratios: reordered is as if read so from the start."""
    rows, ratios = rows_for(shallow, 1.0), [[1.2, 1.7]]
    wanted = in_parts(decoder(shallow, rows, tuple(map(tuple, ratios))), 59, 1)[-1:]
    decode = decoder(shallow, rows, ((1.5, 1.0),))
    decode(IDS[:59])
    decode.reorder(ratios)
    np.testing.assert_allclose(decode(IDS[59:]), wanted, atol=EXACT)
    with pytest.raises(ParameterError, match="1 layers of 2"):
        decode.reorder([[1.2]])
    decode.clear()
    with pytest.raises(GgufropeError, match="nothing was read"):
        decode.counts()


def test_what_stands_out_is_what_the_layer_by_layer_order_saw(torch, tiny):
    """The order that layers find one after the other is the one that a second reading under it finds again."""
    from ggufrope.reference.forward import load_reference, log_probs
    from ggufrope.reference.head_scores import OrderSpec, PromptOrder

    model = load_reference(tiny, ReferenceSpec("none"), dtype="float64")
    order = PromptOrder(model, 50, OrderSpec(first_layer=1))
    wanted = np.concatenate(list(log_probs(model, IDS)))
    ratios = [[1.0, 1.0], *(order.ratios[i].tolist() for i in (1, 2))]
    decode = decoder(tiny, rows_for(tiny, 1.0))
    decode.reorder(ratios)
    decode(IDS[:50])
    np.testing.assert_array_equal(decode.counts(), np.stack([order.counts[i] for i in range(3)]))
    assert np.abs(decode(IDS[50:]) - wanted[50:]).max() < 1e-4  # transformers' cos and sin are float32
