"""That head factors cost no upload and no new graph while tokens are decoded: calls into the backends are counted."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gguf_builder import ARR, F32, STR, U32, entry
from llama_process import run_job
from tiny_transformer import ARCHITECTURES, TinyModel

RATIOS = [1.1, 1.2, 1.25, 1.7, 1.5, 1.2]
KEYS = [
    entry("ggufrope.version", U32, 1),
    entry("ggufrope.method", STR, "ms-poe"),
    entry("ggufrope.head_factors", ARR, RATIOS, F32),
]
CALLS, BYTES, GRAPHS = range(3)

Uploads = Callable[..., np.ndarray]


def decode(first: int, count: int) -> list[list]:
    """Decode ``count`` tokens one by one and look at the counters after each."""
    return [step for i in range(count) for step in (["eval", [(7 * i) % 64], first + i, 0], ["uploads"])]


@pytest.fixture
def uploads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Uploads:
    """Runs steps and gives the growth of the counters ``[n, 3]`` from one "uploads" to the next."""
    if sys.platform != "linux" or shutil.which("cc") is None:
        pytest.skip("counting needs LD_PRELOAD and a C compiler")
    library = tmp_path / "count_uploads.so"
    source = Path(__file__).with_name("count_uploads.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", str(source), "-o", str(library), "-ldl"], check=True)
    monkeypatch.setenv("LD_PRELOAD", str(library))

    def run(data: bytes, steps: list, runtime: Path) -> np.ndarray:
        path = tmp_path / "model.gguf"
        path.write_bytes(data)
        outcome = run_job(runtime, path, steps)
        assert not outcome.error, outcome.last_error or outcome.log[-2000:]
        counters = [
            array for array, step in zip(outcome.arrays, steps_that_answer(steps), strict=True) if step == "uploads"
        ]
        return np.diff(np.stack(counters), axis=0)

    return run


def steps_that_answer(steps: list) -> list[str]:
    return [step[0] for step in steps if step[0] != "clear"]


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_decode_step_uploads_what_it_does_without_factors(
    uploads: Uploads, arch: str, runtime_dir: Path, stock_dir: Path
) -> None:
    model, steps = TinyModel(arch, n_ctx=512), [["uploads"], ["eval", [1] * 250, 0, 0], ["uploads"], *decode(250, 10)]
    with_factors = uploads(model.file(KEYS), steps, runtime_dir)
    np.testing.assert_array_equal(with_factors, uploads(model.file(), steps, runtime_dir))
    np.testing.assert_array_equal(with_factors, uploads(model.file(), steps, stock_dir))
    tokens, graphs = with_factors[1:], with_factors[1:, GRAPHS]
    assert (tokens[:, CALLS] > 0).all(), "tokens and positions are uploads, so the counter must see some"
    assert (tokens[:, BYTES] < 2**14).all()
    assert 0 < graphs.sum() < len(graphs), "some graph is used again, and the one for a longer cache is new"


def test_new_factors_are_an_upload(uploads: Uploads, runtime_dir: Path) -> None:
    """That the counter would see a table: one for each of the three layers, once."""
    other = [1.3, *RATIOS[1:]]
    steps = [*decode(0, 4), ["clear"], ["set", other], *decode(0, 3)]
    counts = uploads(TinyModel("llama").file(KEYS), steps, runtime_dir)
    plain = uploads(TinyModel("llama").file(KEYS), [*decode(0, 4), ["clear"], *decode(0, 3)], runtime_dir)
    more = counts[:, CALLS] - plain[:, CALLS]
    assert more.tolist() == [0, 0, 0, 3, 0, 0]


def with_rows(points: list[int], n_pairs: int = 16) -> list[bytes]:
    return [
        *KEYS,
        entry("ggufrope.length_points", ARR, points, U32),
        entry("ggufrope.length_factors", ARR, np.linspace(1, 4, len(points) * n_pairs).tolist(), F32),
        entry("ggufrope.length_attn_scale", ARR, np.linspace(1, 1.2, len(points)).tolist(), F32),
    ]


def test_a_length_table_uploads_at_a_switch_only(uploads: Uploads, runtime_dir: Path) -> None:
    """The third token goes beyond the first point."""
    model, steps = TinyModel("llama", n_ctx=512), [["eval", [1] * 250, 0, 0], *decode(250, 8)]
    more = uploads(model.file(with_rows([252, 512])), steps, runtime_dir) - uploads(model.file(), steps, runtime_dir)
    assert more[1, CALLS] > 0
    np.testing.assert_array_equal(np.delete(more, 1, axis=0), 0)
