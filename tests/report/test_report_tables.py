"""The tables of a report against numbers worked out by hand."""

from __future__ import annotations

import pytest
import results_maker as made

from ggufrope.report.answer import answer
from ggufrope.report.blocks import Code, Points, Table
from ggufrope.report.curves import charts
from ggufrope.report.document import document
from ggufrope.report.heatmap import maps
from ggufrope.report.numbers import short
from ggufrope.report.study import study
from ggufrope.report.tables import by_depth, by_position, cost_and_gain, minus_full_cache, minus_unquantized


def group(tmp_path, *lines):
    (found,) = study([made.write(tmp_path, lines)]).groups
    return found


def shown(table: Table):
    return {row.heads: [(c.text, c.detail, c.strong) for c in row.cells] for row in table.rows}


def sentences(block: Points):
    return ["".join(item.parts) for item in block.items]


def half_right(n=20):
    return {0.5: [1.0, 0.0] * (n // 2)}


def right(n=20):
    return {0.5: [1.0] * n}


@pytest.fixture
def methods(tmp_path):
    """At 512 both are right; at 1024 none is right half of the time. Wilson: 20/20 0.839-1, 10/20 0.299-0.701."""
    plain, yarn = made.facts(), made.facts("yarn")
    return group(
        tmp_path,
        made.answers(plain, 512, right()), made.answers(yarn, 512, right()),
        made.answers(plain, 1024, half_right()), made.answers(yarn, 1024, right()),
    )  # fmt: skip


def test_the_answer_names_the_best_and_says_what_is_not_told_apart(methods):
    points, table = answer(methods)
    assert sentences(points) == [
        "512 tokens, 1× the trained length: at the ceiling: all 2 methods lie at 1.000, so nothing can be compared "
        "here; longer texts or a harder task would tell more.",
        "1024 tokens, 2× the trained length: yarn × 4 is highest, at 1.000 (0.839–1.000). Lower: none at 0.500 "
        "(0.299–0.701).",
        "Methods against the unscaled model up to the trained length: no difference shown in 1 comparison; "
        "1 at the ceiling or the floor, where nothing can be compared.",
        "Methods against the unscaled model beyond the trained length: 1 comparison, 1 better; greatest gain: yarn × 4 "
        "at 1024 tokens, +0.500 (+0.300 to +0.700).",
    ]
    assert table.columns == ("512 (1×)", "1024 (2×) †", "effective length")
    assert shown(table) == {
        ("none", "F16"): [("1.000", "0.839–1.000", True), ("0.500", "0.299–0.701", False), ("512", "", False)],
        ("yarn × 4", "F16"): [("1.000", "0.839–1.000", True), ("1.000", "0.839–1.000", True), ("≥ 1024", "", False)],
    }


@pytest.mark.parametrize(
    ("shares", "reached"),
    [
        ((20, 17, 10), "1024"),  # 0.85 of 1 holds
        ((20, 16, 20), "512"),  # what comes back later does not count
        ((10, 9, 9), "≥ 2048"),  # 0.45 of 0.5 is 0.9
        ((0, 20, 20), "–"),
    ],
)
def test_effective_length_is_that_up_to_which_scores_hold(tmp_path, shares, reached):
    lines = [
        made.answers(made.facts(), length, {0.5: [1.0] * n + [0.0] * (20 - n)})
        for length, n in zip((512, 1024, 2048), shares, strict=True)
    ]
    _, table = answer(group(tmp_path, *lines))
    assert shown(table)["none", "F16"][-1] == (reached, "", False)


def test_a_file_that_was_not_measured_further_may_reach_further(tmp_path):
    lines = [made.answers(made.facts(), n, right()) for n in (512, 1024, 2048)]
    lines += [made.answers(made.facts("ntk"), n, right()) for n in (512, 1024)]
    _, table = answer(group(tmp_path, *lines))
    assert [cells[-1][0] for cells in shown(table).values()] == ["≥ 2048", "≥ 1024"]


def test_one_length_and_losses_have_no_effective_length(tmp_path):
    _, scores = answer(group(tmp_path / "a", made.answers(made.facts(), 512, right())))
    _, losses = answer(group(tmp_path / "b", *(made.positions(made.facts(), n) for n in (512, 1024))))
    assert not [c for table in (scores, losses) for c in table.columns if "effective" in c]


def test_a_method_alone_at_the_floor_is_code(tmp_path):
    """``none lies at 0`` would be read as if nothing did."""
    points, _ = answer(group(tmp_path, made.answers(made.facts(), scores={0.5: [0.0] * 9})))
    assert "`none` lies at 0.000" in "".join(f"`{p}`" if type(p) is Code else p for p in points.items[0].parts)


def test_without_intervals_nothing_is_said_of_them(tmp_path):
    lines = [made.positions(made.facts(m), means=(v,), low=None, high=None) for m, v in (("none", 2.0), ("ntk", 1.5))]
    (table,) = cost_and_gain(group(tmp_path, *lines))
    assert "No intervals: one text says nothing about others." in table.note
    assert "chance" not in table.note
    assert "Independent" not in table.note


def test_a_floor_is_said(tmp_path):
    points, _ = answer(
        group(tmp_path, *(made.answers(made.facts(m), scores={0.5: [0.0] * 9}) for m in ("none", "ntk")))
    )
    assert sentences(points)[0] == (
        "512 tokens, 1× the trained length: at the floor: all 2 methods lie at 0.000, so nothing can be compared here; "
        "shorter texts or an easier task would tell more."
    )


@pytest.mark.parametrize(
    ("task", "options", "floor"),
    [
        ("niah-hop", {"people": 9}, True),  # 1 / 9 and more than the 0.1 that was measured
        ("niah-hop", {"people": 11}, False),
        ("niah-hop", {"people": "nine"}, False),
        ("niah-hop", {}, False),
        ("babi-who", {"chains": 5}, True),
        ("babi-where", {"chains": 5}, False),  # one in 20 places
        ("niah", {"people": 9}, False),
        ("a task of a later version", {"people": 9}, False),
    ],
)
def test_no_better_than_guessing_is_the_floor(tmp_path, task, options, floor):
    scores = {0.5: [1.0] + [0.0] * 9}
    lines = [made.answers(made.facts(m), scores=scores, task=task, options=options) for m in ("none", "ntk")]
    points, _ = answer(group(tmp_path, *lines))
    assert ("at the floor: all 2 methods lie at 0.100" in sentences(points)[0]) is floor


def test_lower_is_better_for_nats(tmp_path):
    lines = [
        made.positions(made.facts(m), means=(v, v), width=0.1) for m, v in (("none", 2.0), ("ntk", 1.5), ("yarn", 1.52))
    ]
    points, table = answer(group(tmp_path, *lines))
    assert sentences(points)[0] == (
        "512 tokens, 1× the trained length: ntk × 4 and yarn × 4 in front; no difference shown between the lowest, "
        "ntk × 4 at 1.500 (1.450–1.550), and the others of these. Higher: none at 2.000 (1.950–2.050)."
    )
    assert [row.cells[0].strong for row in table.rows] == [False, True, True]


def test_methods_are_set_against_each_other_in_the_type_that_most_were_measured_in(tmp_path):
    lines = [made.answers(made.facts(m, "Q8_0"), scores=right()) for m in ("none", "yarn")]
    lines += [made.answers(made.facts("none", "Q8_0"), scores=right(), kv_type="q4_0")]
    points, _ = answer(group(tmp_path, made.answers(made.facts("yarn", "F16"), scores=half_right()), *lines))
    said = sentences(points)
    assert said[0].startswith(
        "512 tokens, 1× the trained length, Q8_0 weights, f16 KV cache: at the ceiling: all 2 methods"
    )
    assert said[1].startswith("Quantized weights against unquantized ones: 1 comparison, 1 better")
    assert said[2] == (
        "KV cache types against f16: no difference shown in 1 comparison; 1 at the ceiling or the floor, where nothing "
        "can be compared."
    )


def test_cost_and_gain_stand_beside_the_values(methods):
    (table,) = cost_and_gain(methods)
    assert table.columns == ("512 (1×): cost", "1024 (2×): gain")
    assert shown(table) == {
        ("none", "F16"): [("1.000", "", False), ("0.500", "", False)],
        # ten of 20 texts differ by 1: the bootstrap's 2.5% and 97.5% of a binomial of 20 and 1/2 are 6 and 14
        ("yarn × 4", "F16"): [("1.000", "0.000 (all equal)", False), ("1.000", "+0.500 (+0.300 to +0.700)", True)],
    }
    assert "1 of 2" in table.note


def test_quantized_minus_f16_and_cache_types_minus_f16(tmp_path):
    f16, q8 = made.facts("yarn"), made.facts("yarn", "Q8_0")
    found = group(
        tmp_path,
        made.answers(f16, scores=right()), made.answers(f16, scores=right(), kv_type="q4_0"),
        made.answers(q8, scores=half_right()), made.answers(q8, scores={0.5: [0.0] * 20}, kv_type="q4_0"),
    )  # fmt: skip
    (weights,) = minus_unquantized(found)
    assert shown(weights) == {
        ("yarn × 4", "Q8_0", "f16"): [("−0.500", "−0.700 to −0.300", True)],
        # every text differs by 1: Wilson's 0.161 on both sides, combined
        ("yarn × 4", "Q8_0", "q4_0"): [("−1.000", "−1.000 to −0.772 ⁱ", True)],
    }
    (caches,) = minus_full_cache(found)
    assert shown(caches) == {
        ("yarn × 4", "F16", "q4_0"): [("0.000", "all equal", False)],
        ("yarn × 4", "Q8_0", "q4_0"): [("−0.500", "−0.700 to −0.300", True)],
    }


def test_what_cannot_be_compared_is_said(tmp_path):
    found = group(tmp_path, made.answers(made.facts("yarn")))
    assert "no file was measured both" in minus_unquantized(found)[0].parts[0]
    assert "no unscaled file" in cost_and_gain(found)[0].parts[0]
    assert minus_full_cache(found) == ()


def test_depths_and_maps_hold_every_cell(tmp_path):
    found = group(tmp_path, made.answers(made.facts(), 1024, {0.0: [0.0, 1.0], 0.125: [1.0, 1.0]}))
    (table,) = by_depth(found)
    assert table.columns == ("0%", "12.5%")
    assert shown(table) == {("none", "F16"): [("0.50", "0.09–0.91", False), ("1.00", "0.34–1.00", False)]}
    drawn = maps(found)
    ((title, (one,)),) = drawn.rows
    assert (title, one.title, one.beyond) == ("F16", "none", {1024})
    assert {k: v.value for k, v in one.cells.items()} == {(0.0, 1024): 0.5, (0.125, 1024): 1.0}


def test_positions_hold_every_range(tmp_path):
    found = group(tmp_path, made.positions(made.facts(), 512, (2.0, 1.0)))
    (table,) = by_position(found)
    assert table.columns == ("0–256", "256–512")
    assert shown(table) == {("none", "F16"): [("2.000", "1.950–2.050", False), ("1.000", "0.950–1.050", False)]}


def test_positions_without_a_finite_mean_are_dashes(tmp_path):
    line = made.positions(made.facts(), 512, (2.0, 1.0))
    line["by_position"][0] |= {"mean": None, "low": None, "high": None}
    other = made.positions(made.facts("yarn"), 512, (2.0, 1.0))
    (table,) = by_position(group(tmp_path, line, other))
    assert [c.text for c in table.rows[0].cells] == ["–", "1.000"]


def test_tasks_without_depths_have_no_maps(tmp_path):
    found = study([made.write(tmp_path, [made.answers(made.facts(), scores={None: [1.0, 0.0]})])])
    assert maps(found.groups[0]) is None
    assert "maps" not in {s.name for s in document(found, "t").sections}


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (1.0, "1"), (0.5, ".50"), (0.996, ">.99"), (0.994, ".99"), (0.004, "<.01")]
)
def test_narrow_numbers_are_never_rounded_to_what_they_are_not(value, text):
    assert short(value) == text


