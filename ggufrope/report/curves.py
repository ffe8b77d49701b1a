"""What the charts show: values by length, by depth and by position, one line a method."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ggufrope.report.answer import length_label
from ggufrope.report.blocks import Chart, Estimate, Panel, Series
from ggufrope.report.entries import Entry, fineness
from ggufrope.report.study import Group
from ggufrope.report.tables import depth_scores, percent, position_means

__all__ = ["charts"]

Points = Sequence[tuple[float, Estimate]]
_LOG_FROM = 30.0  # a greater range than this between values above zero is drawn by factors
_SCORES = (0.0, 1.0)


def charts(group: Group) -> list[Chart]:
    """All charts that the group's results allow."""
    if group.scores:
        return [*_by_length(group), *_by_depth(group)]
    return [*_by_length(group), *_by_position(group)]


def _by_length(group: Group) -> Iterator[Chart]:
    if len(group.lengths) < 2:
        return
    points = {
        e: [(float(length), v) for length in group.lengths if (v := group.get(e, length)) is not None]
        for e in group.entries
    }
    panels = [Panel(title, _series(group, some, points.get), _trained(group)) for title, some in _kinds(group)]
    ticks = tuple((float(length), str(length)) for length in group.lengths)
    values = [v for of in points.values() for _, v in of]
    yield Chart(
        f"{group.title} by length", "tokens", ticks, group.unit, tuple(panels), _bounds(group),
        log_x=True, log_y=_by_factors(group, values),
    )  # fmt: skip


def _by_depth(group: Group) -> Iterator[Chart]:
    panels = []
    for title, some in _kinds(group):
        for length in group.lengths:
            points = {e: sorted(depth_scores(group.cells.get((e, length))).items()) for e in some}
            if any(points.values()):
                label = f"{length_label(group, length)}{f', {title}' if title else ''}"
                panels.append(Panel(label, _series(group, some, points.get), row=title))
    if panels:
        ticks = tuple((d / 4, percent(d / 4)) for d in range(5))
        note = "0% is the start of the text, 100% its end, next to the question."
        yield Chart(
            f"{group.title} by depth", "depth of the answer", ticks, group.unit, tuple(panels), _SCORES, note=note
        )


def _by_position(group: Group) -> Iterator[Chart]:
    panels, values = [], []
    for title, some in _kinds(group):
        for length in group.lengths:
            means = {e: position_means(group.cells.get((e, length))) for e in some}
            points = {e: [((start + end) / 2, v) for (start, end), v in sorted(of.items())] for e, of in means.items()}
            if any(points.values()):
                label = f"texts of {length_label(group, length)}{f', {title}' if title else ''}"
                panels.append(Panel(label, _series(group, some, points.get), _trained(group), float(length), title))
                values += [v for of in points.values() for _, v in of]
    if panels:
        note = "Points stand at the middle of the range of positions that they are a mean over."
        ticks = tuple((float(t), str(t)) for t in _round_positions(max(group.lengths)))
        yield Chart(
            f"{group.title} by position", "position in the text, tokens", ticks, group.unit, tuple(panels),
            log_y=_by_factors(group, values), note=note,
        )  # fmt: skip


def _kinds(group: Group) -> list[tuple[str, list[Entry]]]:
    """Entries by type of weights and KV cache: a panel compares methods, nothing else."""
    kinds: dict[tuple[str, str], list[Entry]] = {}
    for e in sorted(group.entries, key=lambda e: (fineness(e.quantization), fineness(e.kv_type))):
        kinds.setdefault((e.quantization, e.kv_type), []).append(e)
    several = len({kv for _, kv in kinds}) > 1
    return [(f"{weights}, KV {kv}" if several else weights, some) for (weights, kv), some in kinds.items()]


def _series(group: Group, some: Sequence[Entry], points: Callable[[Entry], Points | None]) -> tuple[Series, ...]:
    methods = list(dict.fromkeys(e.method for e in group.entries))
    return tuple(Series(e.method, methods.index(e.method), tuple(points(e) or ())) for e in some if points(e))


def _trained(group: Group) -> tuple[float, str] | None:
    return (float(group.trained), "trained") if group.trained else None


def _bounds(group: Group) -> tuple[float, float] | None:
    return _SCORES if group.scores else None


def _by_factors(group: Group, values: Sequence[Estimate]) -> bool:
    lowest = [v.value if v.low is None else v.low for v in values]
    greatest = max((v.value for v in values), default=0.0)
    return not group.scores and min(lowest, default=0.0) > 0 and greatest / min(lowest) > _LOG_FROM


def _round_positions(longest: int) -> list[int]:
    """Four or five ticks at multiples of a power of two."""
    step = 1
    while longest / step > 4:
        step *= 2
    return list(range(0, longest + 1, step))
