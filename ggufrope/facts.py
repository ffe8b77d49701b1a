"""From a GGUF's keys to the facts and settings that RoPE depends on.

Reads from anything with ``get``, ``architecture`` and tensors: a file as it is, or a ``Source`` that sees through an
earlier conversion to what the file was before.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ggufrope import archs, keys
from ggufrope.errors import GgufError, UnsupportedModelError
from ggufrope.gguf.values import shorten
from ggufrope.model import MAX_LAYERS, ModelRope
from ggufrope.stock import StockRope

__all__ = ["KeySource", "read_model", "read_stock"]


class KeySource(Protocol):
    """What the functions here read from."""

    @property
    def path(self) -> Path: ...
    @property
    def architecture(self) -> str: ...
    def get(self, key: str, default: Any = None) -> Any: ...
    def has_tensor(self, name: str) -> bool: ...
    def tensor_data(self, name: str) -> NDArray[np.float32]: ...


def read_model(source: KeySource) -> ModelRope:
    """The model's facts.

    Raises:
        GgufError: a key that every model has is missing or has an impossible type.
        UnsupportedModelError: the architecture has no RoPE.
    """
    arch = source.architecture
    if archs.pairing(arch) == "none":
        ModelRope(arch, (1,), (1,), 2, 2, 10000.0, 1, 1)  # raises, in its own words
    n_layer = _count(source, f"{arch}.block_count")
    if not 0 < n_layer <= MAX_LAYERS:
        allowed = f"llama.cpp allows 1 to {MAX_LAYERS}"
        raise UnsupportedModelError(f"{source.path}: {arch}.block_count is {n_layer}; {allowed}")
    n_head = _per_layer(source, f"{arch}.attention.head_count", n_layer)
    n_head_kv = _per_layer(source, f"{arch}.attention.head_count_kv", n_layer, default=n_head)
    widest = max(n_head)
    if not widest:
        raise UnsupportedModelError(f"{source.path}: {arch}.attention.head_count is 0: there are no heads to rotate")
    head_dim = _count(
        source, f"{arch}.attention.key_length", default=_count(source, f"{arch}.embedding_length") // widest
    )
    train_ctx = _count(source, f"{arch}.context_length")
    sliding = _sliding(source, arch, n_layer)
    return ModelRope(
        arch=arch,
        n_head=n_head,
        n_head_kv=n_head_kv,
        head_dim=head_dim,
        rot_dim=_count(source, f"{arch}.rope.dimension_count", default=head_dim),
        freq_base=_number(source, keys.stock(keys.FREQ_BASE, arch), 10000.0),
        train_ctx=train_ctx,
        original_ctx=_count(source, keys.stock(keys.ORIGINAL_CONTEXT, arch), default=train_ctx),
        sliding=sliding,
        rotating=_rotating(source, arch, n_layer, sliding),
        mla=source.get(f"{arch}.attention.kv_lora_rank") is not None,
        own_factors=_floats(source, keys.ROPE_FREQS),
    )


def read_stock(source: KeySource) -> StockRope:
    """The scaling that a file declares in upstream's own keys and tensors, ``rope_freqs.weight`` aside.

    Raises:
        GgufError: a key of an impossible type, or a scaling type that makes stock llama.cpp abort.
    """
    arch = source.architecture
    kind = source.get(keys.stock(keys.SCALING_TYPE, arch))
    if not (kind is None or (isinstance(kind, str) and kind in ("none", "linear", "yarn", "longrope"))):
        raise GgufError(
            f"{source.path}: {keys.stock(keys.SCALING_TYPE, arch)} is {shorten(kind)}; "
            "llama.cpp knows none, linear, yarn and longrope, and aborts on anything else"
        )
    factor = _number(source, keys.stock(keys.SCALING_FACTOR, arch), 0.0)
    factor = factor or _number(source, keys.stock(keys.SCALE_LINEAR, arch), 0.0) or 1.0
    return StockRope(
        scaling_type=None if kind == "none" else kind,
        factor=1.0 if kind == "none" else factor,
        original_ctx=_count(source, keys.stock(keys.ORIGINAL_CONTEXT, arch), default=0) or None,
        attn_factor=_number(source, keys.stock(keys.ATTN_FACTOR, arch), 1.0),
        log_mul=_number(source, keys.stock(keys.YARN_LOG_MUL, arch), 0.0),
        beta_fast=_number(source, keys.stock(keys.YARN_BETA_FAST, arch), 32.0),
        beta_slow=_number(source, keys.stock(keys.YARN_BETA_SLOW, arch), 1.0),
        short=_floats(source, keys.ROPE_SHORT),
        long=_floats(source, keys.ROPE_LONG),
    )


def _count(source: KeySource, key: str, default: int | None = None) -> int:
    value = source.get(key, default)
    if isinstance(value, np.ndarray) and value.size:  # some converters write one entry per layer
        value = int(value.max())
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        shown = shorten(value)
        raise GgufError(f"{source.path}: {key} is {shown}; a whole number is needed (is this a language model?)")
    return value


def _number(source: KeySource, key: str, default: float) -> float:
    value = source.get(key, default)
    if isinstance(value, np.ndarray) and value.size:
        value = value.flat[0]
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        raise GgufError(f"{source.path}: {key} is {shorten(value)}; a number is needed")
    return float(value)


def _per_layer(source: KeySource, key: str, n_layer: int, default: tuple[int, ...] | None = None) -> tuple[int, ...]:
    value = source.get(key, default)
    if isinstance(value, int) and not isinstance(value, bool):
        return (value,) * n_layer
    counts = isinstance(value, tuple) or (isinstance(value, np.ndarray) and value.dtype.kind in "iu")
    if not counts or len(value) < n_layer:
        shown = shorten(value)
        raise GgufError(f"{source.path}: {key} is {shown}; a number, or one for each of {n_layer} layers, is needed")
    return tuple(int(v) for v in value[:n_layer])


def _floats(source: KeySource, name: str) -> tuple[float, ...]:
    if not source.has_tensor(name):
        return ()
    return tuple(float(v) for v in source.tensor_data(name).ravel())


def _sliding(source: KeySource, arch: str, n_layer: int) -> tuple[bool, ...]:
    if not _count(source, f"{arch}.attention.sliding_window", default=int(arch in archs.SLIDES_BY_DEFAULT)):
        return ()
    pattern = source.get(f"{arch}.attention.sliding_window_pattern")
    if isinstance(pattern, np.ndarray) and len(pattern) >= n_layer:
        return tuple(bool(v) for v in pattern[:n_layer])
    period, dense_first = archs.SLIDING_PERIOD.get(arch, (1, False))
    if isinstance(pattern, int):
        period = pattern
    if period == 1:  # also: architectures that llama.cpp runs without a window, such as phi3
        return ()
    if period == 0:
        return (True,) * n_layer
    return tuple((i % period != 0) if dense_first else (i % period < period - 1) for i in range(n_layer))


def _rotating(source: KeySource, arch: str, n_layer: int, sliding: tuple[bool, ...]) -> tuple[bool, ...]:
    layers = [True] * n_layer
    if arch in archs.NO_ROPE_LAYERS and (sliding or arch not in archs.NO_ROPE_IF_SLIDING):
        period, offset = archs.NO_ROPE_LAYERS[arch]
        layers = [i % period != offset for i in range(n_layer)]
    elif arch in archs.ROPE_IN_SLIDING_ONLY and sliding:
        layers = list(sliding)
    elif arch in archs.RECURRENT_MIX:
        recurrent = source.get(f"{arch}.attention.recurrent_layers")
        interval = _count(source, f"{arch}.full_attention_interval", default=archs.RECURRENT_MIX[arch]) or n_layer + 1
        layers = [(i + 1) % interval == 0 for i in range(n_layer)]
        if isinstance(recurrent, np.ndarray) and len(recurrent) >= n_layer:
            layers = [not r for r in recurrent[:n_layer]]
    extra = min(_count(source, f"{arch}.nextn_predict_layers", default=0), n_layer)
    layers[n_layer - extra :] = [False] * extra  # next-token-prediction layers come last
    return () if all(layers) else tuple(layers)
