"""A report as one HTML page: no scripts, nothing fetched, readable on paper, in the dark and on a phone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import resources
from itertools import groupby

from ggufrope.report import heatmap, svg
from ggufrope.report.blocks import (
    Block,
    Chart,
    Code,
    Document,
    Maps,
    Points,
    Prose,
    Row,
    Section,
    Strong,
    Table,
    TableCell,
)
from ggufrope.report.html import Node, h, text_of

__all__ = ["page"]

# a page is a file: it needs nothing from anywhere, and the browser holds it to that
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_NEW_PAGE = {"maps", "differences", "settings"}  # on paper


def page(document: Document, made_by: str) -> str:
    """The whole file; ``made_by`` stands at its foot."""
    head = h(
        "head",
        h("meta", charset="utf-8"),
        h("meta", name="viewport", content="width=device-width, initial-scale=1"),
        h("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        h("title", document.title),
        h("style", resources.files("ggufrope.report").joinpath("page.css").read_text(encoding="utf-8")),
    )
    links = (h("li", h("a", s.title, href=f"#{s.name}")) for s in document.sections)
    top = h(
        "header",
        h("h1", document.title),
        _prose(document.lead, "lead"),
        h("div", *map(_prose, document.notes), class_="notes", role="note") if document.notes else None,
        h("nav", h("ul", *links), aria_label="Sections"),
    )
    body = h("body", top, h("main", *map(_section, document.sections)), h("footer", made_by))
    return "<!DOCTYPE html>\n" + text_of(h("html", head, body, lang="en")) + "\n"


def _section(section: Section) -> Node:
    blocks = (node for block in section.blocks for node in _block(block))
    where = "paper" if section.name in _NEW_PAGE else None
    return h("section", h("h2", section.title), *blocks, id=section.name, class_=where)


def _block(block: Block) -> Iterator[Node]:
    match block:
        case Prose():
            yield _prose(block)
        case Points():
            if block.title:
                yield h("h3", block.title)
            yield h("ul", *(h("li", *_parts(item)) for item in block.items), class_="points")
        case Table():
            yield from _table(block)
        case Maps():
            yield heatmap.render(block)
        case Chart():
            yield svg.render(block)


def _prose(prose: Prose, class_: str | None = None) -> Node:
    return h("p", *_parts(prose), class_=class_)


def _parts(prose: Prose) -> Iterator[Node | str]:
    for part in prose.parts:
        tag = "strong" if isinstance(part, Strong) else "code" if isinstance(part, Code) else None
        text = part if tag == "code" else _together(part)
        yield h(tag, text) if tag else text


def _together(text: str) -> str:
    """Keep ``yarn × 4`` and ``0.1–0.2`` on one line."""
    return re.sub(r"(?<=\d)–(?=\d)", "–\u2060", text.replace(" × ", "\u00a0×\u00a0"))


def _table(table: Table) -> Iterator[Node]:
    wide = 2 if _in_two(table) else None
    columns = (h("th", name, scope="col", class_="n", colspan=wide) for name in table.columns)
    head = h("tr", *(h("th", name, scope="col") for name in table.heads), *columns)
    bodies = [h("tbody", *_lines(list(rows), table)) for _, rows in groupby(table.rows, key=lambda row: row.heads[0])]
    if table.words:  # a row is a thing of its own there
        bodies = [h("tbody", *(line for row in table.rows for line in _lines([row], table)))]
    caption = h("caption", table.title, class_="unseen")
    grid = h("table", caption, h("thead", head), *bodies, class_="data words" if table.words else "data numbers")
    scroll = h("div", grid, class_="scroll", tabindex="0", role="region", aria_label=table.title)
    note = h("p", table.note, class_="note") if table.note else None
    if table.folded:
        yield h("details", h("summary", table.title), scroll, note)
        return
    yield h("h3", table.title)
    yield scroll
    if note is not None:
        yield note


def _in_two(table: Table) -> bool:
    """Whether values and their details have a column each, so that both are aligned."""
    return not table.stacked and any(cell.detail for row in table.rows for cell in row.cells)


def _lines(rows: list[Row], table: Table) -> Iterator[Node]:
    """Rows of one body, which share their first head."""
    for place, row in enumerate(rows):
        first = h("th", row.heads[0], scope="rowgroup", rowspan=len(rows) if len(rows) > 1 else None, class_="first")
        others = (h("th", name, scope="row") for name in row.heads[1:])
        cells = (part for cell in row.cells for part in _cell(cell, table))
        yield h("tr", first if place == 0 else None, *others, *cells)


def _cell(cell: TableCell, table: Table) -> Iterator[Node]:
    text, detail = (
        _strong(cell.text, cell.strong and not table.stacked),
        _strong(cell.detail, cell.strong and table.stacked),
    )
    small, title = h("small", detail) if cell.detail else None, cell.title or None
    if _in_two(table):
        yield h("td", text, class_="value", title=title)
        yield h("td", small, class_="detail", title=title)
    else:
        yield h("td", text, " " if small is not None else None, small, title=title)


def _strong(text: str, strong: bool) -> Node | str:
    return h("b", text) if strong else text
