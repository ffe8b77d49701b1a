"""A factor for each head and pair: written, read, stripped and inspected, and refused where it makes no sense."""

from __future__ import annotations

import gguf_builder as gb
import numpy as np
import pytest

from ggufrope.cli import main
from ggufrope.convert.conversion import plan, strip, write
from ggufrope.errors import GgufError, ParameterError
from ggufrope.gguf import keys
from ggufrope.inspection.summary import Inspection
from ggufrope.methods.ms_poe import SLOW, MsPoe
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.modelfile.verdict import verdict_of
from ggufrope.validate.agreement import rotation_gap

#: The tiny model's wavelengths are 6.28, 62.8, 628 and 6283 tokens; 8 to 16 is between the first two, 512 is between
#: the second and the third, whose share is log2(628.3/512) = 0.295.
BY_PARTS = {"min_ratio": 1.5, "max_ratio": 2.0, "from_wavelength": 512.0}


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.gguf"
    path.write_bytes(gb.tiny_llama())
    return path


def converted(path, params, name="ms-poe", stem="out"):
    out = path.with_name(f"{stem}.gguf")
    write(plan(ModelFile.open(path), name, params), out)
    return ModelFile.open(out)


def test_the_key_has_a_number_for_each_layer_head_and_pair(tiny):
    file = converted(tiny, BY_PARTS)
    assert file.get(keys.VERSION) == 3
    assert keys.HEAD_FACTORS not in file
    assert keys.HEAD_ORDER not in file
    flat = np.asarray(file.get(keys.PAIR_FACTORS))
    assert flat.dtype == np.float32
    share = np.log2(2 * np.pi * 100 / 512)
    rows = [[1, 1, 1 / (1 - share + share / ratio), ratio] for ratio in (1.5, 1.75)]
    assert flat == pytest.approx(np.ravel([np.ones((2, 4)), np.ones((2, 4)), rows]), rel=1e-6)


def test_what_was_written_is_read_and_stripped(tiny):
    file = converted(tiny, BY_PARTS)
    made = plan(ModelFile.open(tiny), "ms-poe", BY_PARTS)
    assert file.decoded.table.close_to(made.table)
    assert file.decoded.needs_patched
    assert file.decoded.params == {**MsPoe(**BY_PARTS).params()}
    back = tiny.with_name("back.gguf")
    assert strip(file, back).restored is True
    assert back.read_bytes() == tiny.read_bytes()
    again = converted(file.path, BY_PARTS, stem="again")
    assert again.path.read_bytes() == file.path.read_bytes()


def test_from_wavelength_0_is_the_published_method(tiny):
    """Its bytes are pinned in ``test_pinned_files``."""
    published = converted(tiny, {"from_wavelength": 0.0})
    assert keys.PAIR_FACTORS not in published
    assert published.get(keys.VERSION) == 1


def test_the_default_is_for_slow_pairs_but_not_where_the_runtime_hands_ratios_out(tiny):
    plain = converted(tiny, {}, stem="plain")
    assert plain.path.read_bytes() == converted(tiny, {"from_wavelength": SLOW}, stem="same").path.read_bytes()
    assert plain.get(keys.VERSION) == 3
    assert plain.decoded.params["from_wavelength"] == SLOW
    by_prompt = converted(tiny, {"head_order": "per-prompt"}, stem="by-prompt")
    assert keys.HEAD_FACTORS in by_prompt
    assert "from_wavelength" not in by_prompt.decoded.params


def test_given_ratios_are_kept_in_the_parameters(tiny):
    ratios = ((1.0, 1.0), (1.25, 1.5), (1.75, 1.0))
    file = converted(tiny, {"head_ratios": ratios, "from_wavelength": 10.0})
    assert file.decoded.params["head_ratios"] == [list(row) for row in ratios]
    assert file.decoded.table.head_rows(1)[1] == pytest.approx([1, 1.5, 1.5, 1.5], rel=1e-6)


def test_on_a_base_both_act(tiny):
    file = converted(tiny, {**BY_PARTS, "factor": 2.0}, "ms-poe+yarn")
    base, heads = plan(ModelFile.open(tiny), "yarn", {"factor": 2.0}), plan(ModelFile.open(tiny), "ms-poe", BY_PARTS)
    assert file.decoded.table.close_to(base.table * heads.table)


def test_stock_runs_it_as_the_source_and_no_measured_runtime_is_wrong_about_it(tiny):
    verdict = verdict_of(converted(tiny, BY_PARTS))
    assert str(verdict.stock) == str(verdict_of(converted(tiny, {}, stem="p")).stock)
    assert verdict.left_out == ("the per-head ratios",)


def test_inspect_shows_both_ends_of_a_head(tiny):
    seen = Inspection(converted(tiny, BY_PARTS))
    flat, parted = seen.layer_classes()
    assert (flat.layers, flat.pair_factors) == ((0, 1), ())
    assert parted.layers == (2,)
    assert parted.ratios == pytest.approx((1.5, 1.75))
    assert [row[:2] for row in parted.pair_factors] == [(1.0, 1.0)] * 2
    curves = seen.wavelengths()
    assert curves["after, head ratio 1.75"][:2] == pytest.approx(curves["after"][:2])
    assert curves["after, head ratio 1.75"][3] == pytest.approx(curves["after"][3] * 1.75)
    assert "pair_factors" in seen.as_json()["layer_classes"][1]


