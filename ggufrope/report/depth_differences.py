"""Methods minus none by depth of the answer, and over the middle: what a mean over all depths hides."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from ggufrope.evals.intervals import score_interval
from ggufrope.evals.results import Result
from ggufrope.report.answer import head_names, heads
from ggufrope.report.blocks import Row, Table
from ggufrope.report.comparison import compare
from ggufrope.report.difference import Difference, difference
from ggufrope.report.numbers import difference_cell
from ggufrope.report.study import Group, text_of
from ggufrope.report.tables import percent

__all__ = ["at_depths", "by_depth_minus_none", "depth_difference", "middle_depths"]


def middle_depths(result: Result) -> tuple[float, ...]:
    """The depths that are neither the beginning of the text nor its end."""
    return tuple(d.depth for d in result.by_depth or () if 0 < d.depth < 1)


def at_depths(result: Result, depths: Collection[float]) -> Result | None:
    """A result as if only these depths had been asked for; None where a question has none of them or no name."""
    examples = tuple(e for e in result.examples or () if e.depth in depths)
    if not examples:
        return None
    texts: dict[str, list[float]] = {}
    for example in examples:
        texts.setdefault(text_of(example.name), []).append(example.score)
    interval = score_interval(list(texts.values()))
    return replace(
        result, examples=examples, n=len(examples), score=sum(e.score for e in examples) / len(examples),
        low=interval.low, high=interval.high, interval=interval.kind,
        by_depth=tuple(d for d in result.by_depth or () if d.depth in depths),
    )  # fmt: skip


def depth_difference(a: Result, b: Result, depths: Collection[float]) -> Difference | None:
    """``a - b`` over the questions at these depths, paired as ``difference`` pairs; None where there are none."""
    mine, theirs = at_depths(a, depths), at_depths(b, depths)
    return difference(mine, theirs) if mine and theirs else None


def by_depth_minus_none(group: Group) -> list[Table]:
    """For each length, each method minus none at every depth, and over the middle where there are several depths."""
    return [table for length in group.lengths if (table := _table(group, length)) is not None]


def _table(group: Group, length: int) -> Table | None:
    comparisons = [c for c in compare(group, "method") if length in c.by_length]
    depths = sorted({d.depth for (_, at), r in group.cells.items() if at == length for d in r.by_depth or ()})
    if not comparisons or not depths:
        return None
    columns: list[tuple[str, tuple[float, ...]]] = [(percent(depth), (depth,)) for depth in depths]
    middle = tuple(depth for depth in depths if 0 < depth < 1)
    columns += [("the middle", middle)] if len(middle) > 1 else []
    rows = []
    for c in comparisons:
        a, b = group.cells[c.entry, length], group.cells[c.reference, length]
        cells = tuple(difference_cell(depth_difference(a, b, some), 2) for _, some in columns)
        rows.append(Row(heads(group, c.entry), cells))
    note = "Difference in score with its 95% interval, above zero is better; bold: the interval excludes zero."
    note += " The middle: all depths but 0% and 100%." if len(middle) > 1 else ""
    title = f"{group.title} minus none by depth, {length} tokens"
    names = tuple(name for name, _ in columns)
    return Table(title, head_names(group), names, tuple(rows), note, folded=True, stacked=True)
