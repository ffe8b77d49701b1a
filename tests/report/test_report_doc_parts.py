"""What ``scripts/docs`` computes from results and tables, on made ones: it says what they say, or that it cannot."""

from __future__ import annotations

import pytest
import results_maker as made
from doc_parts import grid_table, measured_figures

from ggufrope.planning.evidence import EVIDENCE
from ggufrope.planning.measured import DEMO_FACTS, DEMO_LOSS, STORIES_LOSS


def grid(small=None):
    """A README's worth of results; ``small``: scores of every Q4_K_M file."""
    for method in ("none", "ntk", "yarn", "dynamic-ntk", "ms-poe"):
        for kind in ("F16", "Q4_K_M"):
            for length in (512, 1024):
                scores = [1.0] * 20 if kind == "F16" or small is None else small
                yield made.answers(made.facts(method, kind), length, {0.5: scores})


@pytest.fixture
def results(tmp_path, monkeypatch):
    def results(lines):
        monkeypatch.setattr(grid_table, "RESULTS", made.write(tmp_path, list(lines)) / "results.jsonl")

    return results


def test_a_table_of_the_readme(results):
    results(grid())
    lines = grid_table.readme_table().splitlines()
    assert lines[:3] == ["| F16 | 512 tokens | 1024 |", "|---|---|---|", "| `none` | 1.00 | 1.00 |"]
    assert len(lines) == 2 + len(grid_table.ROWS) + 2
    assert lines[-1] == (
        "(1.00 without an interval: all of 20 texts, .84-1.00.) "
        "Quantizing to Q4_K_M showed no difference in any of 10 comparisons."
    )


def test_a_difference_is_not_denied(results):
    results(grid(small=[0.0] * 14 + [1.0] * 6))
    text = grid_table.readme_table()
    assert "| the same in Q4_K_M | .30 (.15-.52) | .30 (.15-.52) |" in text
    assert "Quantizing to Q4_K_M showed a difference in 10 of 10 comparisons." in text


def test_perfect_scores_over_different_numbers_of_texts_have_no_common_sentence(results):
    results(grid(small=[1.0] * 8))
    with pytest.raises(SystemExit, match=r"of different kinds: all of 20 texts, \.84-1\.00, all of 8 texts, "):
        grid_table.readme_table()


def test_figures_come_from_the_part_that_is_marked(tmp_path, monkeypatch):
    monkeypatch.setattr(measured_figures, "ROOT", tmp_path)
    table = "| method | 512 | 768 | 1024 |\n|---|---|---|---|\n| none | 1.5 ± 0.1 | 9 ± 1 | 2.25 ± 0.1 |\n"
    (tmp_path / "page.md").write_text(f"{table.replace('1.5', '7')}<!-- measured: a -->\n{table}<!-- end -->\n{table}")
    assert measured_figures._by_columns("page.md", "a") == {"none": {512: 1.5, 1024: 2.25}}
    with pytest.raises(SystemExit, match=r"page\.md: no <!-- measured: b -->"):
        measured_figures._by_columns("page.md", "b")


def test_every_measured_record_is_a_row_of_a_generated_table():
    ours = [record for record in EVIDENCE if record.source.endswith(".md")]
    tables = [DEMO_LOSS, STORIES_LOSS, DEMO_FACTS]
    for record in ours:
        row = {int(n * 512): figure for n, figure in record.values.items()}
        assert row in [table[record.label] for table in tables if record.label in table]
    assert len(ours) == 15
