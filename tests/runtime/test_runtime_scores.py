"""Scores of heads, measured in the graph: the program's, the reference's, and what must not change them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_checkpoint
from llama_process import Outcome, run_job
from test_runtime_oracle import CASES, convert
from tiny_transformer import TinyModel

IDS = np.random.default_rng(3).integers(0, 96, 150).tolist()
ON, SCORES = ["capture", True], ["scores"]
Q8_0 = 8


def score(library: Path, path: Path, tokens: list[int], **context: int) -> np.ndarray:
    outcome = run_job(library, path, [ON, ["eval", tokens, 0, 0], SCORES], **context)
    assert not outcome.error, outcome.last_error or outcome.log[-2000:]
    return outcome.arrays[-1]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("ubatch", [512, 64])
def test_program_scores(runtime_dir: Path, shared: Path, tmp_path: Path, case: str, ubatch: int) -> None:
    pytest.importorskip("safetensors.numpy")
    with np.load(shared / "oracles" / "mspoe_mha.npz") as archive:
        captured = {name.removeprefix(f"{case}/"): archive[name] for name in archive.files if name.startswith(case)}
    ratios = np.ones((4, 8), np.float32)
    for layer in (2, 3):
        ratios[layer] = captured[f"L{layer}/ratio_of_head"]
    path = tmp_path / "model.gguf"
    path.write_bytes(convert(shared / "oracles" / "mspoe_model_mha", ratios))
    found = score(runtime_dir, path, captured["input_ids"].tolist(), n_ubatch=ubatch).reshape(4, 8)
    for layer in (2, 3):
        assert np.abs(found[layer] - captured[f"L{layer}/outlier_fraction"]).max() < 1e-4


@pytest.fixture(scope="module", params=tiny_checkpoint.KINDS)
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A model, and the reference's scores of its heads for ``IDS``."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from ggufrope.reference import forward
    from ggufrope.reference.head_scores import OrderSpec, PromptOrder

    folder = tmp_path_factory.mktemp(request.param)
    path = tiny_checkpoint.make(request.param, folder)
    model = forward.load_reference(folder)
    order = PromptOrder(model, len(IDS), OrderSpec(first_layer=99))
    list(forward.logits(model, IDS))
    return path, np.concatenate([order.counts[layer].numpy() for layer in range(3)]) / len(IDS)


def close(found: np.ndarray, expected: np.ndarray) -> bool:
    """Equal, except that a key at the threshold may fall on either side of it: one key in one head."""
    keys = np.rint(np.abs(found - expected) * len(IDS))
    return bool(keys.sum() <= 1)


@pytest.mark.parametrize(
    "context", [{}, {"n_ubatch": 32}, {"n_batch": 40, "n_ubatch": 40}, {"n_ubatch": 64, "flash_attn_type": 1}]
)
def test_reference_scores(runtime_dir: Path, tiny: tuple[Path, np.ndarray], context: dict[str, int]) -> None:
    path, expected = tiny
    assert expected.max() > 0.02
    assert close(score(runtime_dir, path, IDS, **context), expected)


def test_scores_use_keys_as_they_are_before_the_cache(runtime_dir: Path, tiny: tuple[Path, np.ndarray]) -> None:
    """A quantized K cache changes later layers through their input, not the first one's scores."""
    path, expected = tiny
    found = score(runtime_dir, path, IDS, type_k=Q8_0, n_ubatch=32)
    assert np.array_equal(found[:4], expected[:4].astype(np.float32))


def test_capturing_changes_no_logits(runtime_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(TinyModel("llama").file())
    read = ["eval", IDS_64, 0, 0]
    plain = run_job(runtime_dir, path, [read]).arrays[0]
    outcome = run_job(runtime_dir, path, [ON, read, ["clear"], ["capture", False], read, SCORES])
    np.testing.assert_array_equal(outcome.arrays[1], plain)
    np.testing.assert_array_equal(outcome.arrays[3], plain)
    assert outcome.arrays[4].size == 0  # switched off


IDS_64 = np.random.default_rng(4).integers(0, 64, 100).tolist()


def test_a_new_text_starts_anew(runtime_dir: Path, tiny: tuple[Path, np.ndarray]) -> None:
    path, expected = tiny
    steps = [ON, ["eval", IDS[::-1], 0, 0], ["clear"], ["eval", IDS, 0, 0], SCORES]
    assert close(run_job(runtime_dir, path, steps).arrays[-1], expected)


def test_head_factors_keep_acting(runtime_dir: Path, tiny: tuple[Path, np.ndarray]) -> None:
    path, expected = tiny
    read = ["eval", IDS, 0, 0]
    outcome = run_job(runtime_dir, path, [["set", [1.7] * 6], read, ["clear"], ON, read, SCORES])
    np.testing.assert_array_equal(outcome.arrays[1], outcome.arrays[3])
    assert np.array_equal(outcome.arrays[4][:4], expected[:4].astype(np.float32))  # the first layer sees no rotation
    assert not np.array_equal(outcome.arrays[4][4:], expected[4:].astype(np.float32))


def refused(outcome: Outcome) -> str:
    assert outcome.arrays[-1].tolist() == [0.0]
    return outcome.last_error


def test_refusals(runtime_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(TinyModel("llama").file())
    assert "n_seq_max = 2" in refused(run_job(runtime_dir, path, [ON], n_seq_max=2))
    assert "memory is empty" in refused(run_job(runtime_dir, path, [["eval", [1, 2], 0, 0], ON]))
    empty = run_job(runtime_dir, path, [ON, SCORES])
    assert empty.arrays[-1].size == 0 and "no scores yet" in empty.last_error
    state = str(tmp_path / "state")
    steps = [["eval", [3] * 10, 0, 0], ["save", state], ["clear"], ON, ["eval", [1, 2], 0, 0]]
    gap = run_job(runtime_dir, path, [*steps, ["load", state], ["eval", [1, 2], 10, 0]])
    assert gap.error and "without gaps; found 2 tokens at position 10 after 2" in gap.last_error
