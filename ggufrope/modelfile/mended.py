"""A file with the keys that llama.cpp does not take as it would take them: what ``convert`` starts from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ggufrope.errors import GgufError
from ggufrope.gguf import TypedValue, ValueType, keys
from ggufrope.modelfile.edited import EditedSource
from ggufrope.modelfile.encoded import Edit
from ggufrope.modelfile.facts import KeySource
from ggufrope.modelfile.loading import faults
from ggufrope.modelfile.original import Source
from ggufrope.modelfile.stock_values import OddValue, odd_values

__all__ = ["Mended", "mend", "require_loadable", "without_scaling"]


@dataclass(frozen=True, slots=True)
class Mended:
    """A source as it would be with its repairs.

    Attributes:
        source: reads as mended.
        repairs: what that changes in the file.
        found: what was repaired: a sentence for each key.
    """

    source: EditedSource
    repairs: Edit
    found: Mapping[str, str]

    def notes(self, edit: Edit) -> list[str]:
        """What was repaired, and what ``edit`` makes of it, one sentence each."""
        said = []
        for name, what in self.found.items():
            new, repair = edit.set.get(name), self.repairs.set.get(name)
            becomes = "removed" if new is None else f"written as {new.spelled} now" if new == repair else "replaced"
            said.append(f"{what}: it is {becomes}")
        return said


def mend(source: Source, *, replaces_scaling: bool, freq_base: float | None = None) -> Mended:
    """Repair what can be repaired without asking.

    Args:
        source: the file, seen as it was before any conversion.
        replaces_scaling: whatever the file declares of scaling goes anyway: keys of it that make no sense are removed.
        freq_base: what a base that makes no sense is replaced by.
    """
    put: dict[str, TypedValue] = {}
    gone: set[str] = set()
    found: dict[str, str] = {}
    replaced = {keys.stock(k, source.architecture) for k in keys.REPLACED} if replaces_scaling else set()
    for fault in faults(source):
        if fault.repair is not None:
            put[fault.name], found[fault.name] = fault.repair, str(fault)
        elif fault.name in replaced:
            gone.add(fault.name)
            found[fault.name] = str(fault)
    if freq_base is not None and (odd_base := _odd_base(source)):
        put[odd_base.name], found[odd_base.name] = TypedValue(ValueType.FLOAT32, freq_base), str(odd_base)
    for odd in odd_values(EditedSource(source, Edit(put, frozenset(gone)))):
        if odd.name in replaced:
            gone.add(odd.name)
            found[odd.name] = str(odd)
    edit = Edit({k: v for k, v in put.items() if k not in gone}, frozenset(gone))
    return Mended(EditedSource(source, edit), edit, found)


def _odd_base(source: Source) -> OddValue | None:
    name = keys.stock(keys.FREQ_BASE, source.architecture)
    value = source.get(name)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if value is None or (number and 1 < value < math.inf):
        return None
    return OddValue(name, value, "from which llama.cpp computes every frequency")


def without_scaling(source: Source, freq_base: float) -> EditedSource:
    """``source`` without the scaling that it declares, and mended otherwise.

    Args:
        source: the file, seen as it was before any conversion.
        freq_base: what a base that makes no sense is replaced by.
    """
    removed = frozenset(keys.stock(k, source.architecture) for k in keys.REPLACED)
    mended = mend(source, replaces_scaling=True, freq_base=freq_base)
    return EditedSource(source, mended.repairs | Edit(remove=removed))


def require_loadable(result: KeySource, *, keys_only: bool = False) -> None:
    """Refuse to write what llama.cpp would not load.

    Args:
        result: reads as it would be written.
        keys_only: tensors do not count yet; which ones are loaded is for the method to say.

    Raises:
        GgufError: the first fault that is left.
    """
    if left := [fault for fault in faults(result) if not (keys_only and fault.tensor)]:
        raise GgufError(f"{result.path}: {left[0]}; {left[0].remedy}")
