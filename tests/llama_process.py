"""A llama.cpp of our choice in a process of its own: one job in, arrays and the log out.

Two builds of libllama cannot live in one process, and a bad file must be seen to fail without a signal. So a test
describes what to do as data; this file, run as a program, does it through the plain ``llama_cpp`` functions.

A job is ``{"model": path, "context": {...}, "steps": [[name, ...], ...]}``, and ``"rpc": [library, "host:port"]``
to put all layers on that server (``rpc_backend.py``). The steps:

==================================  ==================================================================
``["reopen", settings]``            model and context anew, with these settings, too; answers ``[1.0]`` or ``[0.0]``;
                                    with ``"model"`` among them, another file
``["eval", tokens, pos, seq]``      decode at positions ``pos``, ``pos+1``, ...; answers logits ``[n, n_vocab]``
``["shift", seq, p0, p1, delta]``   move cached positions (a K shift follows with the next decode)
``["remove", seq, p0, p1]``         drop cached positions
``["divide", seq, p0, p1, d]``      divide cached positions
``["batch", [[tokens, pos, seq]]]`` decode several sequences in one batch; answers their logits one after another
``["image", n, pos]``               decode n zero embeddings in two columns, where a model has sections of positions
``["vectors", values, positions]``  decode embeddings ``[n][n_embd]`` at positions ``[n_pos][n]``; answers their logits
``["adapters", [[path, scale]]]``   these LoRA adapters from now on
``["steer", values, first, last]``  a control vector for layers 1, 2, ... added behind these layers; ``[]`` for none
``["embed", parts]``                a batch as ``batch``; answers the pooled embedding of each sequence
``["clear"]``                       empty the memory
``["save", path]``                  the whole state to a file; answers ``[1.0]`` or ``[0.0]``, as do the next three
``["load", path]``                  the state from a file
``["save_seq", path, seq]``         the state of a sequence (0) to a file
``["load_seq", path, seq]``         the state of a sequence (0) from a file
``["keep_seq", seq, flags]``        the state of a sequence, in memory; flags are llama_state_seq_flags (0)
``["restore_seq", seq, flags]``     what ``keep_seq`` kept, as this sequence; answers ``[1.0]`` or ``[0.0]``
``["save_model", path]``            the model to a GGUF
``["set", factors]``                head factors; answers ``[1.0]`` or ``[0.0]``
``["get"]``                         answers the head factors
``["set_pairs", factors]``          pair factors; answers ``[1.0]`` or ``[0.0]``
``["get_pairs"]``                   answers the pair factors, or ``[]``
``["uploads"]``                     answers what a preloaded ``runtime/count_uploads.c`` has counted
``["capture", on]``                 score heads from now on, or no longer; answers ``[1.0]`` or ``[0.0]``
``["scores"]``                      answers the scores of all query heads for the last token, or ``[]``
``["hint", n]``                     the length that a prompt will have
``["pin", row]``                    a length row whatever the length; -1: by length
``["row"]``                         answers the length row
``["pending"]``                     answers the pending length row, -1 if there is none
``["set_order", name]``             the order of heads; answers ``[1.0]`` or ``[0.0]``
``["order"]``                       answers its name
``["perf"]``                        answers how many tokens were read in batches, and how many one by one
``["peak"]``                        answers the most memory that the process has had, in MiB
``["why"]``                         answers ``ggufrope_last_error()``
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
from rpc_backend import add_server

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


def run_job(
    library: Path, model: Path, steps: list[Any], *, rpc: tuple[Path, str] | None = None, **context: Any
) -> Outcome:
    """Run one job on the libraries in ``library``; ``context`` overrides ``STRICT``.

    With ``split_tensors`` in it, the model is loaded in tensor-split mode, on the CPU as the only device. With
    ``overrides``, a dict, these values take the place of the file's keys, as with ``--override-kv``.

    Raises:
        RuntimeError: The process died, for example by a signal.
    """
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary, "out.npz")
        job = {"model": str(model), "context": {**STRICT, **context}, "steps": steps, "out": str(out)}
        job["rpc"] = [str(rpc[0]), rpc[1]] if rpc else []
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
    model_parameters = ll.llama_model_default_params()
    if job["rpc"]:
        add_server(Path(os.environ["LLAMA_CPP_LIB_PATH"]), Path(job["rpc"][0]), job["rpc"][1])
        model_parameters.n_gpu_layers = 99
    if job["context"].pop("split_tensors", False):
        model_parameters.split_mode = 3  # LLAMA_SPLIT_MODE_TENSOR, which the bindings do not name
        ggml = ctypes.CDLL(next(map(str, Path(os.environ["LLAMA_CPP_LIB_PATH"]).glob("libggml.*"))))
        ggml.ggml_backend_dev_by_name.restype = ctypes.c_void_p
        devices = (ctypes.c_void_p * 2)(ggml.ggml_backend_dev_by_name(b"CPU"))
        model_parameters.devices = ctypes.addressof(devices)
    run = _Steps(ll, job["model"], model_parameters, job["context"])
    error = run.open()
    for step in [] if error else job["steps"]:
        try:
            answer = getattr(run, "do_" + step[0])(*step[1:])
        except ValueError as problem:
            error = f"step: {problem}"
            break
        if answer is not None:
            arrays.append(answer)
    run.close()
    np.savez(job["out"], **{str(i): array for i, array in enumerate(arrays)})
    print(json.dumps({"error": error, "last_error": _last_error(ll._lib)}))


def _overrides(ll: Any, values: dict[str, Any]) -> Any:
    array = (ll.llama_model_kv_override * (len(values) + 1))()  # an empty key ends it
    for given, (key, value) in zip(array, values.items(), strict=False):
        given.key, given.tag = key.encode(), [int, float, bool, str].index(type(value))
        if isinstance(value, str):
            given.value.val_str = value.encode()
        else:
            setattr(given.value, ("val_i64", "val_f64", "val_bool")[given.tag], value)
    return array


def _last_error(library: ctypes.CDLL) -> str:
    if not hasattr(library, "ggufrope_last_error"):
        return ""
    library.ggufrope_last_error.restype = ctypes.c_char_p
    return library.ggufrope_last_error().decode()


class _Steps:
    def __init__(self, ll: Any, path: str, model_parameters: Any, settings: dict[str, Any]) -> None:
        self.ll, self.path, self.model_parameters, self.settings = ll, path, model_parameters, settings
        self.model = self.context = None
        self.kept = b""

    def open(self, **more: Any) -> str:
        """The model and a context of it; what could not be opened."""
        ll, settings = self.ll, {**self.settings, **more}
        overrides = _overrides(ll, settings.pop("overrides", {}))
        self.model_parameters.kv_overrides = overrides if len(overrides) > 1 else None
        path = settings.pop("model", self.path)
        self.model = ll.llama_model_load_from_file(path.encode(), self.model_parameters)
        if not self.model:
            return "model"
        parameters = ll.llama_context_default_params()
        for name, value in settings.items():
            setattr(parameters, name, value)
        self.context = ll.llama_init_from_model(self.model, parameters)
        if not self.context:
            return "context"
        self._ready()
        return ""

    def close(self) -> None:
        if self.context:
            self.ll.llama_free(self.context)
        if self.model:
            self.ll.llama_model_free(self.model)
        self.model = self.context = None

    def do_reopen(self, more: dict[str, Any]) -> np.ndarray:
        self.close()
        return np.array([float(not self.open(**more))])

    def _ready(self) -> None:
        ll, model, context = self.ll, self.model, self.context
        self.memory = ll.llama_get_memory(context)
        self.n_vocab = ll.llama_vocab_n_tokens(ll.llama_model_get_vocab(model))
        self.n_batch = ll.llama_n_batch(context)
        if hasattr(ll._lib, "ggufrope_api_version"):
            ll._lib.ggufrope_n_head_factors.restype = ctypes.c_size_t
            ll._lib.ggufrope_n_head_factors.argtypes = [ctypes.c_void_p]
            ll._lib.ggufrope_n_pair_factors.restype = ctypes.c_size_t
            ll._lib.ggufrope_n_pair_factors.argtypes = [ctypes.c_void_p]
            self.n_pair_factors = ll._lib.ggufrope_n_pair_factors(model)
            for name in ("get_head", "set_head", "get_pair", "set_pair"):
                function = getattr(ll._lib, f"ggufrope_{name}_factors")
                function.restype = ctypes.c_bool
                function.argtypes = [ctypes.c_void_p, ctypes.POINTER(ctypes.c_float), ctypes.c_size_t]
            ll._lib.ggufrope_capture_scores.argtypes = [ctypes.c_void_p, ctypes.c_bool]
            ll._lib.ggufrope_capture_scores.restype = ctypes.c_bool
            ll._lib.ggufrope_get_scores.argtypes = ll._lib.ggufrope_get_head_factors.argtypes
            ll._lib.ggufrope_get_scores.restype = ctypes.c_bool
            ll._lib.ggufrope_n_scores.argtypes = [ctypes.c_void_p]
            ll._lib.ggufrope_n_scores.restype = ctypes.c_size_t
            self.n_factors = ll._lib.ggufrope_n_head_factors(model)
            ll._lib.ggufrope_get_length_row.argtypes = [ctypes.c_void_p]
            ll._lib.ggufrope_set_length_row.argtypes = [ctypes.c_void_p, ctypes.c_int32]
            ll._lib.ggufrope_set_length_hint.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
            ll._lib.ggufrope_get_pending_length_row.argtypes = [ctypes.c_void_p]
            ll._lib.ggufrope_get_head_order.argtypes = [ctypes.c_void_p]
            ll._lib.ggufrope_get_head_order.restype = ctypes.c_char_p
            ll._lib.ggufrope_set_head_order.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
            ll._lib.ggufrope_set_head_order.restype = ctypes.c_bool
        self.adapters: dict[str, int | None] = {}
        self.ranks = ll.llama_pooling_type(context) == 4  # LLAMA_POOLING_TYPE_RANK

    def do_eval(self, tokens: list[int], pos: int = 0, seq: int = 0) -> np.ndarray:
        starts = range(0, len(tokens), self.n_batch)
        return np.concatenate([self.do_batch([[tokens[i : i + self.n_batch], pos + i, seq]]) for i in starts])

    def do_batch(self, parts: list[Any]) -> np.ndarray:
        if not self.context:
            raise ValueError("nothing is open")
        tokens = [(token, pos + i, seq) for part, pos, seq in parts for i, token in enumerate(part)]
        self._decode(tokens)
        logits = self.ll.llama_get_logits(self.context)
        return np.ctypeslib.as_array(logits, (len(tokens), self.n_vocab)).copy()

    def _decode(self, tokens: list[tuple[int, int, int]]) -> None:
        batch = self.ll.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for i, (token, pos, seq) in enumerate(tokens):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, pos, 1, 1
            batch.seq_id[i][0] = seq
        status = self.ll.llama_decode(self.context, batch)
        self.ll.llama_batch_free(batch)
        if status != 0:
            raise ValueError(f"llama_decode: {status}")

    def do_image(self, n: int, pos: int) -> None:
        batch = self.ll.llama_batch_init(n, self.ll.llama_model_n_embd_inp(self.model), 1)
        rows, columns = [pos + i // 2 for i in range(n)], [pos + i % 2 for i in range(n)]
        positions = (ctypes.c_int32 * (4 * n))(*[pos] * n, *rows, *columns, *[0] * n)
        batch.pos = positions  # so the batch is not freed: its own positions have room for one section only
        batch.n_tokens = n
        for i in range(n):
            batch.n_seq_id[i], batch.logits[i], batch.seq_id[i][0] = 1, 0, 0
        ctypes.memset(batch.embd, 0, 4 * n * self.ll.llama_model_n_embd_inp(self.model))
        status = self.ll.llama_decode(self.context, batch)
        if status != 0:
            raise ValueError(f"llama_decode: {status}")

    def do_vectors(self, values: list[list[float]], positions: list[list[int]]) -> np.ndarray:
        n, flat = len(values), [p for row in positions for p in row]
        batch = self.ll.llama_batch_init(n, len(values[0]), 1)
        batch.pos = (ctypes.c_int32 * len(flat))(*flat)  # so the batch is not freed, as in do_image
        batch.n_tokens = n
        np.ctypeslib.as_array(batch.embd, (n * len(values[0]),))[:] = np.ravel(values)
        for i in range(n):
            batch.n_seq_id[i], batch.logits[i], batch.seq_id[i][0] = 1, 1, 0
        status = self.ll.llama_decode(self.context, batch)
        if status != 0:
            raise ValueError(f"llama_decode: {status}")
        return np.ctypeslib.as_array(self.ll.llama_get_logits(self.context), (n, self.n_vocab)).copy()

    def do_adapters(self, chosen: list[tuple[str, float]]) -> None:
        library = self.ll._lib
        library.llama_adapter_lora_init.restype = ctypes.c_void_p
        library.llama_adapter_lora_init.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        library.llama_set_adapters_lora.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
        for path, _ in chosen:
            if path not in self.adapters:
                self.adapters[path] = library.llama_adapter_lora_init(self.model, path.encode())
        adapters = (ctypes.c_void_p * len(chosen))(*(self.adapters[path] for path, _ in chosen))
        scales = (ctypes.c_float * len(chosen))(*(scale for _, scale in chosen))
        if None in list(adapters) or library.llama_set_adapters_lora(self.context, adapters, len(chosen), scales) != 0:
            raise ValueError("adapters")

    def do_steer(self, values: list[float], first: int = 0, last: int = 0) -> None:
        data = (ctypes.c_float * len(values))(*values) if values else None
        set_vector = self.ll._lib.llama_set_adapter_cvec
        set_vector.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int32] * 3]
        n_embd = self.ll.llama_model_n_embd(self.model)
        if set_vector(self.context, data, len(values), n_embd, first, last) != 0:
            raise ValueError("llama_set_adapter_cvec")

    def do_embed(self, parts: list[Any]) -> np.ndarray:
        self._decode([(token, pos + i, seq) for part, pos, seq in parts for i, token in enumerate(part)])
        sequences = sorted({seq for _, _, seq in parts})
        found = [self.ll.llama_get_embeddings_seq(self.context, seq) for seq in sequences]
        if self.ranks:
            return np.array([pointer[0] for pointer in found])
        n_embd = self.ll.llama_model_n_embd(self.model)
        return np.array([np.ctypeslib.as_array(pointer, (n_embd,)) for pointer in found])

    def do_shift(self, seq: int, p0: int, p1: int, delta: int) -> None:
        if not self.ll.llama_memory_can_shift(self.memory):
            raise ValueError("cannot shift")
        self.ll.llama_memory_seq_add(self.memory, seq, p0, p1, delta)

    def do_remove(self, seq: int, p0: int, p1: int) -> None:
        self.ll.llama_memory_seq_rm(self.memory, seq, p0, p1)

    def do_divide(self, seq: int, p0: int, p1: int, d: int) -> None:
        self.ll.llama_memory_seq_div(self.memory, seq, p0, p1, d)

    def do_clear(self) -> None:
        self.ll.llama_memory_clear(self.memory, True)

    def do_save(self, path: str) -> np.ndarray:
        return np.array([float(self.ll.llama_state_save_file(self.context, path.encode(), None, 0))])

    def do_load(self, path: str) -> np.ndarray:
        none, count = (self.ll.llama_token * 1)(), ctypes.c_size_t()
        ok = self.ll.llama_state_load_file(self.context, path.encode(), none, 1, ctypes.byref(count))
        return np.array([float(ok)])

    def do_save_seq(self, path: str, seq: int = 0) -> np.ndarray:
        size = self.ll.llama_state_seq_save_file(self.context, path.encode(), seq, None, 0)
        return np.array([float(size > 0)])

    def do_load_seq(self, path: str, seq: int = 0) -> np.ndarray:
        none, count = (self.ll.llama_token * 1)(), ctypes.c_size_t()
        size = self.ll.llama_state_seq_load_file(self.context, path.encode(), seq, none, 1, ctypes.byref(count))
        return np.array([float(size > 0)])

    def do_keep_seq(self, seq: int = 0, flags: int = 0) -> None:
        size = self.ll.llama_state_seq_get_size_ext(self.context, seq, flags)
        self.kept = (ctypes.c_uint8 * size)()
        if self.ll.llama_state_seq_get_data_ext(self.context, self.kept, size, seq, flags) != size:
            raise ValueError("llama_state_seq_get_data_ext")

    def do_restore_seq(self, seq: int = 0, flags: int = 0) -> np.ndarray:
        size = self.ll.llama_state_seq_set_data_ext(self.context, self.kept, len(self.kept), seq, flags)
        return np.array([float(size == len(self.kept))])

    def do_save_model(self, path: str) -> None:
        self.ll.llama_model_save_to_file(self.model, path.encode())

    def do_set(self, factors: list[float]) -> np.ndarray:
        array = (ctypes.c_float * len(factors))(*factors)
        return np.array([float(self.ll._lib.ggufrope_set_head_factors(self.context, array, len(factors)))])

    def do_set_pairs(self, factors: list[float]) -> np.ndarray:
        array = (ctypes.c_float * len(factors))(*factors)
        return np.array([float(self.ll._lib.ggufrope_set_pair_factors(self.context, array, len(factors)))])

    def do_get_pairs(self) -> np.ndarray:
        array = (ctypes.c_float * self.n_pair_factors)()
        ok = self.ll._lib.ggufrope_get_pair_factors(self.context, array, self.n_pair_factors)
        return np.array(array) if ok else np.empty(0)

    def do_hint(self, n_tokens: int) -> None:
        self.ll._lib.ggufrope_set_length_hint(self.context, n_tokens)

    def do_pin(self, row: int) -> None:
        if not self.ll._lib.ggufrope_set_length_row(self.context, row):
            raise ValueError("ggufrope_set_length_row")

    def do_row(self) -> np.ndarray:
        return np.array([float(self.ll._lib.ggufrope_get_length_row(self.context))])

    def do_pending(self) -> np.ndarray:
        return np.array([float(self.ll._lib.ggufrope_get_pending_length_row(self.context))])

    def do_set_order(self, name: str) -> np.ndarray:
        return np.array([float(self.ll._lib.ggufrope_set_head_order(self.context, name.encode()))])

    def do_order(self) -> np.ndarray:
        return np.array([self.ll._lib.ggufrope_get_head_order(self.context).decode()])

    def do_perf(self) -> np.ndarray:
        data = self.ll.llama_perf_context(self.context)
        return np.array([data.n_p_eval, data.n_eval])

    def do_peak(self) -> np.ndarray:
        import resource  # not on Windows

        unit = 2**20 if sys.platform == "darwin" else 2**10
        return np.array([resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit])

    def do_why(self) -> np.ndarray:
        return np.array([_last_error(self.ll._lib)])

    def do_get(self) -> np.ndarray:
        array = (ctypes.c_float * self.n_factors)()
        if not self.ll._lib.ggufrope_get_head_factors(self.context, array, self.n_factors):
            raise ValueError("ggufrope_get_head_factors")
        return np.array(array)

    def do_capture(self, on: bool) -> np.ndarray:
        return np.array([float(self.ll._lib.ggufrope_capture_scores(self.context, on))])

    def do_scores(self) -> np.ndarray:
        array = (ctypes.c_float * self.ll._lib.ggufrope_n_scores(self.model))()
        ok = self.ll._lib.ggufrope_get_scores(self.context, array, len(array))
        return np.array(array) if ok else np.empty(0)

    def do_uploads(self) -> np.ndarray:
        counted = np.zeros(3)
        ctypes.CDLL(None).count_uploads(ctypes.c_void_p(counted.ctypes.data))
        return counted


if __name__ == "__main__":
    _main()
