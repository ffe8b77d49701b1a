"""HTML and SVG as trees of the standard library: whatever is put into one comes out escaped.

There are no templates and no strings of markup, so no file name or output of a model can become part of the page's
structure. ``tests/report/test_hostile.py`` tries.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

__all__ = ["Node", "clean", "h", "text_of"]

Node = ET.Element

# control characters, halves of surrogate pairs, and those that turn the reading direction of all that follows
_UNWANTED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff]"
)


def clean(text: str) -> str:
    """``text`` with U+FFFD for every character that a page cannot hold or that would reorder it."""
    return _UNWANTED.sub("\ufffd", text)


def h(tag: str, *children: Node | str | None, **attributes: str | float | None) -> Node:
    """An element.

    Args:
        tag: its name, as SVG and HTML spell it.
        children: elements and texts in order; None is left out.
        attributes: ``class_`` means ``class``; other underlines become hyphens; None is left out.
    """
    named = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items() if value is not None}
    node = ET.Element(tag, {name: clean(_written(value)) for name, value in named.items()})
    last: Node | None = None
    for child in children:
        if isinstance(child, ET.Element):
            node.append(child)
            last = child
        elif child is not None and last is None:
            node.text = (node.text or "") + clean(child)
        elif child is not None and last is not None:
            last.tail = (last.tail or "") + clean(child)
    return node


def text_of(node: Node) -> str:
    """The markup of ``node``."""
    return ET.tostring(node, encoding="unicode", method="html")


def _written(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.5g}"
