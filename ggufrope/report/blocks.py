"""What a report consists of, before it is HTML or Markdown: both are written from these, so both say the same."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = [
    "Block",
    "Chart",
    "Code",
    "Document",
    "Estimate",
    "Map",
    "Maps",
    "Panel",
    "Points",
    "Prose",
    "Row",
    "Section",
    "Series",
    "Strong",
    "Table",
    "TableCell",
]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean of ``n`` measurements with its 95% interval; None where there were too few for one."""

    value: float
    low: float | None
    high: float | None
    n: int

    def overlaps(self, other: Estimate) -> bool:
        """Whether the two intervals have a point in common; without an interval nothing is told apart."""
        if self.low is None or self.high is None or other.low is None or other.high is None:
            return True
        return self.low <= other.high and other.low <= self.high


class Strong(str):
    """Text that stands out."""

    __slots__ = ()


class Code(str):
    """A name or command, to be taken letter by letter."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Prose:
    """A paragraph: plain text, ``Strong`` and ``Code`` in order."""

    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Points:
    """A list, with a title or none."""

    items: tuple[Prose, ...]
    title: str = ""


@dataclass(frozen=True, slots=True)
class TableCell:
    """One value in a table.

    Attributes:
        text: the value itself.
        detail: in smaller type beside it, such as its interval.
        title: what a tooltip adds.
        strong: whether the value stands out; in a stacked table, its detail.
    """

    text: str
    detail: str = ""
    title: str = ""
    strong: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: as many ``heads`` and ``cells`` as the table names."""

    heads: tuple[str, ...]
    cells: tuple[TableCell, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under columns.

    Attributes:
        title: what it shows, in a few words.
        heads: names of the columns that say what a row is about.
        columns: names of the columns with values.
        rows: its lines; neighbours with the same head share one cell in HTML.
        note: how to read it.
        folded: whether it is there for those who look for it.
        words: whether its values are words, set to the left.
        stacked: whether details stand below the values, not beside them.
    """

    title: str
    heads: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    note: str = ""
    folded: bool = False
    words: bool = False
    stacked: bool = False


@dataclass(frozen=True, slots=True)
class Map:
    """Scores of one file by depth and length.

    Attributes:
        title: what is alike in its row of maps is left out.
        cells: ``(depth, length)`` to score.
        beyond: lengths beyond the context that the file claims.
    """

    title: str
    cells: dict[tuple[float, int], Estimate]
    beyond: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Maps:
    """Small multiples: rows of maps under their titles, all with the same depths and lengths."""

    title: str
    depths: tuple[float, ...]
    lengths: tuple[int, ...]
    rows: tuple[tuple[str, tuple[Map, ...]], ...]


@dataclass(frozen=True, slots=True)
class Series:
    """A line: ``points`` are ``(x, estimate)``; ``style`` is the same for the same method all over the page."""

    label: str
    style: int
    points: tuple[tuple[float, Estimate], ...]


@dataclass(frozen=True, slots=True)
class Panel:
    """One of a chart's plots.

    Attributes:
        title: what tells it from the chart's others.
        series: its lines.
        mark: where a vertical line stands, with its label.
        end: greatest x, if not the last tick.
        row: panels with the same name stand side by side.
    """

    title: str
    series: tuple[Series, ...]
    mark: tuple[float, str] | None = None
    end: float | None = None
    row: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """Plots that share their axes.

    Attributes:
        title: what it shows.
        x: name of the axis.
        ticks: of x with their labels; a panel shows those within its own range.
        y: name of the axis.
        bounds: least and greatest y; None takes them from the data.
        log_x: whether doubling x is a step of the same width everywhere.
        log_y: likewise for y.
        panels: the plots.
        note: how to read it.
    """

    title: str
    x: str
    ticks: tuple[tuple[float, str], ...]
    y: str
    panels: tuple[Panel, ...]
    bounds: tuple[float, float] | None = None
    log_x: bool = False
    log_y: bool = False
    note: str = ""


Block = Prose | Points | Table | Maps | Chart


@dataclass(frozen=True, slots=True)
class Section:
    """A chapter; ``name`` is its anchor."""

    name: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """The report: ``lead`` says in a line what was measured, ``notes`` what a reader has to know first."""

    title: str
    lead: Prose
    notes: tuple[Prose, ...] = ()
    sections: tuple[Section, ...] = field(default=())
