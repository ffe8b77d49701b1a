"""``ggufrope/planning/measured.py``: figures from the tables on our pages that our own programs measured."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TRAINED = 512  # tokens, both models
Table = dict[str, dict[int, float]]
HEAD = '''"""Figures that this project measured itself, by row and length in tokens.

Written by ``scripts/docs`` from the tables in docs/length.md and models/demo/README.md; change those, not this.
"""

from __future__ import annotations

__all__ = ["DEMO_FACTS", "DEMO_LOSS", "STORIES_LOSS"]
'''


def module() -> str:
    """The source of the module."""
    tables = {
        "DEMO_LOSS": ("Nats a token, demo model", _by_columns("docs/length.md", "demo model")),
        "STORIES_LOSS": ("Nats a token, stories260K", _by_columns("docs/length.md", "stories260K")),
        "DEMO_FACTS": ("Share of facts found, demo model", _by_rows("models/demo/README.md", "begin")),
    }
    return HEAD + "".join(_constant(name, about, table) for name, (about, table) in tables.items())


def _constant(name: str, about: str, table: Table) -> str:
    rows = "".join(f'    "{label}": {figures},\n' for label, figures in table.items())
    return f"\n#: {about}.\n{name}: dict[str, dict[int, float]] = {{\n{rows}}}\n"


def _by_columns(page: str, mark: str) -> Table:
    """A table with a column for each length: ``1.499 ± 0.041``."""
    head, *rows = _cells(page, mark)
    lengths = list(map(int, head[1:]))
    return {row[0]: _doublings(zip(lengths, map(_figure, row[1:]), strict=True)) for row in rows}


def _by_rows(page: str, mark: str) -> Table:
    """A table with a row for each method and length: ``0.866 (0.833-0.893)`` in its last column."""
    table: Table = {}
    _, *rows = (row for row in _cells(page, mark) if len(row) == 9)
    for row in rows:
        table.setdefault(row[0], {}).update(_doublings([(int(row[1]), _figure(row[-1]))]))
    return table


def _cells(page: str, mark: str) -> list[list[str]]:
    """The rows of all tables of a page's part between ``<!-- measured: MARK -->`` and the comment after it."""
    text = (ROOT / page).read_text(encoding="utf-8")
    part = re.search(rf"<!-- measured: {re.escape(mark)} -->\n(.*?)<!-- ", text, re.S)
    if part is None:
        raise SystemExit(f"{page}: no <!-- measured: {mark} -->; it stands before the tables that are read from there")
    lines = [line for line in part[1].splitlines() if line.startswith("|") and not line.startswith("|---")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def _figure(cell: str) -> float:
    return float(cell.split(maxsplit=1)[0])


def _doublings(figures: Iterable[tuple[int, float]]) -> dict[int, float]:
    """Those at the trained context, twice, four times, ... of it."""
    return {n: figure for n, figure in figures if n % TRAINED == 0 and (n // TRAINED).bit_count() == 1}
