"""Charts as SVG. Lines differ in colour, dashes and markers: any one of the three would do."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby

from ggufrope.report.blocks import Chart, Estimate, Panel, Series
from ggufrope.report.html import Node, h
from ggufrope.report.numbers import interval, plain

__all__ = ["MARKERS", "PANEL", "nice_ticks", "panel_of", "render", "samples"]

PANEL = _WIDTH, _HEIGHT = 380.0, 236.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 10.0, 32.0, 38.0
_MOST_TICKS = 6
_DODGE = 2.6  # between neighbouring series, so that intervals do not hide each other
#: Outlines of markers around (0, 0), in the order of styles; the style modulo their number counts.
MARKERS = (
    "M-3.6 0A3.6 3.6 0 1 0 3.6 0A3.6 3.6 0 1 0 -3.6 0Z",  # circle
    "M-3.3 -3.3H3.3V3.3H-3.3Z",  # square
    "M0 -4.2L4 3H-4Z",  # triangle
    "M0 -4.6L4.6 0L0 4.6L-4.6 0Z",  # diamond
    "M0 4.2L4 -3H-4Z",  # triangle, point down
    "M-3.4 -3.4L3.4 3.4M-3.4 3.4L3.4 -3.4",  # cross
    "M-4.4 0H4.4M0 -4.4V4.4",  # plus
)
_DASHES = (None, "7 3", "2 2.5", "9 3 2 3", "12 3", "5 2 1 2 1 2")


@dataclass(frozen=True, slots=True)
class _Frame:
    """How values become places in a panel."""

    x: Callable[[float], float]
    y: Callable[[float], float]


def render(chart: Chart) -> Node:
    """Title, legend, panels and note."""
    legend = h("ul", *(h("li", sample, label) for label, sample in samples(chart)), class_="key")
    rows = [
        h("div", *(panel_of(chart, panel) for panel in row), class_="panels")
        for _, row in groupby(chart.panels, key=lambda panel: panel.row)
    ]
    note = f"Bars are 95% intervals. {chart.note}".strip()
    return h("figure", h("h3", chart.title), legend, *rows, h("figcaption", note), class_="chart")


def samples(chart: Chart) -> list[tuple[str, Node]]:
    """Each line's label with a piece of it, in the order of styles."""
    styles = {s.label: s.style for panel in chart.panels for s in panel.series}
    return [(label, _sample(style)) for label, style in sorted(styles.items(), key=lambda s: s[1])]


def _range(chart: Chart) -> tuple[float, float]:
    """What all points and intervals need, and a little more."""
    values = [v for panel in chart.panels for s in panel.series for _, v in s.points]
    low = min(v.value if v.low is None else v.low for v in values)
    high = max(v.value if v.high is None else v.high for v in values)
    if chart.log_y:
        return low / 1.2, high * 1.2
    room = (high - low or abs(high) or 1.0) * 0.05
    return (0.0 if 0 <= low < room * 4 else low - room), high + room


def panel_of(chart: Chart, panel: Panel) -> Node:
    """One plot, as wide and high as ``PANEL`` says, with the axes of the whole chart."""
    low, high = chart.bounds or _range(chart)
    frame = _frame(chart, panel, low, high)
    middle = (len(panel.series) - 1) / 2
    parts = [h("text", panel.title, x=_LEFT, y=14, class_="title"), *_grid(chart, panel, frame, low, high)]
    for place, series in enumerate(panel.series):
        parts.append(_line(series, frame, (place - middle) * _DODGE))
    name = f"{chart.title}, {panel.title}: the same numbers are in a table"
    return h("svg", *parts, viewBox=f"0 0 {_WIDTH:g} {_HEIGHT:g}", role="img", aria_label=name)


def _frame(chart: Chart, panel: Panel, low: float, high: float) -> _Frame:
    left, right = _span(chart, panel)
    ways = (math.log if chart.log_x else float), (math.log if chart.log_y else float)
    wide, tall = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    margin = 12.0

    def x(value: float) -> float:
        share = (ways[0](value) - ways[0](left)) / (ways[0](right) - ways[0](left) or 1)
        return _LEFT + margin + share * (wide - 2 * margin)

    def y(value: float) -> float:
        inside = min(max(value, low), high)
        return _TOP + tall * (1 - (ways[1](inside) - ways[1](low)) / (ways[1](high) - ways[1](low) or 1))

    return _Frame(x, y)


