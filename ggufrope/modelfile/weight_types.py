"""In which types a file stores its matrices, and what llama-quantize calls that."""

from __future__ import annotations

from collections.abc import Sequence

from ggufrope.gguf import Header, keys
from ggufrope.gguf.ggml_types import GGML_TYPES

__all__ = ["FILE_TYPES", "quantization", "weight_types"]

#: ``general.file_type``, upstream's ``llama_ftype``.
FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M",
    13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS",
    21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S",
    29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4_MOE", 39: "NVFP4",
    40: "Q1_0", 41: "Q2_0",
}  # fmt: skip


def weight_types(headers: Sequence[Header]) -> tuple[str, ...]:
    """Types of the matrices of a model's files, sorted: ``("F16",)`` or ``("Q4_K", "Q6_K")``."""
    infos = [info for header in headers for info in header.tensors]
    return tuple(sorted({GGML_TYPES[t.ggml_type].name for t in infos if len([n for n in t.shape if n > 1]) > 1}))


def quantization(headers: Sequence[Header]) -> str:
    """``general.file_type`` in upstream's words; the matrices' types where the key is absent or unknown.

    Raises:
        GgufError: the file changed since its header was read.
    """
    return FILE_TYPES.get(headers[0].get(keys.FILE_TYPE, -1)) or "+".join(weight_types(headers)) or "unknown"
