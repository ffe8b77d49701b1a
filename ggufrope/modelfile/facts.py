"""From a GGUF's keys to the facts and settings that RoPE depends on.

Reads from anything with ``get``, ``architecture`` and tensors: a file as it is, or a ``Source`` that sees through an
earlier conversion to what the file was before.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ggufrope.errors import GgufError, UnsupportedModelError
from ggufrope.gguf import TypedValue, keys
from ggufrope.late import np
from ggufrope.methods import PLAIN
from ggufrope.rope import architectures
from ggufrope.rope.model import MAX_LAYERS, ModelRope
from ggufrope.rope.stock import SCALING_TYPES, StockRope
from ggufrope.text import shorten

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["KeySource", "RopeKeys", "read_model", "read_stock", "train_context", "why_unrotated"]


class KeySource(Protocol):
    """What the functions here read from."""

    @property
    def path(self) -> Path: ...
    @property
    def architecture(self) -> str: ...
    def get(self, key: str, default: Any = None) -> Any: ...
    def typed(self, key: str) -> TypedValue | None: ...
    def has_tensor(self, name: str) -> bool: ...
    def tensor_data(self, name: str) -> NDArray[np.float32]: ...


class RopeKeys:
    """What a ``KeySource`` says of its rotation in upstream's keys, read at the first ask and kept."""

    @cached_property
    def unrotated(self: KeySource) -> str:
        """Why llama.cpp rotates no layer of the model, in words; empty where it rotates some."""
        return why_unrotated(self)

    @cached_property
    def rotates(self: KeySource) -> bool:
        """Whether llama.cpp applies RoPE to any layer; ``model`` and ``decoded`` raise where it does not."""
        return not why_unrotated(self)

    @cached_property
    def model(self: KeySource) -> ModelRope:
        """The model's facts; raises as ``read_model`` does."""
        return read_model(self)

    @cached_property
    def stock(self: KeySource) -> StockRope:
        """The scaling that upstream's keys declare; raises as ``read_stock`` does."""
        return read_stock(self)


def why_unrotated(source: KeySource) -> str:
    """Why llama.cpp rotates no layer of a model; empty where it rotates some.

    Raises:
        GgufError: a key that every model has is missing or has an impossible type.
        UnsupportedModelError: the pinned llama.cpp does not know the architecture.
    """
    arch = source.architecture
    if not architectures.knows(arch):
        raise UnsupportedModelError(
            f"{source.path}: architecture '{arch}' is unknown to the pinned llama.cpp, which cannot load the file; "
            "use a program that knows it"
        )
    if architectures.pairing(arch) == "none":
        return "llama.cpp applies no RoPE to this architecture"
    _, n_head_kv, sliding = _heads(source, arch)
    layers = _rotating(source, arch, len(n_head_kv), sliding) or (True,) * len(n_head_kv)
    if any(rotates and n for rotates, n in zip(layers, n_head_kv, strict=True)):
        return ""
    if _switched_off(source, arch):
        return f"llama.cpp applies no RoPE to this model: {keys.stock(keys.FINETUNED, arch)} is false"
    return "llama.cpp applies RoPE to no layer of this model"


