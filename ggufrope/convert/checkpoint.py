"""Hugging Face directories: what their ``config.json`` says about RoPE, and the way to a GGUF.

The weights are converted by llama.cpp's own ``convert_hf_to_gguf.py`` from the pinned source. It drops some scalings
(``dynamic``, ``llama3`` outside the Llama family, a YaRN attention factor, ...), so what it wrote is then compared with
what the configuration asks for, and put right.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ggufrope.errors import CheckpointError, OutputError
from ggufrope.files import read_json
from ggufrope.methods import METHODS, Traits

__all__ = ["HfRope", "convert_weights", "is_checkpoint", "read_config", "read_rope"]

#: Runs the converter with an index of tensors from which some are missing.
_LEAVING_OUT = """
import pathlib, runpy, sys
without, script = sys.argv.pop(1), sys.argv.pop(1)
sys.argv[0] = script
sys.path[:1] = [str(pathlib.Path(script).parent), str(pathlib.Path(script).parent / "gguf-py")]
from conversion import ModelBase
index = ModelBase.index_tensors
ModelBase.index_tensors = lambda *a, **k: {name: t for name, t in index(*a, **k).items() if without not in name}
runpy.run_path(script, run_name="__main__")
"""


@dataclass(frozen=True, slots=True)
class HfRope:
    """The scaling that a configuration asks for.

    Attributes:
        method: one of our base methods, or None for plain RoPE.
        params: its parameters by our names.
        refused: why this version cannot honour it, empty when it can.
        left_to_upstream: the converter's class for this model handles it in a way of its own.
    """

    method: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    refused: str = ""
    left_to_upstream: bool = False

    @property
    def traits(self) -> Traits:
        """Those of the method; of none where the configuration asks for plain RoPE."""
        return METHODS[self.method].traits if self.method else Traits()


def is_checkpoint(path: Path) -> bool:
    """Whether ``path`` is a directory; whether it is a good one is for ``read_rope`` to say."""
    return path.is_dir()


def read_rope(directory: Path) -> HfRope:
    """What ``config.json`` asks for.

    Raises:
        CheckpointError: no readable ``config.json``, or no weights beside it.
    """
    config = read_config(directory)
    if not any(directory.glob("*.safetensors")) and not any(directory.glob("*.bin")):
        raise CheckpointError(f"{directory}: no weights (*.safetensors or *.bin) beside config.json; download them too")
    text = config.get("text_config") or config
    rope = text.get("rope_parameters") or text.get("rope_scaling") or {}
    if not isinstance(rope, dict):
        raise CheckpointError(f"{directory}/config.json: rope_scaling is {rope!r}; an object is needed")
    kinds = {name: entry for name, entry in rope.items() if isinstance(entry, dict)}
    other = [n for n, e in kinds.items() if n != "full_attention" and e.get("rope_type", "default") != "default"]
    if other:
        refused = (
            f"{directory}/config.json scales its {other[0]} layers, which llama.cpp cannot; give --method to replace it"
        )
        return HfRope(refused=refused)
    try:
        return _rope(directory, text, rope.get("full_attention", rope))
    except (TypeError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{directory}/config.json: its rope settings are incomplete or not numbers ({error})"
        ) from None


def convert_weights(directory: Path, out: Path, outtype: str, without: str = "") -> None:
    """Write ``directory`` to the GGUF ``out`` with llama.cpp's own converter, of the pinned source.

    Args:
        directory: a Hugging Face directory.
        out: where the GGUF goes; must not exist.
        outtype: ``f32``, ``f16``, ``bf16``, ``q8_0`` or ``auto``.
        without: tensors with this in their name are left out; the converter stops at those that it does not know.

    Raises:
        CheckpointError: the converter refused the directory; the message ends with its last words.
        BuildError: the source could not be fetched.
    """
    import subprocess

    from ggufrope.runtime.fetch import source_tree

    script = source_tree() / "convert_hf_to_gguf.py"
    start = ["-c", _LEAVING_OUT, without, str(script)] if without else [str(script)]
    command = [sys.executable, *start, str(directory), "--outfile", str(out), "--outtype", outtype]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not out.is_file():
        said = [line for line in done.stderr.splitlines() if line.strip() and "%|" not in line]
        last = said[-1].strip() if said and done.returncode > 0 else f"it was ended by signal {-done.returncode}"
        if "No space left" in done.stderr or "File too large" in done.stderr or done.returncode == -25:  # SIGXFSZ
            raise OutputError(f"{out.parent}: no space left for the converted weights; free some and try again")
        if "ModuleNotFoundError" in last:
            last += " (pip install 'ggufrope[torch]')"
        raise CheckpointError(f"{directory}: llama.cpp's converter stopped: {last}")


def read_config(directory: Path) -> dict[str, Any]:
    """``config.json`` as it is.

    Raises:
        CheckpointError: it is missing or no JSON object.
    """
    path = directory / "config.json"
    if not any(directory.glob("config.json")):
        raise CheckpointError(f"{directory}: no config.json; give a Hugging Face model directory or a GGUF file")
    config = read_json(path, CheckpointError)
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: an object is needed, found a {type(config).__name__}")
    return config


def _rope(directory: Path, config: Mapping[str, Any], rope: Mapping[str, Any]) -> HfRope:
    kind = str(rope.get("rope_type") or rope.get("type") or "default").lower()
    model_type = str(config.get("model_type", ""))
    if kind in ("default", "mrope"):
        return HfRope()
    if (kind == "proportional" and model_type.startswith("gemma4")) or (kind == "dynamic" and "alpha" in rope):
        return HfRope(left_to_upstream=True)
    asked = next((cls for cls in METHODS.values() if kind in cls.traits.hf_types), None)
    if asked is None:
        return HfRope(
            refused=f"{directory}/config.json asks for rope type '{kind}', which ggufrope does not know; "
            "give --method to replace it"
        )
    return HfRope(asked.name, asked.from_config(config, rope))
