"""LoRA adapters on the projections that feed the ropes: a table applies to what comes out, as if they were merged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gguf_builder import STR, entry
from llama_process import Outcome, run_job
from lora_adapter import Adapter, merged
from test_runtime_head_factors import RATIOS, with_factors
from test_runtime_length import POINTS, TOKENS, assert_close, with_table
from tiny_cache import LengthTable, Session
from tiny_transformer import ARCHITECTURES, TinyModel

READ = ["eval", TOKENS[:100], 0, 0]

Run = Callable[..., list[np.ndarray]]


@pytest.fixture
def run(runtime_dir: Path, tmp_path: Path) -> Run:
    def run(data: bytes, steps: list, adapters: dict[str, Adapter] | None = None) -> list[np.ndarray]:
        (tmp_path / "model.gguf").write_bytes(data)
        for name, adapter in (adapters or {}).items():
            (tmp_path / name).write_bytes(adapter.file())
        placed = [
            ["adapters", [[str(tmp_path / name), scale] for name, scale in step[1]]] if step[0] == "adapters" else step
            for step in steps
        ]
        outcome: Outcome = run_job(runtime_dir, tmp_path / "model.gguf", placed)
        assert not outcome.error, f"{outcome.error}: {outcome.last_error or outcome.log[-2000:]}"
        return outcome.arrays

    return run


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_adapters_under_head_ratios_equal_merged_weights(run: Run, arch: str) -> None:
    """One, two, other scales, none again: exchanged in one context. ``phi3`` projects Q, K and V in one product."""
    model = TinyModel(arch)
    adapters = {"a": Adapter(model, 1, alpha=8), "b": Adapter(model, 2, ("attn_k", "attn_qkv", "ffn_up"), rank=3)}
    choices = [[], [("a", 1.0)], [("a", 0.5), ("b", -1.5)], [("b", 1.0)], []]
    steps = [step for choice in choices for step in (["clear"], ["adapters", choice], READ)]
    found = run(model.file(with_factors(RATIOS)), steps, adapters)
    plain = model.logits(READ[1], RATIOS)
    for choice, logits in zip(choices, found, strict=True):
        expected = merged(model, [(adapters[name], scale) for name, scale in choice]).logits(READ[1], RATIOS)
        np.testing.assert_allclose(logits, expected, atol=1e-4)
        assert not choice or np.abs(expected - plain).max() > 1


def test_adapters_under_length_rows(run: Run) -> None:
    """Exchanged between batches, as an aLoRA's are: what was cached stays, and follows the length like all of K."""
    model = TinyModel("llama")
    table = LengthTable.growing(model.n_rot, POINTS)
    adapters = {"a": Adapter(model, 3), "b": Adapter(model, 4, rank=2)}
    session = Session(model, table, RATIOS)
    steps: list[list] = []
    expected = []
    for start, end, choice in (
        (0, 60, []),
        (60, 90, [("a", 2.0)]),
        (90, 130, [("a", 1.0), ("b", 0.5)]),
        (130, 180, []),
    ):
        session.model = merged(model, [(adapters[name], scale) for name, scale in choice])
        expected.append(session.step(TOKENS[start:end]))
        steps += [["adapters", choice], ["eval", TOKENS[start:end], start, 0]]
    for logits, wanted in zip(run(model.file(with_table(table, RATIOS)), steps, adapters), expected, strict=True):
        assert_close(logits, wanted)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_heads_are_scored_and_ordered_with_their_adapters(run: Run, arch: str) -> None:
    """What is measured for ``per-prompt`` is Q and K behind the adapters, before their rotation."""
    model = TinyModel(arch, n_head=8, n_head_kv=8, head_dim=16)
    ratios = np.tile(np.linspace(1.2, 1.8, 8, dtype=np.float32), (3, 1))
    order = entry("ggufrope.head_order", STR, "per-prompt")
    adapters = {"a": Adapter(model, 5, alpha=8)}
    both = merged(model, [(adapters["a"], 1.5)])
    steps = [["capture", True], READ, ["scores"], ["get"], ["eval", TOKENS[100:110], 100, 0]]
    found = run(model.file(with_factors(ratios, order)), [["adapters", [("a", 1.5)]], *steps], adapters)
    expected = run(both.file(with_factors(ratios, order)), steps)
    plain = run(model.file(with_factors(ratios, order)), steps)
    np.testing.assert_allclose(found[2], expected[2], atol=0.011)  # of 100 keys, one may sit at the threshold
    np.testing.assert_array_equal(found[3], expected[3])
    assert not np.array_equal(found[3], plain[3])
    for i in (1, 4):
        np.testing.assert_allclose(found[i], expected[i], atol=2e-4)
        np.testing.assert_allclose(found[1], both.logits(READ[1], found[3].reshape(3, 8)), atol=2e-4)
