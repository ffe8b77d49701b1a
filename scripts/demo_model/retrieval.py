"""Accuracy by depth of the demo model on the patched runtime, for several methods side by side."""

from __future__ import annotations

import contextlib
import math
import os
import random
from pathlib import Path
from typing import Any

import numpy as np

from demo_model.text import make_quiz
from ggufrope.modelfile.model_file import ModelFile

TRAINED = 512
DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
#: None: a file that is there already, ``NAME.gguf``.
METHODS: dict[str, tuple[str, dict[str, Any]] | None] = {
    "plain": None,
    "ms-poe": None,
    "ms-poe, reversed": ("ms-poe", {"head_order": "reverse"}),
    "all pairs, reversed": ("ms-poe", {"head_order": "reverse", "from_wavelength": 0.0}),
    "ntk": ("ntk", {"factor": 2.0}),
    "yarn": ("yarn", {"factor": 2.0}),
    "ms-poe+ntk": ("ms-poe+ntk", {"factor": 2.0}),
}


def interval(hits: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's 95% interval of a share."""
    share, spread = hits / n, z * z / n
    middle = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    return middle - half, middle + half


def hits(file: Path, length: int, n: int, seed: int = 0) -> list[int]:
    """Right answers at each of ``DEPTHS`` in ``n`` texts of ``length`` tokens; the likeliest token is the answer."""
    import ggufrope

    found = [0] * len(DEPTHS)
    rng = random.Random(f"{seed} {length}")
    model = ggufrope.load(file, n_ctx=length + 32, n_batch=512, n_threads=os.cpu_count())
    with contextlib.closing(model):
        for _ in range(n):
            words, asked = make_quiz(rng, length - 4, DEPTHS)  # 4: the start token, and "so give NAME"
            model.reset()
            model.eval(model.tokenize(" ".join(words).encode()))
            for d, (key, value) in enumerate(asked):
                found[d] += (
                    _continue(model, f" so give {key}") == model.tokenize(f" {value}".encode(), add_bos=False)[-1]
                )
    return found


def _continue(model: Any, text: str) -> int:
    """The likeliest token after what ``model`` has read and ``text``; ``text`` is forgotten again."""
    from llama_cpp import llama_get_logits_ith

    read = model.n_tokens
    model.eval(model.tokenize(text.encode(), add_bos=False))
    logits = np.ctypeslib.as_array(llama_get_logits_ith(model._ctx.ctx, -1), (model.n_vocab(),))
    likeliest = int(np.argmax(logits))
    model._ctx.kv_cache_seq_rm(-1, read, -1)
    model.n_tokens = read
    return likeliest


def table(plain: Path, folder: Path, n: int = 40) -> str:
    """A table of accuracies: methods × lengths, by depth, with the overall share and its 95% interval."""
    from ggufrope.convert.conversion import plan, write

    rows = [f"{'':<19} {'tokens':>6}  " + " ".join(f"{f'{d:.0%}':>5}" for d in DEPTHS) + "    all (95% interval)"]
    for name, method in METHODS.items():
        file = folder / f"{name.replace(', ', '-').replace(' ', '-')}.gguf"
        if method is not None:
            write(plan(ModelFile.open(plain), *method), file)
        for length in (TRAINED, 2 * TRAINED):
            right = hits(file, length, n)
            low, high = interval(sum(right), n * len(DEPTHS))
            cells = " ".join(f"{r / n:>5.0%}" for r in right)
            rows.append(
                f"{name:<19} {length:>6}  {cells}   {sum(right) / n / len(DEPTHS):>4.0%} ({low:.0%}-{high:.0%})"
            )
    rows.append(f"{n} texts a cell; trained on texts of up to {TRAINED} tokens; depth 0% is the start of the text.")
    rows.append("ms-poe has its heads in the calibrated order; reversed, in no order but the numbers', backwards.")
    rows.append("It divides slow pairs alone, which is its default; 'all pairs' is as published (--from-wavelength 0).")
    return "\n".join(rows)
