"""Heads ordered anew for each prompt: the program's results from the prompt alone, and what belongs to a sequence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_checkpoint
from c_program import run_program
from gguf_builder import ARR, F32, STR, U32, entry
from llama_process import Outcome, run_job
from test_runtime_oracle import convert
from tiny_transformer import TinyModel

from ggufrope.cli import main

IDS = np.random.default_rng(3).integers(0, 96, 150).tolist()
SHORT = np.random.default_rng(4).integers(0, 96, 60).tolist()
READ = ["eval", IDS, 0, 0]
GET = ["get"]


def steps(n: int) -> np.ndarray:
    return np.array([1.2 + 0.6 * i / n for i in range(n)], np.float32)


@pytest.mark.parametrize("case", ["mha_l23", "mha_past_max"])
def test_program_is_reproduced_from_the_prompt(runtime_dir: Path, shared: Path, tmp_path: Path, case: str) -> None:
    pytest.importorskip("safetensors.numpy")
    with np.load(shared / "oracles" / "mspoe_mha.npz") as archive:
        captured = {name.removeprefix(f"{case}/"): archive[name] for name in archive.files if name.startswith(case)}
    ratios = np.ones((4, 8), np.float32)
    ratios[2:] = np.roll(steps(8), 3)  # whose they are in the file does not matter
    tokens, answers = captured["input_ids"].tolist(), captured["decode_tokens"].tolist()
    path = tmp_path / "model.gguf"
    path.write_bytes(convert(shared / "oracles" / "mspoe_model_mha", ratios, "per-prompt"))
    decode = [["eval", [t], len(tokens) + i, 0] for i, t in enumerate(answers)]
    outcome = run_job(runtime_dir, path, [["eval", tokens, 0, 0], GET, *decode])
    assert not outcome.error, outcome.last_error or outcome.log[-2000:]
    found = outcome.arrays[1].reshape(4, 8)
    for layer in (2, 3):
        np.testing.assert_allclose(found[layer], captured[f"L{layer}/ratio_of_head"], atol=1e-6)
    np.testing.assert_allclose(outcome.arrays[0], captured["logits"], atol=1e-4)
    np.testing.assert_allclose(np.concatenate(outcome.arrays[2:]), captured["decode_logits"], atol=1e-4)


@pytest.fixture(scope="module", params=tiny_checkpoint.KINDS)
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp(request.param)
    tiny_checkpoint.make(request.param, folder)
    for order in ("per-prompt", "per-prompt-rank", "sequential"):
        out = str(folder / f"{order}.gguf")
        line = ["convert", str(folder / "model.gguf"), "-o", out, "-m", "ms-poe", "--first-layer", "1"]
        line += ["--from-wavelength", "0"]
        assert main([*line, "--head-order", order]) == 0
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One per-prompt model, for what does not depend on the architecture; KV heads enough to tell orders apart."""
    pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("llama")
    tiny_checkpoint.make("llama", folder, num_attention_heads=8, num_key_value_heads=8)
    for order in ("per-prompt", "sequential"):
        line = ["convert", str(folder / "model.gguf"), "-o", str(folder / f"{order}.gguf"), "-m", "ms-poe"]
        assert main([*line, "--from-wavelength", "0", "--first-layer", "1", "--head-order", order]) == 0
    return folder


def run(library: Path, path: Path, jobs: list, **context: int) -> Outcome:
    outcome = run_job(library, path, jobs, **context)
    assert not outcome.error, outcome.last_error or outcome.log[-2000:]
    return outcome


@pytest.mark.parametrize("order", ["code", "rank"])
def test_the_reference_orders_alike(runtime_dir: Path, tiny: Path, order: str) -> None:
    from ggufrope.reference import forward
    from ggufrope.reference.head_scores import OrderSpec, PromptOrder

    reference = forward.load_reference(tiny)
    found = PromptOrder(reference, 130, OrderSpec(first_layer=1, order=order))
    expected = np.concatenate(list(forward.logits(reference, IDS)))
    path = tiny / ("per-prompt.gguf" if order == "code" else "per-prompt-rank.gguf")
    decode = [["eval", [t], 130 + i, 0] for i, t in enumerate(IDS[130:])]
    outcome = run(runtime_dir, path, [["eval", IDS[:130], 0, 0], *decode, GET])
    ratios = np.concatenate([[1.0, 1.0], *(found.ratios[layer].numpy() for layer in (1, 2))])
    np.testing.assert_allclose(outcome.arrays[-1], ratios, atol=1e-6)
    atol = 5e-3 if tiny.name.startswith("phi") else 5e-4  # llama.cpp looks phi's GELU up in a table
    np.testing.assert_allclose(np.concatenate(outcome.arrays[:-1]), expected, atol=atol)


