"""How many cores there are for this process."""

from __future__ import annotations

import os

__all__ = ["cores_of_process"]


def cores_of_process() -> int:
    """Cores that this process may run on: fewer than the machine's where a container or ``taskset`` limits them."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
