"""How far logits move when the same tokens are read in other company, and so which choices are too close to call.

A matrix product of one token and one of several run through different kernels, which add in another order. In F32 that
is noise in the last bits; where a product first rounds its input (to F16, to blocks of 8 bits), a value that lands on
the other side of a rounding step moves a logit by much more. Measured on the demo model and stories260K: the largest
change of the gap between the two likeliest tokens, among 600 to 1300 tokens each, decoding alone against sharing:

    weights F32, cache F32              1.1e-05
    weights F32 or F16, cache F16       1.4e-02
    the same, flash attention           5.4e-02
    weights F16, cache Q8_0             2.0e-02
    weights F16, cache Q4_0             5.4e-02
    weights Q8_0, Q4_K_M; cache F16     1.1e-01
    weights Q4_K_M, cache Q4_0          1.5e-01

A choice that is closer than twice that or more is made by decoding alone.
"""

from __future__ import annotations

from ggufrope.gguf.ggml_types import F16, F32
from ggufrope.modelfile.model_file import ModelFile

__all__ = ["margin"]

_EXACT, _F16, _F16_SUMS, _BLOCKS = 1e-4, 0.03, 0.12, 0.3


def margin(file: ModelFile, kv_type: str, *, flash_attn: bool) -> float:
    """A lead of the likeliest token (in logits) above which every way to evaluate the file gives that token."""
    types = {tensor.ggml_type for header in file.headers for tensor in header.tensors if len(tensor.shape) > 1}
    if not types <= {F32, F16}:
        return _BLOCKS
    if kv_type == "q4_0" or flash_attn:
        return _F16_SUMS
    return _EXACT if types == {F32} and kv_type == "f32" else _F16
