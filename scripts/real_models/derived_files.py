"""The files that are made from a published GGUF: written out to F16, converted with a method, quantized again.

Each is made once, by a command that a person could type, and kept: results name files by their bytes.
"""

from __future__ import annotations

import gzip
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ggufrope.errors import InputError, RuntimeLibraryError
from ggufrope.files import read_bytes, write_bytes
from real_models.declared_grid import FULL
from real_models.disk_need import made_folder, require_space
from real_models.method_recipes import METHODS, Recipe
from real_models.pinned_models import PinnedModel

__all__ = ["WEIGHTS", "Workshop", "run_command"]

ROOT = Path(__file__).resolve().parents[2]
#: Types of weights, fine to coarse, and what a file has of its F16's bytes, at most: small matrices stay finer.
WEIGHTS = {FULL: 1.0, "Q8_0": 0.56, "Q4_1": 0.5, "Q4_K_M": 0.5, "Q3_K_M": 0.45, "Q2_K": 0.45}
#: For calibration and losses where no data directory is given.
DEMO_TEXT = ROOT / "models" / "demo" / "calibration.txt"
BOOK = "war-and-peace.txt"

#: Runs ``ggufrope`` with these words.
Command = Callable[[list[str]], None]


def run_command(words: list[str]) -> None:
    """Run a command of ours in a process of its own, as anybody would.

    Raises:
        RuntimeLibraryError: it failed; what it said is on the terminal.
    """
    print(f"$ {shlex.join(['ggufrope', *words])}", flush=True)
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    done = subprocess.run(
        [sys.executable, "-m", "ggufrope", *words], env={**os.environ, "PYTHONPATH": path}, check=False
    )
    if done.returncode in (130, -2):
        raise KeyboardInterrupt
    if done.returncode:
        raise RuntimeLibraryError(f"ggufrope {words[0]} ended with {done.returncode}; see above, then run this again")


@dataclass(frozen=True, slots=True)
class Workshop:
    """Makes files in the cache.

    Attributes:
        cache: see ``pinned_models.cache_folder``.
        data: a directory with a book and question files; None: texts of this repository.
        command: ``run_command``.
    """

    cache: Path
    data: Path | None
    command: Command

    def path(self, model: PinnedModel, method: Recipe, weights: str) -> Path:
        """Where a file lies or will lie."""
        if not method.words and weights == model.published:
            return model.path(self.cache)
        folder = self.cache / model.name / "files"
        if method.order:  # another text gives another order
            folder = folder / self.text_source().name.split(".")[0]
        return folder / f"{model.name}.{method.name}.{weights.lower()}.gguf"

    def make(self, model: PinnedModel, method: Recipe, weights: str) -> Path:
        """The file, made now if it is not there.

        Raises:
            InputError: the published file is not there.
            RuntimeLibraryError: a command failed.
        """
        out = self.path(model, method, weights)
        if out.exists():
            return out
        self._require_published(model)
        made_folder(out.parent)
        if method.words and weights in (FULL, model.published):
            plain = self.make(model, METHODS["none"], weights)
            self.command(["convert", str(plain), "-o", str(out), *method.words, *self._measured(model, method)])
        elif weights == FULL:
            source = model.path(self.cache)
            self.command(["quantize", str(source), str(out), weights, "--", "--allow-requantize"])
        else:
            self.command(["quantize", str(self.make(model, method, FULL)), str(out), weights])
        return out

    def holds(self, name: str) -> bool:
        """Whether the data directory has a file of that name."""
        return self.data is not None and (self.data / name).is_file()

    def text(self) -> Path:
        """A text for calibration and losses, unpacked.

        Raises:
            InputError: the data directory has none.
        """
        source = self.text_source()
        if source.suffix != ".gz":
            return source
        unpacked = self.cache / BOOK
        try:
            text = gzip.decompress(read_bytes(source))
        except (OSError, EOFError) as error:
            raise InputError(f"{source}: cannot be unpacked ({error}); get it again") from None
        if not unpacked.exists() or unpacked.read_bytes() != text:
            write_bytes(unpacked, text)
        return unpacked

    def text_source(self) -> Path:
        """The file that ``text`` is from."""
        if self.data is None:
            return DEMO_TEXT
        for name in (BOOK, f"{BOOK}.gz"):
            if (self.data / name).is_file():
                return self.data / name
        raise InputError(f"{self.data}: holds no {BOOK} or {BOOK}.gz; omit --data, or give a directory with one")

    def require_space(self, files: Iterable[tuple[PinnedModel, Recipe, str]]) -> None:
        """Refuse to start where files do not fit, with those that they are made from.

        Raises:
            OutputError: says what they need, and what is free.
        """
        paths: dict[Path, float] = {}
        for model, method, weights in files:
            for one, kind in ((METHODS["none"], FULL), (method, FULL), (method, weights)):
                path = self.path(model, one, kind)
                if not path.exists():
                    paths[path] = model.written_out * WEIGHTS[kind]
        require_space(self.cache, round(sum(paths.values())), f"{len(paths)} files of models")

    def _require_published(self, model: PinnedModel) -> None:
        if not model.path(self.cache).is_file():
            raise InputError(
                f"{model.path(self.cache)}: not there; `scripts/real-models fetch {model.name}` fetches it"
            )

    def _measured(self, model: PinnedModel, method: Recipe) -> list[str]:
        """Options with an order of heads, measured on the F16; its scores serve for every order."""
        if not method.order:
            return []
        folder = made_folder(self.path(model, method, FULL).parent)
        heads = folder / f"{model.name}.heads-{method.order}.json"
        if not heads.exists():
            begun = heads.with_suffix(".begun")
            for other in sorted(folder.glob(f"{model.name}.heads-*.json"))[:1]:
                shutil.copy(other, begun)
            plain = self.make(model, METHODS["none"], FULL)
            words = ["--lengths", "1024", "--prompts", "8", "--order", method.order, "--overwrite"]
            self.command(["calibrate", str(plain), "--text", str(self.text()), "-o", str(begun), *words])
            begun.replace(heads)
        return ["--head-ratios", str(heads)]
