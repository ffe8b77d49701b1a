"""The one plot of ``ggufrope inspect``: how long each pair takes for a turn, before and after."""

from __future__ import annotations

from pathlib import Path

from ggufrope.errors import OutputError, UsageError
from ggufrope.inspection import Inspection

__all__ = ["plot_wavelengths"]

# Okabe and Ito's palette, told apart by all common kinds of colour vision; dashes tell them apart in print
_STYLES = (("#000000", "--"), ("#0072B2", "-"), ("#E69F00", "-."), ("#D55E00", ":"))


def plot_wavelengths(found: Inspection, out: Path) -> None:
    """Draw tokens per turn against the pair's index to ``out`` (PNG, SVG or PDF by its suffix).

    Raises:
        UsageError: matplotlib is not installed, or the suffix is unknown to it.
        OutputError: ``out`` cannot be written.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError:
        raise UsageError("--plot needs matplotlib: pip install 'ggufrope[plot]'") from None
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for (name, values), (colour, dash) in zip(found.wavelengths().items(), _STYLES, strict=False):
        axes.plot(range(len(values)), values, dash, color=colour, label=name, linewidth=1.8)
    trained, context = found.before.model.original_ctx, found.decoded.context
    axes.axhline(trained, color="#999999", linewidth=0.8)
    axes.annotate(f"trained context {trained}", (0, trained), (2, 3), textcoords="offset points", fontsize=8)
    if context != trained:
        axes.axhline(context, color="#999999", linewidth=0.8)
        axes.annotate(f"context {context}", (0, context), (2, 3), textcoords="offset points", fontsize=8)
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("rotated pair")
    axes.set_ylabel("wavelength in tokens")
    axes.set_title(f"{found.path.name}: {found.decoded.method}", fontsize=11)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    try:
        figure.savefig(out, dpi=150)
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror})") from None
    except ValueError as error:
        raise UsageError(f"{out}: {error}") from None
