"""The self-test of devices by hand: every rope case on every device of a build, compared with double precision.

The cases and the comparison are the library's (``patches/src/ggufrope-selftest.cpp``), which runs some of them before a
context rotates by several rows of factors. In a process of its own, as in ``devices.py``, for the same reasons; what
backends print there, names and drivers of chips, is kept.
"""

from __future__ import annotations

import ctypes
import json
import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ggufrope.errors import RuntimeLibraryError, UsageError
from ggufrope.runtime.declarations import Check, CheckCallback, declared
from ggufrope.runtime.locate import Runtime, library_name

__all__ = ["CaseCheck", "DeviceCheck", "check_devices"]

#: Seconds for a device; the CPU driver of Vulkan takes 6.
_LIMIT = 600.0
#: Processes for a device whose driver ends them.
_TRIES = 3


@dataclass(frozen=True, slots=True)
class CaseCheck:
    """One case on one device.

    Attributes:
        op: Such as ``rms_norm + mul + rope + set_rows``.
        mode: ``norm``, ``neox``, ``mrope``, ``imrope`` or ``vision``.
        type: ``f32``, ``f16``, or with the cache that it is written to, as in ``f32 to f16``.
        variant: Empty, ``yarn`` or ``large``.
        verdict: ``passed``; ``failed``; ``not fused``: right, but in several steps where it is one without factors;
            ``refused``: the device takes it with one row of factors only, so the CPU runs it; ``no op``: not at all.
        problem: Why nothing was computed; empty if it was.
        error: Of the value that is worst for its limit, relative to the largest value; None if it is no number.
        limit: Of that value.
        n_fused: Neighbours of the rope that were computed together with it.
    """

    op: str
    mode: str
    type: str
    variant: str
    verdict: str
    problem: str
    error: float | None
    limit: float
    n_fused: int

    @property
    def good(self) -> bool:
        """Nothing to report."""
        return self.verdict in ("passed", "no op")

    def __str__(self) -> str:
        """A line of a table in Markdown."""
        verdict = self.verdict if self.good else f"**{self.verdict}** {self.problem}".rstrip()
        numbers = ["", ""]
        if not self.problem and self.verdict != "refused":
            numbers = ["no number" if self.error is None else f"{self.error:.1e}", f"{self.limit:.1e}"]
        fused = str(self.n_fused or "")
        return f"| {' | '.join([self.op, self.mode, self.type, self.variant, *numbers, fused, verdict])} |"


@dataclass(frozen=True, slots=True)
class DeviceCheck:
    """A device with its cases.

    Attributes:
        name: As in ``--device``, such as ``CUDA0``.
        description: The chip.
        backend: ggml's name of the backend, such as ``CUDA``.
        cases: In the order in which they ran.
        problem: Why the process ended before they all had; empty if it did not.
    """

    name: str
    description: str
    backend: str
    cases: tuple[CaseCheck, ...]
    problem: str = ""

    @property
    def good(self) -> bool:
        """No case failed, was refused or not fused."""
        return not self.problem and all(case.good for case in self.cases)

    @property
    def summary(self) -> str:
        """How many of the cases that the device has ops for passed, or why nobody knows."""
        ran = [case.verdict for case in self.cases if case.verdict != "no op"]
        if not ran:
            return self.problem or "runs no ropes"
        counted = f"{ran.count('passed')} of {len(ran)} cases passed"
        return f"{counted}; {self.problem}" if self.problem else counted

    def table(self) -> str:
        """All cases that the device has ops for, as Markdown."""
        lines = [f"**{self.name}** ({self.backend}): {self.description}; {self.summary}"]
        if any(case.verdict != "no op" for case in self.cases):
            lines += ["", "| op | mode | type | | largest error | limit there | fused | |", "|" + "---|" * 8]
        lines += [str(case) for case in self.cases if case.verdict != "no op"]
        return "\n".join(lines)


