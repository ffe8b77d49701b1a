"""``llama_cpp`` on the patched libllama: never in silence on another one."""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from ggufrope.errors import InputError, RuntimeLibraryError, UsageError
from ggufrope.gguf.keys import PREFIX
from ggufrope.last_words import note
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.runtime.api import Api, api_version
from ggufrope.runtime.locate import Runtime, locate
from ggufrope.runtime.log import LibraryLog

if TYPE_CHECKING:
    import numpy as np
    from llama_cpp import Llama

__all__ = [
    "bindings",
    "head_factors",
    "load",
    "method",
    "open_context",
    "pair_factors",
    "runtime_for",
    "set_head_factors",
    "set_length_hint",
    "set_pair_factors",
]

#: Looks that a thread of libgomp takes before it sleeps, at each of the hundreds of places in a graph where threads
#: meet. libgomp's own 300 000 last several milliseconds; while one thread looks, another of this process waits for its
#: core, where another program runs. 1000 is libgomp's number for when it has more threads than cores by itself.
_SPINS = "1000"
_WAITING = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}  # who sets one of these knows better


def load(
    path: ModelFile | str | os.PathLike[str],
    *,
    backend: str | None = None,
    verbose: bool = False,
    no_fallback: bool = False,
    **kwargs: Any,
) -> Llama:
    """Open a model with ``llama_cpp.Llama`` on the patched libllama.

    Args:
        path: A GGUF file, with or without keys of ours; or one that is open already.
        backend: Which build to use; see ``locate`` if None. The first call in a process decides.
        verbose: Print llama.cpp's log; otherwise it is silent and speaks through exceptions.
        no_fallback: Refuse to run ropes on another device than their layer, which is slower and otherwise a warning.
        **kwargs: Passed to ``llama_cpp.Llama`` as they are: ``n_ctx``, ``logits_all``, ``type_k``, ``flash_attn``, ...
            Without ``n_gpu_layers`` a GPU's build takes all layers to the GPU, as upstream's programs do. Options of
            RoPE (``rope_freq_base``, ...) and ``kv_overrides`` may not contradict a file whose factors are relative
            to its own keys.

    Raises:
        RuntimeLibraryError: No patched build is there, or this process imported ``llama_cpp`` on another library.
        InputError: llama.cpp refused the file, or an argument that contradicts it; its own reason.
        GgufError: It is not a GGUF.

    Warns:
        RuntimeWarning: Ropes run on another device than their layer; which, and what that costs.

    Example:
        >>> model = ggufrope.load("model.gguf", n_ctx=8192)
        >>> model("Once upon a time", max_tokens=16)["choices"][0]["text"]
    """
    file = ModelFile.of(path)
    path, needed = file.path, file.has_our_keys
    note("file", str(path))
    llama_cpp = bindings(backend)
    library: ctypes.CDLL = llama_cpp.llama_cpp._lib
    if needed and not api_version(library):
        raise _unpatched(path, Path(library._name))
    log = _log(llama_cpp)
    log.verbose = verbose
    log.clear()
    for name in ("yarn_attn_factor", "yarn_beta_fast", "yarn_beta_slow"):
        kwargs.setdefault(name, -1.0)  # the file's own; Llama's defaults of 1, 32 and 1 would win over them
    runtime = Runtime.read(Path(library._name).parent)
    if runtime is not None and runtime.backend != "cpu":
        kwargs.setdefault("n_gpu_layers", -1)
    constructor = _hinting(llama_cpp.Llama) if needed else llama_cpp.Llama
    try:
        model = constructor(model_path=str(path), verbose=verbose, **kwargs)
    except ValueError as error:
        raise InputError(
            f"{path}: llama.cpp refused it: {log.reason() or error}; `ggufrope inspect` shows what it says"
        ) from error
    if kwargs.get("lora_path") and not model._lora_adapter:  # a null pointer, which Llama takes for an adapter
        model.close()
        raise InputError(
            f"{kwargs['lora_path']}: llama.cpp cannot load this LoRA adapter: {log.reason() or 'no such file?'}; "
            "give a GGUF that convert_lora_to_gguf made for this model"
        )
    if needed and (fallback := _api().fallback(model._ctx.ctx)):
        if no_fallback:
            model.close()
            raise InputError(f"{path}: no_fallback: {fallback}; load it without no_fallback, or with n_gpu_layers=0")
        warnings.warn(f"{path}: {fallback}; no_fallback=True makes this an error", RuntimeWarning, stacklevel=2)
    return model


def bindings(backend: str | None = None) -> Any:
    """The module ``llama_cpp``, imported on the located build; an earlier import counts if its library is patched.

    Raises:
        RuntimeLibraryError: Nothing is built, llama-cpp-python is missing, or it was imported on another library.
    """
    loaded = sys.modules.get("llama_cpp")
    if loaded is not None:
        library: ctypes.CDLL = loaded.llama_cpp._lib
        if not api_version(library) and not _is_override(Path(library._name)):
            raise RuntimeLibraryError(
                f"llama_cpp was already imported on the unpatched {library._name}; import or load ggufrope first"
            )
        return loaded
    runtime = locate(backend)
    wanted = {"LLAMA_CPP_LIB_PATH": str(runtime.path)}
    if not _WAITING & os.environ.keys():
        wanted["GOMP_SPINCOUNT"] = _SPINS
    try:
        with _environment(wanted):
            return importlib.import_module("llama_cpp")
    except ImportError as error:
        raise RuntimeLibraryError(f"llama-cpp-python is missing ({error}); run scripts/setup") from error
    except (RuntimeError, OSError) as error:
        raise _unloadable(runtime, error) from error