@pytest.mark.parametrize(("weights", "file"), [("hf-mha", "stories260K-mha-f32"), ("hf", "stories260K-f32")])
def test_a_trained_model_orders_as_the_reference(
    runtime_dir: Path, shared: Path, tmp_path: Path, weights: str, file: str
) -> None:
    """Within the trained length and beyond it; with eight KV heads a layer, and with four for eight query heads."""
    pytest.importorskip("transformers")
    from ggufrope.reference import forward
    from ggufrope.reference.head_scores import PromptOrder

    folder, path = shared / "models" / "stories260K", tmp_path / "model.gguf"
    line = ["convert", str(folder / f"{file}.gguf"), "-o", str(path), "-m", "ms-poe", "--head-order", "per-prompt"]
    assert main(line) == 0
    ids = np.random.default_rng(0).integers(3, 512, 916).tolist()
    for n in (480, 900):
        reference = forward.load_reference(folder / weights)
        found = PromptOrder(reference, n)
        expected = np.concatenate(list(forward.logits(reference, ids[: n + 16])))
        decode = [["eval", [t], n + i, 0] for i, t in enumerate(ids[n : n + 16])]
        sizes = dict.fromkeys(("n_ctx", "n_batch", "n_ubatch"), 1024)
        outcome = run(runtime_dir, path, [["eval", ids[:n], 0, 0], GET, *decode], **sizes)
        ratios = np.concatenate([found.ratios[layer].numpy() for layer in (2, 3, 4)])
        np.testing.assert_allclose(outcome.arrays[1][-ratios.size :], ratios, atol=1e-6)
        np.testing.assert_allclose(outcome.arrays[0], expected[:n], atol=1e-3)
        np.testing.assert_allclose(np.concatenate(outcome.arrays[2:]), expected[n:], atol=1e-3)


def test_a_longer_prompt_is_read_twice(runtime_dir: Path, model: Path) -> None:
    """The first time with the file's ratios, which give the scores; the second time with the order that follows."""
    static = run(runtime_dir, model / "sequential.gguf", [["capture", True], READ, ["scores"]], n_ubatch=64)
    ratios = np.ones((3, 8), np.float32)
    for layer in (1, 2):
        ratios[layer] = steps(8)[np.argsort(-static.arrays[-1].reshape(3, 8)[layer], kind="stable")]
    more = ["eval", SHORT, 150, 0]
    twice = run(runtime_dir, model / "per-prompt.gguf", [READ, GET, more, GET], n_ubatch=64)
    np.testing.assert_array_equal(twice.arrays[1].reshape(3, 8), ratios)
    np.testing.assert_array_equal(twice.arrays[3], twice.arrays[1])
    given = run(runtime_dir, model / "sequential.gguf", [["set", ratios.ravel().tolist()], READ, more], n_ubatch=64)
    np.testing.assert_array_equal(twice.arrays[0], given.arrays[1])
    np.testing.assert_array_equal(twice.arrays[2], given.arrays[2])


def test_the_order_stays_until_the_next_sequence(runtime_dir: Path, model: Path) -> None:
    """Batches of one size at the start and later: graphs of the two must not be taken for each other."""
    path, first, later = model / "per-prompt.gguf", ["eval", SHORT, 0, 0], ["eval", IDS[:60], 60, 0]
    outcome = run(runtime_dir, path, [first, GET, later, GET, ["clear"], ["eval", IDS[:60], 0, 0], GET, later])
    fresh = run(runtime_dir, path, [["eval", IDS[:60], 0, 0], GET, later])
    short, kept, anew = (outcome.arrays[i] for i in (1, 3, 5))
    np.testing.assert_array_equal(short, kept)
    assert not np.array_equal(short, anew)
    for i in range(3):
        np.testing.assert_array_equal(outcome.arrays[4 + i], fresh.arrays[i])
    again = run(runtime_dir, path, [READ, ["remove", 0, 0, -1], first, GET])
    np.testing.assert_array_equal(again.arrays[2], short)


def test_later_turns_and_kept_prefixes_use_the_order(runtime_dir: Path, model: Path) -> None:
    """As a server's prompt cache does it: the end of a sequence is dropped and read anew."""
    path, tail = model / "per-prompt.gguf", ["eval", SHORT, 100, 0]
    outcome = run(runtime_dir, path, [READ, GET, ["remove", 0, 100, -1], tail, GET])
    ratios = outcome.arrays[1]
    np.testing.assert_array_equal(outcome.arrays[3], ratios)
    given = run(runtime_dir, model / "sequential.gguf", [["set", ratios.tolist()], READ, ["remove", 0, 100, -1], tail])
    np.testing.assert_allclose(outcome.arrays[2], given.arrays[2], atol=1e-5)


