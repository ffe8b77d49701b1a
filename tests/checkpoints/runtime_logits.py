"""``runtime_logits.py FILE OUT stock|patched LENGTH ...``: log-probabilities of a build, at its most exact settings.

A program of its own, since an assertion of llama.cpp ends the process. It writes ``OUT-LENGTH.npy``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from toy_vocabularies import VOCAB_SIZE

import ggufrope
from ggufrope.runtime.locate import locate

__all__ = ["log_probabilities", "tokens"]


def tokens(length: int, vocab: int) -> list[int]:
    """The text that both sides read: any tokens but the first ones, which are special."""
    return [int(t) for t in np.random.default_rng(0).integers(16, vocab, length)]


def log_probabilities(file: Path, length: int, vocab: int, *, stock: bool = False) -> np.ndarray:
    """``(length, vocab)``: float32 throughout, one thread, one batch; on the patched build, or on the stock one."""
    options = {"n_ctx": length, "n_batch": length, "n_ubatch": length, "logits_all": True}
    options |= {"n_threads": 1, "n_threads_batch": 1}  # two would wait for each other on a busy machine
    options |= {"type_k": 0, "type_v": 0, "flash_attn": False, "verbose": False}
    llm = _stock(file, options) if stock else ggufrope.load(str(file), **options)
    llm.eval(tokens(length, vocab))
    logits = np.array(llm.scores[:length, :vocab], dtype=np.float64)
    llm.close()
    logits -= logits.max(-1, keepdims=True)
    return np.asarray(logits - np.log(np.exp(logits).sum(-1, keepdims=True)))


def _stock(file: Path, options: dict[str, Any]) -> Any:
    os.environ["LLAMA_CPP_LIB_PATH"] = str(locate(stock=True).path)
    import llama_cpp

    return llama_cpp.Llama(str(file), yarn_beta_fast=-1.0, yarn_beta_slow=-1.0, **options)  # the file's own betas


if __name__ == "__main__":
    file, out, build, *lengths = sys.argv[1:]
    for length in map(int, lengths):
        np.save(f"{out}-{length}.npy", log_probabilities(Path(file), length, VOCAB_SIZE, stock=build == "stock"))
