"""In what keys and tensors two models differ. Order, padding, slack and the weights themselves are not looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import GgufError
from .ggml_types import GGML_TYPES
from .header import Field, Header, TensorInfo
from .keys import PADDING

_SHOWN_ITEMS = 64
_SHOWN_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Side:
    """A key or tensor as one of the two files has it.

    Attributes:
        type: e.g. ``u32``, ``str``, ``f32[24]``; a tensor's ggml type.
        value: a key's value, or None where it is too long to show; a tensor's shape in ggml's order.
    """

    type: str
    value: Any

    def as_json(self) -> dict[str, Any]:
        """For ``diff --json``."""
        return {"type": self.type, "value": self.value}


@dataclass(frozen=True, slots=True)
class HeaderDifference:
    """One name that the files do not agree on.

    Attributes:
        kind: ``key`` or ``tensor``.
        name: its name.
        a: what the first file has; None for nothing.
        b: what the second has.
    """

    kind: str
    name: str
    a: Side | None
    b: Side | None

    def as_json(self) -> dict[str, Any]:
        """For ``diff --json``."""
        sides = {label: side.as_json() if side else None for label, side in (("a", self.a), ("b", self.b))}
        return {"kind": self.kind, "name": self.name, **sides}


def differences(a: Sequence[Header], b: Sequence[Header]) -> list[HeaderDifference]:
    """Keys, then tensors, that differ, by name.

    Args:
        a: headers of all files of a model, as ``read_shards`` gives them. Its keys are those of the first.
        b: the other model's.

    Raises:
        GgufError: a file cannot be read.
    """
    keys_a, keys_b = ({f.key: f for f in side[0].fields if f.key != PADDING} for side in (a, b))
    different = []
    for name in sorted(keys_a.keys() | keys_b.keys()):
        left, right = keys_a.get(name), keys_b.get(name)
        if not (left and right and a[0].raw(left) == b[0].raw(right)):
            different.append(HeaderDifference("key", name, _key(a[0], left), _key(b[0], right)))
    tensors_a, tensors_b = ({info.name: info for header in side for info in header.tensors} for side in (a, b))
    for name in sorted(tensors_a.keys() | tensors_b.keys()):
        sides = _tensor(tensors_a, name), _tensor(tensors_b, name)
        if sides[0] != sides[1]:
            different.append(HeaderDifference("tensor", name, *sides))
    return different


def _key(header: Header, entry: Field | None) -> Side | None:
    if entry is None:
        return None
    kind = (entry.type if entry.item_type is None else entry.item_type).short
    if entry.item_type is not None:
        kind = f"{kind}[{entry.count}]"
    if entry.count > _SHOWN_ITEMS or entry.end - entry.payload > _SHOWN_BYTES:
        return Side(kind, None)
    try:
        value = header.get(entry.key)
    except GgufError:
        value = None  # text that is not UTF-8
    return Side(kind, value.tolist() if hasattr(value, "tolist") else value)


def _tensor(infos: Mapping[str, TensorInfo], name: str) -> Side | None:
    info = infos.get(name)
    return Side(GGML_TYPES[info.ggml_type].name, list(info.shape)) if info else None
