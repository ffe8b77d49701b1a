"""llama.cpp's log, kept instead of printed, because its Python bindings only say "Failed to load model"."""

from __future__ import annotations

import ctypes
import re
import sys
from collections import deque
from typing import Any

from ggufrope.last_words import note

__all__ = ["LibraryLog"]

_ERROR, _CONTINUED = 4, 5  # enum ggml_log_level
_PREFIX = re.compile(r"^[\w:~]+: (error loading model: )?")


class LibraryLog:
    """Receives a library's log lines: keeps the errors of late, and prints everything while ``verbose``."""

    def __init__(self, bindings: Any) -> None:
        """Take over the log of ``bindings`` (the ``llama_cpp`` module) for as long as this object lives."""
        self.verbose = False
        self._errors: deque[str] = deque(maxlen=32)
        self._level = 0
        self._callback = bindings.llama_log_callback(self._receive)
        bindings.llama_log_set(self._callback, ctypes.c_void_p(0))

    def clear(self) -> None:
        """Forget the errors so far."""
        self._errors.clear()
        note("log", "")

    def reason(self) -> str:
        """The most telling error since ``clear``: the line about our keys, else the first; empty when there is none."""
        lines = [_PREFIX.sub("", line).strip() for line in "".join(self._errors).splitlines() if line.strip()]
        about_keys = [line for line in lines if "ggufrope" in line]
        return next(iter([*about_keys, *lines]), "")

    def _receive(self, level: int, text: bytes, _data: Any) -> None:
        self._level = self._level if level == _CONTINUED else level
        line = text.decode("utf-8", errors="replace")
        if self._level == _ERROR:
            self._errors.append(line)
            note("log", line)
        if self.verbose:
            sys.stderr.write(line)
