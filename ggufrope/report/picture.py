"""One plot as an SVG file of its own, with its legend: for a README, or a slide."""

from __future__ import annotations

import re
from importlib import resources

from ggufrope.report.blocks import Chart
from ggufrope.report.html import h, text_of
from ggufrope.report.svg import PANEL, panel_of, samples

__all__ = ["picture"]

_MARGIN, _LINE = 10.0, 18.0
_SAMPLE, _LETTER = 48.0, 6.2  # widths: of a piece of line, and about of a letter
_RULES = re.compile(r"^(?:svg |\.(?:grid|axis|mark|line|bar|dot|tick|name|title|s\d)\b).*$", re.M)


def picture(chart: Chart) -> str:
    """The first panel of ``chart`` with its title and legend, in the page's colours, light or dark as the reader's."""
    wide, high = PANEL
    legend = samples(chart)
    words = _SAMPLE + _LETTER * max(len(label) for label, _ in legend)
    size = (wide + words + 2 * _MARGIN, max(high, _LINE * (len(legend) + 2)) + 2 * _MARGIN + _LINE)
    keys = []
    for place, (label, sample) in enumerate(legend):
        x, y = wide + 2 * _MARGIN, _MARGIN + _LINE * (place + 2.5)
        sample.attrib |= {"x": f"{x:g}", "y": f"{y - 11:g}", "width": "42", "height": "14"}
        keys += [sample, h("text", label, x=x + _SAMPLE, y=y, class_="name")]
    panel = panel_of(chart, chart.panels[0])
    panel.attrib |= {"x": f"{_MARGIN:g}", "y": f"{_MARGIN + _LINE:g}", "width": f"{wide:g}", "height": f"{high:g}"}
    root = h(
        "svg",
        h("style", _style()),
        h("rect", width="100%", height="100%", class_="ground"),
        h("text", chart.title, x=_MARGIN, y=_MARGIN + 12, class_="title"),
        panel, *keys,
        xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {size[0]:g} {size[1]:g}", width=size[0], height=size[1],
        role="img", aria_label=chart.title,
    )  # fmt: skip
    return text_of(root) + "\n"


def _style() -> str:
    """The page's colours, and its rules for charts."""
    css = resources.files("ggufrope.report").joinpath("page.css").read_text(encoding="utf-8")
    colours = css[css.index(":root") : css.index("\n\n* {")]
    own = ".ground { fill: var(--ground); }\ntext { font: 11px sans-serif; fill: var(--ink); stroke: none; }"
    return "\n".join([colours, own, *_RULES.findall(css)])
