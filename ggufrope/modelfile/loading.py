"""What the pinned llama.cpp's loader takes of the keys and tensors about rotation, and what it refuses.

A key that llama.cpp reads must have the one type of its reader (``llama_model_loader::get_key``): an f64 base or a u64
context ends the loading. A tensor that the architecture does not load does so, too: tensors are counted. The rules are
data (``RULES``); ``inspect`` says what breaks them, ``convert`` mends what can be mended.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from ggufrope.errors import OutputError
from ggufrope.gguf import TypedValue, ValueType, keys
from ggufrope.late import np
from ggufrope.modelfile.facts import KeySource
from ggufrope.rope import architectures, loader
from ggufrope.rope.stock import LONGROPE, SCALING_TYPES
from ggufrope.text import shorten

__all__ = ["RULES", "Fault", "Form", "Rule", "faults"]

_MAX_LAYERS = 512
#: Items of arrays that are read as whole numbers.
_WHOLE_ITEMS = frozenset({ValueType.BOOL, ValueType.UINT32, ValueType.INT32})


class Form(Enum):
    """What besides a single value a reader takes."""

    SINGLE = "nothing"
    EACH = "an array with one number for each layer"
    SECTIONS = "an array of 4"
    PATTERN = "an array"
    ARRAY = "an array, and no single value"
    OPTIONAL_ARRAY = "an array; a single value is not read"


@dataclass(frozen=True, slots=True)
class Rule:
    """How llama.cpp reads a key.

    Attributes:
        key: its name, ``{arch}`` in it.
        type: the type that a single value must have.
        form: what else it takes.
        readers: architectures that read it; None: all.
        when: what must hold of the file besides; None: nothing.
    """

    key: str
    type: ValueType
    form: Form = Form.SINGLE
    readers: frozenset[str] | None = None
    when: Callable[[KeySource], bool] | None = None

    def reads(self, source: KeySource) -> bool:
        """Whether llama.cpp reads the key of this file."""
        reader = self.readers is None or source.architecture in self.readers
        return reader and (self.when is None or self.when(source))


@dataclass(frozen=True, slots=True)
class Fault:
    """Why llama.cpp does not load a file.

    Attributes:
        name: the key or tensor.
        found: what is wrong with it, e.g. ``is f64``.
        wanted: what llama.cpp does, e.g. ``llama.cpp takes f32``.
        repair: the same value as llama.cpp takes it; None where there is none.
        aborts: llama.cpp ends the whole program instead of refusing the file.
        tensor: it is about a tensor.
        remedy: what to do where there is no ``repair``.
    """

    name: str
    found: str
    wanted: str
    repair: TypedValue | None = None
    aborts: bool = False
    tensor: bool = False
    remedy: str = "set it with gguf-py's gguf_new_metadata, or convert the original model again"

    def __str__(self) -> str:
        return f"{self.name} {self.found}, {self.wanted}"


def _whole(source: KeySource, key: str, default: int) -> int:
    """A whole number; what is none counts as the default, and is a fault of its own."""
    value = source.get(keys.stock(key, source.architecture), default)
    return value if isinstance(value, int) and not isinstance(value, bool) else default


def _attends(source: KeySource) -> bool:
    """Whether the first layer has heads: what llama.cpp calls the head count of the model."""
    count = source.get(keys.stock(keys.HEAD_COUNT, source.architecture), 0)
    first = count[0] if isinstance(count, np.ndarray) and len(count) else count
    return isinstance(first, (int, np.integer)) and int(first) > 0


def _no_factor(source: KeySource) -> bool:
    return source.typed(keys.stock(keys.SCALING_FACTOR, source.architecture)) is None


def _reads_pattern(source: KeySource) -> bool:
    arch = source.architecture
    if arch in architectures.SLIDES_ONLY_WITH_LAYERS:
        n_layer = _whole(source, keys.BLOCK_COUNT, 0) - _whole(source, keys.NEXTN_LAYERS, 0)
        return n_layer == architectures.SLIDES_ONLY_WITH_LAYERS[arch]
    default = int(arch in architectures.SLIDES_BY_DEFAULT)
    return arch not in loader.PATTERN_WITH_WINDOW or _whole(source, keys.SLIDING_WINDOW, default) != 0


def _no_layers(source: KeySource) -> bool:
    return source.typed(keys.stock(keys.RECURRENT_LAYERS, source.architecture)) is None


_U32, _F32 = ValueType.UINT32, ValueType.FLOAT32
_MIX = frozenset(architectures.RECURRENT_MIX)
_ARRAYS = architectures.SLIDING_ARRAY | {"dflash", "gemma4-assistant"}

#: ``llama_model_base::load_hparams``, then what single architectures read.
RULES = (
    Rule(keys.CONTEXT_LENGTH, _U32),
    Rule(keys.EMBEDDING_LENGTH, _U32),
    Rule(keys.BLOCK_COUNT, _U32),
    Rule(keys.NEXTN_LAYERS, _U32),
    Rule(keys.HEAD_COUNT, _U32, Form.EACH),
    Rule(keys.HEAD_COUNT_KV, _U32, Form.EACH),
    Rule(keys.FINETUNED, ValueType.BOOL),
    Rule(keys.ORIGINAL_CONTEXT, _U32),
    Rule(keys.FREQ_BASE, _F32),
    Rule(keys.SCALING_TYPE, ValueType.STRING),
    Rule(keys.SCALING_FACTOR, _F32),
    Rule(keys.SCALE_LINEAR, _F32, when=_no_factor),
    Rule(keys.ATTN_FACTOR, _F32),
    Rule(keys.SCALING_ALPHA, _F32),
    Rule(keys.KEY_LENGTH, _U32, when=_attends),
    Rule(keys.VALUE_LENGTH, _U32, when=_attends),
    Rule(keys.ROPE_DIMENSIONS, _U32, when=_attends),
    Rule(keys.KEY_LENGTH_SLIDING, _U32),
    Rule(keys.VALUE_LENGTH_SLIDING, _U32),
    Rule(keys.ROPE_DIMENSIONS_SLIDING, _U32),
    Rule(keys.ROPE_SECTIONS, ValueType.INT32, Form.SECTIONS, loader.READS_SECTIONS),
    Rule(keys.SLIDING_WINDOW, _U32, Form.SINGLE, loader.READS_WINDOW),
    Rule(keys.SLIDING_PATTERN, _U32, Form.PATTERN, frozenset(architectures.SLIDING_PERIOD), _reads_pattern),
    Rule(keys.SLIDING_PATTERN, _U32, Form.ARRAY, _ARRAYS),
    Rule(keys.FREQ_BASE_SLIDING, _F32, Form.SINGLE, loader.READS_SLIDING_BASE, _reads_pattern),
    Rule(keys.ROPE_PATTERN, _U32, Form.OPTIONAL_ARRAY, architectures.ROPE_PATTERN),
    Rule(keys.LEADING_DENSE, _U32, Form.SINGLE, loader.READS_DENSE_LEAD),
    Rule(keys.RECURRENT_LAYERS, _U32, Form.EACH, _MIX),
    Rule(keys.FULL_ATTENTION_INTERVAL, _U32, Form.SINGLE, _MIX, _no_layers),
    Rule(keys.SHARED_KV_LAYERS, _U32, Form.SINGLE, frozenset({"gemma4", "gemma4-assistant"})),
    Rule(keys.KEY_LENGTH_MLA, _U32, Form.SINGLE, loader.READS_MLA_LENGTHS),
    Rule(keys.VALUE_LENGTH_MLA, _U32, Form.SINGLE, loader.READS_MLA_LENGTHS),
    Rule(keys.YARN_EXT_FACTOR, _F32, Form.SINGLE, loader.READS_YARN_EXTRAS),
    Rule(keys.YARN_ATTN_FACTOR, _F32, Form.SINGLE, loader.READS_YARN_EXTRAS),
    Rule(keys.YARN_BETA_FAST, _F32, Form.SINGLE, architectures.READS_YARN_BETA),
    Rule(keys.YARN_BETA_SLOW, _F32, Form.SINGLE, architectures.READS_YARN_BETA),
    Rule(keys.YARN_LOG_MUL, _F32, Form.SINGLE, loader.READS_YARN_LOG_MUL),
    Rule(keys.HRM_STACK, _U32, Form.SINGLE, frozenset({"hrm_text"})),
    Rule(keys.HRM_CYCLES, _U32, Form.SINGLE, frozenset({"hrm_text"})),
)


def faults(source: KeySource) -> list[Fault]:
    """Why the pinned llama.cpp does not load a file, as far as rotation goes; empty where it does.

    Not asked for: values of a good type (``read_model`` and ``read_stock`` look at those that matter), keys and
    tensors about other things.
    """
    if source.architecture == "clip":  # only its tensors are read
        return []
    if source.architecture in loader.WITHOUT_MODEL:
        wanted = "a name that llama.cpp has no model for"
        remedy = "use a program that knows it"
        return [Fault(keys.ARCHITECTURE, f"is {source.architecture}", wanted, remedy=remedy)]
    types = list(_of_types(source))
    return [*types, *(() if types else _of_values(source)), *_of_tensors(source)]  # values of a good type


def _of_types(source: KeySource) -> Iterator[Fault]:
    for rule in RULES:
        name = keys.stock(rule.key, source.architecture)
        value = source.typed(name)
        if value is None or not rule.reads(source):
            continue
        length = {Form.EACH: _whole(source, keys.BLOCK_COUNT, 0), Form.SECTIONS: 4}.get(rule.form)
        if not _taken(rule, value, length):
            wanted = f"llama.cpp takes {_takes(rule, length)}"
            yield Fault(name, f"is {value.spelled}", wanted, _cast(rule, value, length))


def _taken(rule: Rule, value: TypedValue, length: Any) -> bool:
    if value.item_type is None:
        return rule.form is Form.OPTIONAL_ARRAY or (rule.form is not Form.ARRAY and value.type is rule.type)
    if rule.form is Form.SINGLE or value.item_type not in _WHOLE_ITEMS:
        return False
    return len(value.value) <= _MAX_LAYERS if length is None else len(value.value) == length


def _takes(rule: Rule, length: Any) -> str:
    if rule.form is Form.SINGLE:
        return rule.type.short
    items = "an array of u32, i32 or bool" if length is None else f"an array of {length} u32, i32 or bool"
    return items if rule.form in (Form.ARRAY, Form.OPTIONAL_ARRAY) else f"{rule.type.short} or {items}"


def _cast(rule: Rule, value: TypedValue, length: Any) -> TypedValue | None:
    """The same value in the type that llama.cpp takes; None where there is none."""
    items = value.value.tolist() if isinstance(value.value, np.ndarray) else value.value
    try:
        if value.item_type is None:
            return None if rule.form is Form.ARRAY else _single(rule.type, items)
        if rule.form is not Form.SINGLE and (length is None or len(items) == length):
            whole = [_single(_U32, int(item) if isinstance(item, bool) else item) for item in items]
            return None if None in whole else TypedValue(ValueType.ARRAY, [w.value for w in whole if w], _U32)
        alike = items and all(item == items[0] for item in items) and rule.form is not Form.ARRAY
        return _single(rule.type, items[0]) if alike else None
    except (OutputError, OverflowError, TypeError, ValueError):
        return None


def _single(kind: ValueType, value: Any) -> TypedValue | None:
    """``value`` as ``kind`` where that says the same: a whole number, a float to float32's precision, 0 or 1."""
    if isinstance(value, str) or kind is ValueType.STRING:
        return None
    if kind is ValueType.BOOL:
        return TypedValue(kind, bool(value)) if value in (0, 1) else None
    if isinstance(value, bool):
        return None
    if kind is _F32:
        return TypedValue(kind, float(value)) if not math.isinf(_float32(value)) or math.isinf(value) else None
    return TypedValue(kind, int(value)) if value == int(value) else None


