"""Upstream's own programs, from the patched build, with upstream's own options."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ggufrope.errors import InputError, OutputError, UsageError
from ggufrope.files import check_output, replacing, try_lock
from ggufrope.gguf import Header, read_header
from ggufrope.gguf.keys import CONTEXT_LENGTH, HEAD_FACTORS, HEAD_ORDER, METHOD, PAIR_FACTORS, PREFIX, ROPE, stock
from ggufrope.methods.head_order import STATIC
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.runtime.library import runtime_for
from ggufrope.runtime.locate import Runtime
from ggufrope.runtime.progress import Progress, compile_errors, run_logged

__all__ = ["PROGRAMS", "command_line", "quantize", "refuse_fallback", "start"]

#: What ``ggufrope NAME`` starts, and what it always passes. ``llama-completion`` takes the text as it is, prints the
#: continuation and ends; ``llama-cli`` is upstream's chat, which applies the model's template and waits for input.
PROGRAMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "run": ("llama-completion", ("-no-cnv",)),
    "chat": ("llama-cli", ()),
    "serve": ("llama-server", ()),
    "bench": ("llama-bench", ()),
}


def command_line(
    name: str,
    model: ModelFile,
    options: Sequence[str] = (),
    *,
    backend: str | None = None,
    head_order: str | None = None,
) -> list[str]:
    """The command that runs ``model``: program, model, then the user's options, which therefore win.

    Args:
        name: A key of ``PROGRAMS``.
        model: The file to run.
        options: Upstream's options, untouched.
        head_order: ``static``, ``per-prompt`` or ``per-prompt-rank`` instead of what the file says (Ms-PoE).
        backend: Which build to use; see ``locate`` if None.

    Raises:
        UsageError: A head order for a file without head ratios.
        RuntimeLibraryError: There is no build, or it is not patched and the file has keys of ours.
    """
    program, fixed = PROGRAMS[name]
    fixed = (*fixed, *_ordering(name, model, head_order))
    return [str(runtime_for(model, backend).program(program)), "-m", str(model.path), *fixed, *options]


def _ordering(name: str, model: ModelFile, order: str | None) -> list[str]:
    """What a head order that follows the prompt needs: one sequence at a time, and the key if it is not the file's."""
    if order is not None and PAIR_FACTORS in model:
        if order == STATIC:
            return []
        raise UsageError(
            f"--head-order: the ratios of {model.path} differ by pair (--from-wavelength), and {order} hands out one "
            "for a whole head; convert it with --from-wavelength 0"
        )
    if order is not None and HEAD_FACTORS not in model:
        raise UsageError(
            f"--head-order: {model.path} has no head ratios to hand out; convert it with --method ms-poe first"
        )
    acting = order or model.get(HEAD_ORDER, "static")
    single = ["-np", "1"] if name == "serve" and acting != "static" else []
    return single + (["--override-kv", f"{HEAD_ORDER}=str:{order}"] if order else [])


def refuse_fallback() -> None:
    """Have the programs that this process starts, or becomes, fail where ropes would run on another device."""
    os.environ["GGUFROPE_NO_FALLBACK"] = "1"  # llama-bench has options of its own, not the others' --no-fallback


def start(command: Sequence[str]) -> int:
    """Become ``command`` (POSIX), or run it and return its exit code (on Windows exec leaves the console)."""
    sys.stdout.flush()
    sys.stderr.flush()
    if os.name == "posix":
        for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # by Python; the program is to end where `| head` does
            signal.signal(ignored, signal.SIG_DFL)
        os.execv(command[0], list(command))
    return subprocess.run(command, check=False).returncode


def quantize(
    source: Path,
    output: Path,
    kind: str,
    *,
    imatrix: Path | None = None,
    options: Sequence[str] = (),
    progress: Progress | None = None,
) -> None:
    """Quantize ``source`` with llama-quantize; every key of ours arrives byte for byte, or there is no output.

    Args:
        source: A GGUF file.
        output: Where the result goes; written beside it under a temporary name first.
        kind: Upstream's name of a quantization, such as ``Q4_K_M``.
        imatrix: Importance matrix.
        options: Further options of llama-quantize.
        progress: Told about each tensor.

    Raises:
        UsageError: llama-quantize refused its arguments.
        InputError: ``source`` cannot be quantized.
        OutputError: ``output`` is ``source``, the result cannot be written, or it lost a key.
        RuntimeLibraryError: No patched build.
    """
    model = ModelFile.open(source)
    runtime = runtime_for(model)
    check_output(output, [source])
    before = _our_entries(model.header)
    with tempfile.TemporaryDirectory(prefix="ggufrope-") as scratch, replacing(output) as file:
        extra = [*options, *(["--imatrix", str(imatrix)] if imatrix else [])]
        _quantize_to(runtime, [*extra, str(source), file.name, kind], Path(scratch) / "log", progress)
        try_lock(file, alone=False)  # from here on it may be read, as a file that is locked may not
        made = read_header(Path(file.name))
        if _our_entries(made) != before:
            raise OutputError(f"{output}: llama-quantize changed a {PREFIX}* key; nothing was written")
        if before and (changed := _changed_ropes(model.header, made)):
            raise OutputError(
                f"{output}: llama-quantize changed {changed}, which {METHOD} goes by; nothing was written; "
                "omit that --override-kv, or convert the result"
            )


def _quantize_to(runtime: Runtime, arguments: list[str], log: Path, progress: Progress | None) -> None:
    environment = {**os.environ, "GGML_NO_BACKTRACE": "1"}  # an abort's last words are enough, without a debugger's
    code = run_logged([str(runtime.program("llama-quantize")), *arguments], log, progress, environment)
    if code == 0:
        return
    text = log.read_text(encoding="utf-8", errors="replace")
    if "invalid ftype" in text or "usage:" in text:
        raise UsageError(
            f"llama-quantize does not know {' '.join(arguments[:-3] + arguments[-1:])}; try Q8_0 or Q4_K_M"
        )
    reason = re.search(r"failed to quantize: (.*)", text)
    said = reason[1] if reason else compile_errors(log)
    raise InputError(f"{arguments[-3]}: llama-quantize failed: {said}; its options go after --")


def _changed_ropes(before: Header, after: Header) -> str:
    """The first key of the rotation or the context that is another one; empty: there is none."""
    arch = before.architecture
    decisive = (stock(ROPE, arch), stock(CONTEXT_LENGTH, arch))
    keys = {field.key for header in (before, after) for field in header.fields if field.key.startswith(decisive)}
    return next((key for key in sorted(keys) if not np.array_equal(before.get(key), after.get(key))), "")


def _our_entries(header: Header) -> dict[str, bytes]:
    """Our keys and their bytes, wherever they lie in the file."""
    return {field.key: header.raw(field) for field in header.fields if field.key.startswith(PREFIX)}
