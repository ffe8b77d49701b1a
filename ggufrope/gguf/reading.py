"""Opening and reading a source file, with errors that name it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ..errors import GgufError
from .scan import TRUNCATED


@dataclass(frozen=True, slots=True)
class FileStamp:
    """Enough to notice that a file was replaced or changed since it was read."""

    device: int
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, file: BinaryIO) -> FileStamp:
        """The stamp of an open file."""
        status = os.fstat(file.fileno())
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def fingerprint(*parts: bytes) -> bytes:
    """The SHA-256 of some bytes in a row."""
    from hashlib import sha256  # late: OpenSSL takes as long to load as the whole of this package

    total = sha256()
    for part in parts:
        total.update(part)
    return total.digest()


def open_source(path: Path) -> BinaryIO:
    try:
        if not path.is_file():
            problem = "a directory" if path.is_dir() else "not a regular file" if path.exists() else "no such file"
            raise GgufError(f"{path}: {problem}; give the path of a GGUF file")
        return path.open("rb", buffering=0)
    except OSError as error:
        raise GgufError(f"{path}: cannot be read: {error.strerror}; check its permissions") from error


def read_at(file: BinaryIO, start: int, length: int) -> bytes:
    data = read_some(file, start, length)
    if len(data) < length:
        raise GgufError(f"{file.name}: ends before offset {start + length}; {TRUNCATED}")
    return data


def read_some(file: BinaryIO, start: int, length: int) -> bytes:
    """Read ``length`` bytes, or fewer where the file ends; one unbuffered read may return less than was asked for."""
    try:
        file.seek(start)
        data = file.read(length)
        while len(data) < length and (more := file.read(length - len(data))):
            data += more
    except OSError as error:
        raise GgufError(f"{file.name}: cannot be read at offset {start}: {error.strerror}; check the disk") from error
    return data
