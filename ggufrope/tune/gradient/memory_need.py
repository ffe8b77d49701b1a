"""How much memory a step takes, computed before it begins: the number that decides whether there is a step."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from math import prod

from ggufrope.errors import UnsupportedModelError
from ggufrope.gguf import keys
from ggufrope.modelfile.model_file import ModelFile

__all__ = ["KEEP_BYTES", "MemoryNeed", "available", "give_back_freed", "memory_need", "require_memory"]

#: Python, torch and transformers themselves (measured: 0.47 GB), and what the allocator keeps.
_PROGRAM = 700 * 2**20
#: A chunk of the output layer, see ``vocabulary_chunks.py``: rows, logits, and what backward makes of each.
_CHUNK = 6 * 2**26
#: Weights of a model that takes no more are kept: dequantizing them is a seventh of a step of 1024 tokens.
KEEP_BYTES = 2**30
_FLOATS = {"float32": 4, "bfloat16": 2, "float64": 8}


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """Bytes of one step.

    Attributes:
        layer: floats of the largest layer, and of a matrix while it is dequantized.
        between: what stays of each layer until backward: the text's activations behind it.
        inside: activations within a layer while backward computes it.
        kept: weights of a small model.
        program: everything else.
    """

    layer: int
    between: int
    inside: int
    kept: int = 0
    program: int = _PROGRAM + _CHUNK

    @property
    def total(self) -> int:
        """All of it, at the same time."""
        return self.layer + self.between + self.inside + self.kept + self.program


def memory_need(file: ModelFile, tokens: int, *, kept: int = 0, dtype: str = "float32") -> MemoryNeed:
    """What a step on a text takes.

    Args:
        file: the model.
        tokens: that are read in one pass: ``TuningText.n_read``.
        kept: of all texts of the step, which wait for backward together; 0: one text.
        dtype: as ``StreamedModel`` has it.
    """
    size, model = _FLOATS[dtype], file.decoded.model
    matrices: dict[str, list[int]] = {}
    for info in (info for header in file.headers for info in header.tensors):
        if info.name.startswith(keys.BLOCK_PREFIX):
            matrices.setdefault(info.name.split(".")[1], []).append(prod(info.shape))
    whole = size * sum(prod(info.shape) for header in file.headers for info in header.tensors)
    largest = max(matrices.values(), key=sum, default=[0])
    # dequantized in float32 before it is converted; gguf-py holds up to three such arrays of a matrix
    layer = size * sum(largest) + 3 * 4 * max(largest)
    width = int(file.get(keys.stock(keys.EMBEDDING_LENGTH, file.architecture), 0))
    lengths = file.get(keys.stock(keys.FEED_FORWARD_LENGTH, file.architecture), 0)
    hidden = int(max(lengths)) if hasattr(lengths, "__len__") else int(lengths)
    heads = max(model.n_head) * model.head_dim
    # of attention: q, k, v before and after rotation, their parts, the output, and gradients of these; of the rest of a
    # layer: norms and residuals; of the feed-forward: gate, up, activation, product, and their gradients
    inside = size * tokens * (12 * width + 16 * heads + 8 * hidden)
    return MemoryNeed(
        layer, size * max(tokens, kept) * width * (model.n_layer + 1), inside, whole * (whole <= KEEP_BYTES)
    )


def give_back_freed() -> None:
    """Have glibc give a tensor's memory back when it is freed, from now on in this process; others' allocators do.

    What stays of each layer until backward would else lie between what was freed, and keep it: 8 times as much for each
    layer, measured with 2048 tokens.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).mallopt(-3, 1 << 18)  # M_MMAP_THRESHOLD: bytes from which on an allocation is a mapping


def available() -> int | None:
    """Bytes that programs may still take; None where the system does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:  # noqa: PTH123  # no file of the user's
            found = {line.split(":")[0]: line.split()[1] for line in file}
        return int(found["MemAvailable"]) * 1024
    except (OSError, KeyError, ValueError, IndexError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def require_memory(
    file: ModelFile, tokens: int, *, kept: int = 0, dtype: str = "float32", device: str = "cpu"
) -> MemoryNeed:
    """What a step takes, where it fits.

    Args:
        file: the model.
        tokens: see ``memory_need``.
        kept: see ``memory_need``.
        dtype: as ``StreamedModel`` has it.
        device: on others than the CPU nothing is refused: their memory is for their own driver to say.

    Raises:
        UnsupportedModelError: more than there is; the message has both numbers.
    """
    need, there = memory_need(file, tokens, kept=kept, dtype=dtype), available()
    if device == "cpu" and there is not None and need.total > there:
        raise UnsupportedModelError(
            f"{file.path}: a step on {tokens} tokens needs about {need.total / 1e9:.1f} GB, {there / 1e9:.1f} GB are "
            "free; give a shorter --length, or take --engine blind"
        )
    return need
