"""PyTorch forward passes to check a GGUF against: the oracle, which shares no rope maths with ``methods/``.

``linear``, ``yarn``, ``llama3`` and ``longrope`` are transformers' own; NTK-aware scaling and Ms-PoE are written here
from their papers. Nothing below imports ``methods``, ``table``, ``stock`` or ``codec``; a test reads the imports.

Only ``ReferenceSpec``, ``Switch`` and ``LengthRows`` are light. ``ggufrope.reference.forward`` imports torch and
transformers, as does ``ggufrope.reference.decode``, which rotates cached keys anew at every step.
"""

from __future__ import annotations

from ggufrope.reference.rows import LengthRows
from ggufrope.reference.spec import ReferenceSpec, Switch

__all__ = ["LengthRows", "ReferenceSpec", "Switch"]
