"""Whether the gradient engine can tune a file, said before anything is read. Importing it needs no torch."""

from __future__ import annotations

from importlib.util import find_spec

from ggufrope.errors import GgufropeError
from ggufrope.modelfile.model_file import ModelFile

__all__ = ["why_no_gradient"]

_NEEDED = ("torch", "transformers", "gguf")


def why_no_gradient(
    file: ModelFile, tokens: int = 0, *, kept: int = 0, device: str = "cpu", dtype: str = "float32"
) -> str:
    """Why the gradient engine cannot tune ``file``, in words that end with what to do; empty where it can.

    Args:
        file: the model.
        tokens: of the largest text of a step, ``TuningText.n_read``; 0: memory is not looked at.
        kept: of all texts of a step together; 0: one text.
        device: see ``StreamedModel``.
        dtype: see ``StreamedModel``.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        return f"the gradient engine needs {', '.join(missing)}: pip install 'ggufrope[torch]'; or take --engine blind"
    from ggufrope.tune.gradient.memory_need import require_memory
    from ggufrope.tune.gradient.streamed_model import StreamedModel

    try:
        if tokens:
            require_memory(file, tokens, kept=kept, device=device, dtype=dtype)
        StreamedModel(file, device=device, dtype=dtype)
    except GgufropeError as error:
        return str(error)
    return ""
