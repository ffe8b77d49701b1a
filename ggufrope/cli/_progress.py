"""Progress of long work: a bar on a terminal, a few plain lines elsewhere. Always on standard error."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable

import click

__all__ = ["ProgressLine", "bytes_progress"]

_WIDTH = 28
_EVERY_SECONDS = 20.0


_SMALL = 256 << 20  # copies below this are over before a bar is read


def bytes_progress() -> Callable[[int, int], None]:
    """A callback for (bytes done, bytes in all); silent for small files."""
    line = ProgressLine()

    def show(done: int, total: int) -> None:
        if total >= _SMALL:
            line(done >> 20, total >> 20, "MiB")
            if done >= total:
                line.__exit__()

    return show


class ProgressLine:
    """Shows calls of (done, total, text); use as a context manager, so that a bar is wiped away at the end."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._last = time.monotonic()
        self._shown = False

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(self, *_: object) -> None:
        self._wipe()

    def __call__(self, done: int, total: int, text: str) -> None:
        """Report ``done`` of ``total`` steps; a total of 0 announces a stage."""
        if total == 0:
            self._wipe()
            click.echo(f"{text} ...", err=True)
            self._last = time.monotonic()
        elif self._terminal:
            self._bar(done, total, text)
        elif done == total or time.monotonic() - self._last > _EVERY_SECONDS:
            click.echo(f"{done}/{total}", err=True)
            self._last = time.monotonic()

    def _bar(self, done: int, total: int, text: str) -> None:
        filled = "#" * (_WIDTH * done // total)
        line = f"[{filled:.<{_WIDTH}}] {done}/{total} {text}"
        columns = shutil.get_terminal_size().columns
        click.echo(f"\r{line[: columns - 1]:<{columns - 1}}", nl=False, err=True)
        self._shown = True

    def _wipe(self) -> None:
        if self._shown:
            click.echo(f"\r{'':<{shutil.get_terminal_size().columns - 1}}\r", nl=False, err=True)
            self._shown = False
