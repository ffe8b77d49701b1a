"""Results put in order: what is one row, what is compared with what, what is said when results do not fit together."""

from __future__ import annotations

import json

import pytest
import results_maker as made

from ggufrope.errors import InputError
from ggufrope.report.answer import beyond
from ggufrope.report.comparison import compare
from ggufrope.report.rerun import command_lines
from ggufrope.report.study import remarks, study


def of(tmp_path, *lines):
    return study([made.write(tmp_path, lines)])


def labels(found, group=0):
    return [(e.method, e.quantization, e.kv_type) for e in found.groups[group].entries]


def pairs(group, kind):
    return [
        (c.entry.method, c.entry.quantization, c.reference.method, c.reference.quantization)
        for c in compare(group, kind)
    ]


def test_rows_stand_in_the_order_of_methods_and_from_fine_to_coarse(tmp_path):
    kinds = [("yarn", "Q4_K_M"), ("yarn", "F16"), ("none", "Q4_K_M"), ("yarn", "Q8_0"), ("none", "F16")]
    found = of(
        tmp_path, *(made.answers(made.facts(*kind), kv_type=kv) for kind in kinds for kv in ("q4_0", "f16", "q8_0"))
    )
    files = [("none", "F16"), ("none", "Q4_K_M"), ("yarn × 4", "F16"), ("yarn × 4", "Q8_0"), ("yarn × 4", "Q4_K_M")]
    assert labels(found) == [(*file, kv) for file in files for kv in ("f16", "q8_0", "q4_0")]


def test_factors_are_in_the_label_and_sorted_as_numbers(tmp_path):
    files = [made.facts("yarn", params={"factor": f}, context=int(512 * f)) for f in (16.0, 2.0, 4.0)]
    found = of(tmp_path, *map(made.answers, files))
    assert [m for m, _, _ in labels(found)] == ["yarn × 2", "yarn × 4", "yarn × 16"]
    assert not found.notes


def test_contexts_and_parameters_tell_files_apart_in_every_quantization(tmp_path):
    files = [made.facts("yarn", "F16", context=c) for c in (1024, 2048)] + [made.facts("yarn", "Q8_0", context=2048)]
    files += [
        made.facts("ms-poe", params={"head_order": o, "ratios": [1.0, 2.0, ord(o[0])]}) for o in ("code", "reverse")
    ]
    found = of(tmp_path, *map(made.answers, files))
    assert [m for m, _, _ in labels(found)] == [
        "yarn × 4 to 1024", "yarn × 4 to 2048", "yarn × 4 to 2048",
        "ms-poe, head_order code", "ms-poe, head_order reverse",
    ]  # fmt: skip
    assert pairs(found.groups[0], "quantization") == [("yarn × 4 to 2048", "Q8_0", "yarn × 4 to 2048", "F16")]


def test_the_same_label_with_other_hashes_is_another_file_and_is_said(tmp_path):
    a, b = made.facts(header="aaaa1", weights="1111"), made.facts(header="bbbb2", weights="2222")
    found = of(tmp_path, made.answers(a), made.answers(b), made.answers(made.facts(quantization="Q8_0")))
    assert {m for m, _, _ in labels(found)} == {"none #aaaa1111", "none #bbbb2222", "none"}
    (note,) = found.notes
    assert "2 different files are none in F16" in note
    assert "#aaaa1111" in note
    assert pairs(found.groups[0], "quantization") == []  # which one was it quantized from?


def test_of_two_quantized_files_neither_is_compared_where_one_file_could_be_the_source(tmp_path):
    q8 = [made.facts(quantization="Q8_0", header=h, weights=h) for h in ("a", "b")]
    found = of(tmp_path, *map(made.answers, [made.facts(), *q8]))
    assert pairs(found.groups[0], "quantization") == []


def test_a_method_is_compared_with_the_unscaled_file_of_the_same_weights(tmp_path):
    files = [
        made.facts("none", "F16"),
        made.facts("none", "Q8_0"),
        made.facts("yarn", "F16"),
        made.facts("yarn", "Q8_0"),
    ]
    found = of(tmp_path, *map(made.answers, files))
    assert pairs(found.groups[0], "method") == [
        ("yarn × 4", "F16", "none", "F16"),
        ("yarn × 4", "Q8_0", "none", "Q8_0"),
    ]


def test_f16_is_what_quantized_files_are_compared_with(tmp_path):
    found = of(tmp_path, *(made.answers(made.facts("none", q)) for q in ("F32", "BF16", "F16", "Q6_K")))
    assert pairs(found.groups[0], "quantization") == [("none", "Q6_K", "none", "F16")]
    found = of(tmp_path, *(made.answers(made.facts("none", q)) for q in ("F32", "Q6_K")))
    assert pairs(found.groups[0], "quantization") == [("none", "Q6_K", "none", "F32")]


