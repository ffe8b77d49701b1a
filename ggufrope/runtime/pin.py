"""What ``patches/`` says: the pinned source (``UPSTREAM``), the patches' order (``series``), our own C++ (``src/``)."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from ggufrope.errors import BuildError

__all__ = ["OUR_SOURCES", "Pin", "patches_dir", "patches_hash", "read_series", "sources"]

#: Where ``patches/src/`` goes inside the llama.cpp tree.
OUR_SOURCES = "src/ggufrope"


@dataclass(frozen=True, slots=True)
class Pin:
    """The pinned source distribution that carries llama.cpp.

    Attributes:
        package: Name on the package index.
        version: Exact version.
        sha256: Hash of the source distribution, 64 lower-case hexadecimal digits.
        upstream: llama.cpp commit that it carries.
        subtree: Where llama.cpp is inside it.
    """

    package: str
    version: str
    sha256: str
    upstream: str
    subtree: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise BuildError(f"patches/UPSTREAM: sha256 is {self.sha256!r}, expected 64 hexadecimal digits")

    @classmethod
    def read(cls, patches: Path | None = None) -> Pin:
        """Parse ``UPSTREAM`` (``KEY=VALUE`` lines, ``#`` comments).

        Raises:
            BuildError: The file or one of its keys is missing, or the hash is malformed.
        """
        path = (patches or patches_dir()) / "UPSTREAM"
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise BuildError(f"{path}: {error.strerror}; it names the pinned llama.cpp") from error
        pairs = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
        values = {key.strip().lower(): value.strip() for key, value in pairs.items()}
        missing = [name for name in cls.__dataclass_fields__ if not values.get(name)]
        if missing:
            raise BuildError(f"{path}: missing {', '.join(missing)}; `git checkout patches/UPSTREAM` restores it")
        return cls(**{name: values[name] for name in cls.__dataclass_fields__})


def patches_dir() -> Path:
    """The patch series: inside the installed package, or beside it in its repository.

    Raises:
        BuildError: It is in neither place.
    """
    package = Path(__file__).resolve().parents[1]
    places = package / "patches", package.parent / "patches"
    for patches in places:
        if (patches / "UPSTREAM").is_file():
            return patches
    raise BuildError(
        f"{places[0]}: no patch series; this installation is damaged: pip install --force-reinstall ggufrope"
    )


def read_series(patches: Path) -> tuple[Path, ...]:
    """Paths of the patches, in the order of ``series`` (one name a line, ``#`` comments).

    Raises:
        BuildError: ``series`` is missing or lists a patch twice, or one that is not there.
    """
    path = patches / "series"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise BuildError(f"{path}: {error.strerror}; it lists the patches in order") from error
    names = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    for name in names:
        if names.count(name) > 1:
            raise BuildError(f"{path}: {name} is listed twice; remove one")
        if not (patches / name).is_file():
            raise BuildError(f"{path}: {name} is listed, but there is no such file; `git checkout patches` restores it")
    return tuple(patches / name for name in names)


def sources(patches: Path) -> tuple[Path, ...]:
    """Our own C++ files under ``src/``, sorted; empty when there are none."""
    return tuple(sorted(path for path in (patches / "src").rglob("*") if path.is_file()))


def patches_hash(patches: Path) -> str:
    """Hash over the series' order and contents and our sources: 16 hexadecimal digits, the same on every machine."""
    digest = hashlib.sha256()
    for path in (*read_series(patches), *sources(patches)):
        data = path.read_bytes()
        digest.update(f"{path.relative_to(patches).as_posix()}\0{len(data)}\0".encode())
        digest.update(data)
    return digest.hexdigest()[:16]
