"""A child process for the commands that run a model: what aborts in native code ends in one line and exit code 2.

llama.cpp ends its process where something cannot be (``GGML_ASSERT``), a driver or PyTorch may crash, and the system
kills what takes too much memory. Python cannot catch any of that. So these commands run once more, in a child with the
same arguments, terminal and input; this process hands signals on and the exit code back, and reports a child that died.
Library calls stay in their process. So does ``ggufrope --debug``, for debuggers, and everything on Windows.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any

from ggufrope.last_words import VARIABLE, last_words, native_text, notes

__all__ = ["NATIVE", "supervise"]

#: Commands that run a model in process, and what of their options may keep clear of an abort.
NATIVE = {
    "validate": "--length, --kv-type or --flash-attn",
    "eval": "--lengths or --kv-type",
    "calibrate": "--lengths",
    "tune": "--length, --engine or --dtype",
    "convert": "--head-ratios, from `ggufrope calibrate` with other --lengths",
    "lm-eval": "n_ctx, kv_type or flash_attn in --model_args",
}
_HANDED_ON = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")
#: A child that one of these ended was told to, or nobody listened any more: nothing to report.
_QUIET = {*_HANDED_ON, "SIGPIPE"}


def supervise(arguments: Sequence[str]) -> int | None:
    """Run the command line in a child, if its command is one that wants it, and return the exit code; None if not.

    Args:
        arguments: of the program, which is run again as ``sys.orig_argv`` has it.
    """
    if not _wanted(arguments):
        return None
    import tempfile

    earlier = {signal.Signals[name]: signal.getsignal(signal.Signals[name]) for name in _HANDED_ON}
    with ExitStack() as closing:
        child = _Child()
        try:
            said = closing.enter_context(tempfile.TemporaryFile())
            child.start(closing, said.fileno(), earlier)
        except OSError:  # no place for a file, no standard error, no further process: then here, as from the library
            for number, handler in earlier.items():
                signal.signal(number, handler)
            for arrived in child.early:
                signal.raise_signal(arrived)
            return None
        code = child.wait()
        said.seek(0)
        text = said.read().decode("utf-8", "replace")
    return _outcome(arguments[0], code, text)


def _wanted(arguments: Sequence[str]) -> bool:
    if os.name != "posix" or not arguments or arguments[0] not in NATIVE:
        return False
    if {"-h", "--help", "--list-tasks"} & set(arguments) or list(sys.orig_argv[-len(arguments) :]) != list(arguments):
        return False
    return arguments[0] != "convert" or any(a.split("=")[0] == "--calibrate" for a in arguments)


class _Child:
    """The process that runs the command, to which signals are handed on.

    Attributes:
        early: signals that arrived before it was there.
    """

    def __init__(self) -> None:
        self._pid, self._ended = 0, False
        self.early: list[int] = []

    def start(self, closing: ExitStack, said: int, signals: Mapping[signal.Signals, Any]) -> None:
        """Run the program again, with ``said`` as its descriptor 2; ``closing`` gets what is open as long as it lives.

        Raises:
            OSError: nothing was started.
        """
        for number, handler in signals.items():
            if handler is not signal.SIG_IGN:  # as under nohup: the child ignores it as well
                signal.signal(number, self._hand_on)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # who ignores it gets no exit codes
        error, (alive, mine) = os.dup(2), os.pipe()
        for descriptor in (error, alive, mine):
            closing.callback(os.close, descriptor)
        for descriptor in (error, alive):
            os.set_inheritable(descriptor, True)
        self._pid = os.posix_spawn(
            sys.executable,
            [sys.executable, *sys.orig_argv[1:]],
            {"GGML_NO_BACKTRACE": "1", **os.environ, VARIABLE: f"{error},{alive}"},
            file_actions=[(os.POSIX_SPAWN_DUP2, said, 2)],
        )
        for arrived in self.early:
            self._hand_on(arrived, None)

    def wait(self) -> int:
        """Its exit code, negative for a signal's number."""
        status = os.waitpid(self._pid, 0)[1]
        self._ended = True  # its number may be another process's from now on
        return os.waitstatus_to_exitcode(status)

    def _hand_on(self, number: int, _frame: object) -> None:
        if not self._pid:
            self.early.append(number)
        elif not self._ended:
            with suppress(ProcessLookupError):  # it has just ended; Python may run this after waitpid had it
                os.kill(self._pid, number)


def _outcome(command: str, code: int, said: str) -> int:
    """The exit code, and on standard error what is to be said for it."""
    ended = signal.Signals(-code).name if code < 0 else ""
    if not ended or ended in _QUIET:
        _say(native_text(said))
        return code if not ended else 128 - code
    if sys.stderr.isatty():
        import shutil

        _say(f"\r{'':<{shutil.get_terminal_size().columns - 1}}\r")  # the progress that stands there
    _say(f"ggufrope: {_report(command, ended, said)}\n")
    return 2


def _report(command: str, ended: str, said: str) -> str:
    known, words = notes(said), last_words(said)
    subject = known.get("file", f"ggufrope {command}")
    if ended == "SIGKILL":
        found = "the process that ran it was killed, as systems do when memory runs out"
        remedy = f"a smaller model or context needs less ({NATIVE[command]})"
    else:
        found = f"llama.cpp stopped: {words} ({ended})" if words else f"the process that ran it ended by {ended}"
        found += f", after llama.cpp said: {known['log']}" if known.get("log") else ""
        remedy = (
            f"try another {NATIVE[command]}, and report this line; `ggufrope --debug {command} ...` ends in a debugger"
        )
    return "; ".join([f"{subject}: {found}", remedy, *([known["kept"]] if "kept" in known else [])])


def _say(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
