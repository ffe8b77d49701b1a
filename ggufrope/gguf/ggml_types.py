"""Sizes of ggml's tensor types: enough to know how many bytes a tensor takes, without reading it.

The numbers are those of ``ggml_blck_size`` and ``ggml_type_size`` at the pinned llama.cpp (0c1e570).
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple


class GgmlType(NamedTuple):
    """A tensor type: ``block`` consecutive elements of a row share ``nbytes`` bytes."""

    name: str
    block: int
    nbytes: int


F32, F16, BF16 = 0, 1, 30

# 4, 5, 31-33 and 36-38 were removed from ggml; llama.cpp refuses files that use them.
GGML_TYPES = {
    F32: GgmlType("F32", 1, 4),
    F16: GgmlType("F16", 1, 2),
    2: GgmlType("Q4_0", 32, 18),
    3: GgmlType("Q4_1", 32, 20),
    6: GgmlType("Q5_0", 32, 22),
    7: GgmlType("Q5_1", 32, 24),
    8: GgmlType("Q8_0", 32, 34),
    9: GgmlType("Q8_1", 32, 36),
    10: GgmlType("Q2_K", 256, 84),
    11: GgmlType("Q3_K", 256, 110),
    12: GgmlType("Q4_K", 256, 144),
    13: GgmlType("Q5_K", 256, 176),
    14: GgmlType("Q6_K", 256, 210),
    15: GgmlType("Q8_K", 256, 292),
    16: GgmlType("IQ2_XXS", 256, 66),
    17: GgmlType("IQ2_XS", 256, 74),
    18: GgmlType("IQ3_XXS", 256, 98),
    19: GgmlType("IQ1_S", 256, 50),
    20: GgmlType("IQ4_NL", 32, 18),
    21: GgmlType("IQ3_S", 256, 110),
    22: GgmlType("IQ2_S", 256, 82),
    23: GgmlType("IQ4_XS", 256, 136),
    24: GgmlType("I8", 1, 1),
    25: GgmlType("I16", 1, 2),
    26: GgmlType("I32", 1, 4),
    27: GgmlType("I64", 1, 8),
    28: GgmlType("F64", 1, 8),
    29: GgmlType("IQ1_M", 256, 56),
    BF16: GgmlType("BF16", 1, 2),
    34: GgmlType("TQ1_0", 256, 54),
    35: GgmlType("TQ2_0", 256, 66),
    39: GgmlType("MXFP4", 32, 17),
    40: GgmlType("NVFP4", 64, 36),
    41: GgmlType("Q1_0", 128, 18),
    42: GgmlType("Q2_0", 64, 18),
}


def tensor_nbytes(shape: tuple[int, ...], ggml_type: int) -> int:
    """Bytes of a tensor of this shape (ggml order: ``shape[0]`` is the row length); a scalar has the empty shape.

    Raises:
        KeyError: ``ggml_type`` is not in ``GGML_TYPES``.
        ValueError: a row is not a whole number of blocks.
    """
    kind = GGML_TYPES[ggml_type]
    row = shape[0] if shape else 1
    if row % kind.block:
        raise ValueError(f"rows of {row} elements are not a whole number of {kind.name} blocks of {kind.block}")
    return prod(shape) // kind.block * kind.nbytes
