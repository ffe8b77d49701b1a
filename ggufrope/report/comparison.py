"""Which measurements are set against which: quantized and F16, KV cache types and f16, methods and none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ggufrope.report.difference import Difference, difference
from ggufrope.report.entries import FLOATS, Entry, is_float
from ggufrope.report.study import Group

__all__ = ["KINDS", "Comparison", "compare"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """``entry`` minus ``reference``, by length."""

    entry: Entry
    reference: Entry
    by_length: dict[int, Difference]


def compare(group: Group, kind: str) -> list[Comparison]:
    """All comparisons of a ``kind`` of ``KINDS`` that the group allows."""
    pairs = ((e, KINDS[kind](e, group.entries)) for e in group.entries)
    return [c for e, reference in pairs if reference is not None for c in _between(group, e, reference)]


def _between(group: Group, entry: Entry, reference: Entry) -> Iterator[Comparison]:
    by_length = {}
    for length in group.lengths:
        a, b = group.cells.get((entry, length)), group.cells.get((reference, length))
        value = difference(a, b) if a and b else None
        if value is not None:
            by_length[length] = value
    if by_length:
        yield Comparison(entry, reference, by_length)


def _unquantized(entry: Entry, others: tuple[Entry, ...]) -> Entry | None:
    """The file that ``entry`` was quantized from, or would have been: F16 before BF16 before F32."""
    if is_float(entry.quantization) or not entry.alone:
        return None
    same = (entry.model, entry.variant, entry.kv_type)
    candidates = [o for o in others if is_float(o.quantization) and o.alone and (o.model, o.variant, o.kv_type) == same]
    known = [o for name in FLOATS for o in candidates if o.quantization.upper() == name]
    return next(iter([*known, *candidates]), None)


def _full_cache(entry: Entry, others: tuple[Entry, ...]) -> Entry | None:
    """The same file with an f16 KV cache."""
    same = [o for o in others if o.file == entry.file and o.kv_type == "f16"]
    return same[0] if same and entry.kv_type != "f16" else None


def _without_method(entry: Entry, others: tuple[Entry, ...]) -> Entry | None:
    """The model without scaling in the same quantization."""
    if entry.plain:
        return None
    same = (entry.model, entry.quantization, entry.kv_type)
    candidates = [o for o in others if o.plain and (o.model, o.quantization, o.kv_type) == same]
    candidates = [o for o in candidates if o.weights == entry.weights] or [
        o for o in candidates if o.alone and entry.alone
    ]
    return candidates[0] if len(candidates) == 1 else None


KINDS: dict[str, Callable[[Entry, tuple[Entry, ...]], Entry | None]] = {
    "quantization": _unquantized,
    "kv": _full_cache,
    "method": _without_method,
}
