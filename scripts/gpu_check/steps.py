"""Commands with a limit in time, and the two builds."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from ggufrope.runtime.build import BuildSpec
from ggufrope.runtime.progress import compile_errors
from ggufrope.runtime.toolchain import find_tools
from ggufrope.runtime.toolkits import Toolkit, find_toolkit
from gpu_check.pack import overlay

__all__ = ["Builds", "Clock", "StepError", "build_both"]

#: Stock first; the patched build then compiles what differs.
_PROGRAMS = ("llama-bench", "llama-perplexity", "llama-quantize")
#: Kernels of flash attention are half of ggml-cuda's compile time, and no rope is in them.
_DEFINES = ("GGML_CUDA_FA=OFF", "LLAMA_BUILD_SERVER=OFF", "LLAMA_BUILD_COMMIT=gpu-check")


class StepError(Exception):
    """A step failed or took too long; one line."""


@dataclass
class Clock:
    """Seconds until the whole check must be over."""

    seconds: float
    start: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        return self.seconds - (time.monotonic() - self.start)

    def run(self, command: list[str], log: Path, limit: float = 1e9, environment: dict[str, str] | None = None) -> str:
        """Run ``command``, its output also in ``log``.

        Raises:
            StepError: It failed, or ``limit`` or the time left has passed.
        """
        name, limit = Path(command[0]).name, min(limit, self.left)
        if limit <= 1:
            raise StepError(f"{name}: no time left")
        with log.open("w") as file:
            process = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment,
                start_new_session=True,
            )  # fmt: skip
            try:
                code = process.wait(limit)
            except BaseException as error:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                if isinstance(error, subprocess.TimeoutExpired):
                    raise StepError(f"{name}: not done after {limit:.0f} s; {log}") from None
                raise
        if code != 0:
            raise StepError(f"{name}: exit status {code}: {compile_errors(log)[:300]}")
        return log.read_text(encoding="utf-8", errors="replace")


@dataclass(frozen=True)
class Builds:
    """Directories of programs, and how long each took to compile."""

    stock: Path
    patched: Path
    seconds: tuple[float, float]
    recompiled: tuple[str, ...]
    toolkit: Toolkit
    backend: str


def build_both(folder: Path, backend: str, clock: Clock, limit: float) -> Builds:
    """Compile ``folder/source``, then turn it into the patched tree and compile what differs."""
    tools, toolkit, tree = find_tools(), find_toolkit(backend), folder / "source"
    spec = BuildSpec(backend, with_tests=True, defines=_DEFINES)
    options = [f"-D{name}={value}" for name, value in spec.options(toolkit).items()]
    generator = [] if tools.ninja is None else ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={tools.ninja}"]
    configure = [str(tools.cmake), "-S", str(tree), "-B", str(folder / "build"), *generator, *options]
    environment = os.environ | dict(toolkit.environment) | {"GIT_CEILING_DIRECTORIES": str(folder)}
    start = time.monotonic()
    clock.run(configure, folder / "configure.log", 120, environment)
    jobs = str(len(os.sched_getaffinity(0)))
    compile_ = [str(tools.cmake), "--build", str(folder / "build"), "-j", jobs, "--target", *_PROGRAMS]
    clock.run(compile_, folder / "stock.log", limit, environment)
    shutil.copytree(folder / "build" / "bin", folder / "stock-bin", symlinks=True)
    middle = time.monotonic()
    recompiled = overlay(folder / "patched", tree)
    clock.run([*compile_, "test-backend-ops"], folder / "patched.log", limit - (middle - start), environment)
    seconds = middle - start, time.monotonic() - middle
    return Builds(folder / "stock-bin", folder / "build" / "bin", seconds, tuple(recompiled), toolkit, backend)
