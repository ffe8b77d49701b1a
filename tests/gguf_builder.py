"""Builds GGUF files for tests from the format's description alone: it shares no code with ``ggufrope.gguf``.

``build`` makes any file, also a wrong one; ``tiny_llama`` a plausible model that is a few kilobytes long.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

LETTERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
U8, I8, U16, I16, U32, I32, F32, BOOL, STR, ARR, U64, I64, F64 = range(13)


def string(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(data)) + data


def items(kind: int, values: Sequence) -> bytes:
    if kind == STR:
        return b"".join(map(string, values))
    return struct.pack(f"<{len(values)}{LETTERS[kind]}", *values)


def entry(key: str | bytes, kind: int, value, item: int | None = None) -> bytes:
    """One key-value entry; for arrays ``kind`` is ARR, ``value`` a sequence and ``item`` the items' type."""
    if kind == ARR:
        return string(key) + struct.pack("<IIQ", ARR, item, len(value)) + items(item, value)
    return string(key) + struct.pack("<I", kind) + items(kind, [value])


def tensor_info(name: str | bytes, shape: Sequence[int], kind: int, offset: int) -> bytes:
    return string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def pad(data: bytes, alignment: int = 32, fill: bytes = b"\0") -> bytes:
    return data + fill * (-len(data) % alignment)


def build(
    entries: Sequence[bytes] = (),
    tensors: Sequence[tuple[str, np.ndarray]] = (),
    *,
    alignment: int = 32,
    version: int = 3,
    pad_last: bool = True,
    fill: bytes = b"\0",
    tail: bytes = b"",
) -> bytes:
    """A whole file. Tensors are float32 in numpy's shape; ``fill`` is the padding byte, ``tail`` follows the data."""
    infos, data = b"", b""
    for name, array in tensors:
        data = pad(data, alignment, fill)
        infos += tensor_info(name, array.shape[::-1], 0, len(data))
        data += array.astype("<f4").tobytes()
    head = struct.pack("<4sIQQ", b"GGUF", version, len(tensors), len(entries)) + b"".join(entries) + infos
    if tensors:
        head = pad(head, alignment, fill)
    return head + (pad(data, alignment, fill) if pad_last else data) + tail


def llama_entries(arch: str = "llama", **changed) -> list[bytes]:
    """The keys of a small model, rope keys included; ``changed`` replaces hyperparameters by their last name."""
    numbers = {
        "context_length": 64, "embedding_length": 32, "block_count": 3, "feed_forward_length": 64,
        "attention.head_count": 4, "attention.head_count_kv": 2, "rope.dimension_count": 8, **changed,
    }  # fmt: skip
    return [
        entry("general.architecture", STR, arch),
        entry("general.name", STR, "tiny"),
        *(entry(f"{arch}.{name}", U32, number) for name, number in numbers.items()),
        entry(f"{arch}.attention.layer_norm_rms_epsilon", F32, 1e-5),
        entry(f"{arch}.rope.freq_base", F32, 10000.0),
        entry("tokenizer.ggml.model", STR, "llama"),
        entry("tokenizer.ggml.tokens", ARR, ["<unk>", "<s>", "</s>", "▁a", "b"], STR),
        entry("tokenizer.ggml.scores", ARR, [0.0, 0.0, 0.0, -1.0, -2.0], F32),
        entry("tokenizer.ggml.token_type", ARR, [2, 3, 3, 1, 1], I32),
    ]


def tiny_tensors(seed: int = 0) -> list[tuple[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    shapes = {"token_embd.weight": (5, 8), "blk.0.attn_q.weight": (8, 7), "output_norm.weight": (9,)}
    return [(name, rng.standard_normal(shape).astype(np.float32)) for name, shape in shapes.items()]


def tiny_llama(arch: str = "llama", extra: Sequence[bytes] = (), **options) -> bytes:
    """A model's header and a few random tensors, the last of odd length; ``options`` go to ``build``."""
    return build([*llama_entries(arch), *extra], tiny_tensors(), **options)
