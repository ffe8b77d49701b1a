"""Where and on what build it ran. No names of hosts, people or directories: results are meant to be shown."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from pathlib import Path

from ggufrope.evals.results import MachineFacts, RuntimeFacts
from ggufrope.runtime.cores import cores_of_process
from ggufrope.runtime.locate import Runtime, locate

__all__ = ["machine", "runtime_facts"]


def machine() -> MachineFacts:
    """The processor, how many of its cores this process may use, and the operating system."""
    return MachineFacts(_cpu(), cores_of_process(), f"{platform.system()} {platform.machine()}")


def runtime_facts(*, threads: int | None, flash_attn: bool | None) -> RuntimeFacts:
    """The build that ``locate`` finds.

    Raises:
        RuntimeLibraryError: there is none.
    """
    runtime = locate()
    return RuntimeFacts(runtime.backend, fingerprint(runtime), threads, flash_attn)


def fingerprint(runtime: Runtime) -> str:
    """Of the code that computes: commit, patches, backend, cmake entries; of an unknown build, the library's bytes."""
    if not runtime.source:
        return hashlib.sha256(runtime.library.read_bytes()).hexdigest()[:16]
    facts = [runtime.pin, runtime.source, runtime.patches, runtime.backend, *runtime.defines]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _cpu() -> str:
    if sys.platform == "linux":
        try:
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
                if line.lower().startswith(("model name", "hardware")):
                    return " ".join(line.partition(":")[2].split())
        except OSError:
            pass
    return platform.processor() or platform.machine() or "unknown"
