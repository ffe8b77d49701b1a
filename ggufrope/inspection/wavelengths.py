"""The plot of ``ggufrope inspect``: how long each pair takes for a turn, before and after; and what length changes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from ggufrope.errors import UsageError
from ggufrope.files import check_output, write_bytes
from ggufrope.inspection.factor_map import draw_factor_map, factor_map
from ggufrope.inspection.summary import Inspection

__all__ = ["plot_wavelengths"]

# Okabe and Ito's palette, told apart by all common kinds of colour vision; dashes tell them apart in print
_STYLES = (
    ("#000000", "--"), ("#0072B2", "-"), ("#E69F00", "-."), ("#D55E00", ":"), ("#009E73", (0, (5, 1, 1, 1, 1, 1))),
    ("#CC79A7", (0, (1, 4))),
)  # fmt: skip


def plot_wavelengths(inspection: Inspection, out: Path) -> Path:
    """Draw tokens per turn against the pair's index to ``out`` (PNG, SVG, PDF, ... by its suffix; PNG without one).

    Where rows follow the length, a second panel shows at which lengths they change, and what; where pairs of heads have
    factors of their own, a further one shows those.

    Returns:
        The file that was written: ``out``, with ``.png`` where it has no suffix.

    Raises:
        UsageError: matplotlib is not installed, the suffix is unknown to it, or ``out`` is no name of a file.
        OutputError: ``out`` cannot be written.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError:
        raise UsageError("--plot needs matplotlib: pip install 'ggufrope[plot]'") from None
    if not out.name:
        raise UsageError(f"--plot '{out}': give the name of a file to draw, such as plot.png")
    out = out if out.suffix else out.with_name(f"{out.name}.png")
    check_output(out, [inspection.file.path])
    several, factors = inspection.decoded.by_length, factor_map(inspection)
    n = 1 + several + (factors is not None)
    figure = Figure(figsize=(2.5 + 5 * n, 4.5), layout="constrained")
    panels = figure.subplots(1, n, squeeze=False)[0]
    _draw_wavelengths(panels[0], inspection)
    panels[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    if several:
        _draw_lengths(panels[1], inspection)
    if factors is not None:
        draw_factor_map(panels[-1], inspection, factors)
    for axes in panels[: 1 + several]:
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    drawn = io.BytesIO()
    try:
        figure.savefig(drawn, dpi=150, format=out.suffix[1:])
    except ValueError as error:
        raise UsageError(f"{out}: {error}; give a name that ends in .png, .svg or .pdf") from None
    write_bytes(out, drawn.getvalue())
    return out


def _draw_wavelengths(axes: Any, inspection: Inspection) -> None:
    for (name, values), (colour, dash) in zip(inspection.wavelengths().items(), _STYLES, strict=False):
        axes.plot(range(len(values)), values, linestyle=dash, color=colour, label=name, linewidth=1.8)
    trained, context = inspection.before.model.original_ctx, inspection.decoded.context
    axes.axhline(trained, color="#999999", linewidth=0.8)
    axes.annotate(f"trained context {trained}", (0, trained), (2, 3), textcoords="offset points", fontsize=8)
    if context != trained:
        axes.axhline(context, color="#999999", linewidth=0.8)
        axes.annotate(f"context {context}", (0, context), (2, 3), textcoords="offset points", fontsize=8)
    axes.set_yscale("log")
    axes.set_xlabel("rotated pair")
    axes.set_ylabel("wavelength in tokens")
    axes.set_title(f"{inspection.file.path.name}: {inspection.decoded.method}", fontsize=11)


def _draw_lengths(axes: Any, inspection: Inspection) -> None:
    """Steps at the switch points: divisors of the slowest and a middle pair, and the attention scale."""
    table = inspection.decoded.table
    edges = np.array([0, *table.length_points])
    middle = table.n_pairs // 2
    curves = {
        "divisor of the slowest pair": table.factors[:, -1],
        f"divisor of pair {middle}": table.factors[:, middle],
        "attention scale": table.attn_scale,
    }
    for (name, values), (colour, dash) in zip(curves.items(), _STYLES[1:4], strict=True):
        axes.stairs(values, edges, baseline=None, color=colour, linestyle=dash, label=name, linewidth=1.8)
    axes.set_yscale("log")
    axes.set_xlabel("length in use, in tokens")
    axes.set_title(f"{table.n_rows} rows", fontsize=11)
