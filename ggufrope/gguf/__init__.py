"""GGUF files: read a header, and write a changed copy.

``read_header(path).get("llama.rope.freq_base")`` reads one value; see ``Header`` and ``rewrite`` for the rest.
"""

from __future__ import annotations

from .header import Field, Header, TensorInfo, require_whole
from .parse import parse_entry, read_header
from .plan import Edits, Plan, encode_header, original_facts, plan_rewrite
from .rewrite import rewrite, write_plan
from .values import TypedValue, ValueType, encode_entry

__all__ = [
    "Edits",
    "Field",
    "Header",
    "Plan",
    "TensorInfo",
    "TypedValue",
    "ValueType",
    "encode_entry",
    "encode_header",
    "original_facts",
    "parse_entry",
    "plan_rewrite",
    "read_header",
    "require_whole",
    "rewrite",
    "write_plan",
]
