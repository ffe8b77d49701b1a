"""A random Llama of about 300 M parameters, written straight to a GGUF; what it says is noise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import gguf_builder as gb
import numpy as np

__all__ = ["SHAPES", "TYPES", "Shape", "write_model"]

_F32, _F16, _Q8_0 = 0, 1, 8
TYPES = {"f16": _F16, "q8_0": _Q8_0}


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a Llama with heads of ``n_embd / n_head`` dimensions."""

    n_head_kv: int
    n_head: int = 16
    n_embd: int = 1024
    n_layer: int = 16
    n_ff: int = 4096
    n_vocab: int = 32000
    n_ctx: int = 4096

    def weights(self) -> Iterator[tuple[str, int, int]]:
        """Name, inputs and outputs of each matrix."""
        kv = self.n_embd // self.n_head * self.n_head_kv
        yield "token_embd", self.n_embd, self.n_vocab
        yield "output", self.n_embd, self.n_vocab
        for i in range(self.n_layer):
            for name, n_out in (("q", self.n_embd), ("k", kv), ("v", kv), ("output", self.n_embd)):
                yield f"blk.{i}.attn_{name}", self.n_embd, n_out
            yield f"blk.{i}.ffn_gate", self.n_embd, self.n_ff
            yield f"blk.{i}.ffn_up", self.n_embd, self.n_ff
            yield f"blk.{i}.ffn_down", self.n_ff, self.n_embd

    def norms(self) -> list[str]:
        """Names of the norms' weights."""
        return ["output_norm", *(f"blk.{i}.{name}_norm" for i in range(self.n_layer) for name in ("attn", "ffn"))]

    def ratios(self) -> np.ndarray:
        """A ratio of its own for each KV head, in every layer: more than Ms-PoE does, which spares the first two."""
        return np.tile(np.linspace(1.2, 1.8, self.n_head_kv, dtype=np.float32), self.n_layer)


SHAPES = {"gqa": Shape(n_head_kv=4), "mha": Shape(n_head_kv=16)}


def write_model(
    path: Path, shape: Shape, kind: str, *, ms_poe: bool, lengths: bool = False, tokenizer: Sequence[bytes] = ()
) -> None:
    """Write the model; ``kind`` is a key of ``TYPES``. With ``ms_poe`` it has the ratios of ``shape``, with ``lengths``
    a length table of two rows.

    ``tokenizer``: entries of the header; without them programs can give it tokens, but no text.
    """
    names = [(name, [n_in, n_out], TYPES[kind]) for name, n_in, n_out in shape.weights()]
    names += [(name, [shape.n_embd], _F32) for name in shape.norms()]
    infos, offset = b"", 0
    for name, sizes, number in names:
        infos += gb.tensor_info(f"{name}.weight", sizes, number, offset)
        offset += _padded(_bytes(sizes, number))
    entries = _entries(shape, tokenizer) + (_keys(shape) if ms_poe or lengths else [])
    entries += _length_keys(shape) if lengths else []
    head = b"GGUF" + np.array([3], "<u4").tobytes() + np.array([len(names), len(entries)], "<u8").tobytes()
    noise = {number: _noise(number) for number in {number for *_, number in names}}
    with path.open("wb") as file:
        file.write(gb.pad(head + b"".join(entries) + infos))
        for _, sizes, number in names:
            size = _bytes(sizes, number)
            for at in range(0, size, len(noise[number])):
                file.write(noise[number][: size - at])
            file.write(b"\0" * (_padded(size) - size))


def _entries(shape: Shape, tokenizer: Sequence[bytes]) -> list[bytes]:
    numbers = {
        "context_length": shape.n_ctx, "embedding_length": shape.n_embd, "block_count": shape.n_layer,
        "feed_forward_length": shape.n_ff, "attention.head_count": shape.n_head,
        "attention.head_count_kv": shape.n_head_kv, "vocab_size": shape.n_vocab,
    }  # fmt: skip
    return [
        gb.entry("general.architecture", gb.STR, "llama"),
        *(gb.entry(f"llama.{name}", gb.U32, number) for name, number in numbers.items()),
        gb.entry("llama.attention.layer_norm_rms_epsilon", gb.F32, 1e-5),
        *(tokenizer or [gb.entry("tokenizer.ggml.model", gb.STR, "no_vocab")]),
    ]


def _keys(shape: Shape) -> list[bytes]:
    return [
        gb.entry("ggufrope.version", gb.U32, 1),
        gb.entry("ggufrope.method", gb.STR, "ms-poe"),
        gb.entry("ggufrope.head_factors", gb.ARR, shape.ratios().tolist(), gb.F32),
    ]


def _length_keys(shape: Shape) -> list[bytes]:
    n_pairs = shape.n_embd // shape.n_head // 2
    factors = [1.0] * n_pairs + np.linspace(1, 4, n_pairs).tolist()
    return [
        gb.entry("ggufrope.length_points", gb.ARR, [shape.n_ctx, 1 << 20], gb.U32),
        gb.entry("ggufrope.length_factors", gb.ARR, factors, gb.F32),
        gb.entry("ggufrope.length_attn_scale", gb.ARR, [1.0, 1.1], gb.F32),
    ]


def _bytes(sizes: list[int], number: int) -> int:
    count = int(np.prod(sizes))
    return {_F32: count * 4, _F16: count * 2, _Q8_0: count // 32 * 34}[number]


def _padded(size: int) -> int:
    return size + -size % 32


def _noise(number: int) -> bytes:
    """Some 30 MB of values around 0 as large as a trained model's, a whole number of blocks; norms are 1."""
    rng, count = np.random.default_rng(1), 1 << 19
    if number == _F32:
        return np.ones(count, "<f4").tobytes()
    if number == _F16:
        return (0.02 * rng.standard_normal(32 * count, dtype=np.float32)).astype("<f2").tobytes()
    blocks = np.zeros(count, [("scale", "<f2"), ("values", "i1", 32)])
    blocks["scale"] = 0.02 / 64
    blocks["values"] = rng.integers(-127, 128, (count, 32))
    return blocks.tobytes()
