"""``ggufrope plan``: its commands work, its quotations stand where it says, its sizes are the runtime's."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import gguf_builder as gb
import pytest
from llama_process import run_job

from ggufrope.cli import main
from ggufrope.inference.kv_types import KV_TYPES
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.planning import plan_context
from ggufrope.planning.evidence import EVIDENCE
from ggufrope.planning.memory import PLANNED_TYPES

ROOT = Path(__file__).resolve().parents[2]


def demo(**changed) -> bytes:
    """The demo model's shape without its weights, which a plan does not read."""
    config = json.loads((ROOT / "models/demo/config.json").read_text(encoding="utf-8"))
    numbers = {
        "context_length": config["max_position_embeddings"], "embedding_length": config["hidden_size"],
        "block_count": config["num_hidden_layers"], "attention.head_count": config["num_attention_heads"],
        "attention.head_count_kv": config["num_key_value_heads"], "rope.dimension_count": config["head_dim"],
        **changed,
    }  # fmt: skip
    return gb.build(gb.llama_entries(**numbers), gb.tiny_tensors())


@pytest.fixture
def model(tmp_path) -> Path:
    path = tmp_path / "a model.gguf"
    path.write_bytes(demo())
    return path


def test_every_printed_command_runs_as_it_stands(model, capsys):
    assert main(["plan", str(model), "--context", "2048"]) == 0
    commands = [shlex.split(line) for line in capsys.readouterr().out.splitlines() if "ggufrope convert" in line]
    assert {c[c.index("--method") + 1] for c in commands} >= {"linear", "ntk", "yarn", "llama3", "dynamic-ntk"}
    assert len(commands) == len(plan_context(ModelFile.open(model), 2048).options)
    for command in commands:
        assert main([*command[1:], "--dry-run"]) == 0, command
        assert "context 2048" in capsys.readouterr().out
    assert [p.name for p in model.parent.iterdir()] == [model.name]


def test_options_that_need_no_change_to_the_runtime_come_first(model):
    made = plan_context(ModelFile.open(model), 2048)
    stock = [option.stock for option in made.options]
    assert stock == sorted(stock, reverse=True)
    assert {o.name for o in made.options if o.stock} == {"linear", "ntk", "yarn", "llama3"}
    assert {o.factor for o in made.options} == {4.0}
    assert {r.name for r in made.refusals} >= {"none", "longrope", "clex", "ms-poe"}
    assert "--clex-from" in next(r.reason for r in made.refusals if r.name == "clex")


@pytest.mark.parametrize("context", [1, 511, 512])
def test_nothing_is_needed_within_the_trained_context(model, context, capsys):
    made = plan_context(ModelFile.open(model), context)
    assert not made.options
    assert "no scaling is needed" in made.notes[0]
    assert main(["plan", str(model), "--context", str(context)]) == 0
    assert "no scaling is needed" in capsys.readouterr().out


def test_a_scaled_file_says_so_and_is_planned_from_its_trained_context(model, capsys):
    scaled = model.with_name("scaled.gguf")
    for method in ("yarn", "dynamic-ntk"):
        line = ["convert", str(model), "-o", str(scaled), "--method", method, "--context", "1024", "--overwrite"]
        assert main(line) == 0
        for context, said in ((1024, "which is enough"), (2048, "which is less")):
            made = plan_context(ModelFile.open(scaled), context)
            assert f"scaled already: {method} to 1024 tokens, {said}" in made.notes[0]
            assert {o.factor for o in made.options} == {context / 512}
    capsys.readouterr()


def test_far_beyond_what_is_known_is_said(model, capsys):
    assert main(["plan", str(model), "--context", str(64 * 512)]) == 0
    assert "no results are known beyond 32×; the request is for 64×" in capsys.readouterr().out