def test_the_command_names_every_setting(tmp_path):
    options = {
        "limit": 20, "keys": 4, "uuid": True, "wording": {"name": "my words.json", "sha256": "ab"},
        "chat_template": "none",
    }  # fmt: skip
    lines = [
        made.answers(made.facts(m), n, {0.25: [1.0] * 20}, options=options, seed=3)
        for m in ("none", "yarn")
        for n in (512, 1024)
    ]
    found = study([made.write(tmp_path, lines)])
    (settings,) = [s for s in document(found, "t").sections if s.name == "settings"]
    (command,) = settings.blocks[-1].items[0].parts
    assert command == (
        "ggufrope eval none-f16.gguf yarn-f16.gguf --task niah --lengths 512,1024 --depths 0.25 --limit 20 --seed 3 "
        "--kv-type f16 --set keys=4 --set uuid=true --wording 'my words.json' --no-chat-template --beyond-context "
        "-o results/"
    )


def test_panels_stand_in_rows_by_type_and_end_where_their_texts_end(tmp_path):
    files = [made.facts("none", "F16"), made.facts("none", "Q8_0")]
    found = group(tmp_path, *(made.positions(f, n) for f in files for n in (512, 1024)))
    lengths, positions = charts(found)
    assert [p.title for p in lengths.panels] == ["F16", "Q8_0"]
    assert [(p.row, p.end, p.mark) for p in positions.panels] == [
        (kind, n, (512.0, "trained")) for kind in ("F16", "Q8_0") for n in (512.0, 1024.0)
    ]
    assert [x for x, _ in positions.panels[1].series[0].points] == [256.0, 768.0]


def test_tiny_values_keep_their_digits(tmp_path):
    lines = [made.positions(made.facts(m), means=(v,), width=v, task="kl") for m, v in (("none", 2e-7), ("yarn", 0.25))]
    _, table = answer(group(tmp_path, *lines))
    assert shown(table) == {
        ("none", "F16"): [("2.00e−7", "1.00e−7 to 3.00e−7", True)],
        ("yarn × 4", "F16"): [("2.50e−1", "1.25e−1 to 3.75e−1", False)],
    }