def test_inspect_hides_no_pair_between_the_ends(tiny, capsys):
    """Factors that another program wrote: one in the middle, which neither end tells of."""
    header = converted(tiny, BY_PARTS).header
    values = np.ones(24, np.float32)
    values[21] = 7.0
    kept = [header.raw(field) for field in header.fields if field.key != keys.PAIR_FACTORS]
    path = tiny.with_name("other.gguf")
    path.write_bytes(gb.build([*kept, gb.entry(keys.PAIR_FACTORS, gb.ARR, values.tolist(), gb.F32)], gb.tiny_tensors()))
    assert main(["inspect", str(path)]) == 0
    assert "layer 2: 1 at the last pair; pairs from 1 to 7 (--json has all)" in capsys.readouterr().out
    curves = Inspection(ModelFile.open(path)).wavelengths()
    assert curves["after, head ratio 7"][1] == pytest.approx(7 * curves["after"][1])


def test_two_files_that_differ_in_one_pair_do_not_rotate_alike(tiny):
    one, other = converted(tiny, BY_PARTS), converted(tiny, {**BY_PARTS, "from_wavelength": 500.0}, stem="other")
    assert "the ratio of layer 2, KV head 0, pair 2 is" in rotation_gap(one.decoded, other.decoded)
    assert rotation_gap(one.decoded, one.decoded) == ""
    published = converted(tiny, {**BY_PARTS, "from_wavelength": 0}, stem="published")
    assert "KV head 0, pair 0 is 1 against 1.5" in rotation_gap(one.decoded, published.decoded)


GOOD = [1.5] * 24


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({keys.PAIR_FACTORS: (gb.ARR, [1.5] * 23, gb.F32)}, "23 entries, expected 24 of type f32"),
        ({keys.PAIR_FACTORS: (gb.ARR, GOOD, gb.F64)}, "type f32"),
        ({keys.PAIR_FACTORS: (gb.F32, 1.5)}, "1 entries, expected 24"),
        ({keys.PAIR_FACTORS: (gb.ARR, [0.0, *GOOD[1:]], gb.F32)}, "finite number above 0"),
        ({keys.PAIR_FACTORS: (gb.ARR, [float("nan"), *GOOD[1:]], gb.F32)}, "finite number above 0"),
        ({keys.HEAD_FACTORS: (gb.ARR, [1.5] * 6, gb.F32)}, "head_factors stands beside"),
        ({keys.HEAD_ORDER: (gb.STR, "static")}, "head_order stands beside"),
        ({keys.VERSION: (gb.U32, 2)}, "version is 2 beside ggufrope.pair_factors; 3 is needed"),
        ({keys.VERSION: (gb.U32, 4)}, "this ggufrope reads 1 to 3; update it"),
    ],
)
def test_bad_keys(tiny, changed, said):
    header = converted(tiny, BY_PARTS).header
    kept = [header.raw(field) for field in header.fields if field.key not in changed]
    path = tiny.with_name("bad.gguf")
    path.write_bytes(gb.build([*kept, *(gb.entry(key, *value) for key, value in changed.items())], gb.tiny_tensors()))
    with pytest.raises(GgufError, match=said):
        _ = ModelFile.open(path).decoded


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_a_wavelength_is_a_number_of_tokens(value):
    with pytest.raises(ParameterError, match=r"--from-wavelength is .*; give a number of tokens"):
        MsPoe(from_wavelength=value)


def test_where_no_pair_is_slow_enough_nothing_would_change(tiny):
    with pytest.raises(
        ParameterError, match="slowest pair of layers turns once in 6283 tokens, so no pair would change"
    ):
        plan(ModelFile.open(tiny), "ms-poe", {"from_wavelength": 6284.0})


@pytest.mark.parametrize("name", ["ms-poe", "ms-poe+yarn"])
def test_who_gave_no_wavelength_is_told_that_it_is_a_default(tmp_path, name):
    path = tmp_path / "fast.gguf"
    kept = [e for e in gb.llama_entries() if b"freq_base" not in e]
    path.write_bytes(gb.build([*kept, gb.entry("llama.rope.freq_base", gb.F32, 10.0)], gb.tiny_tensors()))
    said = r"--from-wavelength 64 \(its default\): .* in 35\.33 tokens, .*; give a smaller one, or 0 for all pairs"
    with pytest.raises(ParameterError, match=said):
        plan(ModelFile.open(path), name, {"factor": 2.0} if "yarn" in name else {})
    assert converted(path, {"from_wavelength": 0.0}).decoded.table.separable  # the remedy works


@pytest.mark.parametrize("order", ["per-prompt", "per-prompt-rank"])
def test_orders_by_prompt_are_for_whole_heads(order):
    with pytest.raises(ParameterError, match=f"{order} hands ratios out to whole heads"):
        MsPoe(from_wavelength=64.0, head_order=order)
