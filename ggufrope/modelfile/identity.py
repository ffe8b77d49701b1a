"""Which model scores belong to, whatever its quantization."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ggufrope.errors import GgufError
from ggufrope.gguf import Header, TensorInfo

if TYPE_CHECKING:
    from ggufrope.modelfile.original import Source

__all__ = ["Identity", "identify", "span_hash"]

_SAMPLE = 4096  # bytes of each tensor


@dataclass(frozen=True, slots=True)
class Identity:
    """A model's architecture and shapes, and hashes that tell it from others of these shapes.

    Attributes:
        architecture: ``general.architecture``.
        n_head: query heads by layer.
        n_head_kv: KV heads by layer.
        head_dim: dimensions of a head.
        vectors: sha256 of the one-dimensional tensors (norms, biases), which quantization leaves alone.
        weights: sha256 of the first 4 KiB of every tensor: this quantization of the model.
    """

    architecture: str
    n_head: tuple[int, ...]
    n_head_kv: tuple[int, ...]
    head_dim: int
    vectors: str
    weights: str

    def as_json(self) -> dict[str, Any]:
        """An object for JSON."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_json(cls, told: Any) -> Identity:
        """What ``as_json`` gave.

        Raises:
            ValueError: it is something else.
        """
        try:
            lists = {name: tuple(int(n) for n in told[name]) for name in ("n_head", "n_head_kv")}
            read = cls(**(told | lists))
        except (TypeError, KeyError, OverflowError) as error:  # int() of an infinity
            raise ValueError(f"{type(error).__name__}: {error}") from None
        if read.as_json() != told or not isinstance(read.head_dim, int):
            raise ValueError("numbers of heads are whole numbers")
        return read

    def difference(self, other: Identity) -> str:
        """How ``other`` shows to be another model, or an empty string. Quantizations of one model do not differ."""
        for name in ("architecture", "n_head", "n_head_kv", "head_dim"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                if isinstance(mine, tuple) and len(mine) != len(theirs):
                    return f"{len(theirs)} layers, not {len(mine)}"
                layer = [a == b for a, b in zip(mine, theirs, strict=True)].index(False) if name[:2] == "n_" else None
                where = "" if layer is None else f" in layer {layer}"
                values = (theirs, mine) if layer is None else (theirs[layer], mine[layer])
                return f"{name} {values[0]}, not {values[1]}{where}"
        return "" if self.vectors == other.vectors else "other norms or biases"


def identify(source: Source) -> Identity:
    """The identity of a model, given its file as it was; so it is the same before and after a conversion by ggufrope.

    Raises:
        GgufError: it cannot be read.
    """
    model = source.model
    tensors = sorted(
        ((t, h) for h in (source.header, *source.shards) for t in h.tensors if t.name not in source.added_tensors),
        key=lambda pair: pair[0].name,
    )
    vectors, weights = hashlib.sha256(), hashlib.sha256()
    for info, header in tensors:
        head = f"{info.name}{list(info.shape)}".encode()
        data = _bytes(info, header, info.nbytes if len(info.shape) == 1 else _SAMPLE)
        weights.update(head + data[:_SAMPLE])
        if len(info.shape) == 1:
            vectors.update(head + data)
    return Identity(model.arch, model.n_head, model.n_head_kv, model.head_dim, vectors.hexdigest(), weights.hexdigest())


def span_hash(header: Header, start: int, end: int) -> str:
    """sha256 of the bytes from ``start`` to ``end`` of a file.

    Raises:
        GgufError: it cannot be read.
    """
    digest, step = hashlib.sha256(), 1 << 20
    try:
        for at in range(start, end, step):
            digest.update(header.read(at, min(end, at + step)))
    except OSError as error:
        raise GgufError(f"{header.path}: cannot be read ({error.strerror}); check its name and permissions") from None
    return digest.hexdigest()


def _bytes(info: TensorInfo, header: Header, n: int) -> bytes:
    try:
        with header.path.open("rb") as file:
            file.seek(header.data_offset + info.offset)
            return file.read(min(n, info.nbytes))
    except OSError as error:
        raise GgufError(f"{header.path}: cannot be read ({error.strerror}); check its name and permissions") from None
