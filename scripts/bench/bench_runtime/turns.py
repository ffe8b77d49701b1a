"""Processes that take turns, so that a ratio of their times compares moments that lie side by side."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

__all__ = ["Build", "Times", "Turns", "model_command", "rope_command"]

_HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Build:
    """Libraries of one build of llama.cpp."""

    name: str
    libraries: Path


@dataclass(frozen=True, slots=True)
class Command:
    """A program that answers lines with seconds."""

    arguments: list[str]
    environment: dict[str, str]


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of each process by its name, one for each round."""

    seconds: dict[str, list[float]]

    def __add__(self, other: Times) -> Times:
        return Times({name: [*seconds, *other.seconds.get(name, [])] for name, seconds in self.seconds.items()})

    def median(self, name: str) -> float:
        return statistics.median(self.seconds[name])

    def fastest(self, name: str) -> float:
        return min(self.seconds[name])

    def ratio(self, base: str, name: str) -> str:
        """Speed of ``name`` in units of ``base``'s: the median over rounds, and the middle half of them."""
        return _spread([a / b for a, b in zip(self.seconds[base], self.seconds[name], strict=True)])

    def slowdown(self, base: str, name: str) -> str:
        """Time of ``name`` in units of ``base``'s, likewise."""
        return _spread([b / a for a, b in zip(self.seconds[base], self.seconds[name], strict=True)])


def _spread(ratios: list[float]) -> str:
    if len(ratios) < 3:
        return f"{statistics.median(ratios):.3f}"
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return f"{middle:.3f} ({low:.3f}-{high:.3f})"


class Turns:
    """Processes that are all up, of which one works at a time; ends them when it is left."""

    def __init__(self, commands: dict[str, Command]) -> None:
        self._processes = {
            name: subprocess.Popen(
                command.arguments,
                env={**os.environ, **command.environment},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for name, command in commands.items()
        }

    def __enter__(self) -> Turns:
        for name in self._processes:
            self._answer(name)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for process in self._processes.values():
            process.communicate()  # the end of its input ends it

    def run(self, request: str, rounds: int) -> Times:
        """Let each process do ``request`` once in each round, after one round that does not count."""
        seconds: dict[str, list[float]] = {name: [] for name in self._processes}
        names = list(seconds)
        for number in range(rounds + 1):
            first = number % len(names)
            turn = names[first:] + names[:first]
            for name in turn if number % 2 else turn[::-1]:
                took = float(self._ask(name, request))
                if number:
                    seconds[name].append(took)
        return Times(seconds)

    def _ask(self, name: str, request: str) -> str:
        pipe = self._processes[name].stdin
        if pipe is not None:
            pipe.write(request + "\n")
            pipe.flush()
        return self._answer(name)

    def _answer(self, name: str) -> str:
        pipe = self._processes[name].stdout
        line = pipe.readline() if pipe is not None else ""
        if not line:
            sys.exit(f"{name}: ended with {self._processes[name].wait()}")
        return line


def model_command(
    build: Build, model: Path, threads: int, n_ctx: int, clock: str, *, scored: bool = False, reuse: bool = True
) -> Command:
    """A model to be asked for "prompt N" and "decode N"; with scores of heads, or graphs built anew for each step."""
    arguments = [sys.executable, str(_HERE / "model_process.py"), str(model), str(threads), str(n_ctx), clock]
    arguments += ["scored"] if scored else []
    # threads that spin while another process has its turn would slow that one down
    environment = {"LLAMA_CPP_LIB_PATH": str(build.libraries), "OMP_WAIT_POLICY": "passive"}
    environment |= {} if reuse else {"LLAMA_GRAPH_REUSE_DISABLE": "1"}
    return Command(arguments, environment)


def rope_command(build: Build) -> Command:
    """The op to be asked for "TOKENS HEADS DIM ROWS COUNT"."""
    return Command([sys.executable, str(_HERE / "rope_process.py"), str(build.libraries)], {})
