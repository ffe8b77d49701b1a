"""Log-probabilities of a GGUF on the patched runtime, streamed, in the strictest setting that llama.cpp has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ggufrope.errors import RuntimeLibraryError

if TYPE_CHECKING:
    from llama_cpp import Llama

    from ggufrope.modelfile.model_file import ModelFile

__all__ = ["chunk_size", "log_probs", "log_softmax", "logits", "open_strict"]

_GGML_F32 = 0  # enum ggml_type


def chunk_size(n_vocab: int, n_scores: int = 0) -> int:
    """How many positions to hold at a time: at most 256, and 4 million logits, 32 MB in float64.

    ``compare`` holds one of them for each side.

    Args:
        n_vocab: logits of one position.
        n_scores: attention scores of one position, length × heads, of which llama.cpp holds a layer's (without flash
            attention): at most 64 million, 256 MB.
    """
    return max(1, min(256, 2**22 // n_vocab, 2**26 // max(1, n_scores)))


def open_strict(file: ModelFile | Path, length: int, chunk: int, **kwargs: Any) -> Llama:
    """Load ``file`` for ``length`` tokens with an F32 KV cache and without flash attention, on the CPU.

    The context is exactly as long as the text (llama.cpp pads it to a multiple of 256), because llama.cpp picks
    LongRoPE's short or long factors by the allocated context and transformers by the length in use.

    Raises:
        RuntimeLibraryError, InputError: see ``ggufrope.runtime.library.load``.
    """
    from ggufrope.runtime.library import load

    settings = {"n_ctx": length, "n_batch": chunk, "n_ubatch": chunk, "flash_attn": False}
    settings |= {"type_k": _GGML_F32, "type_v": _GGML_F32, "n_gpu_layers": 0}
    return load(file, **(settings | kwargs))


def logits(model: Llama, ids: Sequence[int]) -> Iterator[npt.NDArray[np.float32]]:
    """Logits at every position of ``ids``, one batch of the context at a time: ``(≤ n_batch, n_vocab)``.

    The length is known beforehand, so every batch uses the length row that serves all of ``ids``.

    Raises:
        RuntimeLibraryError: llama.cpp could not evaluate a batch.
    """
    from ggufrope.runtime.library import set_length_hint

    model.reset()
    model._ctx.kv_cache_clear()
    set_length_hint(model, len(ids))
    n_vocab = model.n_vocab()
    for start in range(0, len(ids), model.n_batch):
        part = list(ids[start : start + model.n_batch])
        model._batch.set_batch(part, n_past=start, logits_all=True)
        try:
            model._ctx.decode(model._batch)
        except RuntimeError as error:
            raise RuntimeLibraryError(f"{model.model_path}: llama.cpp stopped at position {start}: {error}") from error
        # llama.cpp reuses this memory for the next batch
        yield np.ctypeslib.as_array(model._ctx.get_logits(), shape=(len(part), n_vocab)).copy()


def log_probs(model: Llama, ids: Sequence[int]) -> Iterator[npt.NDArray[np.float64]]:
    """Log-probabilities of the next token at every position of ``ids``, a batch at a time."""
    yield from map(log_softmax, logits(model, ids))  # map keeps no block that a loop's variable would


def log_softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Log-probabilities of each row, in double precision."""
    values: npt.NDArray[np.float64] = logits.astype(np.float64)
    for i in range(len(values)):  # a row at a time: no second block, and it stays in the processor's cache
        values[i] -= values[i].max()
        values[i] -= np.log(np.exp(values[i]).sum())
    return values
