"""A report as Markdown for a repository's page: the same tables; heat maps and curves are tables too."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ggufrope.report.blocks import Block, Chart, Code, Document, Map, Maps, Points, Prose, Strong, Table, TableCell
from ggufrope.report.html import clean
from ggufrope.report.numbers import short
from ggufrope.report.tables import percent

__all__ = ["escaped", "in_markdown", "markdown"]

# whatever could begin markup, a link, a mention or a formula on a page of a repository; `Q4_K_M` and `50%: ` cannot
_SPECIAL = re.compile(r"([\\`*\[\]<>#|~&$@]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=www)\.)", re.I)
_LIST = re.compile(r"^(\d{0,9})([-+=.)])(?=\s)")  # at the start of a paragraph


def markdown(document: Document, made_by: str) -> str:
    """The whole file."""
    parts = [f"# {escaped(document.title)}", in_markdown(document.lead)]
    parts += [f"> {in_markdown(note)}" for note in document.notes]
    for section in document.sections:
        blocks = [text for block in section.blocks for text in _block(block)]
        parts += [f"## {escaped(section.title)}", *blocks] if blocks else []
    return "\n\n".join([*parts, f"---\n\n{escaped(made_by)}"]) + "\n"


def escaped(text: str) -> str:
    """``text`` so that it shows as it is, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(clean(text).split()))


def _block(block: Block) -> Iterator[str]:
    match block:
        case Prose():
            yield in_markdown(block)
        case Points():
            if block.title:
                yield f"### {escaped(block.title)}"
            yield "\n".join(f"- {in_markdown(item)}" for item in block.items)
        case Table():
            yield from _table(block)
        case Maps():
            yield from _maps(block)
        case Chart():
            return  # its numbers are in the tables


def in_markdown(prose: Prose) -> str:
    """A paragraph, on one line."""
    text = "".join(_part(part) for part in prose.parts).strip()
    return _LIST.sub(r"\1\\\2", text)


def _part(part: str) -> str:
    if isinstance(part, Code):
        text = " ".join(clean(part).split())
        fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
        return f"{fence} {text} {fence}" if "`" in text else f"`{text}`"
    inner = escaped(part)
    before, after = " " * part.startswith(" "), " " * (part.endswith(" ") and bool(part.strip()))
    return f"{before}**{inner}**{after}" if isinstance(part, Strong) and inner else f"{before}{inner}{after}"


def _table(table: Table) -> Iterator[str]:
    columns = [*table.heads, *table.columns]
    marks = ["---"] * len(table.heads) + (["---"] if table.words else ["--:"]) * len(table.columns)
    rows = [[*map(escaped, row.heads), *(_cell(cell, table.stacked) for cell in row.cells)] for row in table.rows]
    lines = "\n".join(_line(row) for row in (list(map(escaped, columns)), marks, *rows))
    if table.folded:
        title = clean(table.title).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        yield f"<details><summary>{title}</summary>"
        yield from (escaped(table.note), lines, "</details>")
        return
    yield f"### {escaped(table.title)}"
    yield lines
    if table.note:
        yield escaped(table.note)


def _cell(cell: TableCell, stacked: bool) -> str:
    text, detail = escaped(cell.text), escaped(cell.detail)
    if cell.strong and stacked:
        detail = f"**{detail}**"
    elif cell.strong:
        text = f"**{text}**"
    return f"{text}<br>{detail}" if detail and stacked else f"{text} ({detail})" if detail else text


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _maps(block: Maps) -> Iterator[str]:
    """One table for each length: files down, depths across."""
    yield f"### {escaped(block.title)}"
    for length in block.lengths:
        rows = [(one, title) for title, row in block.rows for one in row if any(at == length for _, at in one.cells)]
        rows.sort(key=lambda pair: _place(block, pair[0]))
        head = ["method", "weights", *(percent(d) for d in block.depths)]
        marks = ["---", "---", *["--:"] * len(block.depths)]
        lines = [_line([escaped(one.title), escaped(title), *_scores(one, block, length)]) for one, title in rows]
        yield f"Score at {length} tokens, by depth (0%: start of the text):"
        yield "\n".join([_line(head), _line(marks), *lines])


def _place(block: Maps, one: Map) -> int:
    """Methods in the order they first appear in, so that quantizations of one stand together."""
    return list(dict.fromkeys(m.title for _, row in block.rows for m in row)).index(one.title)


def _scores(one: Map, block: Maps, length: int) -> list[str]:
    values = [one.cells.get((d, length)) for d in block.depths]
    return ["–" if v is None else escaped(short(v.value)) for v in values]