def test_json_holds_what_the_text_says(model, capsys):
    assert main(["plan", str(model), "--context", "2048", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    # 6 layers of 4 KV heads of 32, K and V, two bytes each; a block of 32 takes 34 or 18 bytes
    elements = 6 * 4 * 32 * 2 * 2048
    assert made["kv_cache"] == {"f16": 2 * elements, "q8_0": elements // 32 * 34, "q4_0": elements // 32 * 18}
    assert made["options"][0]["command"].startswith("ggufrope convert '")
    assert made["weights"] == sum(array.nbytes for _, array in gb.tiny_tensors())


def rows(page: str) -> list[list[str]]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return [[c.strip() for c in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


@pytest.mark.parametrize("record", EVIDENCE, ids=lambda r: f"{r.label}, {r.source}, {r.model[:12]}")
def test_numbers_of_this_project_stand_on_the_page_named(record):
    if not (ROOT / record.source).exists():
        assert re.search(r"arXiv \d{4}\.\d{5}|github\.com/\S+", record.source)
        return
    table = rows(record.source)
    for label, values in ((record.label, record.values), ("none", record.plain)):
        if record.source == "docs/length.md":
            found = [[float(c.split(" ±")[0]) for c in row[1:]] for row in table if row[0] == label and "±" in row[1]]
        else:
            by_length = {int(r[1]): float(r[8].split(" (")[0]) for r in table if r[0] == label and len(r) == 9}
            found = [[by_length[512 * 2**i] for i in range(len(values))]]
        assert list(values.values()) in found, label


def kv_mib(library: Path, path: Path, context: int, kv_type: str) -> tuple[float, float, str]:
    """What the runtime says it allocated: K and V, recurrent state."""
    kind = KV_TYPES[kv_type].ggml_type
    settings = {"n_ctx": context, "type_k": kind, "type_v": kind, "flash_attn_type": 1, "swa_full": False}
    done = run_job(library, path, [], **settings)
    found = [sum(map(float, re.findall(rf"{name} buffer size = +([\d.]+) MiB", done.log))) for name in ("KV", "RS")]
    return found[0], found[1], done.error


def loadable(tmp_path: Path, n_layer: int, head_dim: int) -> Path:
    """A Llama that llama.cpp loads, of zeros, with two query heads for each KV head."""
    import numpy as np

    n_embd, n_ff, n_vocab, kv = 4 * head_dim, 64, 8, 2 * head_dim
    numbers = {
        "context_length": 512, "embedding_length": n_embd, "block_count": n_layer, "feed_forward_length": n_ff,
        "attention.head_count": 4, "attention.head_count_kv": 2, "rope.dimension_count": head_dim,
        "vocab_size": n_vocab,
    }  # fmt: skip
    shapes = {"token_embd": (n_vocab, n_embd), "output": (n_vocab, n_embd), "output_norm": (n_embd,)}
    for i in range(n_layer):
        for name, shape in {
            "attn_norm": (n_embd,), "ffn_norm": (n_embd,), "attn_q": (n_embd, n_embd), "attn_k": (kv, n_embd),
            "attn_v": (kv, n_embd), "attn_output": (n_embd, n_embd), "ffn_gate": (n_ff, n_embd),
            "ffn_up": (n_ff, n_embd), "ffn_down": (n_embd, n_ff),
        }.items():  # fmt: skip
            shapes[f"blk.{i}.{name}"] = shape
    entries = [
        gb.entry("general.architecture", gb.STR, "llama"),
        *(gb.entry(f"llama.{name}", gb.U32, number) for name, number in numbers.items()),
        gb.entry("llama.attention.layer_norm_rms_epsilon", gb.F32, 1e-5),
        gb.entry("tokenizer.ggml.model", gb.STR, "no_vocab"),
    ]
    path = tmp_path / f"zeros-{n_layer}-{head_dim}.gguf"
    path.write_bytes(gb.build(entries, [(f"{n}.weight", np.zeros(s, np.float32)) for n, s in shapes.items()]))
    return path


@pytest.mark.parametrize(("n_layer", "head_dim"), [(6, 64), (3, 8)])
@pytest.mark.parametrize("kv_type", PLANNED_TYPES)
def test_the_runtime_allocates_what_is_planned(runtime_dir, tmp_path, n_layer, head_dim, kv_type):
    path = loadable(tmp_path, n_layer, head_dim)
    planned = plan_context(ModelFile.open(path), 5000).cache_bytes()[kv_type]
    kv, state, error = kv_mib(runtime_dir, path, 5000, kv_type)
    if planned is None:
        assert error == "context"
        return
    assert not error
    assert (kv, state) == (pytest.approx(planned / 2**20, abs=0.006), 0)


def test_the_runtime_allocates_what_is_planned_for_a_real_model(runtime_dir, shared):
    path = shared / "models/stories260K/stories260K-f32.gguf"
    kv, _, _ = kv_mib(runtime_dir, path, 2048, "f16")
    assert kv == pytest.approx(plan_context(ModelFile.open(path), 2048).cache_bytes()["f16"] / 2**20, abs=0.006)