def check_devices(
    runtime: Runtime, names: tuple[str, ...] = (), limit: float = _LIMIT
) -> tuple[tuple[DeviceCheck, ...], tuple[str, ...]]:
    """Run all cases on the devices ``names`` of ``runtime``, all of them if empty; ``limit`` seconds for each.

    Returns:
        The devices, and the lines that backends printed.

    Raises:
        RuntimeLibraryError: The libraries cannot be loaded here, or are not patched.
        UsageError: There is no device of that name.
    """
    listed, said = _ask(runtime, [], limit)
    if unknown := [name for name in names if name not in {device["name"] for device in listed}]:
        there = ", ".join(device["name"] for device in listed)
        raise UsageError(f"--device {unknown[0]}: {runtime.path} sees no such device; choose from {there}")
    checked, notes = [], list(said)
    for device in listed:
        if names and device["name"] not in names:
            continue
        answers, started, reason = _answers(runtime, device["name"], limit)
        if started > 1:
            notes.append(f"{device['name']}: the process that tested it ended early; started {started} times")
        cases = tuple(CaseCheck(**answer) for answer in answers if "op" in answer)
        problem = "" if answers[-1:] == [{}] else f"the process ended before all cases had run{reason}"
        checked.append(DeviceCheck(device["name"], device["description"], device["backend"], cases, problem))
    return tuple(checked), tuple(notes)


def _answers(runtime: Runtime, name: str, limit: float) -> tuple[list[dict[str, Any]], int, str]:
    """All cases of a device, how many processes that took, and why the last one answered nothing.

    One for each device, since a driver may take its process along; and another if it did so: Mesa 22.3's driver for the
    CPU dies in one of six runs, at random, where norms are computed.
    """
    started = 0
    while True:
        started += 1
        try:
            answers, reason = _ask(runtime, [name], limit)[0], ""
        except RuntimeLibraryError as error:  # before its first case; other devices are still to be tested
            answers, reason = [], f": {error}"
        wrong = any(answer and not CaseCheck(**answer).good for answer in answers)
        if started == _TRIES or wrong or answers[-1:] == [{}]:
            return answers, started, reason


def _ask(runtime: Runtime, arguments: list[str], limit: float) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """The child's lines of JSON, and its other lines."""
    command = [sys.executable, "-m", __name__, str(runtime.path), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        raise RuntimeLibraryError(
            f"{runtime.library}: no answer within {limit:.0f} s; name one device (--device) to see which it is"
        ) from None
    lines = done.stdout.splitlines()
    answers = [json.loads(line) for line in lines if line.startswith("{")]
    said = tuple(line.rstrip() for line in [*lines, *done.stderr.splitlines()] if line.strip() and line[0] != "{")
    if not answers:
        reason = said[-1].strip() if said else f"exit status {done.returncode}"
        raise RuntimeLibraryError(
            f"{runtime.library} cannot test devices: {reason}; "
            f"`ggufrope runtime build --backend {runtime.backend}` builds for this machine"
        )
    return answers, said


def _main(folder: str, name: str | None) -> None:
    """List the devices, or check one; a line of JSON for each, and an empty object at the end of a check."""
    try:
        base = ctypes.CDLL(str(Path(folder) / library_name("ggml-base")), mode=ctypes.RTLD_GLOBAL)
        ggml = ctypes.CDLL(str(Path(folder) / library_name("ggml")), mode=ctypes.RTLD_GLOBAL)
        llama = ctypes.CDLL(str(Path(folder) / library_name("llama")))
        check = declared(llama, "ggufrope_check_device")
    except (OSError, AttributeError) as error:
        raise SystemExit(str(error)) from None
    count, get = declared(ggml, "ggml_backend_dev_count"), declared(ggml, "ggml_backend_dev_get")
    facts = {
        "name": declared(base, "ggml_backend_dev_name"),
        "description": declared(base, "ggml_backend_dev_description"),
    }
    reg, reg_name = declared(base, "ggml_backend_dev_backend_reg"), declared(base, "ggml_backend_reg_name")
    for device in map(get, range(count())):
        described = {fact: ask(device).decode(errors="replace").strip() for fact, ask in facts.items()}
        if name is None:
            print(json.dumps(described | {"backend": reg_name(reg(device)).decode(errors="replace")}))
        elif described["name"] == name:
            check(device, CheckCallback(_print_case), None)
            print("{}")


def _print_case(check: Any, _: Any) -> None:
    case = {name: getattr(check.contents, name) for name, *_ in Check._fields_}
    if not math.isfinite(case["error"]):
        case["error"] = None  # JSON has no NaN
    text = {name: value.decode(errors="replace") for name, value in case.items() if isinstance(value, bytes)}
    print(json.dumps(case | text), flush=True)


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)
