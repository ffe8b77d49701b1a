"""Models split into several files: ``NAME-00001-of-00003.gguf`` and its siblings, as ``llama-gguf-split`` writes them.

llama.cpp takes a model's keys from the first shard, and finds the others by their names. So an edit concerns the first
shard alone: the others are never opened for writing, and have only to be present under the new name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from ..errors import GgufError, OutputError
from ..files import explain, sync_directory
from .header import Header
from .keys import SPLIT_COUNT, SPLIT_NUMBER, SPLIT_TENSORS
from .lock import lock
from .output import copy_range, replacing
from .parse import read_header

_NAME = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")


def read_shards(path: str | os.PathLike[str]) -> tuple[Header, ...]:
    """The headers of all files of a model, the first first; just one for a model that is not split.

    Args:
        path: The file, or the first shard.

    Raises:
        GgufError: see ``shards_of``; or the file is no GGUF.
    """
    return shards_of(read_header(path))


def shards_of(first: Header) -> tuple[Header, ...]:
    """``first`` and the headers of the other files of its model, which are read now.

    Raises:
        GgufError: not the first shard, a shard is missing, or they do not belong together.
    """
    count, number = _count(first, SPLIT_COUNT, 1), _count(first, SPLIT_NUMBER, 0)
    if count <= 1:
        return (first,)
    name = _NAME.fullmatch(first.path.name)
    if number != 0:
        hint = f"; give the first, {shard_name(first.path.with_name(name[1]), 1, count).name}" if name else ""
        raise GgufError(f"{first.path}: this is shard {number + 1} of {count}{hint or '; give the first one'}")
    if not name or (int(name[2]), int(name[3])) != (1, count):
        wanted = shard_name(first.path.with_name(name[1] if name else first.path.stem), 1, count).name
        raise GgufError(f"{first.path}: is the first of {count} shards; name it {wanted}, and the others likewise")
    others = (shard_name(first.path.with_name(name[1]), n, count) for n in range(2, count + 1))
    shards = (first, *map(read_header, others))
    _check(shards)
    return shards


def shard_name(stem: Path, number: int, count: int) -> Path:
    """Path of shard ``number`` (from 1) of ``count``; ``stem`` has neither number nor suffix."""
    return stem.with_name(f"{stem.name}-{number:05}-of-{count:05}.gguf")


def output_names(out: Path, count: int) -> tuple[Path, ...]:
    """Names for a copy of ``count`` shards: ``out`` may be the first one's, or end in plain ``.gguf``.

    Raises:
        OutputError: ``out`` names another shard, or another count.
    """
    if count == 1:
        return (out,)
    name = _NAME.fullmatch(out.name)
    if name and (int(name[2]), int(name[3])) != (1, count):
        wanted = shard_name(out.with_name(name[1]), 1, count).name
        raise OutputError(f"{out}: the source has {count} shards; name the output {wanted}")
    stem = out.with_name(name[1] if name else out.name.removesuffix(".gguf"))
    return tuple(shard_name(stem, n, count) for n in range(1, count + 1))


def place(shard: Header, out: Path) -> None:
    """Put an untouched shard at ``out``: a second name of the same file where possible, else a copy.

    Raises:
        OutputError: it cannot be written there.
        GgufError: the shard changed meanwhile.
    """
    if out.exists() and out.samefile(shard.path):
        return
    if not _link(shard.path, out):
        with shard.open() as source:
            lock(source, alone=False)
            with replacing(out, shard.path, shard.file_size, like=source) as file:
                copy_range(source, file, 0, shard.file_size, lambda _: None)
                file.truncate(shard.file_size)


def _link(source: Path, out: Path) -> bool:
    """Make ``out`` a name of ``source``'s file, replacing an old ``out`` in one step; False where it cannot be."""
    if out.is_dir() or out.is_symlink():
        return False
    import tempfile

    try:
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name[:40]}.") as folder:
            fresh = Path(folder) / "link"
            try:
                os.link(os.path.realpath(source), fresh)
            except OSError:
                return False
            fresh.replace(out)
    except OSError as error:
        raise OutputError(explain(error, out, 0)) from error
    sync_directory(out.parent)
    return True


def _check(shards: Sequence[Header]) -> None:
    first, seen = shards[0], set[str]()
    for number, shard in enumerate(shards):
        stored = _count(shard, SPLIT_COUNT, 1), _count(shard, SPLIT_NUMBER, 0)
        if stored != (len(shards), number):
            raise GgufError(
                f"{shard.path}: is shard {stored[1] + 1} of {stored[0]} by its keys, not {number + 1} of "
                f"{len(shards)}; fetch it again"
            )
        if twice := seen.intersection(info.name for info in shard.tensors):
            raise GgufError(f"{shard.path}: tensor {min(twice)!r} is in an earlier shard too; fetch the shards again")
        seen.update(info.name for info in shard.tensors)
    total = _count(first, SPLIT_TENSORS, len(seen))
    if total != len(seen):
        raise GgufError(f"{first.path}: {SPLIT_TENSORS} is {total}, but its shards hold {len(seen)}; fetch them again")


def _count(header: Header, key: str, default: int) -> int:
    value = header.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise GgufError(f"{header.path}: {key} is not a count; the file is damaged: fetch it again")
    return value


__all__ = ["output_names", "place", "read_shards", "shard_name", "shards_of"]
