"""A model's GGUF file, opened once per command and passed on instead of its path."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ggufrope.errors import GgufError, GgufropeError
from ggufrope.gguf import Header, TypedValue, keys, read_header, shards_of
from ggufrope.modelfile.decoded import Decoded, decode, decode_stock
from ggufrope.modelfile.facts import RopeKeys, why_unrotated
from ggufrope.modelfile.loading import faults
from ggufrope.modelfile.mended import mend, without_scaling
from ggufrope.modelfile.original import Source, source_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ggufrope.modelfile.identity import Identity
    from ggufrope.modelfile.tokenizer_facts import TokenizerFacts

__all__ = ["ModelFile"]


class ModelFile(RopeKeys):
    """A GGUF, single or split. Its header is parsed when it is opened; all else is read when it is first asked for.

    It reads as the file is now (a ``KeySource``, with ``model`` and ``stock``); ``original`` reads as the file was
    before ggufrope converted it. A header is a snapshot: reading from a file that changed meanwhile raises GgufError.

    Example:
        >>> file = ModelFile.open("model.gguf")
        >>> file.decoded.method, file.original.model.train_ctx
        ('yarn', 4096)
    """

    def __init__(self, header: Header) -> None:
        """Wrap a header that was parsed already: of the file, or of the first shard."""
        self.header = header

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> ModelFile:
        """Parse the header of the file at ``path``, the first shard's of a split model.

        Raises:
            GgufError: not a GGUF that llama.cpp would load.
        """
        return cls(read_header(path))

    @classmethod
    def of(cls, file: ModelFile | str | os.PathLike[str]) -> ModelFile:
        """``file`` itself, or the file at that path, for calls that people make with either.

        Raises:
            GgufError: see ``open``.
        """
        return file if isinstance(file, ModelFile) else cls.open(file)

    @property
    def path(self) -> Path:
        """The file, or the first shard."""
        return self.header.path

    @property
    def architecture(self) -> str:
        """``general.architecture``."""
        return self.header.architecture

    @cached_property
    def headers(self) -> tuple[Header, ...]:
        """The headers of all files of the model, the first first.

        Raises:
            GgufError: not the first shard, a shard is missing, or they do not belong together.
        """
        return shards_of(self.header)

    def get(self, key: str, default: Any = None) -> Any:
        """The value of ``key`` as it is now."""
        return self.header.get(key, default)

    def typed(self, key: str) -> TypedValue | None:
        """The value of ``key`` as it is now, with its GGUF type; None where it is absent."""
        return self.header.typed(key) if key in self.header else None

    def __contains__(self, key: str) -> bool:
        return key in self.header

    def has_tensor(self, name: str) -> bool:
        """Whether one of the files holds this tensor."""
        return any(header.tensor(name) is not None for header in self.headers)

    def tensor_data(self, name: str) -> NDArray[np.float32]:
        """A small float tensor."""
        holder = next((h for h in self.headers if h.tensor(name) is not None), self.header)
        return holder.tensor_data(name)

    @cached_property
    def original(self) -> Source:
        """The file as it was before ggufrope converted it; as it is, if it did not.

        Raises:
            GgufError: an incomplete set of shards, or ``ggufrope`` keys without a usable ``ggufrope.original``.
        """
        return source_of(self.headers)

    @property
    def method_from_checkpoint(self) -> bool:
        """Whether the file's method is what its Hugging Face directory asks for, not one asked for by name.

        Raises:
            GgufError: see ``original``.
        """
        return self.original.method_from_checkpoint

    @cached_property
    def unrotated(self) -> str:
        """Why llama.cpp rotates no layer of the model, in words; empty where it rotates some.

        Raises:
            GgufError: see ``original``; or a key that every model has is missing or of an impossible type.
            UnsupportedModelError: the pinned llama.cpp does not know the architecture.
        """
        _ = self.original  # "give the first shard" before what a further shard lacks
        with self._explained():
            return why_unrotated(self)

    @cached_property
    def decoded(self) -> Decoded:
        """What the file says about its rotation.

        Raises:
            GgufError: see ``original``; or a key that contradicts the model, see ``decode``.
        """
        _ = self.original  # "give the first shard" before what a further shard lacks
        with self._explained():
            return decode(self)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Where llama.cpp would not load the file, that is said instead of what follows from it."""
        try:
            yield
        except GgufropeError:
            if left := faults(self):
                remedy = "`ggufrope convert` repairs that" if left[0].repair else left[0].remedy
                raise GgufError(f"{self.path}: llama.cpp does not load this file: {left[0]}; {remedy}") from None
            raise

    @cached_property
    def before(self) -> Decoded:
        """What the original said; the same as ``decoded`` for a file that ggufrope did not convert.

        Where the original's scaling made no sense (``original_fault``), what it would have said without any.
        """
        if not self.original.converted:
            return self.decoded
        if self.original_fault:
            return decode_stock(without_scaling(self.original, self.model.freq_base))
        return decode_stock(mend(self.original, replaces_scaling=False).source)

    @cached_property
    def original_fault(self) -> str:
        """What made no sense in the scaling of an original that ggufrope converted all the same; empty for others."""
        if not self.original.converted:
            return ""
        try:
            _ = decode_stock(mend(self.original, replaces_scaling=False).source)
        except GgufropeError as error:
            return str(error).removeprefix(f"{self.path}: ").partition("; ")[0]
        return ""

    @property
    def has_our_keys(self) -> bool:
        """Whether the file carries keys that a stock llama.cpp would ignore."""
        return any(field.key.startswith(keys.PREFIX) for field in self.header.fields)

    @cached_property
    def requires_patched(self) -> bool:
        """Whether it holds the sentinel tensor, which makes stock llama.cpp refuse it."""
        return self.has_tensor(keys.SENTINEL)

    @property
    def slack(self) -> int:
        """Bytes in ``ggufrope.padding``, which the next edit can use."""
        padding = self.header.field(keys.PADDING)
        return padding.count if padding and padding.item_type else 0

    @cached_property
    def weight_types(self) -> tuple[str, ...]:
        """Types of the matrices, sorted: ``("F16",)`` or ``("Q4_K", "Q6_K")``."""
        from ggufrope.modelfile.weight_types import weight_types

        return weight_types(self.headers)

    @cached_property
    def quantization(self) -> str:
        """What llama-quantize calls the file's types, e.g. ``Q4_K_M``; the types themselves where it does not say."""
        from ggufrope.modelfile.weight_types import quantization

        return quantization(self.headers)

    @cached_property
    def identity(self) -> Identity:
        """Which model this is, whatever its quantization and conversion.

        Raises:
            GgufError: it cannot be read.
        """
        from ggufrope.modelfile.identity import identify  # late: hashlib costs milliseconds, which --in-place counts

        return identify(self.original)

    @cached_property
    def header_hash(self) -> str:
        """sha256 of everything in front of the tensor data.

        Raises:
            GgufError: it cannot be read.
        """
        from ggufrope.modelfile.identity import span_hash

        return span_hash(self.header, 0, self.header.data_offset)

    @cached_property
    def tokenizer(self) -> TokenizerFacts:
        """What decides which token an id means.

        Raises:
            GgufError: it cannot be read.
        """
        from ggufrope.modelfile.tokenizer_facts import read_tokenizer

        return read_tokenizer(self.header)
