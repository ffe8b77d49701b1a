"""GGUF files: read a header, and write a changed copy.

``read_header(path).get("llama.rope.freq_base")`` reads one value; see ``Header`` and ``rewrite`` for the rest.
"""

from __future__ import annotations

from .header import Field, Header, TensorInfo, require_whole
from .parse import parse_entry, read_header
from .values import TypedValue, ValueType, encode_entry

__all__ = [
    "Field",
    "Header",
    "TensorInfo",
    "TypedValue",
    "ValueType",
    "encode_entry",
    "parse_entry",
    "read_header",
    "require_whole",
]
