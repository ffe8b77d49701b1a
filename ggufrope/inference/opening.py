"""A model for the engine: opened once, with contexts of whatever size a job needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ggufrope.errors import UnsupportedModelError, UsageError
from ggufrope.gguf.keys import (
    CHAT_TEMPLATE,
    CONTEXT_LENGTH,
    HEAD_ORDER,
    ORIGINAL_CONTEXT,
    ROPE_LONG,
    stock,
)
from ggufrope.inference.context import Context
from ggufrope.inference.kv_types import KV_TYPES, KvCache
from ggufrope.inference.vocabulary import Vocabulary
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.runtime.api import Api, api_version
from ggufrope.runtime.cores import cores_of_process
from ggufrope.runtime.library import bindings, load, open_context
from ggufrope.runtime.locate import Runtime

__all__ = ["UBATCH", "InferenceSettings", "Model"]

#: Tokens that are evaluated at once, at most: llama.cpp's own number.
UBATCH = 512
_PAD = 256  # llama.cpp makes contexts a multiple of this long


@dataclass(frozen=True, slots=True)
class InferenceSettings:
    """How numbers are computed; the same for every job on a model.

    Attributes:
        kv_type: type of cached K and V.
        threads: for prompts and for single tokens.
        flash_attn: whether attention runs in one fused operation.
        n_gpu_layers: layers on a GPU; None: all of them where the runtime is built for one.
    """

    kv_type: str
    threads: int
    flash_attn: bool
    n_gpu_layers: int | None = None

    @classmethod
    def choose(
        cls, kv_type: str, threads: int | None, flash_attn: bool | None, *, n_gpu_layers: int | None = None
    ) -> InferenceSettings:
        """Fill in what is None: a thread for each core of this process, flash attention as ``KvCache.choose`` has it.

        Raises:
            UsageError: an unknown type, no thread, a quantized V without flash attention.
        """
        cache = KvCache.choose(kv_type, flash_attn)
        threads = cores_of_process() if threads is None else threads
        if threads < 1:
            raise UsageError(f"threads {threads}: at least one is needed")
        return cls(cache.kv_type, threads, cache.flash_attn, n_gpu_layers)


class Model:
    """Weights and vocabulary, and what decides how contexts on them may be used.

    Attributes:
        file: where it is from.
        vocabulary: its vocabulary.
        train_ctx: the context that it was trained for or that its file aims at.
        chat_template: its chat template, if it has one.
        points: its length points; empty when frequencies do not follow the length.
        per_prompt: whether each prompt gets its own order of heads.
        divisible: whether its memory can be cut at any position.
        repeatable: whether a token's results have the same bits in every batch of two tokens or more. So on CPUs; with
            flash attention only for a quantized cache: batches of other sizes run through other kernels else.
    """

    def __init__(self, file: ModelFile, settings: InferenceSettings) -> None:
        """Open ``file``.

        Raises:
            UnsupportedModelError: it does not continue texts.
            RuntimeLibraryError, InputError: see ``ggufrope.runtime.library.load``.
        """
        # Llama insists on a context of its own, for one sequence; it is as small as can be, and goes at once
        layers: dict[str, Any] = {} if settings.n_gpu_layers is None else {"n_gpu_layers": settings.n_gpu_layers}
        self._llama = load(file, n_ctx=64, n_batch=64, n_ubatch=64, **layers)
        self._llama._ctx.close()
        self._api, self._raw = bindings().llama_cpp, self._llama._model.model
        self.file, self._settings = file, settings
        if self._api.llama_model_has_encoder(self._raw) or not self._api.llama_model_has_decoder(self._raw):
            raise UnsupportedModelError(
                f"{file.path}: not a model that continues texts (it has an encoder, or no decoder); give one that does"
            )
        library = self._api._lib
        self._ours = Api(library) if api_version(library) else None
        self.vocabulary = Vocabulary(self._api, self._raw)
        self.train_ctx = int(self._api.llama_model_n_ctx_train(self._raw))
        self.chat_template: str | None = self._llama.metadata.get(CHAT_TEMPLATE)
        self.points = self._ours.length_points(self._raw) if self._ours else ()
        self.per_prompt = self._llama.metadata.get(HEAD_ORDER, "static") != "static"
        stateful = self._api.llama_model_is_recurrent(self._raw) or self._api.llama_model_is_hybrid(self._raw)
        self.divisible = not stateful
        runtime = Runtime.read(Path(library._name).parent)
        # a GPU's build where there is no GPU computes on the CPU; of builds that are not ours nobody knows
        on_cpu = runtime is not None and not self._api.llama_supports_gpu_offload()
        self.repeatable = on_cpu and (not settings.flash_attn or KV_TYPES[settings.kv_type].quantized)

    def close(self) -> None:
        """Free it."""
        self._llama.close()

    def spare(self, n_ctx: int, wanted: int) -> int:
        """Cells that a context for ``n_ctx`` tokens may have beyond them, without that changing results.

        llama.cpp takes LongRoPE's long factors once a context has more cells than the original context; and the patches
        refuse a context with more cells than the last length point, though no sequence comes to be as long.
        """
        if self.points:
            return max(0, min(wanted, self.points[-1] // _PAD * _PAD - n_ctx))
        original = _longrope_original(self.file)
        if original is None or n_ctx > original:
            return wanted
        return max(0, min(wanted, original // _PAD * _PAD - n_ctx))

    def context(self, *, n_cells: int, n_seq: int, n_batch: int, n_rows: int) -> Context:
        """A context.

        Args:
            n_cells: tokens that its cache holds.
            n_seq: sequences in it.
            n_batch: tokens in a batch.
            n_rows: rows of logits in a batch.

        Raises:
            InputError: llama.cpp refused; its own reason.
        """
        settings, kv_type = self._settings, KV_TYPES[self._settings.kv_type].ggml_type
        n_batch = min(n_batch, n_cells)
        n_rows = min(max(n_rows, n_seq), n_batch)
        raw = open_context(
            self._llama,
            n_ctx=n_cells,
            n_batch=n_batch,
            n_ubatch=min(n_batch, UBATCH),
            n_seq_max=n_seq,
            n_outputs_max=n_rows,
            n_threads=settings.threads,
            n_threads_batch=settings.threads,
            flash_attn_type=int(settings.flash_attn),
            type_k=kv_type,
            type_v=kv_type,
            kv_unified=True,
            swa_full=True,
        )
        sizes = {"n_vocab": self.vocabulary.size, "n_batch": n_batch, "n_rows": n_rows}
        return Context(self._api, raw, self._ours, path=self.file.path, **sizes)


def _longrope_original(file: ModelFile) -> int | None:
    """The original context of a file with LongRoPE's two lists; None for others."""
    if not file.has_tensor(ROPE_LONG):
        return None
    arch = file.architecture
    return int(file.get(stock(ORIGINAL_CONTEXT, arch), file.get(stock(CONTEXT_LENGTH, arch), 0)))