def _float32(value: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.float32(value))


def _of_values(source: KeySource) -> Iterator[Fault]:
    arch = source.architecture
    name = keys.stock(keys.SCALING_TYPE, arch)
    kind = source.get(name)
    if isinstance(kind, str) and kind not in ("none", *SCALING_TYPES):
        wanted = "llama.cpp knows none, linear, yarn and longrope, and aborts on anything else"
        yield Fault(name, f"is {shorten(kind)}", wanted, aborts=True)
    n_layer, extra = _whole(source, keys.BLOCK_COUNT, 0), _whole(source, keys.NEXTN_LAYERS, 0)
    if extra > n_layer:
        wanted = f"llama.cpp aborts where it is above the {n_layer} layers that there are"
        yield Fault(keys.stock(keys.NEXTN_LAYERS, arch), f"is {extra}", wanted, aborts=True)
    if arch in loader.ROTATES_WHOLE_HEADS | loader.ASSERTS_WHOLE_HEADS and (sizes := _head_and_rotated(source)):
        wanted = f"llama.cpp takes the head size {sizes[0]} and nothing else for {arch}"
        if sizes[0] != sizes[1]:
            aborts = arch not in loader.ROTATES_WHOLE_HEADS
            yield Fault(keys.stock(keys.ROPE_DIMENSIONS, arch), f"is {sizes[1]}", wanted, aborts=aborts)


