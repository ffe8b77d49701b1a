"""LoRA on Q and K of upstream's toy architectures: a table applies to an adapter's part as to merged weights.

Where upstream's graph leaves an adapter out (MLA's projections, some linear attention), it does so without a table too:
an architecture whose plain adapters differ from merged weights is not compared.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from arch_matrix.driver import NoCompilerError, compile_toys
from gguf_builder import F32, STR, build, entry
from llama_process import run_job

from ggufrope.runtime.locate import locate

gguf = pytest.importorskip("gguf")
TOKENS = np.random.default_rng(0).integers(0, 100, 40).tolist()
READ = ["eval", TOKENS, 0, 0]
PROJECTION = re.compile(r"blk\.\d+\.attn_(q|k|qkv|q_a|q_b|kv_a_mqa)\.weight")


@pytest.fixture(scope="module")
def toys(runtime_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapters")
    try:
        program = compile_toys(locate(), folder)
    except NoCompilerError as error:
        pytest.skip(str(error))
    (folder / "models").mkdir()
    environment = {**os.environ, "LD_LIBRARY_PATH": str(runtime_dir)}
    subprocess.run([program, "save", folder / "models", ".*"], env=environment, capture_output=True, check=True)
    return folder


def adapter_of(model: Path, arch: str, merged: Path, adapter: Path) -> int:
    """Write a random adapter for ``model`` and the model with it merged; answers for how many weights."""
    reader, random = gguf.GGUFReader(model), np.random.default_rng(1)
    scales = {t.name: float(t.data.ravel()[0]) for t in reader.tensors if t.name.endswith(".scale")}
    shutil.copyfile(model, merged)
    parts = []
    with merged.open("r+b") as file:
        for tensor in reader.tensors:
            if not PROJECTION.fullmatch(tensor.name) or tensor.data.ndim != 2:
                continue
            n_out, n_in = tensor.data.shape
            a = (random.standard_normal((3, n_in)) / np.sqrt(n_in)).astype(np.float32)
            size = 0.02 * np.abs(tensor.data).mean() * np.sqrt(n_in)
            b = (size * random.standard_normal((n_out, 3))).astype(np.float32)
            parts += [(f"{tensor.name}.lora_a", a), (f"{tensor.name}.lora_b", b)]
            # the toys have a scale for the weight's product, which does not apply to the adapter's
            whole = tensor.data + b @ a / scales.get(tensor.name.replace("weight", "scale"), 1.0)
            file.seek(tensor.data_offset)
            file.write(whole.astype(np.float32).tobytes())
    kinds = [("general.type", "adapter"), ("general.architecture", arch), ("adapter.type", "lora")]
    entries = [*(entry(key, STR, value) for key, value in kinds), entry("adapter.lora.alpha", F32, 0.0)]
    adapter.write_bytes(build(entries, parts))
    return len(parts) // 2


def factors_taken(library: Path, model: Path) -> Iterator[list[float]]:
    """Head factors that the model takes, the most telling first."""
    n = len(run_job(library, model, [["get"]]).arrays[0])
    distinct, upper = [1 + 0.3 * (i % 5 + 1) for i in range(n)], [1.0] * (n // 2) + [1.7] * (n - n // 2)
    for found in (distinct, upper, upper[::-1]):
        if run_job(library, model, [["set", found]]).arrays[0][0] == 1:
            yield found


def difference(library: Path, model: Path, merged: Path, use: list, factors: list[float]) -> tuple[float, float]:
    """How far logits with the adapter are from those of merged weights, and from those without it."""
    adapted = run_job(library, model, [["set", factors], READ, ["clear"], use, READ])
    whole = run_job(library, merged, [["set", factors], READ])
    assert not adapted.error + whole.error, f"{model.stem}: {adapted.last_error or whole.last_error}"
    error = np.abs(adapted.arrays[2] - whole.arrays[1]).max()
    return float(error), float(np.abs(adapted.arrays[2] - adapted.arrays[1]).max())


@pytest.mark.slow
def test_adapters_of_all_architectures(runtime_dir: Path, toys: Path) -> None:
    compared = []
    for model in sorted((toys / "models").glob("*.gguf")):
        arch = model.stem.rsplit("-", 1)[0]
        merged, adapter = toys / "merged.gguf", toys / "adapter.gguf"
        factors = next(factors_taken(runtime_dir, model), None)
        if factors is None or adapter_of(model, arch, merged, adapter) == 0:
            continue
        use = ["adapters", [[str(adapter), 1.0]]]
        error, effect = difference(runtime_dir, model, merged, use, factors)
        # ggml looks a GELU up in a table of F16 values
        if error < 5e-2 * effect:
            compared.append(arch)
            continue
        plain, effect = difference(runtime_dir, model, merged, use, [1.0] * len(factors))
        assert plain > 5e-2 * effect, f"{model.stem}: off by {error} with a table alone"
    assert len(set(compared)) > 50
