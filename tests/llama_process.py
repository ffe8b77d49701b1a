"""A llama.cpp of our choice in a process of its own: one job in, arrays and the log out.

Two builds of libllama cannot live in one process, and a bad file must be seen to fail without a signal. So a test
describes what to do as data; this file, run as a program, does it through the plain ``llama_cpp`` functions.

A job is ``{"model": path, "context": {...}, "steps": [[name, ...], ...]}``. The steps:

==================================  ==================================================================
``["eval", tokens, pos, seq]``      decode at positions ``pos``, ``pos+1``, ...; answers logits ``[n, n_vocab]``
``["shift", seq, p0, p1, delta]``   move cached positions (a K shift follows with the next decode)
``["remove", seq, p0, p1]``         drop cached positions
``["clear"]``                       empty the memory
``["save", path]``                  the whole state to a file; answers ``[1.0]`` or ``[0.0]``, as do the next three
``["load", path]``                  the state from a file
``["save_seq", path]``              the state of sequence 0 to a file
``["load_seq", path]``              the state of sequence 0 from a file
``["save_model", path]``            the model to a GGUF
``["set", factors]``                head factors; answers ``[1.0]`` or ``[0.0]``
``["get"]``                         answers the head factors
==================================  ==================================================================
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Outcome", "run_job"]

#: Strict comparisons: F32 cache, no flash attention, one thread.
STRICT: dict[str, Any] = {
    **dict.fromkeys(("n_ctx", "n_batch", "n_ubatch"), 512),
    **dict.fromkeys(("type_k", "type_v", "flash_attn_type"), 0),
    **dict.fromkeys(("n_threads", "n_threads_batch"), 1),
}


@dataclass(frozen=True)
class Outcome:
    """What a job came to.

    Attributes:
        arrays: One array for each step that answers.
        error: Empty, or what could not be done: "model", "context" or "step".
        last_error: ``ggufrope_last_error()``, empty on an unpatched library.
        log: Everything that llama.cpp printed.
    """

    arrays: list[np.ndarray]
    error: str
    last_error: str
    log: str


def run_job(library: Path, model: Path, steps: list[Any], **context: Any) -> Outcome:
    """Run one job on the libraries in ``library``; ``context`` overrides ``STRICT``.

    Raises:
        RuntimeError: The process died, for example by a signal.
    """
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary, "out.npz")
        job = {"model": str(model), "context": {**STRICT, **context}, "steps": steps, "out": str(out)}
        environment = {**os.environ, "LLAMA_CPP_LIB_PATH": str(library)}
        done = subprocess.run(
            [sys.executable, "-W", "ignore", __file__],
            input=json.dumps(job),
            env=environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=600,
            errors="replace",
        )
        if done.returncode != 0:
            raise RuntimeError(f"exit status {done.returncode}: {done.stderr[-2000:]}")
        answer = json.loads(done.stdout.splitlines()[-1])
        with np.load(out) as arrays:
            return Outcome([arrays[str(i)] for i in range(len(arrays.files))], log=done.stderr, **answer)


def _main() -> None:
    import llama_cpp.llama_cpp as ll

    job = json.load(sys.stdin)
    arrays: list[np.ndarray] = []
    error = ""
    model = ll.llama_model_load_from_file(job["model"].encode(), ll.llama_model_default_params())
    if not model:
        error = "model"
    else:
        parameters = ll.llama_context_default_params()
        for name, value in job["context"].items():
            setattr(parameters, name, value)
        context = ll.llama_init_from_model(model, parameters)
        if not context:
            error = "context"
        else:
            run = _Steps(ll, model, context)
            for step in job["steps"]:
                try:
                    answer = getattr(run, "do_" + step[0])(*step[1:])
                except ValueError as problem:
                    error = f"step: {problem}"
                    break
                if answer is not None:
                    arrays.append(answer)
            ll.llama_free(context)
        ll.llama_model_free(model)
    np.savez(job["out"], **{str(i): array for i, array in enumerate(arrays)})
    print(json.dumps({"error": error, "last_error": _last_error(ll._lib)}))


def _last_error(library: ctypes.CDLL) -> str:
    if not hasattr(library, "ggufrope_last_error"):
        return ""
    library.ggufrope_last_error.restype = ctypes.c_char_p
    return library.ggufrope_last_error().decode()


class _Steps:
    def __init__(self, ll: Any, model: Any, context: Any) -> None:
        self.ll, self.model, self.context = ll, model, context
        self.memory = ll.llama_get_memory(context)
        self.n_vocab = ll.llama_vocab_n_tokens(ll.llama_model_get_vocab(model))
        self.n_batch = ll.llama_n_batch(context)
        if hasattr(ll._lib, "ggufrope_api_version"):
            ll._lib.ggufrope_n_head_factors.restype = ctypes.c_size_t
            ll._lib.ggufrope_n_head_factors.argtypes = [ctypes.c_void_p]
            for name in ("get", "set"):
                function = getattr(ll._lib, f"ggufrope_{name}_head_factors")
                function.restype = ctypes.c_bool
                function.argtypes = [ctypes.c_void_p, ctypes.POINTER(ctypes.c_float), ctypes.c_size_t]
            self.n_factors = ll._lib.ggufrope_n_head_factors(model)

    def do_eval(self, tokens: list[int], pos: int = 0, seq: int = 0) -> np.ndarray:
        parts = [self._decode(tokens[i : i + self.n_batch], pos + i, seq) for i in range(0, len(tokens), self.n_batch)]
        return np.concatenate(parts)

    def _decode(self, tokens: list[int], pos: int, seq: int) -> np.ndarray:
        batch = self.ll.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, pos + i, 1, 1
            batch.seq_id[i][0] = seq
        status = self.ll.llama_decode(self.context, batch)
        self.ll.llama_batch_free(batch)
        if status != 0:
            raise ValueError(f"llama_decode: {status}")
        logits = self.ll.llama_get_logits(self.context)
        return np.ctypeslib.as_array(logits, (len(tokens), self.n_vocab)).copy()

    def do_shift(self, seq: int, p0: int, p1: int, delta: int) -> None:
        if not self.ll.llama_memory_can_shift(self.memory):
            raise ValueError("cannot shift")
        self.ll.llama_memory_seq_add(self.memory, seq, p0, p1, delta)

    def do_remove(self, seq: int, p0: int, p1: int) -> None:
        self.ll.llama_memory_seq_rm(self.memory, seq, p0, p1)

    def do_clear(self) -> None:
        self.ll.llama_memory_clear(self.memory, True)

    def do_save(self, path: str) -> np.ndarray:
        return np.array([float(self.ll.llama_state_save_file(self.context, path.encode(), None, 0))])

    def do_load(self, path: str) -> np.ndarray:
        none, count = (self.ll.llama_token * 1)(), ctypes.c_size_t()
        ok = self.ll.llama_state_load_file(self.context, path.encode(), none, 1, ctypes.byref(count))
        return np.array([float(ok)])

    def do_save_seq(self, path: str) -> np.ndarray:
        size = self.ll.llama_state_seq_save_file(self.context, path.encode(), 0, None, 0)
        return np.array([float(size > 0)])

    def do_load_seq(self, path: str) -> np.ndarray:
        none, count = (self.ll.llama_token * 1)(), ctypes.c_size_t()
        size = self.ll.llama_state_seq_load_file(self.context, path.encode(), 0, none, 1, ctypes.byref(count))
        return np.array([float(size > 0)])

    def do_save_model(self, path: str) -> None:
        self.ll.llama_model_save_to_file(self.model, path.encode())

    def do_set(self, factors: list[float]) -> np.ndarray:
        array = (ctypes.c_float * len(factors))(*factors)
        return np.array([float(self.ll._lib.ggufrope_set_head_factors(self.context, array, len(factors)))])

    def do_get(self) -> np.ndarray:
        array = (ctypes.c_float * self.n_factors)()
        if not self.ll._lib.ggufrope_get_head_factors(self.context, array, self.n_factors):
            raise ValueError("ggufrope_get_head_factors")
        return np.array(array)


if __name__ == "__main__":
    _main()
