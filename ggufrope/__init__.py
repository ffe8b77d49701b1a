"""ggufrope: write RoPE scaling into GGUF files, run it on a patched llama.cpp, prove it against PyTorch."""

from __future__ import annotations

__version__ = "0.1.0"
