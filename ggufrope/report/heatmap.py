"""Heat maps of scores by depth and length, and their colours.

The scale runs from dark blue to pale yellow: lightness grows evenly, so it reads the same in grey, and blue and yellow
are the two hues that the common kinds of colour blindness leave apart. It is a line in Oklab (B. Ottosson, 2020).
"""

from __future__ import annotations

from collections.abc import Sequence

from ggufrope.report.blocks import Estimate, Map, Maps
from ggufrope.report.entries import Entry, fineness
from ggufrope.report.html import Node, h
from ggufrope.report.numbers import interval, short
from ggufrope.report.study import Group
from ggufrope.report.tables import depth_scores, percent

__all__ = ["colour", "ink", "maps", "render"]

_DARK, _LIGHT = (0.30, -0.015, -0.105), (0.955, -0.022, 0.095)
_LEGEND = 10


def maps(group: Group) -> Maps | None:
    """All maps of a group, rows by type of weights and KV cache; None where the task has no depths."""
    by_entry = {
        e: {length: depth_scores(group.cells.get((e, length))) for length in group.lengths} for e in group.entries
    }
    depths = sorted({d for of in by_entry.values() for scores in of.values() for d in scores})
    if not depths:
        return None
    rows: dict[tuple[str, str], list[Map]] = {}
    for e in sorted(by_entry, key=lambda e: (fineness(e.quantization), fineness(e.kv_type))):
        of = by_entry[e]
        cells = {(d, length): v for length, scores in of.items() for d, v in scores.items()}
        beyond = frozenset(length for length in group.lengths if length > e.context)
        rows.setdefault((e.quantization, e.kv_type), []).append(Map(e.method, cells, beyond))
    titles = _row_titles(group.entries, list(rows))
    together = tuple((title, tuple(row)) for title, row in zip(titles, rows.values(), strict=True))
    return Maps(f"{group.title} by depth and length", tuple(depths), group.lengths, together)


def _row_titles(entries: Sequence[Entry], rows: list[tuple[str, str]]) -> list[str]:
    several = len({e.kv_type for e in entries}) > 1
    return [f"{weights}, KV cache {kv}" if several else weights for weights, kv in rows]


def colour(score: float) -> tuple[int, int, int]:
    """The colour of a score from 0 to 1, as sRGB from 0 to 255; lightness grows strictly with the score."""
    at = min(1.0, max(0.0, score))
    light, a, b = (low + at * (high - low) for low, high in zip(_DARK, _LIGHT, strict=True))
    # Oklab to cone responses, their cubes to linear sRGB: the matrices of Ottosson's definition
    long = (light + 0.3963377774 * a + 0.2158037573 * b) ** 3
    middle = (light - 0.1055613458 * a - 0.0638541728 * b) ** 3
    brief = (light - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        _coded(4.0767416621 * long - 3.3077115913 * middle + 0.2309699292 * brief),
        _coded(-1.2684380046 * long + 2.6097574011 * middle - 0.3413193965 * brief),
        _coded(-0.0041960863 * long - 0.7034186147 * middle + 1.7076147010 * brief),
    )


def luminance(rgb: tuple[int, int, int]) -> float:
    """Relative luminance, 0 to 1, as WCAG 2 defines it."""
    linear = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def ink(score: float) -> str:
    """Black or white, whichever stands out more on the colour of ``score``: at least 4.5 to 1."""
    return "#000" if luminance(colour(score)) > 0.179 else "#fff"


def _coded(linear: float) -> int:
    value = 12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055
    return round(255 * min(1.0, max(0.0, value)))


def _hex(score: float) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour(score))


def render(block: Maps) -> Node:
    """All maps with their legend."""
    rows = [
        h(
            "section",
            h("h4", title),
            h("div", *(_map(block, m, title) for m in row), class_="maps"),
            class_="maprow",
        )
        for title, row in block.rows
    ]
    return h("div", h("h3", block.title), _legend(), *rows, class_="heat")


def _legend() -> Node:
    swatches = [h("span", style=f"background:{_hex(i / _LEGEND)}") for i in range(_LEGEND + 1)]
    return h(
        "div",
        h("span", "score 0"),
        h("span", *swatches, class_="scale", role="img", aria_label="colours from 0, dark, to 1, light"),
        h("span", "1"),
        class_="legend",
    )


def _map(block: Maps, one: Map, row: str) -> Node:
    head = h("tr", h("th", "depth", scope="col"), *(_length(one, length) for length in block.lengths))
    lines = [
        h(
            "tr",
            h("th", percent(d), scope="row"),
            *(_cell(one.cells.get((d, length)), d, length) for length in block.lengths),
        )
        for d in block.depths
    ]
    caption = h("caption", one.title, h("span", f", {row}", class_="unseen"))
    return h("table", caption, h("thead", head), h("tbody", *lines), class_="map")


def _length(one: Map, length: int) -> Node:
    if length in one.beyond:
        return h("th", f"{length}†", scope="col", title="beyond the context that the file claims")
    return h("th", str(length), scope="col")


def _cell(value: Estimate | None, depth: float, length: int) -> Node:
    if value is None:
        return h("td", "–", class_="none", title=f"depth {percent(depth)}, {length} tokens: not measured")
    where = f"depth {percent(depth)}, {length} tokens: {value.value:.3f}"
    bounds = f", 95% interval {interval(value, 3)}" if value.low is not None else ""
    style = f"background:{_hex(value.value)};color:{ink(value.value)}"
    return h("td", short(value.value), style=style, title=f"{where}{bounds}, n = {value.n}")
