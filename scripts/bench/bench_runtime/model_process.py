"""A model in a process of its own, timed on request: two builds of llama.cpp cannot live in one process.

    model_process.py MODEL THREADS CONTEXT CLOCK [scored]       with LLAMA_CPP_LIB_PATH

Says "ready", then answers lines of "prompt N" or "decode N" with the seconds that N tokens took, from an empty cache;
and "switch N", where the model has a length table, with the seconds that another row takes with N tokens cached. CLOCK
is "wall" or "cpu". With "scored" every batch scores the heads.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable
from typing import Any

import llama_cpp.llama_cpp as ll

SILENT = ll.llama_log_callback(lambda _level, _text, _data: None)


def main(model_path: str, threads: str, n_ctx: str, clock: str, scored: str = "") -> None:
    now = time.process_time if clock == "cpu" else time.perf_counter
    ll.llama_log_set(SILENT, ctypes.c_void_p())
    model = ll.llama_model_load_from_file(model_path.encode(), ll.llama_model_default_params())
    parameters = ll.llama_context_default_params()
    parameters.n_ctx = int(n_ctx)
    parameters.n_threads = parameters.n_threads_batch = int(threads)
    context = ll.llama_init_from_model(model, parameters)
    if not context:
        sys.exit(f"{model_path} cannot be run")
    if scored:
        ll._lib.ggufrope_capture_scores.argtypes = [ctypes.c_void_p, ctypes.c_bool]
        ll._lib.ggufrope_capture_scores.restype = ctypes.c_bool
        if not ll._lib.ggufrope_capture_scores(context, True):
            sys.exit(f"{model_path}: its heads cannot be scored")
    memory = ll.llama_get_memory(context)
    print("ready", flush=True)
    for line in sys.stdin:
        what, count = line.split()
        if what == "switch":
            print(switch(context, int(count), now), flush=True)
            continue
        ll.llama_memory_clear(memory, True)
        parts = [int(count)] if what == "prompt" else [1] * int(count)
        start = now()
        for size in parts:
            decode(context, size)
        print(now() - start, flush=True)


def decode(context: Any, size: int) -> None:
    """Decode so many tokens behind those that are cached."""
    tokens = (ll.llama_token * size)(*(7 * i % 32000 for i in range(size)))
    if ll.llama_decode(context, ll.llama_batch_get_one(tokens, size)) != 0:
        sys.exit(f"llama_decode of {size} tokens")
    ll.llama_synchronize(context)


def switch(context: Any, count: int, now: Callable[[], float]) -> float:
    """Seconds by which a token that comes with another row takes longer than one that does not; the cache is kept."""
    memory, library = ll.llama_get_memory(context), ll._lib
    library.ggufrope_get_length_row.argtypes = [ctypes.c_void_p]
    library.ggufrope_set_length_row.argtypes = [ctypes.c_void_p, ctypes.c_int32]
    while (cached := ll.llama_memory_seq_pos_max(memory, 0) + 1) < count:
        decode(context, min(512, count - cached))
    seconds = []
    for row in (library.ggufrope_get_length_row(context), 1 - library.ggufrope_get_length_row(context)):
        library.ggufrope_set_length_row(context, row)
        start = now()
        decode(context, 1)
        seconds.append(now() - start)
        ll.llama_memory_seq_rm(memory, 0, count, -1)
    return seconds[1] - seconds[0]


if __name__ == "__main__":
    main(*sys.argv[1:])
