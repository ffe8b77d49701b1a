"""Sizes of caches with windows, latent keys and recurrent layers: by hand, and as the runtime allocates for toys."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import gguf_builder as gb
import pytest
from llama_process import run_job

from ggufrope.modelfile.model_file import ModelFile
from ggufrope.planning import plan_context
from ggufrope.runtime.locate import Runtime

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts/studies"))
from arch_matrix.driver import NoCompilerError, compile_toys

TOYS = ("deepseek2-moe", "falcon-h1-dense", "gemma2-dense", "lfm2-dense", "qwen35-dense")


def planned(tmp_path: Path, arch: str, context: int, **keys: int):
    path = tmp_path / f"{arch}.gguf"
    path.write_bytes(gb.build(gb.llama_entries(arch, **keys), gb.tiny_tensors()))
    return plan_context(ModelFile.open(path), context)


def test_layers_with_a_window_hold_it_and_a_batch(tmp_path):
    made = planned(tmp_path, "gemma2", 4900, **{"block_count": 4, "attention.sliding_window": 1000})
    # 4900 → 5120 cells in two layers, 1000 + 512 → 1536 in two; 2 KV heads of 8, K and V
    assert made.cache_bytes()["f16"] == (2 * 5120 + 2 * 1536) * 2 * 8 * 2 * 2
    assert made.full_window.kv_bytes("f16") == 4 * 5120 * 2 * 8 * 2 * 2
    assert made.memory.n_windowed == 2


def test_latent_keys_are_cached_once_and_values_not_at_all(tmp_path):
    mla = {"attention.key_length": 40, "attention.key_length_mla": 16, "attention.value_length_mla": 8}
    made = planned(tmp_path, "deepseek2", 256, **mla, **{"attention.head_count_kv": 1})
    assert made.cache_bytes()["f16"] == 3 * 256 * 40 * 2


def test_recurrent_layers_have_a_state_and_no_cells(tmp_path):
    ssm = {"ssm.conv_kernel": 4, "ssm.inner_size": 64, "ssm.state_size": 16, "ssm.group_count": 2}
    made = planned(tmp_path, "qwen35", 256, block_count=8, **ssm)
    assert made.cache_bytes()["f16"] == 2 * 256 * 2 * 8 * 2 * 2  # every fourth layer attends
    assert made.memory.state_bytes == 6 * 4 * (3 * (64 + 2 * 2 * 16) + 16 * 64)


def test_other_caches_get_no_number(tmp_path):
    made = planned(tmp_path, "minimax-m3", 256)
    assert made.memory is None
    assert "keeps more than K and V" in made.no_memory
    assert made.cache_bytes() == {}


@pytest.mark.slow
def test_toys_allocate_what_is_planned(runtime_dir, tmp_path, monkeypatch):
    try:
        program = compile_toys(Runtime.read(runtime_dir) or pytest.skip("no build"), tmp_path)
    except NoCompilerError as error:
        pytest.skip(str(error))
    names = "|".join(toy.rsplit("-", 1)[0] for toy in TOYS)
    environment = {**os.environ, "LD_LIBRARY_PATH": str(runtime_dir), "DYLD_LIBRARY_PATH": str(runtime_dir)}
    subprocess.run([program, "save", tmp_path, f"^({names})$"], env=environment, stdout=subprocess.DEVNULL, check=True)
    # toys' rope_freqs.weight is random, which no plan takes
    monkeypatch.setattr("ggufrope.modelfile.facts.keys.ROPE_FREQS", "absent")
    for toy in TOYS:
        path = tmp_path / f"{toy}.gguf"
        for full in (False, True):
            log = run_job(runtime_dir, path, [], n_ctx=5000, type_k=1, type_v=1, flash_attn_type=1, swa_full=full).log
            found = [sum(map(float, re.findall(rf"{n} buffer size = +([\d.]+) MiB", log))) for n in ("KV", "RS")]
            made = plan_context(ModelFile.open(path), 5000)
            layout = made.full_window if full and made.full_window else made.memory
            expected = [layout.kv_bytes("f16") / 2**20, layout.state_bytes / 2**20]
            assert found == pytest.approx(expected, abs=0.011), (toy, full)
