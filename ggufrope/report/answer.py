"""The answer: which method does best at each length, and what cannot be told apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ggufrope.report.blocks import Block, Code, Estimate, Points, Prose, Row, Strong, Table, TableCell
from ggufrope.report.comparison import Comparison, compare
from ggufrope.report.difference import Difference, told_apart
from ggufrope.report.entries import Entry, fineness
from ggufrope.report.numbers import (
    decimals,
    difference_interval,
    estimate_cell,
    in_words,
    multiple,
    plain,
    signed,
)
from ggufrope.report.reach import EFFECTIVE, effective_length, limit_of
from ggufrope.report.study import Group
from ggufrope.report.study import beyond as beyond_context
from ggufrope.text import counted

__all__ = ["answer", "beyond", "head_names", "heads", "length_label"]

_NAMED = 5  # in a sentence; the table has the others
_CHANGES = {
    "quantization": "Quantized weights against unquantized ones",
    "kv": "KV cache types against f16",
    "method": "Methods against the unscaled model",
}


def answer(group: Group) -> tuple[Block, ...]:
    """Sentences and the table of overall values.

    Methods are compared within one type of weights and cache, and types on their own: one sentence on all combinations
    would be unreadable.
    """
    items = [_at(group, length, _of_one_kind(group)) for length in group.lengths]
    return Points((*items, *_changes(group)), group.title), _table(group)


def head_names(group: Group) -> tuple[str, ...]:
    """Columns that name a row; the KV cache's type only where there are several."""
    return ("method", "weights", "KV cache") if _several_caches(group) else ("method", "weights")


def heads(group: Group, entry: Entry) -> tuple[str, ...]:
    """The values of those columns for ``entry``."""
    return (entry.method, entry.quantization, entry.kv_type)[: len(head_names(group))]


def _several_caches(group: Group) -> bool:
    return len({e.kv_type for e in group.entries}) > 1


def _several_quantizations(group: Group) -> bool:
    return len({e.quantization for e in group.entries}) > 1


def length_label(group: Group, length: int) -> str:
    """``1024 (2×)``."""
    times = multiple(length, group.trained)
    return f"{length} ({times})" if times else str(length)


def _of_one_kind(group: Group) -> list[Entry]:
    """Entries with the types of weights and cache that most methods were measured in; of several such, the finest."""
    kinds: dict[tuple[str, str], list[Entry]] = {}
    for e in group.entries:
        kinds.setdefault((e.quantization, e.kv_type), []).append(e)
    return min(kinds.values(), key=lambda some: (-len(some), fineness(some[0].quantization), fineness(some[0].kv_type)))


def _measured(group: Group, length: int, some: Sequence[Entry]) -> dict[Entry, Estimate]:
    estimates = ((e, group.get(e, length)) for e in some)
    return {e: v for e, v in estimates if v is not None}


def _best(group: Group, values: dict[Entry, Estimate]) -> Entry:
    return (max if group.higher else min)(values, key=lambda e: values[e].value)


def _front(group: Group, length: int, values: dict[Entry, Estimate]) -> list[Entry]:
    """The best, and all that are not told apart from it."""
    best = _best(group, values)
    first = group.cells[best, length]
    return [e for e in values if e is best or not told_apart(first, group.cells[e, length])]


def _at(group: Group, length: int, some: Sequence[Entry]) -> Prose:
    """One length in a sentence or three."""
    values, lead = _measured(group, length, some), _lead(group, length, some[0])
    if not values:
        return Prose((lead, "nothing was measured."))
    digits, end = decimals(group), "highest" if group.higher else "lowest"
    best, front = _best(group, values), _front(group, length, values)
    value = in_words(values[best], digits)
    if stuck := limit_of(group, values.values()):
        return _stuck(lead, stuck, values, digits)
    if len(values) == 1:
        return Prose((lead, Code(best.method), f" at {value}."))
    if len(front) == len(values):
        said = f". All {len(values)} methods lie {_span(values, digits)}; nothing is told apart from the {end}."
        return Prose((lead, Strong("no difference shown"), said))
    rest = _rest(group, [e for e in values if e not in front], values, digits)
    if len(front) == 1:
        return Prose((lead, Strong(best.method), f" is {end}, at {value}. ", *rest))
    said = f" in front; no difference shown between the {end}, "
    return Prose(
        (lead, *_listed(front, Strong), said, Code(best.method), f" at {value}, and the others of these. ", *rest)
    )


def _span(values: dict[Entry, Estimate], digits: int) -> str:
    low, high = min(v.value for v in values.values()), max(v.value for v in values.values())
    return f"between {plain(low, digits)} and {plain(high, digits)}" if low < high else f"at {plain(low, digits)}"


def _stuck(lead: str, where: str, values: dict[Entry, Estimate], digits: int) -> Prose:
    """A length at which the task is too easy or too hard for all."""
    remedy = "longer texts or a harder task" if where == "ceiling" else "shorter texts or an easier task"
    who = (f"all {len(values)} methods lie",) if len(values) > 1 else (Code(next(iter(values)).method), " lies")
    said = f" {_span(values, digits)}, so nothing can be compared here; {remedy} would tell more."
    return Prose((lead, Strong(f"at the {where}"), ": ", *who, said))


def _lead(group: Group, length: int, entry: Entry) -> str:
    """``1024 tokens, 2× the trained length, F16 weights: ``."""
    times = multiple(length, group.trained)
    parts = [f"{length} tokens", f"{times} the trained length" if times else ""]
    parts += [f"{entry.quantization} weights"] if _several_quantizations(group) else []
    parts += [f"{entry.kv_type} KV cache"] if _several_caches(group) else []
    return f"{', '.join(filter(None, parts))}: "