def test_other_models_are_never_compared(tmp_path):
    found = of(tmp_path, made.answers(made.facts()), made.answers(made.facts("yarn", trained=4096)))
    assert [m for m, _, _ in labels(found)] == ["none (llama, trained for 512)", "yarn × 4 (llama, trained for 4096)"]
    assert pairs(found.groups[0], "method") == []


def test_options_seeds_and_baselines_make_groups_and_the_number_of_texts_does_not(tmp_path):
    file, other = made.facts(), made.facts("yarn")
    lines = [
        made.answers(file, options={"keys": 1, "limit": 20}),
        made.answers(other, options={"keys": 1, "limit": 30}),
        made.answers(file, options={"keys": 4, "limit": 20}),
        made.answers(file, options={"keys": 1, "limit": 20}, seed=7),
        made.positions(file, task="kl", baseline=other),
        made.positions(file, task="kl", baseline=made.facts("ntk")),
    ]
    found = of(tmp_path, *lines)
    assert [g.title for g in found.groups] == [
        "niah (keys 1, seed 0)", "niah (keys 1, seed 7)", "niah (keys 4, seed 0)",
        "kl against ntk-f16.gguf", "kl against yarn-f16.gguf",
    ]  # fmt: skip
    assert len(found.groups[0].entries) == 2


def test_means_over_other_depths_are_never_compared(tmp_path):
    one = made.answers(made.facts(), scores={1.0: [1.0] * 8})
    two = made.answers(made.facts("yarn"), scores={0.0: [0.0] * 8, 1.0: [1.0] * 8})
    found = of(tmp_path, one, two)
    assert [g.title for g in found.groups] == ["niah (depths 0 1)", "niah (depths 1)"]
    assert [len(g.entries) for g in found.groups] == [1, 1]


def test_a_line_that_was_cut_off_is_said(tmp_path):
    path = made.write(tmp_path, [made.answers(made.facts()), made.answers(made.facts("yarn"))])
    whole = (path / "results.jsonl" if path.is_dir() else path).read_bytes()
    file = tmp_path / "cut.jsonl"
    file.write_bytes(whole)
    assert (len(study([file]).results), study([file]).notes) == (2, ())
    file.write_bytes(whole.rstrip(b"\n"))
    found = study([file])
    assert len(found.results) == 1
    assert "cut.jsonl: the last line was cut off, its cell is not shown" in found.notes[0]


def test_the_command_gives_depths_to_the_last_digit(tmp_path):
    (group,) = of(tmp_path, made.answers(made.facts(), scores={0.0: [1.0], 0.33333333: [1.0], 0.9: [1.0]})).groups
    assert "--depths 0,0.33333333,0.9 " in command_lines(group)[0]


def test_windows_within_a_context_are_not_beyond_it(tmp_path):
    line = made.positions(made.facts(), 2048, options={"text": {"name": "t", "sha256": "0"}, "window": 512}, notes=[])
    (group,) = of(tmp_path, line).groups
    assert beyond(group, 2048) == ""
    assert "--beyond-context" not in command_lines(group)[0]
    (group,) = of(tmp_path, line | {"options": {}}).groups
    assert beyond(group, 2048) == " †"
    base = made.positions(made.facts("yarn"), 1024, task="kl", baseline=made.facts())
    assert "--beyond-context" in command_lines(of(tmp_path, base).groups[0])[0]


def test_files_against_themselves_before_quantization_are_one_group(tmp_path):
    lines = [
        made.positions(made.facts(m, "Q8_0"), task="kl", baseline=made.facts(m), means=(v, v))
        for m, v in (("none", 1e-3), ("yarn", 2e-3))
    ]
    foreign = made.positions(made.facts("ntk", "Q8_0"), task="kl", baseline=made.facts("ms-poe"))
    own, other = of(tmp_path, *lines, foreign).groups
    assert (own.title, other.title) == ("kl against its own F16", "kl against ms-poe-f16.gguf")
    assert [e.method for e in own.entries] == ["none", "yarn × 4"]
    again = command_lines(own)
    assert ["--baseline none-f16.gguf" in line for line in again] == [True, False]
    assert ["none-q8_0.gguf" in line for line in again] == [True, False]
    assert "--baseline yarn-f16.gguf" in again[1]
    common = made.positions(made.facts("ntk", "Q8_0"), task="kl", baseline=made.facts())
    yarn, both = of(tmp_path, *lines, common).groups  # none's own F16 is what ntk was compared with, too
    assert [e.method for e in both.entries] == ["none", "ntk × 4"]
    assert (yarn.title, both.title) == ("kl against its own F16", "kl against none-f16.gguf")


