"""The side file that makes an edit in place safe: what the file was, durable before the first byte of it changes.

While ``.NAME.ggufrope-journal`` exists beside a file, an edit of it is under way or was interrupted. It appears
complete (written under another name, synced, renamed) and holds what is needed to undo the edit; one-byte marks are
appended and synced as the edit passes its steps. Deleting it is the moment at which the edit counts as done.

    magic, length of the facts (u64), facts (JSON), old head, old tail, new head, sha256 of it all, marks
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import GgufError
from ..files import sync_directory, write_all
from .reading import fingerprint

_MAGIC = b"ggufrope journal 1\n"
_LENGTH = struct.Struct("<Q")
_HASH_BYTES = 32

#: Marks: the tail is on disk and the data is about to move; it has moved; the edit is being undone, nothing is moved.
MOVING, MOVED, UNDOING = b"M", b"D", b"U"


@dataclass(frozen=True, slots=True)
class Change:
    """An edit in place, with what undoes it. Offsets are those of the old file.

    Attributes:
        old_size: Of the file, in bytes.
        old_times: When it was read and written last, in nanoseconds.
        shift: By how much the data moves: bytes inserted at the file's start, or removed there when negative.
        kept: Up to here the data stays as it is; from here on ``old_tail`` becomes ``new_tail``.
        head_start: Where ``old_head`` and ``new_head`` begin; 0 when data moves.
        old_head: What the changed part of the header was.
        new_head: What it becomes; ``shift`` bytes longer.
        old_tail: The end of the file, from ``kept`` on.
        new_tail: What it becomes.
        holed: The data has holes, so a new one could not be told from them.
        samples: (start, length, sha256) of a little data at either end, by which the file is recognised.
    """

    old_size: int
    old_times: tuple[int, int]
    shift: int
    kept: int
    head_start: int
    old_head: bytes
    new_head: bytes
    old_tail: bytes
    new_tail: bytes
    holed: bool
    samples: tuple[tuple[int, int, str], ...]

    @property
    def middle_size(self) -> int:
        """The file's size between the change of its tail and the move of its data."""
        return self.kept + len(self.new_tail)


@dataclass(frozen=True, slots=True)
class Journal:
    """A complete journal on disk.

    Attributes:
        path: The side file.
        change: The edit; its new head is there only if data moves forward, its new tail is zeros: neither is needed.
        marks: The steps that were passed.
    """

    path: Path
    change: Change
    marks: bytes = b""

    @classmethod
    def create(cls, target: Path, change: Change) -> Journal:
        """Put the journal of an edit of ``target`` on disk.

        Raises:
            OSError: the system refused to write; nothing is left behind.
        """
        path = journal_path(target)
        unfinished = path.with_name(path.name + ".new")
        try:
            with unfinished.open("wb", buffering=0) as file:
                write_all(file, _encode(change))
                os.fsync(file.fileno())
            unfinished.replace(path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        sync_directory(path.parent)
        return cls(path, change)

    @classmethod
    def read(cls, target: Path) -> Journal | None:
        """The journal beside ``target``; None when there is none.

        Raises:
            GgufError: it cannot be read, or is damaged.
        """
        path = journal_path(target)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise GgufError(
                f"{path}: cannot be read: {error.strerror}; it is needed to restore {target.name}"
            ) from error
        try:
            return cls(path, *_decode(data))
        except (ValueError, KeyError, TypeError, struct.error) as error:
            raise GgufError(
                f"{path}: the journal of an interrupted edit is damaged ({error}); "
                f"if {target.name} is whole, delete it, else fetch the model again"
            ) from None

    def mark(self, step: bytes) -> Journal:
        """Record durably that ``step`` was reached."""
        with self.path.open("ab", buffering=0) as file:
            write_all(file, step)
            os.fsync(file.fileno())
        return replace(self, marks=self.marks + step)

    def remove(self) -> None:
        """Declare the edit done, or undone."""
        self.path.unlink()
        sync_directory(self.path.parent)


def journal_path(target: Path) -> Path:
    """Where the journal of an edit of ``target`` lies, which must not be a symlink."""
    return target.with_name(f".{target.name}.ggufrope-journal")


def forget_unfinished(target: Path) -> None:
    """Delete a journal that was never completed: the edit had not begun."""
    path = journal_path(target)
    with contextlib.suppress(OSError):
        path.with_name(path.name + ".new").unlink()


def _encode(change: Change) -> bytes:
    blobs = (change.old_head, change.old_tail, change.new_head if change.shift < 0 else b"")
    facts: dict[str, Any] = asdict(change)
    del facts["old_head"], facts["old_tail"], facts["new_head"], facts["new_tail"]
    facts |= {"lengths": [len(blob) for blob in blobs], "new_tail_bytes": len(change.new_tail)}
    text = json.dumps(facts).encode()
    parts = (_MAGIC, _LENGTH.pack(len(text)), text, *blobs)
    return b"".join((*parts, fingerprint(*parts)))


def _decode(data: bytes) -> tuple[Change, bytes]:
    if not data.startswith(_MAGIC):
        raise ValueError("it does not begin as one")
    start = len(_MAGIC) + _LENGTH.size
    (length,) = _LENGTH.unpack_from(data, len(_MAGIC))
    facts = json.loads(data[start : start + length])
    position, blobs = start + length, []
    for size in facts.pop("lengths"):
        blobs.append(data[position : position + size])
        position += size
    end = position + _HASH_BYTES
    if fingerprint(data[:position]) != data[position:end]:
        raise ValueError("its checksum is wrong")
    facts["samples"] = tuple((int(at), int(size), str(digest)) for at, size, digest in facts["samples"])
    facts["old_times"] = tuple(map(int, facts["old_times"]))
    new_tail = bytes(facts.pop("new_tail_bytes"))
    old_head, old_tail, new_head = blobs
    change = Change(**facts, old_head=old_head, new_head=new_head, old_tail=old_tail, new_tail=new_tail)
    return change, data[end:]
