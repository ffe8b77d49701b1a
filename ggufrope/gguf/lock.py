"""Who may touch a file: readers together, an editor alone, and no editor while a server has it mapped.

The locks are the operating system's, on the file itself: they end with the process that holds them, whatever becomes
of it. Programs other than ggufrope do not ask for them; those that map a file are found in ``/proc``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import BinaryIO

from ..errors import GgufError
from ..files import hold

#: How long another ggufrope process is waited for. Copies of large models take longer: then better say so.
WAIT_SECONDS = 10.0


def lock(file: BinaryIO, *, alone: bool) -> None:
    """Hold a lock on an open file until it is closed, waiting for other ggufrope processes if need be.

    Args:
        file: The file.
        alone: An editor's lock, which excludes all others; otherwise a reader's.

    Raises:
        GgufError: another process held on to it for more than ``WAIT_SECONDS``.
    """
    if not hold(file, alone=alone, patience=WAIT_SECONDS):
        raise GgufError(f"{file.name}: another ggufrope process is using the file; try again when it is done")


def mapped_by(path: Path) -> list[str]:
    """Names of the running processes that have ``path`` mapped, each with its number; empty where nobody can tell.

    Only Linux tells, and only about the processes that this user may look at.
    """
    if sys.platform != "linux":
        return []
    status = path.stat()
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    # btrfs and overlays show other device numbers there; the name is right unless the file was renamed
    wanted = (f" {device} {status.st_ino} ".encode(), f" {os.path.realpath(path)}\n".encode())
    return [user for process in Path("/proc").glob("[0-9]*") if (user := _maps(process, wanted))]


def _maps(process: Path, wanted: tuple[bytes, bytes]) -> str:
    try:
        text = (process / "maps").read_bytes()
        if any(mark in text for mark in wanted):
            return f"{(process / 'comm').read_text().strip()} (process {process.name})"
    except OSError:  # it ended meanwhile, or is somebody else's
        pass
    return ""
