"""A GGUF as it was before ggufrope converted it.

``convert`` starts from here, so that converting twice never stacks two methods, and ``strip`` ends here. What is needed
is in ``ggufrope.original``: every key that was replaced or removed, with its place, and what was added.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ggufrope.errors import GgufError, OutputError
from ggufrope.gguf import Header, TypedValue, ValueType, encode_entry, keys, original_facts
from ggufrope.late import np
from ggufrope.modelfile.decoded import Decoded, decode_stock
from ggufrope.modelfile.facts import RopeKeys

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Source", "source_of"]

_MAX_RECORDED_ITEMS = 512  # one for each layer


#: An entry of the record, and its only value: see ``Source.method_from_checkpoint``.
_METHOD_FROM, _CHECKPOINT = "method_from", "checkpoint"


@dataclass(frozen=True)  # no slots: what is read from it is kept in its __dict__
class Source(RopeKeys):
    """A header seen through an earlier conversion.

    Attributes:
        header: the file as it is.
        before: keys of the original that the file lost or that were replaced: name → (index, value).
        added: keys that the conversion added.
        added_tensors: tensors that the conversion added.
        facts: what restores the original byte for byte (``gguf.original_facts``); empty for an unconverted file.
        method_from_checkpoint: the file's method is what its Hugging Face directory asks for, not one that was asked
            for by name.
        shards: the headers of the model's other files, when it is split; ``header`` is the first one's.
    """

    header: Header
    before: Mapping[str, tuple[int, TypedValue]] = field(default_factory=dict)
    added: frozenset[str] = frozenset()
    added_tensors: frozenset[str] = frozenset()
    facts: Mapping[str, Any] = field(default_factory=dict)
    shards: tuple[Header, ...] = ()
    method_from_checkpoint: bool = False

    @property
    def converted(self) -> bool:
        """Whether ggufrope wrote the file."""
        return bool(self.facts)

    @cached_property
    def decoded(self) -> Decoded:
        """What upstream's keys of the original say about its rotation.

        Raises:
            GgufError, UnsupportedModelError: see ``read_model`` and ``read_stock``.
        """
        return decode_stock(self)

    @property
    def path(self) -> Path:
        """The file."""
        return self.header.path

    @property
    def architecture(self) -> str:
        """``general.architecture``."""
        return self.header.architecture

    def get(self, key: str, default: Any = None) -> Any:
        """The original value of ``key``."""
        if key in self.before:
            return self.before[key][1].value
        return default if key in self.added else self.header.get(key, default)

    def typed(self, key: str) -> TypedValue | None:
        """The original value of ``key`` with its GGUF type; None where it was absent."""
        if key in self.before:
            return self.before[key][1]
        return self.header.typed(key) if key in self else None

    def __contains__(self, key: str) -> bool:
        return key in self.before or (key not in self.added and key in self.header)

    def has_tensor(self, name: str) -> bool:
        """Whether the original had this tensor."""
        return name not in self.added_tensors and self._holder(name) is not None

    def tensor_data(self, name: str) -> NDArray[np.float32]:
        """A small float tensor."""
        return (self._holder(name) or self.header).tensor_data(name)

    @property
    def data_offset(self) -> int:
        """Where the original's tensor data started."""
        offset = self.facts.get("header_bytes")
        return offset if isinstance(offset, int) and 0 < offset <= self.header.data_offset else self.header.data_offset

    def _holder(self, name: str) -> Header | None:
        return next((h for h in (self.header, *self.shards) if h.tensor(name) is not None), None)

    def index(self, key: str) -> int:
        """Place of ``key`` among the original's keys."""
        if key in self.before:
            return self.before[key][0]
        lost = sorted(i for k, (i, _) in self.before.items() if k not in self.header)
        place = 0
        for entry in self.header.fields:
            if entry.key in self.added:
                continue
            while lost and lost[0] <= place:
                lost.pop(0)
                place += 1
            if entry.key == key:
                return place
            place += 1
        raise KeyError(key)

    def record(
        self, changed: frozenset[str], added: frozenset[str], tensors: frozenset[str], *, from_checkpoint: bool = False
    ) -> dict[str, Any]:
        """The value of ``ggufrope.original`` for an edit of this source that changes and adds these.

        Args:
            changed: keys that the edit replaces or removes.
            added: keys that it adds.
            tensors: tensors that it adds.
            from_checkpoint: the method was read from the model's Hugging Face directory, not asked for by name.

        Raises:
            GgufError: a key to be replaced has a value that cannot be written back as it was.
        """
        entries = {}
        for key in sorted(changed):
            value = self.before[key][1] if key in self.before else self.header.typed(key)
            entry = self.header.field(key)
            altered = key not in self.before and entry and encode_entry(key, value) != self.header.raw(entry)
            if altered or np.size(value.value) > _MAX_RECORDED_ITEMS:
                raise GgufError(
                    f"{self.path}: {key} is stored in a way that could not be restored; rewrite the file first"
                )
            entries[key] = {"index": self.index(key), "type": value.type.name, "value": _plain(value.value)}
            if value.item_type is not None:
                entries[key]["items"] = value.item_type.name
        return {
            "keys": entries,
            "added": sorted(added),
            "tensors": sorted(tensors),
            "file": dict(self.facts) or original_facts(self.header),
            **({_METHOD_FROM: _CHECKPOINT} if from_checkpoint else {}),
        }


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


def _item_type(entry: Mapping[str, Any]) -> ValueType | None:
    return ValueType[entry["items"]] if "items" in entry else None


def source_of(headers: Sequence[Header]) -> Source:
    """See through an earlier conversion of a model, given the headers of all its files.

    Raises:
        GgufError: ``ggufrope`` keys without a usable ``ggufrope.original``.
    """
    header, *shards = headers
    if not any(f.key.startswith(keys.PREFIX) for f in header.fields):
        return Source(header, shards=tuple(shards))
    try:
        record = json.loads(header.get(keys.ORIGINAL, ""))
        before = {
            key: (int(e["index"]), TypedValue(ValueType[e["type"]], e["value"], _item_type(e)))
            for key, e in record["keys"].items()
        }
        return Source(
            header,
            before,
            frozenset(map(str, record["added"])),
            frozenset(map(str, record["tensors"])),
            dict(record["file"]),
            tuple(shards),
            record.get(_METHOD_FROM) == _CHECKPOINT,
        )
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError, RecursionError, OutputError) as error:
        raise GgufError(
            f"{header.path}: {keys.ORIGINAL} is missing or damaged ({type(error).__name__}: {error}); "
            "convert the original model again"
        ) from None
