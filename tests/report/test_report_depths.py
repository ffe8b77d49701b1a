"""Differences by depth, labels that tell variants of a method apart, and a plot as a file of its own."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
import results_maker as made

from ggufrope.report.curves import charts
from ggufrope.report.depth_differences import at_depths, by_depth_minus_none, depth_difference, middle_depths
from ggufrope.report.picture import picture
from ggufrope.report.study import arrange, study

SVG = "{http://www.w3.org/2000/svg}"


def scores(*right, n=20):
    """At depths 0, 0.5, 0.75 and 1: how many of ``n`` texts are answered, the first ones."""
    return {d: [float(i < k) for i in range(n)] for d, k in zip((0.0, 0.5, 0.75, 1.0), right, strict=True)}


@pytest.fixture
def group(tmp_path):
    lines = [
        made.answers(made.facts(), 512, scores(20, 0, 0, 20)),
        made.answers(made.facts("yarn"), 512, scores(10, 12, 4, 20)),
    ]
    (found,) = study([made.write(tmp_path, lines)]).groups
    return found


def test_a_mean_hides_what_depths_show(group):
    """10 texts lost at the beginning, 16 answers gained in the middle."""
    (table,) = by_depth_minus_none(group)
    assert table.columns == ("0%", "50%", "75%", "100%", "the middle")
    (row,) = table.rows
    assert row.heads == ("yarn × 4", "F16")
    assert [c.text for c in row.cells] == ["−0.50", "+0.60", "+0.20", "0.00", "+0.40"]
    assert [c.strong for c in row.cells] == [True, True, True, False, True]
    assert row.cells[3].detail == "all equal"


def test_the_middle_counts_texts_not_questions(group):
    """Its interval is that of 20 texts' means, whose standard error is worked out here."""
    none, yarn = (group.cells[e, 512] for e in group.entries)
    change = depth_difference(yarn, none, middle_depths(yarn))
    assert (change.how, change.n, change.value) == ("paired", 20, pytest.approx(0.4))
    means = [1.0] * 4 + [0.5] * 8 + [0.0] * 8
    error = (sum((m - 0.4) ** 2 for m in means) / 19 / 20) ** 0.5
    assert change.high - change.low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_a_part_of_a_result_is_one(group):
    part = at_depths(group.cells[group.entries[1], 512], (0.5,))
    assert (part.score, part.n, [d.depth for d in part.by_depth]) == (0.6, 20, [0.5])
    assert part.interval == "wilson 95%"
    assert at_depths(part, (0.75,)) is None


def test_one_depth_has_no_middle_of_its_own(tmp_path):
    lines = [made.answers(made.facts(m), 512, {0.5: [1.0, 0.0] * 10}) for m in ("none", "yarn")]
    (found,) = study([made.write(tmp_path, lines)]).groups
    assert [t.columns for t in by_depth_minus_none(found)] == [("50%",)]


def variants():
    """Six files of one method, told apart by three parameters of which no single one suffices."""
    base = {"min_ratio": 1.2, "max_ratio": 1.8, "first_layer": 2, "head_order": "sequential"}
    uniform = base | {"min_ratio": 1.5, "max_ratio": 1.5, "first_layer": 0}
    yield from (base, base | {"from_wavelength": 64.0}, base | {"from_wavelength": 256.0})
    yield from (uniform, uniform | {"from_wavelength": 64.0}, base | {"head_order": "per-prompt"})


def test_labels_take_the_parameters_that_tell_files_apart(tmp_path):
    lines = [made.answers(made.facts("ms-poe", params=p, name=f"{i}.gguf"), 512) for i, p in enumerate(variants())]
    found = study([made.write(tmp_path, lines)])
    labels = [e.method for e in found.groups[0].entries]
    assert len(set(labels)) == 6
    assert not any("#" in label for label in labels)
    assert "ms-poe, min_ratio 1.2, head_order sequential, from_wavelength 64" in labels
    assert not any("absent" in label for label in labels)  # a file does not record 0, which is as published
    assert any(label.endswith("from_wavelength 0 (as published)") for label in labels)
    assert not any("max_ratio" in label or "first_layer" in label for label in labels)  # min_ratio says it already


def test_labels_can_be_given(tmp_path):
    results = study([made.write(tmp_path, [made.answers(made.facts(m), 512) for m in ("none", "yarn")])]).results
    named = arrange(list(results), label=lambda file: "longer" if file.method == "yarn" else None)
    assert [e.method for e in named.groups[0].entries] == ["none", "longer"]
    assert [e.plain for e in named.groups[0].entries] == [True, False]


def test_a_plot_is_a_file_of_its_own(group):
    chart = next(c for c in charts(group) if "depth" in c.title)
    drawn = ET.fromstring(picture(chart))
    words = ["".join(t.itertext()) for t in drawn.iter(f"{SVG}text")]
    assert chart.title in words
    assert {"none", "yarn × 4"} <= set(words)
    assert float(drawn.attrib["width"]) > 380
    assert [n.tag for n in drawn.iter() if n.tag.removeprefix(SVG) not in ALLOWED] == []
    assert "--c0" in "".join(drawn.find(f"{SVG}style").itertext())
    assert len(list(drawn.iter(f"{SVG}svg"))) == 4  # the whole, a plot, two samples of lines


ALLOWED = {"svg", "style", "rect", "text", "path", "g", "title"}
