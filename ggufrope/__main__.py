"""``python -m ggufrope`` and the program ``ggufrope``."""

from __future__ import annotations

import atexit
import gc
import os
import sys

from ggufrope.last_words import VARIABLE, adopt
from ggufrope.supervisor import supervise


def start() -> int:
    """Run the command line, with less tidying up of memory than Python does: a tenth of a short command's time.

    Commands that run a model do so in a child process (``ggufrope.supervisor``).
    """
    gc.set_threshold(50_000)  # what is loaded at the start stays
    atexit.register(gc.freeze)
    if descriptors := os.environ.pop(VARIABLE, ""):
        adopt(descriptors)
    elif (code := supervise(sys.argv[1:])) is not None:
        return code
    from ggufrope.cli import main

    return main()


if __name__ == "__main__":
    raise SystemExit(start())
