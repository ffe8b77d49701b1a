"""What a run found: its rows compared, the space that was chosen, and the verdict; for people and as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ggufrope.evals.result_line import to_json
from ggufrope.evals.results import Result
from ggufrope.report.difference import Difference
from ggufrope.tune.constraint import LossRise
from ggufrope.tune.gain import Gain, GoalGain, better_by, gain
from ggufrope.tune.report_split import GOAL, LOSS, ReportCell, ReportRow

__all__ = ["UNTOUCHED", "RowOutcome", "compare_rows", "finite", "rivals"]

UNTOUCHED = "untouched"


@dataclass(frozen=True, slots=True)
class RowOutcome:
    """A row of the report.

    Attributes:
        row: the table.
        results: one for each cell.
        changes: against the untouched file; above 0 is better. None for that itself, and where nothing is finite.
        gain: over the tasks that are tuned for; None for the untouched file.
    """

    row: ReportRow
    results: tuple[Result, ...]
    changes: tuple[Difference | None, ...]
    gain: Gain | None

    def as_json(self, cells: Sequence[ReportCell]) -> dict[str, Any]:
        """For ``run.json``."""
        told = [
            {
                "task": cell.task.name, "length": cell.length, "role": cell.role,
                "change": None if change is None else {**asdict(change), "shown": change.shown},
                "result": to_json(result),
            }
            for cell, result, change in zip(cells, self.results, self.changes, strict=True)
        ]  # fmt: skip
        return {
            "name": self.row.name, "method": self.row.method, "params": dict(self.row.params),
            "space": self.row.space, "gain": None if self.gain is None else _gain_json(self.gain), "cells": told,
        }  # fmt: skip


def compare_rows(
    rows: Sequence[ReportRow], cells: Sequence[ReportCell], found: Mapping[tuple[str, int], Result], allow: float
) -> list[RowOutcome]:
    """Each row against the first, the untouched file.

    Args:
        rows: the tables.
        cells: the tasks.
        found: what ``report_split`` gave.
        allow: the largest rise of the plain-text loss.
    """
    base = tuple(found[rows[0].name, place] for place in range(len(cells)))
    outcomes = [RowOutcome(rows[0], base, (None,) * len(cells), None)]
    for row in rows[1:]:
        results = tuple(found[row.name, place] for place in range(len(cells)))
        changes = tuple(better_by(a, b) for a, b in zip(results, base, strict=True))
        outcomes.append(RowOutcome(row, results, changes, _gain(cells, base, results, changes, allow)))
    return outcomes


def rivals(outcomes: Sequence[RowOutcome], chosen: str, more: str = "") -> list[str]:
    """What is to be said of methods that gained more than what was found, by the same rules.

    Args:
        outcomes: of the report.
        chosen: the space that was; empty for none.
        more: what stands behind such a method's name in the command that writes it.
    """
    own = next((o.gain.value for o in outcomes if o.row.space and o.row.name == chosen and o.gain), 0.0)
    said = []
    for outcome in outcomes:
        row, found = outcome.row, outcome.gain
        if found is None or row.space or found.reason or found.value <= own:
            continue
        how = f"; without a search, `ggufrope convert --method {row.method}{more}` writes it"
        said.append(
            f"{row.name} gained {found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f}) on the same texts, more "
            f"than what was found{how * (row.name == row.method)}"
        )
    return said


def finite(value: Any) -> Any:
    """``value`` for JSON: numbers that are not finite become None, all the way down."""
    if isinstance(value, Mapping):
        return {name: finite(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _gain(
    cells: Sequence[ReportCell],
    base: Sequence[Result],
    results: Sequence[Result],
    changes: Sequence[Difference | None],
    allow: float,
) -> Gain:
    parts, rises = [], []
    for cell, before, after, change in zip(cells, base, results, changes, strict=True):
        if cell.role == GOAL:
            lost = Difference(float("nan"), None, None, "independent")  # no finite value: nothing is shown
            parts.append(GoalGain(cell.task.name, cell.length, cell.weight, change or lost))
        elif cell.role == LOSS and before.mean is not None and math.isfinite(before.mean):
            loss = float("nan") if after.mean is None else after.mean
            rises.append(LossRise(cell.length, before.mean, loss, after.n))
    return gain(parts, rises, allow)


def _gain_json(found: Gain) -> dict[str, Any]:
    return {
        "value": found.value, "low": found.low, "high": found.high, "shown": found.shown,
        "loss": [{**asdict(rise), "rise": rise.share} for rise in found.rises],
        "allow": found.allow, "holds": found.holds, "reason": found.reason,
    }  # fmt: skip