@pytest.mark.parametrize("kind", ["", "_seq"])
def test_saved_states_carry_the_order(runtime_dir: Path, model: Path, tmp_path: Path, kind: str) -> None:
    path, state, more = model / "per-prompt.gguf", str(tmp_path / "state"), ["eval", [5, 6, 7], 150, 0]
    through = run(runtime_dir, path, [READ, ["save" + kind, state], GET, more])
    assert through.arrays[1] == 1
    loaded = run(runtime_dir, path, [["eval", SHORT, 0, 0], GET, ["clear"], ["load" + kind, state], GET, more])
    assert loaded.arrays[2] == 1
    assert not np.array_equal(loaded.arrays[1], loaded.arrays[3])
    np.testing.assert_array_equal(loaded.arrays[3], through.arrays[2])
    np.testing.assert_array_equal(loaded.arrays[4], through.arrays[3])
    other = run(runtime_dir, model / "sequential.gguf", [["load" + kind, state]])
    assert other.arrays[0] == 0


def test_a_shift_uses_the_order(runtime_dir: Path, model: Path) -> None:
    jobs = [["remove", 0, 0, 50], ["shift", 0, 50, -1, -50], ["eval", [5, 6, 7], 100, 0]]
    ordered = run(runtime_dir, model / "per-prompt.gguf", [READ, GET, *jobs])
    given = run(runtime_dir, model / "sequential.gguf", [["set", ordered.arrays[1].tolist()], READ, *jobs])
    np.testing.assert_allclose(ordered.arrays[-1], given.arrays[-1], atol=1e-5)


def test_equal_ratios_need_no_order(runtime_dir: Path, model: Path) -> None:
    """As calibrate sets them; scores of a longer text are those of one reading."""
    ones = [["set", [1.0] * 24], ["capture", True], READ, ["scores"]]
    found = [run(runtime_dir, model / f"{name}.gguf", ones, n_ubatch=64) for name in ("per-prompt", "sequential")]
    np.testing.assert_array_equal(found[0].arrays[2], found[1].arrays[2])
    np.testing.assert_array_equal(found[0].arrays[3], found[1].arrays[3])


def test_a_prompt_in_several_batches_is_told(runtime_dir: Path, model: Path) -> None:
    outcome = run(runtime_dir, model / "per-prompt.gguf", [READ, GET], n_batch=64, n_ubatch=64)
    assert "its first 64 tokens decided the order of heads" in outcome.log
    first = run(runtime_dir, model / "per-prompt.gguf", [["eval", IDS[:64], 0, 0], GET])
    np.testing.assert_array_equal(outcome.arrays[1], first.arrays[1])


def test_several_sequences_are_refused(runtime_dir: Path, model: Path) -> None:
    outcome = run_job(runtime_dir, model / "per-prompt.gguf", [READ], n_seq_max=2)
    assert outcome.error == "context"
    assert "serves one sequence at a time, and this context is made for 2" in outcome.last_error


def test_what_a_file_may_say(runtime_dir: Path, tmp_path: Path) -> None:

    start = [entry("ggufrope.version", U32, 1), entry("ggufrope.method", STR, "ms-poe")]
    factors = entry("ggufrope.head_factors", ARR, [1.0, 1.0, 1.2, 1.5, 1.2, 1.5], F32)
    path = tmp_path / "model.gguf"
    path.write_bytes(TinyModel("llama").file([*start, factors, entry("ggufrope.head_order", STR, "best")]))
    assert "'per-prompt' or 'per-prompt-rank', found 'best'" in run_job(runtime_dir, path, []).last_error
    path.write_bytes(TinyModel("llama").file([*start, entry("ggufrope.head_order", STR, "per-prompt")]))
    assert "the ratios that 'ggufrope.head_order' hands out" in run_job(runtime_dir, path, []).last_error


def test_what_is_read_twice_counts_once(runtime_dir: Path, model: Path, tmp_path: Path) -> None:
    """Tokens, graphs, callbacks and numbers that a sampler draws are those of one reading with the same ratios."""
    counts, ratios, drawn, total = run_program("count_reading.c", runtime_dir, tmp_path, [model / "per-prompt.gguf"])
    path = model / "sequential.gguf"
    once = run_program("count_reading.c", runtime_dir, tmp_path, [path, *ratios.split()])
    other = run_program("count_reading.c", runtime_dir, tmp_path, [path])
    assert other[1] != ratios == once[1]
    assert drawn == once[2] != other[2]
    assert len(set(drawn.split())) > 5
    assert counts.split()[:2] == once[0].split()[:2] == ["150", "1"]  # llama_perf_context has 1 at least
    assert counts.split()[3] == once[0].split()[3] == "3", "ubatches of 64 that the callback was shown"
    assert total == once[3] == "150 24"
