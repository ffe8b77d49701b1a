"""What ``inspect`` says of a model that does not rotate: learned positions, ALiBi, a recurrent model, or RoPE off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ggufrope.gguf import keys
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.modelfile.verdict import Verdict, verdict_of

__all__ = ["WithoutRope"]


@dataclass(frozen=True, slots=True)
class WithoutRope:
    """A file of which llama.cpp rotates no layer. What its keys do not say is None, or empty."""

    file: ModelFile

    @property
    def reason(self) -> str:
        """Why nothing rotates."""
        return self.file.unrotated

    @property
    def n_layer(self) -> int | None:
        """Number of layers."""
        return self._number(keys.BLOCK_COUNT)

    @property
    def context(self) -> int | None:
        """The context that the model was trained for, in tokens."""
        return self._number(keys.CONTEXT_LENGTH)

    def heads(self, key: str) -> list[int]:
        """Head counts of each layer, from ``keys.HEAD_COUNT`` or ``keys.HEAD_COUNT_KV``; recurrent models have none."""
        value = self.file.get(keys.stock(key, self.file.architecture))
        if isinstance(value, np.ndarray) and value.dtype.kind in "iu":
            return [int(n) for n in value]
        return [value] * (self.n_layer or 0) if isinstance(value, int) and not isinstance(value, bool) else []

    @property
    def verdict(self) -> Verdict:
        """Who honours it."""
        return verdict_of(self.file)

    def as_json(self) -> dict[str, Any]:
        """The object of ``inspect --json``, with the keys that it has for other files."""
        heads = self.heads(keys.HEAD_COUNT)
        return {
            "file": str(self.file.path),
            "architecture": self.file.architecture,
            "rotates": False,
            "unrotated_because": self.reason,
            "method": "none",
            "params": {},
            "converted_by_ggufrope": self.file.original.converted,
            "requires_patched": self.file.requires_patched,
            "n_files": len(self.file.headers),
            "slack_bytes": self.file.slack,
            "n_layer": self.n_layer,
            "n_head": heads,
            "n_head_kv": self.heads(keys.HEAD_COUNT_KV) or heads,
            "head_dim": None,
            "rot_dim": 0,
            "pairing": "none",
            "freq_base": None,
            "freq_base_from": None,
            "trained_context": self.context,
            "context": self.context,
            "original_fault": None,
            "attention_scale": [],
            "length_points": [],
            "row_chosen_by": None,
            "frequencies": [],
            "layer_classes": [],
            "honoured_by": self.verdict.honoured_by(),
            **self.verdict.as_json(),
        }

    def _number(self, key: str) -> int | None:
        value = self.file.get(keys.stock(key, self.file.architecture))
        return value if isinstance(value, int) and not isinstance(value, bool) else None