def read_model(source: KeySource) -> ModelRope:
    """The model's facts.

    Raises:
        GgufError: a key that every model has is missing or has an impossible type.
        UnsupportedModelError: the architecture or the model has no RoPE, or what it says of it is impossible.
    """
    arch = source.architecture
    if reason := why_unrotated(source):
        raise UnsupportedModelError(f"{source.path}: '{arch}' does not use RoPE: there is nothing to scale ({reason})")
    n_head, n_head_kv, sliding = _heads(source, arch)
    widest = max(n_head)
    if not widest:
        name = keys.stock(keys.HEAD_COUNT, arch)
        raise UnsupportedModelError(
            f"{source.path}: {name} is 0: there are no heads to rotate; --method none copies it"
        )
    width = _count(source, keys.stock(keys.EMBEDDING_LENGTH, arch))
    head_dim = _count(source, keys.stock(keys.KEY_LENGTH, arch), default=width // widest)
    train_ctx = train_context(source)
    _require_counts(source, train_ctx)
    try:
        return _model(source, n_head, n_head_kv, sliding, head_dim, train_ctx)
    except UnsupportedModelError as error:
        raise UnsupportedModelError(
            f"{source.path}: {error}; mend that with gguf-py's gguf_new_metadata, or convert the original model again"
        ) from None


def _model(
    source: KeySource,
    n_head: tuple[int, ...],
    n_head_kv: tuple[int, ...],
    sliding: tuple[bool, ...],
    head_dim: int,
    train_ctx: int,
) -> ModelRope:
    arch, n_layer = source.architecture, len(n_head)
    return ModelRope(
        arch=arch,
        n_head=n_head,
        n_head_kv=n_head_kv,
        head_dim=head_dim,
        rot_dim=_count(source, keys.stock(keys.ROPE_DIMENSIONS, arch), default=head_dim),
        freq_base=_freq_base(source, arch, head_dim),
        train_ctx=train_ctx,
        original_ctx=_count(source, keys.stock(keys.ORIGINAL_CONTEXT, arch), default=0) or train_ctx,
        sliding=sliding,
        rotating=_rotating(source, arch, n_layer, sliding),
        leaders=_leaders(source, arch, n_layer, sliding),
        mla=arch in architectures.ONE_K_HEAD,
        own_factors=_floats(source, keys.ROPE_FREQS),
        sliding_base=_sliding_base(source, arch) if any(sliding) else None,
        sliding_rot_dim=_sliding_rot_dim(source, arch) if any(sliding) else None,
        sliding_scaled=arch not in architectures.SLIDING_UNSCALED,
    )


def _require_counts(source: KeySource, train_ctx: int) -> None:
    """Say what llama.cpp makes of a context or a base that no model can have."""
    arch = source.architecture
    if not train_ctx:
        raise UnsupportedModelError(
            f"{source.path}: {keys.stock(keys.CONTEXT_LENGTH, arch)} is 0; llama.cpp loads that and makes no context "
            "unless one is given (-c): set the key with gguf-py's gguf_new_metadata"
        )
    base = _freq_base(source, arch)
    if not (np.isfinite(base) and base > 1):
        raise UnsupportedModelError(
            f"{source.path}: {keys.stock(keys.FREQ_BASE, arch)} is {base:g}, from which llama.cpp computes every "
            f"frequency; it must be above 1: `ggufrope convert --method {PLAIN} --freq-base X` sets it"
        )


def train_context(source: KeySource) -> int:
    """The context that a model was trained for, in tokens.

    Raises:
        GgufError: the key is missing or no whole number.
    """
    return _count(source, keys.stock(keys.CONTEXT_LENGTH, source.architecture))


def read_stock(source: KeySource) -> StockRope:
    """The scaling that a file declares in upstream's own keys and tensors, ``rope_freqs.weight`` aside.

    Values are taken as they are; ``odd_values`` says which of them make no sense.

    Raises:
        GgufError: a key of an impossible type, or a scaling type that makes stock llama.cpp abort.
    """
    arch = source.architecture
    kind = source.get(keys.stock(keys.SCALING_TYPE, arch))
    if not (kind is None or (isinstance(kind, str) and kind in ("none", *SCALING_TYPES))):
        raise GgufError(
            f"{source.path}: {keys.stock(keys.SCALING_TYPE, arch)} is {shorten(kind)}; "
            "llama.cpp knows none, linear, yarn and longrope, and aborts on anything else"
        )
    old = source.get(keys.stock(keys.SCALING_FACTOR, arch)) is None  # then, and only then, the key's old name is read
    factor = _number(source, keys.stock(keys.SCALE_LINEAR if old else keys.SCALING_FACTOR, arch), 0.0) or 1.0
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


def _heads(source: KeySource, arch: str) -> tuple[tuple[int, ...], tuple[int, ...], tuple[bool, ...]]:
    """Query heads and KV heads of each layer, and which layers slide."""
    n_layer = _count(source, keys.stock(keys.BLOCK_COUNT, arch))
    if not 0 < n_layer <= MAX_LAYERS:
        allowed = f"llama.cpp allows 1 to {MAX_LAYERS}"
        raise UnsupportedModelError(f"{source.path}: {keys.stock(keys.BLOCK_COUNT, arch)} is {n_layer}; {allowed}")
    n_head = _per_layer(source, keys.stock(keys.HEAD_COUNT, arch), n_layer)
    n_head_kv = _per_layer(source, keys.stock(keys.HEAD_COUNT_KV, arch), n_layer, default=n_head)
    return n_head, n_head_kv, _sliding(source, arch, n_head_kv)


def _count(source: KeySource, key: str, default: int | None = None) -> int:
    value = source.get(key, default)
    if isinstance(value, np.ndarray) and value.size and value.dtype.kind in "iu":  # some converters write one per layer
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


def _freq_base(source: KeySource, arch: str, head_dim: int = 0) -> float:
    if arch in architectures.IGNORES_SCALING:
        return 10000.0
    base = _number(source, keys.stock(keys.FREQ_BASE, arch), 10000.0)
    alpha = (
        _number(source, keys.stock(keys.SCALING_ALPHA, arch), 0.0) if arch in architectures.BASE_TIMES_ALPHA else 0.0
    )
    return float(base * alpha ** (head_dim / (head_dim - 2))) if alpha > 0 and head_dim > 2 else base


def _sliding_base(source: KeySource, arch: str) -> float | None:
    key = keys.stock(keys.FREQ_BASE_SLIDING, arch)
    if arch in architectures.SLIDING_BASE_OF_ITS_OWN:
        return _number(source, key, 10000.0)
    given = arch in architectures.SLIDING_BASE_FROM_KEY and source.get(key) is not None
    return _number(source, key, 0.0) if given else None


def _sliding_rot_dim(source: KeySource, arch: str) -> int | None:
    key = keys.stock(keys.ROPE_DIMENSIONS_SLIDING, arch)
    return _count(source, key) if arch in architectures.SLIDING_ROT_DIM and source.get(key) is not None else None


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


def _flags(source: KeySource, key: str, n_layer: int) -> tuple[bool, ...]:
    """An array with one entry for each layer; () where there is none."""
    value = source.get(key)
    if isinstance(value, np.ndarray) and len(value) >= n_layer:
        return tuple(bool(v) for v in value[:n_layer])
    return ()


def _sliding(source: KeySource, arch: str, n_head_kv: tuple[int, ...]) -> tuple[bool, ...]:
    n_layer = len(n_head_kv)
    window = _count(source, keys.stock(keys.SLIDING_WINDOW, arch), default=int(arch in architectures.SLIDES_BY_DEFAULT))
    if not window or architectures.SLIDES_ONLY_WITH_LAYERS.get(arch, n_layer) != n_layer:
        return ()
    if arch == "lfm2":  # all layers that attend
        return tuple(n > 0 for n in n_head_kv)
    key = keys.stock(keys.SLIDING_PATTERN, arch)
    if arch in architectures.SLIDING_ARRAY:
        return _flags(source, key, n_layer)
    if arch not in architectures.SLIDING_PERIOD:  # llama.cpp runs it without a window
        return ()
    return _flags(source, key, n_layer) or _periodic(n_layer, source.get(key), *architectures.SLIDING_PERIOD[arch])


def _periodic(n_layer: int, pattern: Any, period: int, dense_first: bool) -> tuple[bool, ...]:
    period = pattern if isinstance(pattern, int) else period
    if period == 0:
        return (True,) * n_layer
    return tuple((i % period != 0) if dense_first else (i % period < period - 1) for i in range(n_layer))


def _rotating(source: KeySource, arch: str, n_layer: int, sliding: tuple[bool, ...]) -> tuple[bool, ...]:
    layers = _rotating_by_design(source, arch, n_layer, sliding)
    if _switched_off(source, arch):
        layers = [False] * n_layer
    if architectures.ROPE_ONLY_WITH_LAYERS.get(arch, n_layer) != n_layer or arch in architectures.NEVER_ROTATES:
        layers = [False] * n_layer
    extra = min(_count(source, keys.stock(keys.NEXTN_LAYERS, arch), default=0), n_layer)
    layers[n_layer - extra :] = [False] * extra  # next-token-prediction layers come last
    return () if all(layers) else tuple(layers)


def _switched_off(source: KeySource, arch: str) -> bool:
    if arch not in architectures.FINETUNED_MEANS_ROPE:
        return False
    value = source.get(keys.stock(keys.FINETUNED, arch), True)
    return isinstance(value, (bool, int, float)) and not value


def _rotating_by_design(source: KeySource, arch: str, n_layer: int, sliding: tuple[bool, ...]) -> list[bool]:
    if arch in architectures.NO_ROPE_LAYERS and (sliding or arch not in architectures.NO_ROPE_IF_SLIDING):
        period, offset = architectures.NO_ROPE_LAYERS[arch]
        return [i % period != offset for i in range(n_layer)]
    if arch in architectures.ROPE_IN_SLIDING_ONLY and sliding:
        key = keys.stock(keys.LEADING_DENSE, arch)
        lead = _count(source, key, default=0) if arch in architectures.ROPE_IN_DENSE_LEAD else 0
        return [slides or i < lead for i, slides in enumerate(sliding)]
    if arch in architectures.ROPE_PATTERN:
        return list(_flags(source, keys.stock(keys.ROPE_PATTERN, arch), n_layer)) or [True] * n_layer
    if arch in architectures.RECURRENT_MIX:
        usual = architectures.RECURRENT_MIX[arch]
        interval = _count(source, keys.stock(keys.FULL_ATTENTION_INTERVAL, arch), default=usual) or n_layer + 1
        recurrent = _flags(source, keys.stock(keys.RECURRENT_LAYERS, arch), n_layer)
        return [not r for r in recurrent] or [(i + 1) % interval == 0 for i in range(n_layer)]
    return [True] * n_layer


def _leaders(source: KeySource, arch: str, n_layer: int, sliding: tuple[bool, ...]) -> tuple[int, ...]:
    if arch in architectures.SHARED_K_FROM:
        start = architectures.SHARED_K_FROM[arch]
        if start is None:
            start = n_layer - _count(source, keys.stock(keys.SHARED_KV_LAYERS, arch), default=0)
        if not 2 <= start < n_layer:
            return ()
        return tuple(i if i < start else start - (2 if sliding and sliding[i] else 1) for i in range(n_layer))
    if arch == "hrm_text":  # a low stack runs l_cycles times, then a high one once; and all of that h_cycles times
        size = _count(source, stack := keys.stock(keys.HRM_STACK, arch))
        low = _count(source, keys.stock(keys.HRM_CYCLES, arch))
        if not size:
            raise GgufError(f"{source.path}: {stack} is 0; a stack has at least one layer")
        return tuple(i % size + (size * low if i // size % (low + 1) == low else 0) for i in range(n_layer))
    return ()
