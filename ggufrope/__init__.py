"""ggufrope: write RoPE scaling into GGUF files, run it on a patched llama.cpp, prove it against PyTorch.

``ggufrope.load(path, **kwargs)`` opens a file with ``llama_cpp.Llama`` on the patched library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ggufrope.runtime.library import load

__all__ = ["__version__", "load"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "load":  # late, so that importing ggufrope loads neither numpy nor llama_cpp
        from ggufrope.runtime.library import load

        return load
    raise AttributeError(f"module 'ggufrope' has no attribute {name!r}")
