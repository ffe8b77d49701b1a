"""A run of ``ggufrope tune`` in a report: its curves, its verdict, and the results of its report split."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ggufrope.errors import InputError
from ggufrope.evals.result_line import from_json
from ggufrope.evals.results import Result
from ggufrope.files import read_bytes, read_json
from ggufrope.report.blocks import Block, Chart, Estimate, Panel, Points, Prose, Section, Series, Strong

__all__ = ["RUN", "TuningRun", "read_runs", "runs_section"]

#: The file in a journal.
RUN = "run.json"
_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class TuningRun:
    """A finished run: ``record`` is what ``tune --json`` prints, ``results`` those of its report split."""

    path: Path
    record: Mapping[str, Any]
    results: tuple[Result, ...]


def read_runs(paths: Sequence[Path]) -> tuple[list[TuningRun], list[Path]]:
    """Runs among ``paths`` (journals, or files that ``tune --json`` was sent to), and the paths of anything else.

    Raises:
        InputError: a run cannot be read, or is of another schema.
    """
    runs, others = [], []
    for path in paths:
        file = path / RUN if path.is_dir() else path
        if (path.is_dir() and file.is_file()) or _is_run(path):
            runs.append(_read(file))
        else:
            others.append(path)
    return runs, others


def _is_run(path: Path) -> bool:
    """Whether a file is one JSON object of a run: results are a line each."""
    if path.suffix != ".json" or not path.is_file():
        return False
    try:
        value = json.loads(read_bytes(path))
    except ValueError:
        return False
    return isinstance(value, dict) and value.get("kind") == "tune"


def _read(path: Path) -> TuningRun:
    record = read_json(path)
    if not isinstance(record, dict) or record.get("schema") != _SCHEMA or record.get("kind") != "tune":
        raise InputError(f"{path}: no run of `ggufrope tune` of schema {_SCHEMA}; give the folder of one, or omit it")
    try:
        lines = [cell["result"] for row in record["rows"] for cell in row["cells"]]
        _ = _blocks(record)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: a damaged run ({type(error).__name__}: {error}); omit it") from None
    return TuningRun(path, record, tuple(from_json(line, str(path)) for line in lines))


def runs_section(runs: Sequence[TuningRun]) -> Section:
    """The runs: what came of each, and how it went, step by step."""
    return Section("tuning", "Tuning", tuple(block for run in runs for block in _blocks(run.record)))


def _blocks(record: Mapping[str, Any]) -> list[Block]:
    curves = {space["name"]: _curves(space) for space in record["spaces"]}
    said = [_said(record), *(_of_space(space) for space in record["spaces"])]
    blocks: list[Block] = [Points(tuple(said), f"{record['request']['file']['name']}, {_tasks(record)}")]
    objective = _chart("Objective on the selection split by step", "nats, less is better", curves, 0)
    loss = _chart("Rise of the loss on plain text by step", "% of the untouched loss", curves, 1)
    return [*blocks, *(chart for chart in (objective, loss) if chart is not None)]


def _tasks(record: Mapping[str, Any]) -> str:
    request = record["request"]
    return f"tuned for {', '.join(request['for'])} at {', '.join(map(str, request['lengths']))} tokens"


def _said(record: Mapping[str, Any]) -> Prose:
    if not record["reason"]:
        return Prose((Strong("Written:"), f" {', '.join(record['written'])}, space {record['chosen']}."))
    what = "Written anyway:" if record["written"] else "Nothing better was found:"
    return Prose((Strong(what), f" {record['reason']}."))


def _of_space(space: Mapping[str, Any]) -> Prose:
    text = f" {space['engine']} engine, {space['parameters']} numbers, {len(space['steps'])} steps; {space['done']}"
    return Prose(
        (Strong(f"Space {space['name']}:"), f"{text}; the best candidate is that of step {space['best_step']}.")
    )


_Points = tuple[tuple[float, Estimate], ...]


def _curves(space: Mapping[str, Any]) -> tuple[_Points, _Points]:
    """Objective, and rise of the loss in percent, of whole candidates by step; what is not finite is omitted."""
    whole = [point for point in space["selection"] if point["scale"] == 1.0]
    found = [
        [(float(p["step"]), Estimate(float(p[name]) * factor, None, None, 1)) for p in whole if p[name] is not None]
        for name, factor in (("objective", 1.0), ("rise", 100.0))
    ]
    return tuple(found[0]), tuple(found[1])


def _chart(title: str, unit: str, curves: Mapping[str, tuple[_Points, _Points]], which: int) -> Chart | None:
    series = tuple(Series(name, style, both[which]) for style, (name, both) in enumerate(curves.items()) if both[which])
    if not series:
        return None
    last = max(x for one in series for x, _ in one.points)
    step = max(1, round(last / 5))
    ticks = tuple((float(x), str(x)) for x in range(0, int(last) + step, step))
    return Chart(title, "step", ticks, unit, (Panel("", series),), note="Each point is a whole candidate.")
