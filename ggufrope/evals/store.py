"""The file of results: one line a cell, written when the cell is done, never rewritten.

A line that was cut off by a crash is moved to a file of its own and its cell runs again. Anything else that cannot be
read is refused and left alone: it may be somebody's only copy.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from ggufrope.errors import InputError, OutputError
from ggufrope.evals.result_line import from_json, to_json
from ggufrope.evals.results import Result
from ggufrope.files import read_bytes, try_lock

__all__ = ["NAME", "Store", "read_results"]

#: The file in an output directory.
NAME = "results.jsonl"
#: Where lines go that were cut off.
TORN = "results.torn"


def read_results(path: Path) -> tuple[list[Result], bool]:
    """Every result in a file, or in the ``results.jsonl`` of a directory, and whether a line was cut off and left out.

    Raises:
        InputError: it cannot be read, or a line is no result; says which.
    """
    path = path / NAME if path.is_dir() else path
    data = read_bytes(path)
    results, good = _parse(path, data)
    return results, good < len(data)


class Store:
    """The results of one directory, held by one process at a time.

    Attributes:
        path: the file.
        results: by cell; of a cell that is there twice, the last.
        repaired: what was done about a line that was cut off, one sentence; empty if there was none.
    """

    def __init__(self, directory: Path) -> None:
        """Open or create ``directory/results.jsonl``.

        Raises:
            InputError: it holds something that is not a result; says the line. Nothing was changed.
            OutputError: it cannot be written, or another process is writing to it.
        """
        self.path = directory / NAME
        self._file = _opened(self.path)
        try:
            self._hold()
            data = self._file.read()
            results, good = _parse(self.path, data)
            self.repaired = self._set_aside(data[good:], good) if good < len(data) else ""
        except BaseException:
            self._file.close()
            raise
        self.results = {r.cell: r for r in results}

    def __enter__(self) -> Store:
        return self

    def __exit__(self, _kind: type | None, _value: BaseException | None, _trace: TracebackType | None) -> None:
        self._file.close()

    def add(self, result: Result) -> None:
        """Append one line and see it onto the disk.

        Raises:
            OutputError: that failed; lines before it are safe.
        """
        text = json.dumps(to_json(result), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        line = text.encode("utf-8", errors="backslashreplace") + b"\n"
        end, why = self._file.seek(0, os.SEEK_END), "the disk is full"
        try:
            whole = self._file.write(line) == len(line)  # unbuffered: it may take a part
            os.fsync(self._file.fileno())
        except OSError as error:
            whole, why = False, error.strerror or str(error)
        if not whole:
            self._file.truncate(end)
            raise OutputError(f"{self.path}: cannot be written ({why}); earlier lines are safe")
        self.results[result.cell] = result

    def _hold(self) -> None:
        if not try_lock(self._file):
            raise OutputError(
                f"{self.path}: another ggufrope is writing to it; wait for it, or name another directory with -o"
            )

    def _set_aside(self, torn: bytes, good: int) -> str:
        aside = self.path.with_name(TORN)
        try:
            with aside.open("ab") as file:
                file.write(torn + b"\n")
                file.flush()
                os.fsync(file.fileno())
            self._file.truncate(good)
        except OSError as error:
            raise OutputError(f"{aside}: cannot be written ({error.strerror}); {self.path} is as it was") from None
        return f"{self.path}: the last line was cut off; it was moved to {TORN}, and its cell runs again"


def _opened(path: Path) -> BinaryIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "rb+", buffering=0)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); name another directory with -o") from None


def _parse(path: Path, data: bytes) -> tuple[list[Result], int]:
    """Results, and how many bytes of ``data`` they take; what follows is the beginning of a line."""
    results: list[Result] = []
    good = 0
    for number, line in enumerate(data.split(b"\n")[:-1], 1):
        results.append(_line(line, f"{path}, line {number}"))
        good += len(line) + 1
    if not _begins_ours(data[good:]):
        _line(data[good:], f"{path}, line {len(results) + 1}")
    return results, good


def _line(line: bytes, where: str) -> Result:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{where}: not JSON ({error}); restore the file, or write to another directory with -o"
        ) from None
    return from_json(value, where)


def _begins_ours(line: bytes) -> bool:
    """Whether a line without an end, maybe empty, is one of ours that was cut off."""
    start = b'{"schema":'
    return line.startswith(start) or start.startswith(line)
