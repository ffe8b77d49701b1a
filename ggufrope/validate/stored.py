"""Give the PyTorch reference the matrices that a quantized GGUF stores: only arithmetic is left to differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ggufrope.errors import GgufError, InputError
from ggufrope.gguf import Header, TensorInfo, keys
from ggufrope.gguf.ggml_types import GGML_TYPES

__all__ = ["take_matrices"]


def take_matrices(model: Any, shards: Sequence[Header]) -> None:
    """Replace every matrix of ``model`` by the one in the file, dequantized; vectors stay as they are.

    Names and dequantization are the ``gguf`` package's. Of rotation only this is known here: the converter stores the
    Q and K of Llama's architecture with each head's halves as neighbours, which is undone.

    Args:
        model: a transformers causal model.
        shards: headers of all files of the same model.

    Raises:
        InputError: the file lacks a matrix, or has it in another shape.
        GgufError: a type that cannot be dequantized.
    """
    import torch
    from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, get_tensor_name_map

    arch = shards[0].architecture
    number = next((a for a in MODEL_ARCH if MODEL_ARCH_NAMES[a] == arch), None)
    if number is None:
        raise InputError(f"{shards[0].path}: the gguf package knows no architecture {arch}; omit --as-stored")
    names = get_tensor_name_map(number, model.config.num_hidden_layers)
    infos = {info.name: (header, info) for header in shards for info in header.tensors}
    for name, parameter in model.named_parameters():
        if parameter.dim() < 2:
            continue
        stored = names.get_name(name, try_suffixes=(".weight",)) or name
        if stored not in infos:
            raise InputError(
                f"{shards[0].path}: no tensor {stored}, which the reference has as {name}; "
                "give the reference it was made from"
            )
        values = _dequantized(*infos[stored])
        if arch == "llama" and stored.endswith((keys.ATTN_Q, keys.ATTN_K)):
            values = _halves(values, model.config.head_dim)
        if values.shape != tuple(parameter.shape):
            shapes = [" × ".join(map(str, shape)) for shape in (values.shape, parameter.shape)]
            raise InputError(
                f"{shards[0].path}: tensor {stored} is {shapes[0]}, the reference's is {shapes[1]}; "
                "give the reference it was made from"
            )
        parameter.data = torch.from_numpy(values).to(parameter.dtype)


def _dequantized(header: Header, info: TensorInfo) -> npt.NDArray[np.float32]:
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize

    begin = header.data_offset + info.offset
    rows = np.frombuffer(header.read(begin, begin + info.nbytes), np.uint8).reshape(*info.shape[:0:-1], -1)
    try:
        return np.array(dequantize(rows, GGMLQuantizationType(info.ggml_type)), np.float32)
    except (NotImplementedError, ValueError):
        kind = GGML_TYPES[info.ggml_type].name
        raise GgufError(
            f"{header.path}: tensor {info.name} is {kind}, which gguf cannot dequantize; validate without --as-stored"
        ) from None


def _halves(values: npt.NDArray[np.float32], head_dim: int) -> npt.NDArray[np.float32]:
    """Rows ``(2i, 2i+1)`` of each head back to ``(i, i + head_dim/2)``."""
    pairs = values.reshape(-1, head_dim // 2, 2, values.shape[-1])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(values.shape)
