"""What to say where other programs keep the cores busy that a command would use."""

from __future__ import annotations

import os

from ggufrope.runtime.cores import cores_of_process

__all__ = ["load_note"]


def load_note(threads: int | None) -> str:
    """A note on a busy machine, for whoever did not choose a number of threads; empty where nothing is to be said.

    Threads meet hundreds of times in each token. With one of them waiting for a core, all others wait for it.

    Args:
        threads: as the user gave it; None: as many as there are cores.
    """
    cores = cores_of_process()
    try:
        load = os.getloadavg()[0]
    except (AttributeError, OSError):  # Windows has none
        return ""
    others = round(load * cores / max(cores, os.cpu_count() or 1))  # the load is that of all cores
    free = max(1, cores - others)
    if threads is not None or free == cores:
        return ""
    return (
        f"the machine is busy (load average {load:.1f}, {cores} cores): --threads {free} is often faster there than "
        f"{cores} threads, which wait for each other"
    )