def test_a_cell_that_is_there_twice_counts_once(tmp_path):
    line = made.answers(made.facts())
    (tmp_path / "b").mkdir()
    paths = [made.write(tmp_path / "a", [line]), made.write(tmp_path / "b", [line, line])]
    found = study(paths)
    assert len(found.results) == 1
    assert not found.notes


@pytest.mark.parametrize("order", [1, -1])
def test_contradicting_cells_are_said_and_the_one_with_more_examples_is_shown(tmp_path, order):
    few = made.answers(made.facts(), scores={0.5: [1.0]}, finished="2026-11-21T00:00:00Z")
    many = made.answers(made.facts(), scores={0.5: [1.0, 0.0]})
    found = of(tmp_path, *[few, many][::order])
    assert found.groups[0].get(found.groups[0].entries[0], 512).value == 0.5
    (note,) = found.notes
    assert "measured twice" in note
    assert "more examples, 0.5" in note


def test_missing_cells_are_counted(tmp_path):
    found = of(
        tmp_path, made.answers(made.facts(), 512), made.answers(made.facts(), 1024), made.answers(made.facts("yarn"))
    )
    assert found.notes == ("niah: 1 of 4 cells were not measured.",)


def test_remarks_of_runs_are_counted_but_not_those_on_length(tmp_path):
    line = made.answers(
        made.facts(), 1024, notes=["1024 tokens are beyond the file's context of 512", "all answers are empty"]
    )
    assert of(tmp_path, line).notes == ("The runs left 1 remark, see Settings.",)


WINDOW = "1024 tokens are beyond the file's context of 512"  # of a text of 2048


@pytest.mark.parametrize("codes", [{}, {"note_codes": ["beyond-context"]}], ids=["old", "coded"])
def test_windows_beyond_the_context_are_marked_and_leave_no_remark(tmp_path, codes):
    options = {"text": {"name": "t", "sha256": "0"}, "window": 1024}
    found = of(tmp_path, made.positions(made.facts(), 2048, options=options, notes=[WINDOW], **codes))
    assert beyond(found.groups[0], 2048) == " †"
    assert found.notes == ()
    assert remarks(found.results) == []


def test_notes_go_by_their_codes_not_by_their_words(tmp_path):
    coded = {"notes": ["too long", WINDOW], "note_codes": ["beyond-context", "one-text"]}
    found = of(tmp_path, made.answers(made.facts(), 1024, **coded))
    assert remarks(found.results) == [f"niah at 1024 tokens: {WINDOW} (none-f16.gguf)"]


def test_bad_results_are_refused_by_file_and_line(tmp_path):
    path = tmp_path / "results.jsonl"
    good = json.dumps(made.answers(made.facts()))
    for text, said in (
        ("", "no results"),
        (f"{good}\n{{}}\n", "line 2"),
        (f"{good}\n{json.dumps(json.loads(good) | {'schema': 2})}\n", "line 2: results of schema 2"),
        (f"{good}\nhello\n", "line 2"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=said) as caught:
            study([path])
        assert str(path) in str(caught.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"holds no results\.jsonl"):
        study([tmp_path / "empty"])


@pytest.mark.parametrize(
    "changed",
    [
        {"score": float("nan")},
        {"score": 1.5},
        {"low": float("-inf")},
        {"length": 0},
        {"by_depth": [{"depth": 2.0, "n": 1, "score": 1.0, "low": 0.5, "high": 1.0}]},
    ],
    ids=str,
)
def test_values_that_nothing_measures_are_refused(tmp_path, changed):
    with pytest.raises(InputError, match=r"niah of none-f16\.gguf .* which nothing measures"):
        of(tmp_path, made.answers(made.facts()) | changed)


@pytest.mark.parametrize(
    ("by_text", "said"),
    [
        ([(0, 2.0), (0, 2.0)], "the value 0,"),
        ([(-1, 2.0), (511, 2.0)], "the value -1,"),
        ([(511, 9.0)], "the value 2,"),
    ],
    ids=["no positions", "fewer than none", "another mean"],
)
def test_means_by_text_must_fit(tmp_path, by_text, said):
    line = made.positions(made.facts(), means=(2.0,))
    line["by_text"] = [{"tokens": f"{i:016x}", "n": n, "mean": mean} for i, (n, mean) in enumerate(by_text)]
    with pytest.raises(InputError, match=rf"ppl of none-f16\.gguf .* {said} which nothing measures"):
        of(tmp_path, line)