@contextmanager
def _environment(wanted: dict[str, str]) -> Iterator[None]:
    """Variables of this process for a while, native code included."""
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def open_context(model: Llama, **settings: Any) -> Any:
    """A further llama.cpp context of a loaded model, for what ``llama_cpp.Llama`` has no argument for.

    Args:
        model: as ``load`` returns it.
        **settings: fields of ``llama_context_params``; all others as llama.cpp's programs have them.

    Returns:
        A ``LlamaContext``; its ``close`` frees it.

    Raises:
        InputError: llama.cpp refused; its own reason.
    """
    llama_cpp = bindings()
    from llama_cpp._internals import LlamaContext

    parameters = llama_cpp.llama_context_default_params()
    for name, value in settings.items():
        setattr(parameters, name, value)
    log = _log(llama_cpp)
    log.clear()
    try:
        return LlamaContext(model=model._model, params=parameters, verbose=False)
    except ValueError as error:
        raise InputError(
            f"{model.model_path}: llama.cpp refused the context: {log.reason() or error}; a shorter one may do"
        ) from error


def method(model: Llama) -> str | None:
    """``ggufrope.method`` of a loaded model; None when the file has no keys of ours."""
    return _api().method(_open(model)[0])


def head_factors(model: Llama) -> npt.NDArray[np.float32]:
    """Head factors in use, ``[sum of n_head_kv over the layers]``, row-major by layer; all 1 when there are none."""
    return _api().head_factors(*_open(model))


def set_head_factors(model: Llama, factors: npt.ArrayLike | None) -> None:
    """Give a loaded model other head factors, without touching its file. Forgets what it has read so far.

    Args:
        model: What ``load`` opened.
        factors: One for each KV head of each layer; None: 1 for all.

    Raises:
        ParameterError: Their number is wrong, or one is not finite and positive.
    """
    api, (handle, context) = _api(), _forgetting(model)
    api.set_head_factors(handle, context, [1.0] * api.layer_offsets(handle)[-1] if factors is None else factors)


def pair_factors(model: Llama) -> npt.NDArray[np.float32]:
    """Factors in use for each pair of each KV head, ``[sum of n_head_kv · rot_dim/2 over the layers]``, row-major."""
    return _api().pair_factors(*_open(model))


def set_pair_factors(model: Llama, factors: npt.ArrayLike) -> None:
    """Give a loaded model factors for each pair of each KV head; see ``set_head_factors``.

    Raises:
        ParameterError: Their number is wrong, or one is not finite and positive.
        RuntimeLibraryError: The library refused: the file's order of heads follows the prompt, say.
    """
    _api().set_pair_factors(*_forgetting(model), factors)


def runtime_for(file: ModelFile, backend: str | None = None) -> Runtime:
    """The build to run ``file`` with; a build without our functions is refused for a file with our keys.

    Raises:
        RuntimeLibraryError: Nothing is built, it is not patched though the file needs it, or it cannot be loaded.
    """
    runtime = locate(backend)
    if file.has_our_keys:
        try:
            version = api_version(ctypes.CDLL(str(runtime.library)))
        except OSError as error:
            raise _unloadable(runtime, error) from error
        if not version:
            raise _unpatched(file.path, runtime.library)
    return runtime


def _unloadable(runtime: Runtime, error: Exception) -> RuntimeLibraryError:
    return RuntimeLibraryError(f"{runtime.library} cannot be loaded: {error}; run `ggufrope runtime build`")


def set_length_hint(model: Llama, n_tokens: int) -> None:
    """Say before a text's first batch how long it will be, so that all its batches use one length row."""
    _api().set_length_hint(_open(model)[1], n_tokens)


def _unpatched(path: Path, library: Path) -> RuntimeLibraryError:
    return RuntimeLibraryError(
        f"{path} has {PREFIX}* keys, which the unpatched {library} would ignore; "
        "run `ggufrope runtime build` and unset GGUFROPE_RUNTIME"
    )


def _is_override(library: Path) -> bool:
    override = os.environ.get("GGUFROPE_RUNTIME")
    return bool(override) and library.parent.resolve() == Path(str(override)).expanduser().resolve()


def _api() -> Api:
    return Api(bindings().llama_cpp._lib)


@lru_cache(maxsize=1)
def _hinting(base: Any) -> Any:
    """``llama_cpp.Llama`` that says how long a prompt is before its first batch, so that all use one length row."""

    class HintingLlama(base):  # type: ignore[misc]  # known once llama_cpp is imported
        def eval(self, tokens: Sequence[int]) -> None:
            if len(tokens) > self.n_batch:
                _api().set_length_hint(self._ctx.ctx, self.n_tokens + len(tokens))
            super().eval(tokens)

        def load_state(self, state: Any) -> None:
            try:
                super().load_state(state)
            except RuntimeError as error:
                raise RuntimeError(f"{error}: {_api().last_error() or 'llama.cpp does not say why'}") from None

    return HintingLlama


def _open(model: Llama) -> tuple[Any, Any]:
    """The handles of model and context.

    Raises:
        UsageError: The model was closed.
    """
    if model._model.model is None or model._ctx.ctx is None:
        raise UsageError(f"{model.model_path}: this model was closed; load it again")
    return model._model.model, model._ctx.ctx


def _forgetting(model: Llama) -> tuple[Any, Any]:
    """The same, of a model that has forgotten what it read."""
    handles = _open(model)
    model.reset()
    model._ctx.kv_cache_clear()
    return handles


@lru_cache(maxsize=1)
def _log(llama_cpp: Any) -> LibraryLog:
    return LibraryLog(llama_cpp)
