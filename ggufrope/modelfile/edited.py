"""What a file would hold after an edit, before it is written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ggufrope.gguf import TypedValue, encode_entry, parse_entry
from ggufrope.gguf.values import decode_items, decode_scalar
from ggufrope.modelfile.encoded import Edit
from ggufrope.modelfile.facts import RopeKeys
from ggufrope.modelfile.original import Source

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["EditedSource"]


@dataclass(frozen=True)  # no slots: what is read from it is kept in its __dict__
class EditedSource(RopeKeys):
    """A source with an edit on top: a ``KeySource`` that reads as the written file will.

    Attributes:
        source: what is edited.
        edit: what changes in it.
    """

    source: Source
    edit: Edit

    @property
    def path(self) -> Path:
        """The source's file."""
        return self.source.path

    @property
    def architecture(self) -> str:
        """``general.architecture``."""
        return self.source.architecture

    def get(self, key: str, default: Any = None) -> Any:
        """The value of ``key`` as it will be read: of the type, and with the bits, that are stored."""
        if key in self.edit.set:
            return _as_stored(key, self.edit.set[key])
        return default if key in self.edit.remove else self.source.get(key, default)

    def typed(self, key: str) -> TypedValue | None:
        """The value of ``key`` with the type that it will have; None where it will be absent."""
        if key in self.edit.set:
            return self.edit.set[key]
        return None if key in self.edit.remove else self.source.typed(key)

    def has_tensor(self, name: str) -> bool:
        """Whether the result has this tensor."""
        return name in self.edit.tensors or self.source.has_tensor(name)

    def tensor_data(self, name: str) -> NDArray[np.float32]:
        """A small float tensor."""
        return self.edit.tensors[name] if name in self.edit.tensors else self.source.tensor_data(name)


def _as_stored(key: str, value: TypedValue) -> Any:
    data = encode_entry(key, value)
    entry = parse_entry(data, key)
    payload = data[entry.payload : entry.end]
    if entry.item_type is None:
        return decode_scalar(entry.type, payload)
    return decode_items(entry.item_type, payload, entry.count)
