"""What a file says about its rotation, and which runtimes will do it: the facts behind ``ggufrope inspect``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ggufrope.gguf import keys
from ggufrope.inspection.without_rope import WithoutRope
from ggufrope.modelfile.decoded import Decoded
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.modelfile.verdict import Verdict, verdict_of
from ggufrope.rope import architectures
from ggufrope.rope.model import ModelRope
from ggufrope.rope.table import RopeTable

__all__ = ["Inspection", "LayerClass"]

_SAME = 1e-6  # float32 keys carry 6e-8


@dataclass(frozen=True, slots=True)
class LayerClass:
    """Layers that rotate alike.

    Attributes:
        layers: their numbers.
        sliding: whether they attend to a window only.
        ratios: divisor of each KV head; of its slowest pair, where pairs differ.
        pair_factors: divisors of each KV head's pairs; empty where they do not differ.
    """

    layers: tuple[int, ...]
    sliding: bool
    ratios: tuple[float, ...]
    pair_factors: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Inspection:
    """What there is to show of a file. Reading it raises as ``ModelFile.decoded`` and ``ModelFile.before`` do."""

    file: ModelFile

    @property
    def decoded(self) -> Decoded:
        """What the file says now."""
        return self.file.decoded

    @property
    def before(self) -> Decoded:
        """What its original said; the same as ``decoded`` for a file that ggufrope did not convert."""
        return self.file.before

    @property
    def without_rope(self) -> WithoutRope | None:
        """What there is to show instead, of a model that does not rotate; None for all others."""
        return WithoutRope(self.file) if self.file.unrotated else None

    @property
    def freq_base_from(self) -> str:
        """Who says the base: ``file``, or ``llama.cpp's default`` where the file does not or is not asked."""
        arch = self.file.architecture
        asked = arch not in architectures.IGNORES_SCALING
        return "file" if asked and keys.stock(keys.FREQ_BASE, arch) in self.file else "llama.cpp's default"

    def layer_classes(self) -> list[LayerClass]:
        """Layers grouped by equal ratios and kind of attention, in order of their first layer."""
        model, table = self.decoded.model, self.decoded.table
        groups: dict[tuple[bool, tuple[tuple[float, ...], ...]], list[int]] = {}
        for layer in range(model.n_layer):
            rows = table.head_rows(layer) if table.n_head_kv else np.ones((model.n_head_kv[layer], 1))
            groups.setdefault((model.slides(layer), tuple(tuple(map(float, row)) for row in rows)), []).append(layer)
        return [
            LayerClass(tuple(layers), sliding, tuple(row[-1] for row in rows), rows if _differ(rows) else ())
            for (sliding, rows), layers in groups.items()
        ]

    @property
    def sliding(self) -> RopeTable | None:
        """What layers with a sliding window rotate by, relative to ``model.of_sliding``; None: as the others do."""
        model, table = self.decoded.model, self.decoded.table.without_heads()
        if not model.has_windows:
            return None
        windows, rest, of_windows = table.of_sliding, table.without_sliding(), model.of_sliding
        if windows.n_rows == rest.n_rows and windows.n_pairs == rest.n_pairs:
            turns, others = _rows(windows, of_windows), _rows(rest, model)
            if np.allclose(turns, others, rtol=_SAME, atol=0) and np.allclose(
                windows.attn_scale, rest.attn_scale, rtol=_SAME
            ):
                return None
        return windows

    @property
    def verdict(self) -> Verdict:
        """Who honours it."""
        return verdict_of(self.file)

    def as_json(self) -> dict[str, Any]:
        """The stable object of ``inspect --json``; frequencies in radians per token, wavelengths in tokens."""
        if without := self.without_rope:
            return without.as_json()
        d, model, verdict = self.decoded, self.decoded.model, self.verdict
        plain, sliding = d.table.without_heads(), self.sliding
        return {
            "file": str(self.file.path),
            "architecture": model.arch,
            "rotates": True,
            "method": d.method,
            "params": d.params,
            "converted_by_ggufrope": d.ours,
            "requires_patched": self.file.requires_patched,
            "n_files": len(self.file.headers),
            "slack_bytes": self.file.slack,
            "n_layer": model.n_layer,
            "n_head": list(model.n_head),
            "n_head_kv": list(model.n_head_kv),
            "head_dim": model.head_dim,
            "rot_dim": model.rot_dim,
            "pairing": model.pairing,
            "freq_base": model.freq_base,
            "freq_base_from": self.freq_base_from,
            "trained_context": self.before.model.original_ctx,
            "context": d.context,
            "original_fault": self.file.original_fault or None,
            "attention_scale": [float(v) for v in d.table.attn_scale],
            "length_points": list(d.table.length_points),
            "row_chosen_by": d.row_chosen_by,
            "frequencies": _rows(plain, model),
            "sliding_frequencies": _rows(sliding, model.of_sliding) if sliding else [],
            "sliding_attention_scale": [float(v) for v in sliding.attn_scale] if sliding else [],
            "layer_classes": [
                {"layers": list(c.layers), "sliding_window": c.sliding, "ratios": list(c.ratios)}
                | ({"pair_factors": [list(row) for row in c.pair_factors]} if c.pair_factors else {})
                for c in self.layer_classes()
            ],
            "honoured_by": verdict.honoured_by(),
            **verdict.as_json(),
        }

    def _with_ratios(self) -> range:
        return range(self.decoded.model.n_layer if self.decoded.table.n_head_kv else 0)

    def wavelengths(self) -> dict[str, list[float]]:
        """Tokens per turn of each pair: ``before``, and ``after`` at ratio 1, and at the extreme ratios.

        Where rows follow the length, ``after`` is the longest; one in the middle stands before it. They are of layers
        without a sliding window; those with one have a curve where they rotate otherwise, maybe of fewer pairs.
        """
        plain, model = self.decoded.table.without_heads(), self.decoded.model
        after = plain.frequencies(model)
        curves = {"before": self.before.table.without_heads().frequencies(self.before.model)}
        if self.decoded.by_length:
            middle = plain.length_points[len(plain.length_points) // 2 - (len(plain.length_points) == 2)]
            curves[f"after, to {middle} tokens"] = plain.frequencies(model, length=middle)
        curves["after"] = after
        if sliding := self.sliding:
            curves["after, in sliding windows"] = sliding.frequencies(model.of_sliding)
        heads = [
            row for layer in self._with_ratios() for row in self.decoded.table.head_rows(layer) if (row != 1).any()
        ]
        if heads:
            ends = {_name_of(row): row for row in (min(heads, key=_furthest), max(heads, key=_furthest))}
            curves |= {f"after, head ratio {name}": after / row for name, row in ends.items()}
        return {name: [float(v) for v in 2 * np.pi / f] for name, f in curves.items()}


def _furthest(row: npt.NDArray[np.float64]) -> float:
    """By what a head is known: the factor that is furthest from 1, in proportion."""
    return float(row[np.abs(np.log(row)).argmax()])


def _name_of(row: npt.NDArray[np.float64]) -> str:
    return f"{_furthest(row):.3g}"


def _differ(rows: tuple[tuple[float, ...], ...]) -> bool:
    return any(len(set(row)) > 1 for row in rows)


def _rows(table: RopeTable, model: ModelRope) -> list[list[float]]:
    """Radians per token of each pair, one list for each row."""
    return [[float(f) for f in table.frequencies(model, length=n)] for n in (table.length_points or (None,))]