def _rest(group: Group, rest: list[Entry], values: dict[Entry, Estimate], digits: int) -> tuple[str, ...]:
    """What is told apart from the best, with the unscaled model in numbers."""
    said = "Lower: " if group.higher else "Higher: "
    if len(rest) == 1:
        return said, Code(rest[0].method), f" at {in_words(values[rest[0]], digits)}."
    unscaled = next((e for e in rest if e.plain), None)
    end = ("; ", Code(unscaled.method), f" at {in_words(values[unscaled], digits)}.") if unscaled else (".",)
    return said, *_listed(rest, Code), *end


def _listed(some: Sequence[Entry], kind: type[Strong] | type[Code]) -> tuple[str, ...]:
    """``a``, ``b`` and ``c``; the first few, and how many more there are."""
    names: list[str] = [kind(e.method) for e in some]
    if len(names) > _NAMED + 1:
        names = [*names[:_NAMED], f"{len(names) - _NAMED} more"]
    parts = [part for name in names for part in (", ", name)][1:]
    return (*parts[:-2], " and ", parts[-1]) if len(names) > 1 else tuple(parts)


def _name(group: Group, entry: Entry) -> str:
    """As short as the group allows: what is the same everywhere is left out."""
    parts = [entry.method]
    parts += [entry.quantization] if _several_quantizations(group) else []
    parts += [f"KV {entry.kv_type}"] if _several_caches(group) else []
    return " ".join(parts)


def _changes(group: Group) -> Iterator[Prose]:
    """What quantization costs, what methods cost in short contexts and gain in long ones."""
    trained = group.trained
    for kind, name in _CHANGES.items():
        differences = [(c, length, d) for c in compare(group, kind) for length, d in c.by_length.items()]
        if kind == "method" and trained is not None:
            yield from _change(group, f"{name} up to the trained length", [x for x in differences if x[1] <= trained])
            yield from _change(group, f"{name} beyond the trained length", [x for x in differences if x[1] > trained])
        else:
            yield from _change(group, name, differences)


def _change(group: Group, lead: str, differences: list[tuple[Comparison, int, Difference]]) -> Iterator[Prose]:
    """How many comparisons of a kind show anything, and the greatest difference each way."""
    better = [x for x in differences if x[2].shown and (x[2].value > 0) == group.higher]
    worse = [x for x in differences if x[2].shown and (x[2].value > 0) != group.higher]
    many = counted(len(differences), "comparison")
    if not differences:
        return
    limits = [limit_of(group, _both(group, c, length)) for c, length, _ in differences]
    stuck = len(limits) - limits.count("")
    besides = f"; {stuck} at the ceiling or the floor, where nothing can be compared" if stuck else ""
    if not better and not worse:
        yield Prose((f"{lead}: ", Strong("no difference shown"), f" in {many}{besides}."))
        return
    parts = [
        f"{len(worse)} worse",
        f"{len(better)} better",
        f"{len(differences) - len(better) - len(worse)} without a difference shown",
    ]
    said = "".join(_greatest(group, word, some) for word, some in (("loss", worse), ("gain", better)) if some)
    yield Prose((f"{lead}: {many}, {', '.join(p for p in parts if not p.startswith('0 '))}{besides}{said}.",))


def _both(group: Group, comparison: Comparison, length: int) -> list[Estimate]:
    return [v for e in (comparison.entry, comparison.reference) if (v := group.get(e, length)) is not None]


def _greatest(group: Group, word: str, some: list[tuple[Comparison, int, Difference]]) -> str:
    digits = decimals(group)
    c, length, d = max(some, key=lambda x: abs(x[2].value))
    change = f"{signed(d.value, digits)} ({difference_interval(d, digits)})"
    return f"; greatest {word}: {_name(group, c.entry)} at {length} tokens, {change}"


def _table(group: Group) -> Table:
    digits = decimals(group)
    columns = {length: _measured(group, length, group.entries) for length in group.lengths}
    front = {length: _front(group, length, values) for length, values in columns.items() if len(values) > 1}
    rows = []
    for entry in group.entries:
        cells = [
            estimate_cell(
                values.get(entry), digits, f"{_name(group, entry)}, {length} tokens", entry in front.get(length, ())
            )
            for length, values in columns.items()
        ]
        rows.append(Row(heads(group, entry), (*cells, *_effective(group, entry))))
    end = "highest" if group.higher else "lowest"
    names = tuple(length_label(group, length) + beyond(group, length) for length in group.lengths)
    note = (
        f"Mean {group.unit} with its 95% interval, by tokens of context. Bold: the {end} at that length, and all "
        "that are not told apart from it."
    )
    if _effective(group, group.entries[0]):
        names += ("effective length",)
        note += (
            f" Effective length: up to which each score is at least {EFFECTIVE:.0%} of that at {group.lengths[0]} "
            "tokens; ≥ where it is the longest that was measured of a file."
        )
    return Table(f"{group.title}: {group.unit} overall", head_names(group), names, tuple(rows), note)


def _effective(group: Group, entry: Entry) -> tuple[TableCell, ...]:
    """A cell where scores were measured at several lengths."""
    if not group.scores or len(group.lengths) < 2:
        return ()
    length = effective_length(group, entry)
    if length is None:
        return (TableCell("–", title="no score at the shortest length, or one at the floor"),)
    measured = [at for at in group.lengths if group.get(entry, at) is not None]
    return (TableCell(f"≥ {length}" if length == measured[-1] else str(length)),)


def beyond(group: Group, length: int) -> str:
    """A mark for lengths that some file was asked for beyond its own context."""
    return " †" if any(beyond_context(r) for (_, at), r in group.cells.items() if at == length) else ""
