"""How much memory a context takes: the KV cache and recurrent state as the pinned llama.cpp allocates them.

One sequence, default batch sizes, flash attention on (which a quantized V needs). Compute buffers are not counted: no
file says how large they get.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ggufrope.gguf import keys
from ggufrope.inference.kv_types import KV_TYPES
from ggufrope.late import np
from ggufrope.modelfile.facts import KeySource
from ggufrope.rope import architectures
from ggufrope.rope.model import ModelRope

__all__ = ["PLANNED_TYPES", "CacheLayout", "NoLayoutError", "cache_layout"]

#: Types of the cache that are planned for: all but the one that nobody serves with.
PLANNED_TYPES = tuple(name for name in KV_TYPES if name != "f32")

_CELLS = 256  # llama.cpp rounds contexts and windows up to whole multiples of this
_UBATCH = 512  # default --ubatch-size, which a window's cache holds on top
_F32 = 4

#: Windows that llama.cpp takes where the file says nothing, or (smallthinker) whatever it says.
_WINDOW = {"exaone4": 4096, "gemma2": 4096, "llama4": 8192, "smallthinker": 4096}
#: Caches of these hold more than K and V (indexer keys, compressed keys), and their layout is not modelled here.
_OTHER_CACHE = frozenset(
    {"deepseek32", "deepseek4", "dots3note", "glm-dsa", "hy_v4", "minimax-m3", "qwen4exp", "graniteswitch"}
    | {"dflash", "eagle3", "gemma4-assistant"}
)
#: Have no cache: they see all tokens at once.
_NO_CACHE = frozenset(
    {"bert", "jina-bert-v3", "nomic-bert", "nomic-bert-moe", "neo-bert", "eurobert", "modern-bert", "gemma-embedding"}
    | {"dream", "llada", "llada-moe", "rnd1"}
)
#: Layers without KV heads are recurrent ones there; elsewhere they have no memory at all.
_RECURRENT_WITHOUT_HEADS = frozenset({"bailingmoe3", "granitehybrid", "lfm2", "lfm2moe", "plamo2"})


class NoLayoutError(ValueError):
    """The memory of this model is not computed; the message says why."""


@dataclass(frozen=True, slots=True)
class CacheLayout:
    """Sizes of one context's memory.

    Attributes:
        cells: positions that each layer without a window holds; the context, rounded up.
        window_cells: the same for layers with a sliding window; 0: there are none.
        widths: (cells, K elements, V elements) per position of each layer that has a cache.
        heads: (K, V) dimensions of one head, for each kind of layer.
        state_bytes: of all recurrent layers, whatever the type of the cache and the context.
    """

    cells: int
    window_cells: int
    widths: tuple[tuple[int, int, int], ...]
    heads: tuple[tuple[int, int], ...]
    state_bytes: int

    def kv_bytes(self, kv_type: str) -> int | None:
        """Bytes of K and V in this type (a key of ``KV_TYPES``); None where llama.cpp refuses it."""
        kind = KV_TYPES[kv_type]
        if any(size % kind.block for head in self.heads for size in head):
            return None
        return sum(kind.nbytes(cells * (k + v)) for cells, k, v in self.widths)

    @property
    def n_windowed(self) -> int:
        """Layers whose cache is as long as a window."""
        return sum(cells == self.window_cells < self.cells for cells, _, _ in self.widths)


def cache_layout(source: KeySource, model: ModelRope, context: int, *, full_window: bool = False) -> CacheLayout:
    """The memory of one sequence of ``context`` tokens.

    Args:
        source: the file's keys.
        model: its facts.
        context: in tokens.
        full_window: as with ``--swa-full``: layers with a sliding window keep the whole context. llama.cpp's
            programs do not by default; llama-cpp-python does.

    Raises:
        NoLayoutError: it has a cache of another kind, or none.
    """
    arch = model.arch
    if arch in _OTHER_CACHE:
        raise NoLayoutError(f"{arch} keeps more than K and V, which is not counted here; llama.cpp's log says how much")
    if arch in _NO_CACHE:
        raise NoLayoutError(f"{arch} runs without a cache")
    v_length = _number(source, keys.stock(keys.EMBEDDING_LENGTH, arch)) // max(model.n_head)
    full = _heads(source, arch, keys.KEY_LENGTH, keys.VALUE_LENGTH, (model.head_dim, v_length))
    windowed = _heads(source, arch, keys.KEY_LENGTH_SLIDING, keys.VALUE_LENGTH_SLIDING, full)
    cells = _padded(context)
    short = _padded(min(cells, _window(source, arch) + _UBATCH)) if any(model.sliding) else 0
    if full_window:
        short = cells
    latent = all(source.get(keys.stock(key, arch)) for key in (keys.KEY_LENGTH_MLA, keys.VALUE_LENGTH_MLA))
    widths = []
    for layer in _cached(source, model):
        heads, slides = model.n_head_kv[layer], model.slides(layer)
        k, v = windowed if slides else full
        widths.append((short if slides else cells, heads * k, 0 if latent else heads * v))
    kinds = {windowed if model.slides(layer) else full for layer in range(model.n_layer)}
    return CacheLayout(cells, short, tuple(widths), tuple(sorted(kinds)), _state_bytes(source, model))


def _padded(cells: int) -> int:
    return -(-cells // _CELLS) * _CELLS


def _number(source: KeySource, key: str, default: int = 0) -> int:
    value = source.get(key, default)
    if isinstance(value, np.ndarray) and value.size:
        value = value.max()
    return int(value) if isinstance(value, (int, np.integer)) else default


def _heads(source: KeySource, arch: str, k_key: str, v_key: str, default: tuple[int, int]) -> tuple[int, int]:
    """Dimensions of one K head and one V head."""
    k, v = default
    return _number(source, keys.stock(k_key, arch), k), _number(source, keys.stock(v_key, arch), v)


def _window(source: KeySource, arch: str) -> int:
    default = _WINDOW.get(arch, 0)
    return default if arch == "smallthinker" else _number(source, keys.stock(keys.SLIDING_WINDOW, arch), default)


def _cached(source: KeySource, model: ModelRope) -> list[int]:
    """Layers with K and V of their own."""
    extra = min(_number(source, keys.stock(keys.NEXTN_LAYERS, model.arch)), model.n_layer)
    own: Callable[[int], bool] = lambda layer: True  # noqa: E731  # replaced below
    if model.arch in architectures.SHARED_K_FROM:
        own = lambda layer: model.leader(layer) == layer  # noqa: E731  # the same
    recurrent = set() if model.arch == "falcon-h1" else set(_recurrent(model))
    return [i for i in range(model.n_layer - extra) if own(i) and i not in recurrent]


def _recurrent(model: ModelRope) -> list[int]:
    layers = range(model.n_layer)
    if model.arch == "falcon-h1":  # attention and state side by side
        return list(layers)
    if model.arch in architectures.RECURRENT_MIX:
        return [i for i in layers if not model.rotates(i)]
    return [i for i in layers if model.n_head_kv[i] == 0] if model.arch in _RECURRENT_WITHOUT_HEADS else []


def _state_bytes(source: KeySource, model: ModelRope) -> int:
    """Recurrent state: F32, one row for each recurrent layer."""
    extra = min(_number(source, keys.stock(keys.NEXTN_LAYERS, model.arch)), model.n_layer)
    n = sum(layer < model.n_layer - extra for layer in _recurrent(model))
    return n * _F32 * _state_width(source, model) if n else 0


def _state_width(source: KeySource, model: ModelRope) -> int:
    """Elements of one layer's convolution history and state."""

    def size(key: str) -> int:
        return _number(source, keys.stock(key, model.arch))

    kernel, inner, state = size(keys.SSM_CONV_KERNEL), size(keys.SSM_INNER_SIZE), size(keys.SSM_STATE_SIZE)
    if taps := size(keys.SHORTCONV_CACHE):
        return size(keys.EMBEDDING_LENGTH) * (taps - 1)
    heads = max(model.n_head)
    if head := size(keys.KDA_HEAD_DIM):
        return 3 * (kernel - 1 if kernel else 3) * heads * head + head * head * heads
    if model.arch == "minimax-01":
        return model.head_dim * model.head_dim * heads
    return max(kernel - 1, 0) * (inner + 2 * size(keys.SSM_GROUP_COUNT) * state) + state * inner
