"""Run the declared grid, cell by cell through ``ggufrope eval``: what is measured is skipped, what is left is said."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ggufrope import __version__
from ggufrope.evals.grid import Order, plan
from ggufrope.evals.machine import runtime_facts
from ggufrope.evals.results import Result, RuntimeFacts
from ggufrope.evals.store import NAME, read_results
from ggufrope.text import counted, duration
from real_models.declared_grid import DeclaredCell, model_of
from real_models.derived_files import Workshop

__all__ = ["Settings", "eval_words", "listing", "run_pieces", "seconds_of"]

#: Tokens a second of one thread at short lengths, before anything is measured on this machine.
_SPEED = {"smollm2": 80.0, "qwen2.5-coder": 40.0, "gemma3": 120.0}
#: Tokens of context at which attention costs as much as all the rest, roughly.
_ATTENTION = 8192


@dataclass(frozen=True, slots=True)
class Settings:
    """How the grid is run.

    Attributes:
        out: directory of ``results.jsonl``.
        minutes: no cell is begun that would probably end later; None: no limit.
        threads: for ``ggufrope eval``; None: as many as there are cores.
    """

    out: Path
    minutes: float | None = None
    threads: int | None = None


def run_pieces(
    declared: Sequence[DeclaredCell], workshop: Workshop, given: Settings, say: Callable[[str], None]
) -> int:
    """Measure what is left of ``declared``, in order.

    Returns:
        How many cells are left afterwards.

    Raises:
        OutputError: too little disk for the files; said before the start.
        InputError: a model that was not fetched.
        RuntimeLibraryError: no patched llama.cpp, or a command failed; what was measured is kept.
    """
    asked = [cell for cell in declared if not cell.piece.data or workshop.holds(cell.piece.data)]
    if absent := [cell for cell in declared if cell not in asked]:
        names = ", ".join(dict.fromkeys(cell.piece.data for cell in absent))
        why = f"{workshop.data} holds no {names}, so these are left out" if workshop.data else "left out without --data"
        say(f"{why}: {counted(len(absent), 'cell')}")
    runtime = runtime_facts(threads=given.threads, flash_attn=None)
    results = lines_of(given.out)
    left = [cell for cell in asked if not _done(cell, results, workshop, runtime)]
    say(f"{len(asked) - len(left)} of {counted(len(asked), 'cell')} measured; {_left(left, results)}")
    if foreign := sum(any(cell.measured_by(r) for r in results) for cell in left):
        say(
            f"{counted(foreign, 'cell')} of these have lines of another file, version or build, which do not count "
            f"(this is {__version__} on {runtime.backend}, {runtime.fingerprint}; GGUFROPE_BACKEND chooses the build)"
        )
    workshop.require_space(cell.file for cell in left)
    start, begun = time.monotonic(), 0
    while left:
        cell = left[0]
        expected, spent = seconds_of(cell, results), time.monotonic() - start
        if given.minutes is not None and begun and spent + expected > given.minutes * 60:
            say(f"{given.minutes:g} minutes are up: {cell.name} would take about {duration(expected)}")
            break
        place = f"{len(asked) - len(left) + 1}/{len(asked)}"
        say(f"[{place}] {cell.name}: about {duration(expected)}; {_left(left, results)}")
        file = workshop.make(*cell.file)
        workshop.command(eval_words(cell, file, workshop, given))
        results, left, begun = lines_of(given.out), left[1:], begun + 1
    say(_left(left, results) + (" (the same command goes on)" if left else ""))
    return len(left)


def eval_words(cell: DeclaredCell, file: Path, workshop: Workshop, given: Settings) -> list[str]:
    """The command that measures a cell."""
    piece = cell.piece
    words = ["eval", str(file), "--task", piece.task, "--lengths", str(cell.length), "--limit", str(piece.limit)]
    words += ["--depths", ",".join(f"{depth:g}" for depth in piece.depths)] if piece.depths else []
    words += [word for name, path in _files(cell, workshop).items() for word in (f"--{name}", str(path))]
    words += [word for name, value in piece.options for word in ("--set", f"{name}={value}")]
    words += ["--kv-type", cell.kv]
    words += ["--threads", str(given.threads)] if given.threads else []
    words += ["--beyond-context"] if _beyond(cell) else []
    return [*words, "-o", str(given.out)]


def seconds_of(cell: DeclaredCell, results: Iterable[Result]) -> float:
    """How long a cell takes, by the model's lines on any machine, or else by a guess."""
    lines = [r for r in results if model_of(r) is cell.model and r.tokens.evaluated]
    work, seconds = sum(_work(r.tokens.evaluated, r.length) for r in lines), sum(r.seconds for r in lines)
    return _work(cell.tokens, cell.length) / (work / seconds if work and seconds else _SPEED[cell.model.name])


def _work(tokens: int, length: int) -> float:
    return tokens * (1 + length / _ATTENTION)


def _left(left: Sequence[DeclaredCell], results: Sequence[Result]) -> str:
    seconds = sum(seconds_of(cell, results) for cell in left)
    return f"{counted(len(left), 'cell')} left, about {duration(seconds)}" if left else "nothing is left"


def _done(cell: DeclaredCell, results: Sequence[Result], workshop: Workshop, runtime: RuntimeFacts) -> bool:
    """Whether the store has the cell, by the id that ``ggufrope eval`` gives it.

    Where its file was deleted there is no id: a line that says the same by this version and runtime counts.
    """
    lines = [r for r in results if cell.measured_by(r)]
    file = workshop.path(*cell.file)
    if not lines or not file.exists():
        return any((r.runtime.fingerprint, r.ggufrope) == (runtime.fingerprint, __version__) for r in lines)
    (planned,) = plan(_order(cell, file, workshop), runtime).cells
    return any(r.cell == planned.id for r in lines)


def _order(cell: DeclaredCell, file: Path, workshop: Workshop) -> Order:
    """What ``eval_words`` asks for."""
    piece, settings = cell.piece, {**dict(cell.piece.options), **_files(cell, workshop)}
    return Order(
        (file,), piece.task, settings, (cell.length,), piece.depths, (cell.kv,), piece.limit,
        beyond_context=_beyond(cell),
    )  # fmt: skip


def _files(cell: DeclaredCell, workshop: Workshop) -> dict[str, Path]:
    """What a task reads, by the option's name."""
    if cell.piece.data and workshop.data:
        return {"data": workshop.data / cell.piece.data}
    return {"text": workshop.text()} if not cell.piece.depths else {}


def _beyond(cell: DeclaredCell) -> bool:
    return cell.length > cell.model.trained


def listing(declared: Sequence[DeclaredCell], out: Path) -> Iterator[str]:
    """Each cell with whether a line says the same, or how long it takes; then how long each part takes."""
    results, left = lines_of(out), dict[str, float]()
    for cell in declared:
        there = any(cell.measured_by(r) for r in results)
        seconds = 0.0 if there else seconds_of(cell, results)
        left[cell.piece.part] = left.get(cell.piece.part, 0.0) + seconds
        yield f"{cell.piece.part}: {cell.name}: {'measured' if there else f'about {duration(seconds)}'}"
    for part, seconds in left.items():
        yield f"--part {part}: {f'about {duration(seconds)} left' if seconds else 'nothing is left'}"


def lines_of(out: Path) -> list[Result]:
    """What was measured so far.

    Raises:
        InputError: a line that cannot be read.
    """
    return read_results(out)[0] if (out / NAME).is_file() else []