def _head_and_rotated(source: KeySource) -> tuple[int, int] | None:
    """Size of a head and how much of it rotates, where the file says that in numbers."""
    arch = source.architecture
    count, width = (source.get(keys.stock(key, arch)) for key in (keys.HEAD_COUNT, keys.EMBEDDING_LENGTH))
    count = int(count[0]) if isinstance(count, np.ndarray) and len(count) else count
    several = source.typed(keys.stock(keys.ROPE_DIMENSIONS_SLIDING, arch)) is not None  # another where layers slide
    if several or not (isinstance(count, int) and isinstance(width, int) and count > 0):
        return None
    size = source.get(keys.stock(keys.KEY_LENGTH, arch), width // count)
    rotated = source.get(keys.stock(keys.ROPE_DIMENSIONS, arch), size)
    return (size, rotated) if isinstance(size, int) and isinstance(rotated, int) else None


def _of_tensors(source: KeySource) -> Iterator[Fault]:
    arch = source.architecture
    kind = source.get(keys.stock(keys.SCALING_TYPE, arch))
    long = isinstance(kind, str) and kind == LONGROPE
    lists = arch in loader.LOADS_LONG_SHORT and (long or arch in loader.LONG_SHORT_IN_ANY_TYPE)
    one = arch in loader.LOADS_FREQS and not (long and lists)
    scaled = f"where {keys.stock(keys.SCALING_TYPE, arch)} is {LONGROPE if long else f'not {LONGROPE}'}"
    for name, loaded, ever in (
        (keys.ROPE_FREQS, one, arch in loader.LOADS_FREQS),
        (keys.ROPE_SHORT, lists, arch in loader.LOADS_LONG_SHORT),
        (keys.ROPE_LONG, lists, arch in loader.LOADS_LONG_SHORT),
    ):
        if source.has_tensor(name) and not loaded:
            where = scaled if ever else f"for {arch}"
            yield Fault(
                name,
                f"is a tensor that llama.cpp does not load {where}",
                "so that it refuses the file (wrong number of tensors)",
                tensor=True,
                remedy="convert the original model again, without that tensor",
            )
        elif source.has_tensor(name):
            yield from _of_size(source, name, source.tensor_data(name).size)


def _of_size(source: KeySource, name: str, found: int) -> Iterator[Fault]:
    count = _entries(source, source.architecture)
    if count is not None and found != count:
        remedy = "convert the original model again"
        yield Fault(name, f"has {found} entries", f"llama.cpp takes {count}", tensor=True, remedy=remedy)


def _entries(source: KeySource, arch: str) -> int | None:
    """How many entries a tensor of factors must have; None where the file does not say that in numbers."""
    sizes = _head_and_rotated(source)
    return None if sizes is None else sizes[0 if arch in loader.FACTORS_OF_WHOLE_HEADS else 1] // 2
