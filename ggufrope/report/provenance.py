"""What the numbers were measured with: files, tasks, runtimes, machines, time, and the commands to reproduce them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from ggufrope.evals.results import FileFacts, Result
from ggufrope.report.blocks import Block, Code, Points, Prose, Row, Table, TableCell
from ggufrope.report.entries import base_name, identity, parameters_text
from ggufrope.report.rerun import command_lines
from ggufrope.report.study import Group, Study, remarks, texts
from ggufrope.report.tables import percent
from ggufrope.text import counted, duration, grouped, size

__all__ = ["settings"]


def settings(study: Study) -> tuple[Block, ...]:
    """Everything a reader needs to judge the numbers or to reproduce them."""
    commands = [Prose((Code(line),)) for group in study.groups for line in command_lines(group)]
    said = tuple(Prose((remark,)) for remark in remarks(study.results))
    return (
        _files(study),
        _runs(study),
        _places(study),
        Prose(("To reproduce these results from the same files, here without their directories:",)),
        Points(tuple(dict.fromkeys(commands))),
        *((Points(said, "Remarks of the runs"),) if said else ()),
    )


def _files(study: Study) -> Table:
    files = {identity(r.file): r.file for r in study.results}
    files |= {identity(r.baseline): r.baseline for r in study.results if r.baseline}
    order = {e.file: i for g in study.groups for i, e in enumerate(g.entries)}
    rows = [
        Row((base_name(f),), _file_cells(f))
        for _, f in sorted(files.items(), key=lambda kv: order.get(kv[0], len(order)))
    ]
    columns = ("method", "parameters", "weights", "size", "context", "trained for", "header sha256", "weights sha256")
    note = "The weights' hash is of the beginning of every tensor. Full hashes are in the results file."
    return Table("Files", ("file",), columns, tuple(rows), note, words=True)


def _file_cells(file: FileFacts) -> tuple[TableCell, ...]:
    text = parameters_text(file)
    return (
        TableCell(file.method),
        TableCell(text if len(text) <= 60 else text[:59] + "…", title=text[:2000]),
        TableCell(file.quantization),
        TableCell(size(file.size)),
        TableCell(str(file.context)),
        TableCell(str(file.trained)),
        TableCell(file.header[:12], title=file.header),
        TableCell(file.weights[:12], title=file.weights),
    )


def _runs(study: Study) -> Table:
    """Tasks side by side: few columns, with more to say than fits into a row."""
    runs = [_run(group) for group in study.groups]
    rows = [Row((name,), tuple(TableCell(run[name]) for run in runs)) for name in runs[0] if any(r[name] for r in runs)]
    return Table("Tasks", ("setting",), tuple(group.title for group in study.groups), tuple(rows), words=True)


def _run(group: Group) -> dict[str, str]:
    results, one = list(group.cells.values()), group.any
    evaluated, asked = sum(r.tokens.evaluated for r in results), sum(r.tokens.asked for r in results)
    return {
        "options": options_text(one),
        "compared with": group.against,
        "lengths": ", ".join(map(str, group.lengths)),
        "depths": ", ".join(percent(d) for d in _depths(results)),
        "each cell": _each(results),
        "seed": str(one.seed),
        "KV cache": ", ".join(dict.fromkeys(e.kv_type for e in group.entries)),
        "intervals": "; ".join(dict.fromkeys(r.interval for r in results)),
        "time": duration(sum(r.seconds for r in results)),
        "tokens evaluated": grouped(evaluated) + (f" of {grouped(asked)} asked for" if asked > evaluated else ""),
    }


def _each(results: list[Result]) -> str:
    read, asked = _span(map(texts, results)), _span(r.n for r in results)
    return f"{read} texts" if asked == read else f"{asked} questions about {read} texts"


def options_text(result: Result) -> str:
    """``keys 1, values 2``; files by their names and the beginning of their hashes."""
    return ", ".join(f"{k} {_option(v)}" for k, v in result.options.items()) or "–"


def _option(value: Any) -> str:
    if isinstance(value, dict) and isinstance(value.get("name"), str):
        digest = value.get("sha256")
        return str(value["name"]) + (f" (sha256 {digest[:12]})" if isinstance(digest, str) else "")
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:59] + "…"


def _places(study: Study) -> Table:
    parts: dict[tuple[str, ...], list[Result]] = {}
    for r in study.results:
        threads = "llama.cpp's choice" if r.runtime.threads is None else str(r.runtime.threads)
        flash = {None: "llama.cpp's choice", True: "on", False: "off"}[r.runtime.flash_attn]
        machine = f"{r.machine.cpu}, {counted(r.machine.cores, 'core')}, {r.machine.os}"
        parts.setdefault((machine, r.runtime.backend, r.runtime.fingerprint, threads, flash, r.ggufrope), []).append(r)
    rows = [
        Row(
            (key[0],),
            (*map(TableCell, key[1:]), TableCell(str(len(some))), TableCell(_span_text(r.finished for r in some))),
        )
        for key, some in parts.items()
    ]
    columns = ("backend", "runtime build", "threads", "flash attention", "ggufrope", "cells", "finished")
    return Table("Machines and runtimes", ("machine",), columns, tuple(rows), words=True)


def _depths(results: Iterable[Result]) -> list[float]:
    return sorted({d.depth for r in results for d in r.by_depth or ()})


def _span(counts: Iterable[int]) -> str:
    ordered = sorted(set(counts))
    return str(ordered[0]) if len(ordered) == 1 else f"{ordered[0]} to {ordered[-1]}"


def _span_text(times: Iterable[str]) -> str:
    ordered = sorted(times)
    return ordered[0] if ordered[0] == ordered[-1] else f"{ordered[0]} to {ordered[-1]}"
