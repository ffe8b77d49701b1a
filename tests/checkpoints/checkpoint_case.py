"""One case of the matrix: a toy with rope settings, what transformers makes of it, and what ggufrope does."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from matrix_cases import LENGTHS, Case
from matrix_outcome import Outcome
from observed_rotation import LayerRotation, observe
from published_settings import DISGUISES
from runtime_logits import tokens
from toy_registry import TOYS
from toy_vocabularies import VOCAB_SIZE
from toys import build, model_class
from warm_interpreter import WarmInterpreter

__all__ = ["Workbench"]

_ROPE_KEYS = ("rope_parameters", "rope_scaling", "rope_theta")
#: Log-probabilities ``(tokens, vocab)`` and rotations of transformers' model, by length.
Wanted = dict[int, tuple[np.ndarray, list[LayerRotation]]]


class Workbench:
    """Toys, built once each, and a warm interpreter, which ``subprocess.run`` stands for while a case is measured."""

    def __init__(self, folder: Path, source: Path) -> None:
        """``folder`` is for toys and files, ``source`` the pinned llama.cpp."""
        self._folder, self._toys = folder, dict[str, Path]()
        self._warm = WarmInterpreter(source)
        self._threads = _quiet()

    def close(self) -> None:
        """End the interpreter, and give torch its threads back."""
        import torch

        torch.set_num_threads(self._threads)
        self._warm.close()

    def measure(self, case: Case, *options: str) -> Outcome:
        """Carry out a case; ``options`` are more of ``convert``'s."""
        folder = self._checkpoint(case)
        try:
            with patch.object(subprocess, "run", self._warm.run):
                done = self._measure(case, folder, options)
        finally:
            shutil.rmtree(folder)
        return replace(
            done, refused=done.refused.replace(str(folder), "DIR"), said=done.said.replace(str(folder), "DIR")
        )

    def _measure(self, case: Case, folder: Path, options: tuple[str, ...]) -> Outcome:
        wanted, outcome = _transformers(case, folder), Outcome(case.name)
        if isinstance(wanted, str):
            wanted, outcome = {}, replace(outcome, transformers=wanted)
        if case.disguise:
            _rewrite(folder, DISGUISES[case.disguise])
        out = folder / "out.gguf"
        code, said = _ggufrope("convert", folder, "-o", out, "--outtype", "f32", *TOYS[case.toy].options, *options)
        if code:
            return replace(outcome, refused=f"exit {code}: {said}")
        outcome = replace(outcome, said=said)
        code, said = _ggufrope("inspect", "--json", out)
        if code:
            return replace(outcome, refused=f"inspect: exit {code}: {said}")
        found = json.loads(said)
        stock = found["honoured_by"]["stock"].startswith("runs it in full")
        gap, scale_gap = _gaps(found, wanted)
        outcome = replace(
            outcome, architecture=found["architecture"], stock=stock, gap=gap, scale_gap=scale_gap
        )  # fmt: skip
        try:
            outcome = replace(outcome, kl=self._kl(out, "patched", wanted))
            return replace(outcome, stock_kl=self._kl(out, "stock", wanted)) if stock else outcome
        except RuntimeError as error:
            return replace(outcome, kl=(), refused=str(error))

    def _checkpoint(self, case: Case) -> Path:
        """The toy's directory once more, with the case's rope settings."""
        toy = self._toys.get(case.toy)
        if toy is None:
            toy = self._toys[case.toy] = build(TOYS[case.toy], self._folder / f"toy{len(self._toys)}")
        folder = self._folder / "checkpoint"
        folder.mkdir()
        for file in toy.iterdir():
            (folder / file.name).hardlink_to(file)
        _rewrite(folder, lambda config: _with_rope(config, case.rope or {}))
        return folder

    def _kl(self, file: Path, runtime: str, wanted: Wanted) -> tuple[float, ...]:
        """Mean KL of a build at each length."""
        program, out = Path(__file__).with_name("runtime_logits.py"), file.with_suffix("")
        done = self._warm.run([sys.executable, str(program), str(file), str(out), runtime, *map(str, wanted)])
        if done.returncode:
            raise RuntimeError(f"{runtime}: exit {done.returncode}: {(done.stderr.strip().splitlines() or [''])[-1]}")
        found = {n: np.load(f"{out}-{n}.npy") for n in wanted}
        return tuple(float((np.exp(p) * (p - found[n])).sum(-1).mean()) for n, (p, _) in wanted.items())


def _quiet() -> int:
    """Silence transformers, and give torch one thread; answers how many it had."""
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    return threads


def _rewrite(folder: Path, change: Any) -> None:
    """Put another ``config.json`` in the place of a link."""
    path = folder / "config.json"
    text = json.dumps(change(json.loads(path.read_text())), indent=1)
    path.unlink()
    path.write_text(text)


def _with_rope(config: dict[str, Any], rope: dict[str, Any]) -> dict[str, Any]:
    """A configuration with a case's keys in place of its own; a value of None takes a key away."""
    if "text_config" in config:
        return config | {"text_config": _with_rope(config["text_config"], rope)}
    own = [] if rope.keys().isdisjoint(_ROPE_KEYS) else _ROPE_KEYS
    kept = {k: v for k, v in config.items() if k not in own} | rope
    return {k: v for k, v in kept.items() if v is not None or k == "rope_scaling" or k not in rope}


def _ggufrope(*arguments: object) -> tuple[int, str]:
    """Exit code of a command line, and what it printed: its errors, or its output."""
    from ggufrope.cli import main

    said, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(error), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        code = main([str(a) for a in arguments])
    return code, (error if code else said).getvalue().strip()


def _transformers(case: Case, folder: Path) -> Wanted | str:
    """What its model computes, or why it has none for these settings."""
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = model_class(TOYS[case.toy]).from_pretrained(folder, dtype=torch.float32).eval()
            return {n: observe(model, torch.tensor(tokens(n, VOCAB_SIZE))) for n in LENGTHS}
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]


def _gaps(found: dict[str, Any], wanted: Wanted) -> tuple[float, float]:
    """How far ``inspect --json`` is from what transformers rotates by, layer by layer."""
    gaps, scales = [0.0], [0.0]
    for length, (_, layers) in wanted.items():
        row = sum(point < length for point in found.get("length_points", [])[:-1])
        for number, layer in enumerate(layers):
            described = _described(found, number, row)
            if described is None or not len(layer.frequencies):
                continue
            frequencies, scale = described
            gaps.append(_gap(frequencies, layer.frequencies))
            scales.append(abs(scale / layer.scale - 1))
    return max(gaps), max(scales)


def _gap(found: np.ndarray, wanted: np.ndarray) -> float:
    """Relative; pairs that must not turn (proportional RoPE) may turn by 1e-10 radians a token."""
    if len(found) != len(wanted):
        return float("inf")
    still = np.where(wanted > 0, 0.0, found * 1e5)
    return float(np.where(wanted > 0, np.abs(found / np.where(wanted > 0, wanted, 1.0) - 1), still).max())


def _described(found: dict[str, Any], layer: int, row: int) -> tuple[np.ndarray, float] | None:
    """Frequencies and attention scale of a layer, at a row; None where the file says that no layer rotates."""
    if not found["rotates"]:
        return None
    (kind,) = (c for c in found["layer_classes"] if layer in c["layers"])
    which = "sliding_" if kind["sliding_window"] and found["sliding_frequencies"] else ""
    frequencies, scales = found[f"{which}frequencies"], found[f"{which}attention_scale"]
    return np.array(frequencies[min(row, len(frequencies) - 1)]), scales[min(row, len(scales) - 1)]
