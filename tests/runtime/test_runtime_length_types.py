"""Switching the row of a length table where K is cached in other types than F32."""

from __future__ import annotations

import numpy as np
import pytest
from test_runtime_head_factors import RATIOS
from test_runtime_length import POINTS, TOKENS, Run, log_probs, run, steps_of, with_table
from tiny_cache import LengthTable, Session
from tiny_transformer import TinyModel

__all__ = ["run"]

F16_K, Q4_0_K, Q8_0_K, BF16_K = 1, 2, 8, 30
TYPES = {"f16": F16_K, "bf16": BF16_K, "q8_0": Q8_0_K, "q4_0": Q4_0_K}


def kl(right: np.ndarray, found: np.ndarray) -> float:
    """Mean Kullback-Leibler divergence from ``right``."""
    p, q = log_probs(right), log_probs(found)
    return float((np.exp(p) * (p - q)).sum(-1).mean())


def divergences(run: Run, model: TinyModel, table: LengthTable, type_k: int) -> tuple[float, float]:
    """Of 100 tokens after 100 cached ones: with their row from the start, and with a switch in between."""
    steps = [["hint", 200], *steps_of([100, 100]), ["clear"], *steps_of([100, 100])]
    found = run(model.file(with_table(table, RATIOS)), steps, type_k=type_k).arrays
    right = []
    for hint in (200, 0):
        session = Session(model, table, RATIOS)
        session.step(TOKENS[:100], length=hint)
        right.append(session.step(TOKENS[100:200]))
    return kl(right[0], found[1]), kl(right[1], found[3])


CASES = [("f16", "qwen2", 64), ("bf16", "phi3", 32)]
CASES += [(name, arch, n) for name in ("q8_0", "q4_0") for arch, n in (("qwen2", 32), ("qwen2", 64), ("phi3", 64))]


@pytest.mark.parametrize(("name", "arch", "head_dim"), CASES)
def test_switch_costs_one_more_rounding(run: Run, name: str, arch: str, head_dim: int) -> None:
    """Quantized heads of 64 are also rotated by a Hadamard matrix, those of 32 are not; phi3 rotates half of each."""
    model = TinyModel(arch, head_dim=head_dim)
    without, switched = divergences(run, model, LengthTable.growing(model.n_rot, POINTS), TYPES[name])
    print(f"{name} {arch} {head_dim}: KL {without:.2e} without a switch, {switched:.2e} with one")
    assert switched < 2 * without
