"""What is said of a process that dies in native code, by the one that started it (``ggufrope.supervisor``).

The file behind a child's descriptor 2 is seen by nobody before it ends: llama.cpp writes there why it aborts, as libc
and C++ do. What Python says goes to the real standard error. Between the lines of others stand notes of ours: the
file that was open, llama.cpp's latest error, what is kept.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time

__all__ = ["VARIABLE", "adopt", "last_words", "native_text", "note", "notes"]

#: Names two descriptors to a child: of the real standard error, and of a pipe that ends with its parent.
VARIABLE = "GGUFROPE_CHILD"

_MARK = "\x1e"  # ASCII's record separator
_NOTE = re.compile(f"{_MARK}(\\w+)\t(.*)\n")
_ONE_SIGNAL_SECONDS = 1.0
_child = False
_noted: dict[str, str] = {}

_ABORT = re.compile(r"^(?:\S*/)?([^/\s]+:\d+: .+)$")  # ggml_abort: the file, the line, what did not hold
_THROWN = re.compile(r"^terminate called after throwing an instance of '(.+)'$")


# --- in the child -----------------------------------------------------------------------------------------------------


def adopt(descriptors: str) -> None:
    """Be a child: speak to the real standard error, end with the parent, take a signal that comes twice as one.

    Args:
        descriptors: what ``VARIABLE`` says.
    """
    global _child  # noqa: PLW0603  # a process is a child or is not
    error, alive = map(int, descriptors.split(","))
    for descriptor in (error, alive):
        os.set_inheritable(descriptor, False)
    sys.stderr = sys.__stderr__ = open(  # type: ignore[misc]  # noqa: SIM115, PTH123  # for as long as the process lives
        error, "w", buffering=1, encoding=sys.stderr.encoding, errors=sys.stderr.errors
    )
    threading.Thread(target=_end_with, args=(alive,), daemon=True).start()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _Interrupts().receive)
    _child = True


def note(kind: str, text: str) -> None:
    """Tell the parent something that matters if this process dies; does nothing in one that has no such parent.

    Args:
        kind: ``file``: the one at work; ``log``: the error that llama.cpp logged last; ``kept``: what is not lost.
        text: one line.
    """
    if _child and _noted.get(kind) != text:
        _noted[kind] = text
        os.write(2, f"{_MARK}{kind}\t{' '.join(text.split())}\n".encode("utf-8", "surrogateescape"))


def _end_with(alive: int) -> None:
    """Wait for the parent's end, and die as it did: by a signal that it could not hand on."""
    os.read(alive, 1)
    os.kill(os.getpid(), signal.SIGKILL)


class _Interrupts:
    """Ctrl-C reaches parent and child, and the parent hands it on: the second must not disturb the cleaning up."""

    def __init__(self) -> None:
        self._last = -_ONE_SIGNAL_SECONDS

    def receive(self, _number: int, _frame: object) -> None:
        before, self._last = self._last, time.monotonic()
        if self._last - before > _ONE_SIGNAL_SECONDS:
            raise KeyboardInterrupt


# --- in the parent ----------------------------------------------------------------------------------------------------


def notes(said: str) -> dict[str, str]:
    """The last note of each kind in what a child left."""
    return dict(_NOTE.findall(said))


def native_text(said: str) -> str:
    """What others wrote to descriptor 2."""
    return _NOTE.sub("", said)


def last_words(said: str) -> str:
    """Why native code ended the process: the assertion, the exception, else the last line; empty if it said nothing."""
    lines = [line.strip() for line in native_text(said).splitlines() if line.strip()]
    for line in reversed(lines):
        if found := _ABORT.match(line):
            return found[1]
    for at, line in enumerate(lines):
        if found := _THROWN.match(line):
            what = lines[at + 1].removeprefix("what():").strip() if lines[at + 1 :] else ""
            return f"{found[1]}: {what}" if what else found[1]
    return next(iter(lines[-1:]), "")