def _span(chart: Chart, panel: Panel) -> tuple[float, float]:
    """Least and greatest x."""
    return chart.ticks[0][0], chart.ticks[-1][0] if panel.end is None else panel.end


def _grid(chart: Chart, panel: Panel, frame: _Frame, low: float, high: float) -> Iterator[Node]:
    floor, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    for value, label in _y_ticks(chart, low, high):
        y = frame.y(value)
        yield h("path", d=f"M{_LEFT:g} {y:.1f}H{right:g}", class_="grid")
        yield h("text", label, x=_LEFT - 5, y=round(y + 3.5, 1), class_="tick", text_anchor="end")
    left, last = _span(chart, panel)
    for value, label in chart.ticks:
        if left <= value <= last:
            yield h("text", label, x=round(frame.x(value), 1), y=floor + 14, class_="tick", text_anchor="middle")
    yield h("path", d=f"M{_LEFT:g} {floor:g}H{right:g}", class_="axis")
    yield h("text", chart.x, x=(_LEFT + right) / 2, y=_HEIGHT - 6, class_="name", text_anchor="middle")
    yield h("text", chart.y, x=12, y=(_TOP + floor) / 2, class_="name", text_anchor="middle",
            transform=f"rotate(-90 12 {(_TOP + floor) / 2:g})")  # fmt: skip
    if panel.mark and left < panel.mark[0] < last:
        x = frame.x(panel.mark[0])
        yield h("path", d=f"M{x:.1f} {_TOP:g}V{floor:g}", class_="mark")
        yield h("text", panel.mark[1], x=round(x + 4, 1), y=floor - 5, class_="tick")


def _y_ticks(chart: Chart, low: float, high: float) -> list[tuple[float, str]]:
    if chart.bounds == (0.0, 1.0):
        return [(i / 4, f"{i / 4:g}") for i in range(5)]
    if chart.log_y:
        first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
        powers = [10.0**p for p in range(first, last + 1, 1 + (last - first) // _MOST_TICKS)]
        return [(p, f"{p:g}") for p in powers] or [(v, f"{v:.2g}") for v in (low, high)]
    return nice_ticks(low, high)


def nice_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Four to eight round values between ``low`` and ``high``, with as many digits as they need."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= rough)
    digits = max(0, -math.floor(math.log10(step)) + (step / 10 ** math.floor(math.log10(step)) == 2.5))
    values = [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return [(v, plain(v, digits)) for v in values]


def _line(series: Series, frame: _Frame, dodge: float) -> Node:
    places = [(frame.x(at) + dodge, v) for at, v in series.points]
    path = "M" + "L".join(f"{x:.1f} {frame.y(v.value):.1f}" for x, v in places)
    bars = "".join(
        f"M{x:.1f} {frame.y(v.low):.1f}V{frame.y(v.high):.1f}"
        for x, v in places
        if v.low is not None and v.high is not None
    )
    return h(
        "g",
        h("path", d=bars, class_="bar") if bars else None,
        h("path", d=path, class_="line", stroke_dasharray=_dash(series.style)),
        *(_point(series, x, frame.y(v.value), v) for x, v in places),
        class_=f"s{series.style % 8}",
    )


def _point(series: Series, x: float, y: float, value: Estimate) -> Node:
    digits = 3 if abs(value.value) >= 0.01 or not value.value else -3
    bounds = f" ({interval(value, digits)})" if value.low is not None else ""
    said = h("title", f"{series.label}: {plain(value.value, digits)}{bounds}, n = {value.n}")
    return h(
        "path", said, d=MARKERS[series.style % len(MARKERS)], class_="dot", transform=f"translate({x:.1f} {y:.1f})"
    )


def _dash(style: int) -> str | None:
    return _DASHES[style % len(_DASHES)]


def _sample(style: int) -> Node:
    """A piece of line for the legend."""
    return h(
        "svg",
        h("path", d="M1 7H41", class_="line", stroke_dasharray=_dash(style)),
        h("path", d=MARKERS[style % len(MARKERS)], class_="dot", transform="translate(21 7)"),
        viewBox="0 0 42 14", class_=f"sample s{style % 8}", aria_hidden="true",
    )  # fmt: skip
