"""GGUF files: read a header, and write a changed copy.

``read_header(path).get("llama.rope.freq_base")`` reads one value; see ``Header`` and ``rewrite`` for the rest.
"""

from __future__ import annotations

from .ahead import drop_ahead
from .header import Field, Header, TensorInfo
from .header_difference import HeaderDifference, Side, differences
from .inplace import Edited, edit_in_place
from .output import move_into_place
from .parse import parse_entry, read_header
from .recovery import recover
from .rewrite import rewrite, write_plan
from .rewrite_plan import Edits, RewritePlan, encode_header, original_facts, plan_rewrite
from .shards import output_names, place, read_shards, shards_of
from .slack import Layout
from .values import TypedValue, ValueType, encode_entry

__all__ = [
    "Edited",
    "Edits",
    "Field",
    "Header",
    "HeaderDifference",
    "Layout",
    "RewritePlan",
    "Side",
    "TensorInfo",
    "TypedValue",
    "ValueType",
    "differences",
    "drop_ahead",
    "edit_in_place",
    "encode_entry",
    "encode_header",
    "move_into_place",
    "original_facts",
    "output_names",
    "parse_entry",
    "place",
    "plan_rewrite",
    "read_header",
    "read_shards",
    "recover",
    "rewrite",
    "shards_of",
    "write_plan",
]
