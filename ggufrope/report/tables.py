"""Tables of differences, of cost beside gain, and of every number by depth or position."""

from __future__ import annotations

from ggufrope.evals.results import Result
from ggufrope.report.answer import head_names, heads, length_label
from ggufrope.report.blocks import Block, Estimate, Prose, Row, Table, TableCell
from ggufrope.report.comparison import Comparison, compare
from ggufrope.report.difference import Difference
from ggufrope.report.entries import Entry
from ggufrope.report.numbers import decimals, difference_cell, estimate_cell, plain
from ggufrope.report.study import Group
from ggufrope.text import counted

__all__ = [
    "by_depth",
    "by_position",
    "cost_and_gain",
    "depth_scores",
    "minus_full_cache",
    "minus_unquantized",
    "position_means",
]


def minus_unquantized(group: Group) -> tuple[Block, ...]:
    """Quantized minus unquantized weights."""
    comparisons = compare(group, "quantization")
    if not comparisons:
        return (Prose((f"{group.title}: no file was measured both quantized and unquantized.",)),)
    kinds = sorted({c.reference.quantization for c in comparisons})
    return (_differences(group, f"{group.title}: quantized minus {' or '.join(kinds)}", comparisons),)


def minus_full_cache(group: Group) -> tuple[Block, ...]:
    """Other KV cache types minus f16; nothing where only one type was measured."""
    comparisons = compare(group, "kv")
    return (_differences(group, f"{group.title}: KV cache types minus f16", comparisons),) if comparisons else ()


def _differences(group: Group, title: str, comparisons: list[Comparison]) -> Table:
    digits, every = decimals(group), _all(comparisons)
    rows = [
        Row(
            heads(group, c.entry),
            tuple(difference_cell(c.by_length.get(at), digits, _mixed(every)) for at in group.lengths),
        )
        for c in comparisons
    ]
    columns = tuple(length_label(group, length) for length in group.lengths)
    return Table(title, head_names(group), columns, tuple(rows), _how(group, every))


def _all(comparisons: list[Comparison]) -> list[Difference]:
    return [d for c in comparisons for d in c.by_length.values()]


def _mixed(differences: list[Difference]) -> bool:
    """Whether intervals were computed in more than one way, so that each cell has to say how."""
    return len({d.how == "independent" for d in differences}) > 1


def _how(group: Group, differences: list[Difference]) -> str:
    """How intervals were computed, and how many would exclude zero by chance."""
    differences = [d for d in differences if d.low is not None]
    kinds = {d.how for d in differences}
    ways = [] if differences else ["No intervals: one text says nothing about others."]
    if kinds & {"paired", "equal"}:
        ways.append("Paired: the same questions or texts, intervals over texts.")
    if "equal" in kinds:
        ways.append("All equal: every question or text came out the same.")
    if "independent" in kinds:
        name = "Independent (ⁱ)" if _mixed(differences) else "Independent"
        ways.append(f"{name}: intervals combined as those of separate measurements, wider than need be.")
    shown, by_chance = sum(d.shown for d in differences), round(len(differences) / 20)
    expected = f"about {by_chance}" if by_chance else "fewer than 1"
    if differences:
        ways.append(
            f"Bold: the interval excludes zero, {shown} of {len(differences)}; {expected} would by chance alone."
        )
    return f"Difference in {group.unit}, {'above' if group.higher else 'below'} zero is better. {' '.join(ways)}"


def cost_and_gain(group: Group) -> tuple[Block, ...]:
    """Each method minus none: what it costs up to the trained length, what it gains beyond."""
    comparisons = compare(group, "method")
    if not comparisons:
        said = f"{group.title}: nothing to compare, since no unscaled file (method none) was measured beside another."
        return (Prose((said,)),)
    rows = [_beside(group, reference, {}, comparisons) for reference in dict.fromkeys(c.reference for c in comparisons)]
    rows += [_beside(group, c.entry, c.by_length, comparisons) for c in comparisons]
    columns = tuple(f"{length_label(group, length)}{_side(group, length)}" for length in group.lengths)
    note = "The value itself, and under it the method minus none. " + _how(group, _all(comparisons))
    title = f"{group.title}: methods minus none, short and long"
    return (Table(title, head_names(group), columns, tuple(rows), note, stacked=True),)


def _side(group: Group, length: int) -> str:
    if group.trained is None:
        return ""
    return ": cost" if length <= group.trained else ": gain"


def _beside(group: Group, entry: Entry, by_length: dict[int, Difference], comparisons: list[Comparison]) -> Row:
    """Values, and their differences from the unscaled model's."""
    digits, cells = decimals(group), []
    for length in group.lengths:
        value = estimate_cell(group.get(entry, length), digits)
        change = difference_cell(by_length.get(length), digits, _mixed(_all(comparisons)))
        detail = f"{change.text} ({change.detail})" if length in by_length else ""
        title = f"{value.title}; {change.title}" if detail else value.title
        cells.append(TableCell(value.text, detail, title, change.strong))
    return Row(heads(group, entry), tuple(cells))


def depth_scores(result: Result | None) -> dict[float, Estimate]:
    """Scores by depth; empty where the task has none."""
    depths = result.by_depth if result is not None else None
    return {d.depth: Estimate(d.score, d.low, d.high, d.n) for d in depths or ()}


def position_means(result: Result | None) -> dict[tuple[int, int], Estimate]:
    """Means by position, where they are finite."""
    ranges = result.by_position if result is not None else None
    return {(p.start, p.end): Estimate(p.mean, p.low, p.high, p.n) for p in ranges or () if p.mean is not None}


def by_depth(group: Group) -> list[Table]:
    """For each length, every file's score at every depth with its interval."""
    tables = []
    for length in group.lengths:
        by_entry = {e: depth_scores(group.cells.get((e, length))) for e in group.entries}
        depths = sorted({d for scores in by_entry.values() for d in scores})
        rows = [
            Row(heads(group, e), tuple(estimate_cell(scores.get(d), 2) for d in depths))
            for e, scores in by_entry.items()
            if scores
        ]
        if rows:
            counts = sorted({v.n for scores in by_entry.values() for v in scores.values()})
            note = f"Score with its 95% interval; {_range(counts)} in each cell."
            columns = tuple(percent(d) for d in depths)
            tables.append(
                Table(
                    f"{group.title} by depth, {length} tokens",
                    head_names(group),
                    columns,
                    tuple(rows),
                    note,
                    folded=True,
                    stacked=True,
                )
            )
    return tables


def by_position(group: Group) -> list[Table]:
    """For each length, every file's mean over each range of positions with its interval."""
    tables, digits = [], decimals(group)
    for length in group.lengths:
        by_entry = {e: position_means(group.cells.get((e, length))) for e in group.entries}
        ranges = sorted({r for means in by_entry.values() for r in means})
        rows = [
            Row(heads(group, e), tuple(estimate_cell(means.get(r), digits) for r in ranges))
            for e, means in by_entry.items()
            if means
        ]
        if rows:
            note = f"Mean {group.unit} with its 95% interval, by position in the text."
            columns = tuple(f"{start}–{end}" for start, end in ranges)
            title = f"{group.title} by position, texts of {length} tokens"
            tables.append(Table(title, head_names(group), columns, tuple(rows), note, folded=True, stacked=True))
    return tables


def _range(counts: list[int]) -> str:
    return counted(counts[0], "question") if len(counts) == 1 else f"{counts[0]} to {counts[-1]} questions"


def percent(depth: float) -> str:
    """``12.5%``."""
    return f"{plain(100 * depth, 1).removesuffix('.0')}%"
