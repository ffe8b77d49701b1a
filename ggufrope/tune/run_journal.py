"""The folder that a run of ``tune`` keeps: what was asked for, how far each space is, every result of the report.

==================  =====================================================================================
``request.json``    all that decides the result; a run of another request is refused
``SPACE.npz``       a space's search: written after every step, whole or not at all
``forms.json``      what the model writes before an answer, by task
``engines.json``    which engine searches which space
``untouched.json``  what the selection split says of the file as it is
``report/``         ``results.jsonl`` of the report split, as ``eval -o`` writes it
``run.json``        the finished run: what ``--json`` prints
``written/``        the output until it was read back
==================  =====================================================================================
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from ggufrope.errors import InputError, OutputError
from ggufrope.files import read_bytes, read_json, try_lock, write_bytes
from ggufrope.tune.search_state import SearchState

__all__ = ["RunJournal", "journal_folder"]

_REMEDY = "name another -o, or delete the folder to start anew"


def journal_folder(output: Path) -> Path:
    """The folder of a run that is to write ``output``: beside it."""
    return output.with_name(output.name + ".tune")


class RunJournal:
    """A folder, held by one process at a time.

    Attributes:
        folder: where it is.
        resumed: whether it has something of an earlier start.
    """

    def __init__(self, folder: Path, request: Mapping[str, Any], *, overwrite: bool = False) -> None:
        """Open or create the folder for a request.

        Args:
            folder: the journal's.
            request: JSON of all that decides the result.
            overwrite: drop what an earlier run of another request left.

        Raises:
            OutputError: it cannot be written, another process holds it, or it is of another request.
            InputError: it holds something that is no journal.
        """
        self.folder, self._request = folder, json.loads(json.dumps(dict(request)))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._held: BinaryIO = (folder / "lock").open("ab")
        except OSError as error:
            raise OutputError(f"{folder}: cannot be written ({error.strerror}); name another -o") from None
        try:
            self._hold()
            self.resumed = self._known(overwrite)
        except BaseException:
            self._held.close()
            raise

    def __enter__(self) -> RunJournal:
        return self

    def __exit__(self, _kind: type | None, _value: BaseException | None, _trace: TracebackType | None) -> None:
        self._held.close()

    def _hold(self) -> None:
        if not try_lock(self._held):
            raise OutputError(f"{self.folder}: another ggufrope is tuning there; wait for it, or name another -o")

    def _known(self, overwrite: bool) -> bool:
        path = self.folder / "request.json"
        if not path.exists():
            if others := [p.name for p in self.folder.iterdir() if p.name != "lock"]:
                raise InputError(f"{self.folder}: holds {others[0]} and no request.json, so is no journal; {_REMEDY}")
            self.put("request.json", self._request)
            return False
        found = read_json(path)
        if found == self._request:
            return True
        begun = any(self.folder.glob("*.npz"))  # a request that was refused has nothing to lose
        if begun and not overwrite:
            raise OutputError(
                f"{self.folder}: holds a run of another request ({_differing(found, self._request)}); --overwrite "
                f"replaces it; or {_REMEDY}"
            )
        self._clear()
        self.put("request.json", self._request)
        return False

    def _clear(self) -> None:
        """Remove what runs write, and nothing else."""
        names = [
            "request.json", "forms.json", "untouched.json", "calibrated.json", "agreement.json", "run.json",
            "engines.json",
            "start.gguf", "report/results.jsonl",
        ]  # fmt: skip
        for path in (*self.folder.glob("*.npz"), *(self.folder / name for name in names)):
            path.unlink(missing_ok=True)

    def put(self, name: str, value: Any) -> None:
        """Write a JSON file, whole or not at all.

        Raises:
            OutputError: it cannot be written.
        """
        write_bytes(self.folder / name, (json.dumps(value, indent=1) + "\n").encode())

    def get(self, name: str) -> Any | None:
        """What ``put`` wrote; None where there is nothing.

        Raises:
            InputError: it is not what was written.
        """
        path = self.folder / name
        return read_json(path) if path.exists() else None

    def save(self, space: str, state: SearchState) -> None:
        """Keep how far a space is.

        Raises:
            OutputError: it cannot be written; what was kept before is safe.
        """
        data = io.BytesIO()
        np.savez(data, **state.as_arrays())  # type: ignore[arg-type]  # its stubs take the names for options
        write_bytes(self.folder / f"{space}.npz", data.getvalue())

    def load(self, space: str) -> SearchState | None:
        """How far a space is; None where it was not begun.

        Raises:
            InputError: the file is not what was written.
        """
        path = self.folder / f"{space}.npz"
        if not path.exists():
            return None
        try:
            with np.load(io.BytesIO(read_bytes(path))) as arrays:
                return SearchState.from_arrays(dict(arrays))
        except (ValueError, KeyError, TypeError, zipfile.BadZipFile, EOFError) as error:
            raise InputError(f"{path}: not a state of this run ({error}); {_REMEDY}") from None


def _differing(found: Any, wanted: Mapping[str, Any]) -> str:
    """Up to three things in which requests differ: ``steps 80, now 100``."""
    if not isinstance(found, dict):
        return "it is none of this version's"
    differing = [name for name in {**wanted, **found} if found.get(name) != wanted.get(name)]
    shown = [f"{name} {_short(found.get(name))}, now {_short(wanted.get(name))}" for name in differing[:3]]
    return "; ".join(shown)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
