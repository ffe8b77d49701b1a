"""A picture of what heads have of their own: layers down, KV heads and their pairs across, the factor as a colour."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ggufrope.inspection.summary import Inspection

__all__ = ["draw_factor_map", "factor_map"]

Floats = npt.NDArray[np.float64]


def factor_map(inspection: Inspection) -> Floats | None:
    """The factor of each layer, KV head and pair, ``(layers, heads, pairs)``; NaN where a layer has none.

    None where no head has factors of its own that differ by pair.
    """
    model, table = inspection.decoded.model, inspection.decoded.table
    if not table.n_head_kv or table.separable:
        return None
    rows = [np.asarray(table.head_rows(layer), np.float64) for layer in range(model.n_layer)]
    heads, pairs = max(len(row) for row in rows), max(row.shape[1] for row in rows)
    found = np.full((model.n_layer, heads, pairs), np.nan)
    for layer, row in enumerate(rows):
        n = model.n_pairs_of(layer)
        found[layer, : len(row), :n] = row if row.shape[1] in (1, n) else 1.0
    return found


def draw_factor_map(axes: Any, inspection: Inspection, factors: Floats) -> None:
    """Draw ``factor_map``: blue turns faster than before, red slower; white lines part the KV heads."""
    from matplotlib.colors import TwoSlopeNorm

    layers, heads, pairs = factors.shape
    logs = np.log2(factors.reshape(layers, heads * pairs))
    reach = max(float(np.nanmax(np.abs(logs))), 1e-6)
    image = axes.imshow(
        np.ma.masked_invalid(logs), aspect="auto", cmap="RdBu_r", norm=TwoSlopeNorm(0.0, -reach, reach),
        interpolation="nearest", extent=(0, heads, layers - 0.5, -0.5),
    )  # fmt: skip
    for head in range(1, heads):
        axes.axvline(head, color="white", linewidth=1.0)
    axes.set_xticks([head + 0.5 for head in range(heads)], [str(head) for head in range(heads)])
    axes.set_xlabel("KV head; its pairs from fast to slow")
    axes.set_ylabel("layer")
    bar = axes.figure.colorbar(image, ax=axes)
    ticks = np.linspace(-reach, reach, 5)
    bar.set_ticks(ticks, labels=[f"{2**tick:.3g}" for tick in ticks])
    bar.set_label("factor: above 1 turns slower")
    axes.set_title(f"factors of {inspection.decoded.method}", fontsize=11)
