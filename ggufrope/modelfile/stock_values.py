"""Values of scaling keys that llama.cpp loads, and that make it rotate by nonsense: not a number, zero, negative."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ggufrope.errors import GgufError
from ggufrope.gguf import keys
from ggufrope.late import np
from ggufrope.methods import PLAIN
from ggufrope.modelfile.facts import KeySource
from ggufrope.rope import architectures
from ggufrope.rope.stock import LONGROPE, YARN
from ggufrope.text import shorten

__all__ = ["OddValue", "odd_values", "require_sense"]

_LAST_POSITION = 2**31 - 1


@dataclass(frozen=True, slots=True)
class OddValue:
    """A key whose value makes no sense, and what llama.cpp does with it."""

    name: str
    value: object
    effect: str

    def __str__(self) -> str:
        shown = f"{self.value:g}" if isinstance(self.value, float) else shorten(self.value)
        return f"{self.name} is {shown}, {self.effect}"


def odd_values(source: KeySource) -> Iterator[OddValue]:
    """What of a file's scaling makes no sense; only keys that act count."""
    arch = source.architecture
    if arch in architectures.IGNORES_SCALING:
        return
    kind = source.get(keys.stock(keys.SCALING_TYPE, arch))
    kind = kind if isinstance(kind, str) else None
    if kind != "none":
        factor = keys.stock(keys.SCALING_FACTOR, arch)
        name = factor if source.get(factor) is not None else keys.stock(keys.SCALE_LINEAR, arch)
        value = _number(source, name)
        if value is not None and value != 0 and not (math.isfinite(value) and value > 0):
            yield OddValue(name, value, "by which llama.cpp divides every position")
    name = keys.stock(keys.ATTN_FACTOR, arch)
    value = _number(source, name)
    if value is not None and not (math.isfinite(value) and value > 0):
        yield OddValue(name, value, "by which llama.cpp multiplies cos and sin")
    if kind == YARN:
        yield from _of_yarn(source, arch)
    name = keys.stock(keys.ORIGINAL_CONTEXT, arch)
    if kind == LONGROPE and _number(source, name) == 0:
        yield OddValue(name, 0, "so that llama.cpp takes the long factors at every length")


def require_sense(source: KeySource) -> None:
    """Refuse a scaling that llama.cpp loads and nobody can have meant.

    Raises:
        GgufError: the first of ``odd_values``.
    """
    if odd := next(odd_values(source), None):
        raise GgufError(
            f"{source.path}: {odd}; `ggufrope convert --method {PLAIN}`, or another method in its place, replaces it"
        )


def _of_yarn(source: KeySource, arch: str) -> Iterator[OddValue]:
    if arch in architectures.READS_YARN_BETA:
        for key in (keys.YARN_BETA_FAST, keys.YARN_BETA_SLOW):
            value = _number(source, name := keys.stock(key, arch))
            if value is not None and not (math.isfinite(value) and value > 0):
                yield OddValue(name, value, "of which llama.cpp takes the logarithm")
    if arch in architectures.READS_YARN_LOG_MUL:
        value = _number(source, name := keys.stock(keys.YARN_LOG_MUL, arch))
        if value is not None and not math.isfinite(value):
            yield OddValue(name, value, "by which llama.cpp multiplies cos and sin")
    for key in (keys.ORIGINAL_CONTEXT, keys.CONTEXT_LENGTH):
        count = _number(source, name := keys.stock(key, arch))
        if count is not None and count > _LAST_POSITION:
            yield OddValue(name, int(count), f"beyond the {_LAST_POSITION} that llama.cpp's YaRN can count")
        if count:  # context_length acts where there is no other
            return


def _number(source: KeySource, key: str) -> float | None:
    value = source.get(key)
    if isinstance(value, np.ndarray) and value.size and value.dtype.kind in "iuf":
        value = value.flat[0]
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    return float(value) if number else None
