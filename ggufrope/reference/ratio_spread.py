"""The head ratios that Ms-PoE's parameters ask for, without a prompt's scores: the rule once more, to check files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ggufrope.errors import ParameterError

__all__ = ["spread_ratios"]


def spread_ratios(
    params: Mapping[str, Any], n_head_kv: Sequence[int], still: Sequence[bool] = ()
) -> tuple[tuple[float, ...], ...]:
    """A row of position divisors for each layer, one for each KV head (arXiv 2403.04797, section 3.2).

    Args:
        params: ``min_ratio``, ``max_ratio``, ``first_layer``, ``spacing`` (``code``: steps of 1/H of the span,
            ``paper``: of 1/(H-1)) and ``head_order`` (``sequential``, ``reverse``, ``random:SEED``).
        n_head_kv: KV heads of each layer.
        still: layers that take none, because they have a window, say; empty: there are none.

    Raises:
        ParameterError: an order or spacing that is none of these.
    """
    low, high = float(params.get("min_ratio", 1.2)), float(params.get("max_ratio", 1.8))
    first, spacing = int(params.get("first_layer", 2)), params.get("spacing", "code")
    if spacing not in ("code", "paper"):
        raise ParameterError(f"spacing '{spacing}'; the reference has code and paper")
    rows = []
    for layer, n in enumerate(n_head_kv):
        steps = low + (high - low) * np.arange(n) / (n if spacing == "code" else max(n - 1, 1))
        takes = layer >= first and not (still and still[layer])
        order = _order(str(params.get("head_order") or "sequential"), layer, n)
        rows.append(tuple(map(float, steps[order])) if takes else (1.0,) * n)
    return tuple(rows)


def _order(name: str, layer: int, n: int) -> Any:
    kind, _, seed = name.partition(":")
    if kind == "random" and seed.isdecimal():
        return np.random.default_rng([int(seed), layer]).permutation(n)
    orders = {"sequential": np.arange(n), "reverse": np.arange(n)[::-1]}
    if name not in orders:
        raise ParameterError(f"head order '{name}'; the reference has sequential, reverse and random:SEED")
    return orders[name]
