"""Files that load, and files that must be refused: the table of the tests, and damage of other kinds."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
from gguf_builder import ARR, F32, STR, U32, entry
from test_runtime_bad_keys import BAD, METHOD, SENTINEL, VERSION, factors, row
from tiny_transformer import ARCHITECTURES, TinyModel

KEY = b"ggufrope.head_factors"
GOOD = [VERSION, METHOD, factors([1.0, 1.5] * 3)]


def good() -> Iterator[tuple[str, bytes]]:
    """(name, contents) of files that load; stock takes them for plain ones."""
    ratios = factors([1.0, 1.5] * 3)
    for arch in ARCHITECTURES:
        yield f"{arch}, head factors", TinyModel(arch).file([VERSION, METHOD, ratios])
    yield "heads of 64, head factors", TinyModel("qwen2", head_dim=64).file([VERSION, METHOD, ratios])
    table = row([96, 128, 512], [f for s in (1, 2, 4) for f in [s] * 16], [1.0, 1.1, 1.2])
    yield "head factors and a length table", TinyModel("llama").file([VERSION, METHOD, ratios, *table])
    yield "plain", TinyModel("llama").file()


def bad() -> Iterator[tuple[str, bytes]]:
    """(name, contents) of files that must be refused."""
    for name, (entries, _) in BAD.items():
        yield name, TinyModel("llama").file(entries)
    whole = TinyModel("llama").file(GOOD)
    count = whole.index(KEY) + len(KEY) + 8  # behind the type and the type of the items
    for items in (7, 2**31, 2**61 + 1, 2**64 - 1):
        yield f"claims {items} factors", whole[:count] + struct.pack("<Q", items) + whole[count + 8 :]
    yield "ends within the factors", whole[: count + 8 + 12]
    yield "ends within the data", whole[:-1000]
    yield "factors of another architecture", TinyModel("qwen2", n_layer=5).file(GOOD)
    yield "factors for other heads", TinyModel("llama", n_head_kv=4).file(GOOD)
    yield "a tensor too many", TinyModel("llama").file(GOOD, [("ggufrope.other", np.zeros(1, np.float32))])
    yield "a sentinel of two", TinyModel("llama").file(GOOD, [(SENTINEL, np.zeros(2, np.float32))])
    yield "a sentinel alone", TinyModel("llama").file([], [(SENTINEL, np.zeros(1, np.float32))])
    points = [
        entry("ggufrope.length_points", ARR, [2**32 - 1], U32),
        entry("ggufrope.length_factors", ARR, [3e38] * 15 + [float("inf")], F32),
        entry("ggufrope.length_attn_scale", ARR, [3e38], F32),
    ]
    yield "huge and infinite", TinyModel("llama").file([VERSION, METHOD, *points])
    yield "a long name", TinyModel("llama").file([VERSION, entry("ggufrope.method", STR, "m" * 100_000), factors([0])])
