"""llama.cpp's own ``convert_hf_to_gguf.py``, of the pinned source: it converts the weights of a directory.

It drops some scalings (``dynamic``, ``llama3`` outside the Llama family, a YaRN attention factor, ...), so what it
wrote is compared with what the configuration asks for, and put right.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from ggufrope.errors import CheckpointError, OutputError, UsageError

__all__ = ["check_options", "convert_weights"]

#: Starts the converter with some things changed: tensors with a given text in their names are left out; keys that
#: transformers 5 keeps under other names are there under the old ones too, which some of the converter's classes read
#: (GPT-NeoX, Cohere 2); a context of 4096.0 tokens, which transformers takes, is one of 4096; and on request the
#: configuration asks for no scaling.
_SCRIPT = """
import pathlib, runpy, sys
without, plain, script = sys.argv.pop(1), sys.argv.pop(1), sys.argv.pop(1)
sys.argv[0] = script
sys.path[:1] = [str(pathlib.Path(script).parent), str(pathlib.Path(script).parent / "gguf-py")]
from conversion import ModelBase
if without:
    index = ModelBase.index_tensors
    ModelBase.index_tensors = lambda *a, **k: {name: t for name, t in index(*a, **k).items() if without not in name}
def amend(found):
    given = found.get("rope_parameters") or {}
    found.setdefault("rotary_pct", given.get("partial_rotary_factor") or 1.0)
    if given.get("rope_theta") is not None:
        found.setdefault("rotary_emb_base", given["rope_theta"])
    whole(found)
    if plain:
        unscaled(found)
    return found
def unscaled(settings):
    settings.pop("rope_scaling", None)
    for name, value in settings.items():
        if isinstance(value, dict):
            unscaled(value)
            if "rope_type" in value:
                value["rope_type"] = "default"
def whole(settings):
    for name, value in settings.items():
        if isinstance(value, dict):
            whole(value)
        elif isinstance(value, float) and str(name).endswith("max_position_embeddings") and value.is_integer():
            settings[name] = int(value)
load, init = ModelBase.load_hparams, ModelBase.__init__
def begin(self, *args, **kwargs):
    if kwargs.get("hparams"):  # some classes read config.json themselves
        amend(kwargs["hparams"])
    init(self, *args, **kwargs)
ModelBase.load_hparams = staticmethod(lambda *args, **kwargs: amend(load(*args, **kwargs)))
ModelBase.__init__ = begin
runpy.run_path(script, run_name="__main__")
"""

#: Options of the converter that decide what is written where: those are ours to give.
_OURS = (
    "--outfile", "--outtype", "--vocab-only", "--bigendian", "--split-max-tensors", "--split-max-size", "--dry-run",
    "--no-tensor-first-split", "--print-supported-models", "--remote", "--mmproj", "-h", "--help",
)  # fmt: skip
_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)')


def convert_weights(
    directory: Path, out: Path, outtype: str, without: str = "", options: Sequence[str] = (), *, scaled: bool = True
) -> None:
    """Write ``directory`` to the GGUF ``out``.

    Args:
        directory: a Hugging Face directory.
        out: where the GGUF goes; must not exist.
        outtype: ``f32``, ``f16``, ``bf16``, ``q8_0`` or ``auto``.
        without: tensors with this in their name are left out; the converter stops at those that it does not know.
        options: further options of the converter, such as ``--no-mtp``.
        scaled: let it write the scaling that the configuration asks for, as far as it can.

    Raises:
        CheckpointError: the converter refused the directory; the message ends with its last words.
        UsageError: an option that would change where or what it writes.
        BuildError: the source could not be fetched.
    """
    import subprocess

    from ggufrope.runtime.fetch import source_tree

    check_options(options)
    script = source_tree() / "convert_hf_to_gguf.py"
    command = [sys.executable, "-c", _SCRIPT, without, "" if scaled else "plain", str(script), str(directory)]
    command += ["--outfile", str(out), "--outtype", outtype, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not out.is_file():
        if "No space left" in done.stderr or "File too large" in done.stderr or done.returncode == -25:  # SIGXFSZ
            raise OutputError(f"{out.parent}: no space left for the converted weights; free some and try again")
        raise CheckpointError(
            f"{directory}: llama.cpp's converter stopped: {_last_words(done.returncode, done.stderr)}"
        )


def check_options(options: Sequence[str]) -> None:
    """Refuse options of the converter that would change where or what it writes.

    Raises:
        UsageError: one of them.
    """
    for option in options:
        name = option.partition("=")[0]
        if not name.startswith("-"):
            raise UsageError(
                f"--converter-option {option}: it must begin with '-'; write --converter-option=--no-mtp, for example"
            )
        if any(len(name) > 2 and ours.startswith(name) for ours in _OURS) or name in _OURS:
            raise UsageError(f"--converter-option {option}: ggufrope gives the converter its own {name}; drop it")


def _last_words(code: int, stderr: str) -> str:
    """What a person can act on: the exception, where it has no words the line that raised it, and what may help."""
    if code < 0:
        return f"it was ended by signal {-code}; it may need more memory, or a smaller model"
    said = [line.strip() for line in stderr.splitlines() if line.strip() and "%|" not in line]
    last = said[-1] if said else f"exit code {code}"
    if "ModuleNotFoundError" in last:
        return f"{last} (pip install 'ggufrope[torch]')"
    if re.fullmatch(r"(AssertionError|KeyError|NotImplementedError|ValueError)(: .{0,40})?", last):
        last += _raised_at(said)
    if any(word in line for line in said[-8:] for word in ("mtp", "nextn")):
        return f"{last}; --converter-option=--no-mtp leaves the prediction layers out, as for weights without them"
    return f"{last}; mend config.json, or convert it with another llama.cpp and give the GGUF"


def _raised_at(said: Sequence[str]) -> str:
    """Where in the converter the last exception was raised, and the line itself."""
    at = max((i for i, line in enumerate(said) if _FRAME.match(line)), default=None)
    if at is None:
        return ""
    frame = _FRAME.match(said[at])
    code = said[at + 1] if at + 1 < len(said) - 1 else ""
    return f" at {Path(frame['file']).name}:{frame['line']}{f' ({code})' if code else ''}" if frame else ""
