"""Contradictions as people come by them: ``run``, ``serve``, ``ggufrope.load``, options and the environment.

Each names both sides and ends with an error. ``test_contradictions.py`` has all parameters and keys.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf_builder import STR, entry
from llama_process import run_job
from tiny_transformer import TinyModel

from ggufrope.cli import main
from ggufrope.errors import InputError

MODEL = TinyModel("llama")
BASE, FACTOR, TYPE = (f"llama.rope.{name}" for name in ("freq_base", "scaling.factor", "scaling.type"))
METHODS = {
    "ms-poe": ["--from-wavelength", "0"],
    "dynamic-ntk": ["--factor", "2"],
    "ms-poe+yarn": ["--factor", "4"],
    "ms-poe+dynamic-ntk": ["--factor", "2"],
}
#: The method of a file, options, and what the error says of both sides.
CASES = [
    (
        "dynamic-ntk",
        ["--rope-freq-base", "20000"],
        f"--rope-freq-base 20000 (rope_freq_base) contradicts '{BASE}' (10000 ",
    ),
    (
        "ms-poe",
        ["--rope-freq-scale", "0.5"],
        f"--rope-scale 2 (rope_freq_scale) contradicts '{FACTOR}' (not in this file",
    ),
    ("ms-poe", ["--rope-scale", "2"], f"--rope-scale 2 (rope_freq_scale) contradicts '{FACTOR}' (not in this file"),
    (
        "dynamic-ntk",
        ["--rope-scaling", "yarn"],
        f"--rope-scaling yarn (rope_scaling_type) contradicts '{TYPE}' (not in",
    ),
    (
        "ms-poe+yarn",
        ["--rope-scaling", "none"],
        f"--rope-scaling none (rope_scaling_type) contradicts '{TYPE}' (yarn in",
    ),
    (
        "ms-poe+yarn",
        ["--yarn-ext-factor", "0"],
        "--yarn-ext-factor 0 (yarn_ext_factor) contradicts 'llama.rope.scaling",
    ),
    (
        "ms-poe+yarn",
        ["--yarn-orig-ctx", "64"],
        "--yarn-orig-ctx 64 (yarn_orig_ctx) contradicts 'llama.rope.scaling.orig",
    ),
    (
        "ms-poe+dynamic-ntk",
        ["--yarn-beta-fast", "8"],
        "--yarn-beta-fast 8 (yarn_beta_fast) contradicts 'llama.rope.scal",
    ),
    (
        "ms-poe+dynamic-ntk",
        ["--override-kv", f"{BASE}=float:20000"],
        f"{BASE}=float:20000 contradicts '{BASE}' (10000 ",
    ),
    (
        "dynamic-ntk",
        ["--override-kv", "llama.context_length=int:64"],
        "=int:64 contradicts 'llama.context_length' (256 in",
    ),
    (
        "dynamic-ntk",
        ["--override-kv", "ggufrope.method=str:none"],
        "contradicts 'ggufrope.method' (dynamic-ntk in this",
    ),
    (
        "dynamic-ntk",
        ["-c", "513"],
        "a context of 513 tokens is longer than the 512 that 'ggufrope.length_points' covers",
    ),
]
STRICT = ["-t", "1", "-ctk", "f32", "-ctv", "f32", "-fa", "off", "--no-warmup"]
ENVIRONMENT = {"--rope-freq-base": "LLAMA_ARG_ROPE_FREQ_BASE", "--rope-scaling": "LLAMA_ARG_ROPE_SCALING_TYPE"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The model as it is, and with each method."""
    folder = tmp_path_factory.mktemp("models")
    plain = folder / "plain.gguf"
    plain.write_bytes(MODEL.file(words=True))
    made = {"plain": plain}
    for method, options in METHODS.items():
        made[method] = folder / f"{method}.gguf"
        assert main(["convert", str(plain), "-o", str(made[method]), "--method", method, *options]) == 0
    return made


def command(name: str, file: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """``ggufrope run`` or ``serve`` with upstream's options."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    fixed = {"run": ["-p", "3 4 5", "-n", "8", "--temp", "0", "--ignore-eos"], "serve": ["--port", port]}[name]
    line = [sys.executable, "-m", "ggufrope", name, str(file), "--", *fixed, *STRICT, *options]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    return subprocess.run(line, **pipes, text=True, env=os.environ | environment, check=False, timeout=60)


@pytest.mark.parametrize(
    ("method", "options", "words"), CASES, ids=lambda case: " ".join(case) if isinstance(case, list) else ""
)
def test_run(runtime_dir: Path, files: dict[str, Path], method: str, options: list[str], words: str) -> None:
    done = command("run", files[method], *options)
    assert done.returncode > 0  # an error, not a signal
    assert words in done.stderr
    assert f"method {method} active" not in done.stderr
    if "context" not in options[0] and "--override-kv" not in options:  # the model is loaded twice, to see what fits
        assert done.stderr.count(words) == 1


@pytest.mark.parametrize(("method", "options", "words"), CASES[:1] + CASES[3:5] + CASES[8:])
def test_serve(runtime_dir: Path, files: dict[str, Path], method: str, options: list[str], words: str) -> None:
    done = command("serve", files[method], *options)
    assert done.returncode > 0
    assert words in done.stderr
    assert f"method {method} active" not in done.stderr


@pytest.mark.parametrize("option", ENVIRONMENT)
def test_environment(runtime_dir: Path, files: dict[str, Path], option: str) -> None:
    method, options, words = next(case for case in CASES if case[1][0] == option)
    done = command("serve", files[method], **{ENVIRONMENT[option]: options[1]})
    assert done.returncode > 0
    assert words in done.stderr


@pytest.mark.parametrize(
    ("method", "arguments", "words"),
    [
        ("dynamic-ntk", {"rope_freq_base": 20000.0}, CASES[0][2]),
        ("ms-poe", {"rope_freq_scale": 0.5}, CASES[1][2]),
        ("dynamic-ntk", {"rope_scaling_type": 2}, CASES[3][2]),
        ("ms-poe+yarn", {"yarn_ext_factor": 0.0}, CASES[5][2]),
        (
            "ms-poe+yarn",
            {"yarn_attn_factor": 1.5},
            "--yarn-attn-factor 1.5 (yarn_attn_factor) contradicts 'llama.rope.",
        ),
        ("ms-poe+dynamic-ntk", {"yarn_beta_fast": 8.0}, CASES[7][2]),
        ("ms-poe+dynamic-ntk", {"kv_overrides": {BASE: 20000.0}}, CASES[8][2]),
        ("dynamic-ntk", {"kv_overrides": {"llama.context_length": 64}}, CASES[9][2]),
        ("dynamic-ntk", {"kv_overrides": {"ggufrope.method": "none"}}, CASES[10][2]),
        ("dynamic-ntk", {"n_ctx": 513}, CASES[11][2]),
    ],
)
def test_load(runtime_dir: Path, files: dict[str, Path], method: str, arguments: dict[str, Any], words: str) -> None:
    from ggufrope.runtime.library import load

    with pytest.raises(InputError) as raised:
        load(files[method], n_threads=1, **{"n_ctx": 256, **arguments})
    assert str(raised.value).startswith(f"{files[method]}: llama.cpp refused it: ")
    assert words in str(raised.value)


def test_what_a_file_says_itself(runtime_dir: Path, files: dict[str, Path]) -> None:
    """Flags that people have in scripts since before they converted the file."""
    yarn = ["--rope-scaling", "yarn", "--rope-scale", "4", "--yarn-orig-ctx", "256", "--rope-freq-base", "10000"]
    done = command("run", files["ms-poe+yarn"], *yarn)
    assert done.returncode == 0, done.stderr
    assert "ggufrope: method ms-poe+yarn active" in done.stderr
    done = command("run", files["ms-poe"], "--rope-scaling", "none")
    assert done.returncode == 0, done.stderr
    assert "ggufrope: method ms-poe active" in done.stderr


def test_a_draft_is_named(runtime_dir: Path, files: dict[str, Path], tmp_path: Path) -> None:
    """Options go to both models, and it is the draft that they contradict."""
    plain, draft = tmp_path / "plain.gguf", tmp_path / "draft.gguf"
    plain.write_bytes(MODEL.file([entry("general.name", STR, "Small One")], words=True))
    assert main(["convert", str(plain), "-o", str(draft), "--method", "ms-poe", "--from-wavelength", "0"]) == 0
    done = command("serve", files["plain"], "-md", str(draft), "--spec-type", "draft-simple", "--rope-freq-base", "2e4")
    assert done.returncode > 0
    assert "'ggufrope.head_factors' of model 'Small One' (method ms-poe) are relative to its own keys" in done.stderr


def test_a_draft_model_gets_no_order_of_heads(runtime_dir: Path, files: dict[str, Path]) -> None:
    """It gets the main model's overrides, and a plain file would refuse that one."""
    line = [sys.executable, "-m", "ggufrope", "serve", str(files["ms-poe"]), "--head-order", "per-prompt", "--"]
    line += ["--port", "0", "-md", str(files["plain"]), "--spec-type", "draft-simple", *STRICT]
    with subprocess.Popen(line, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as server:
        said = []
        try:
            for text in server.stderr or []:
                said.append(text)
                if "listening" in text:
                    break
        finally:
            server.kill()
    assert "listening" in said[-1], "".join(said)
    assert any(f"draft model '{files['plain']}'" in text for text in said)


@pytest.mark.parametrize(
    ("options", "context"),
    [
        ([], {}),
        (["--rope-freq-base", "500"], {"rope_freq_base": 500.0}),
        (["--rope-scaling", "linear", "--rope-scale", "8"], {"rope_scaling_type": 1, "rope_freq_scale": 0.125}),
        (
            ["--rope-scaling", "yarn", "--rope-freq-scale", "0.25", "--yarn-orig-ctx", "64", "--yarn-beta-fast", "8"],
            {"rope_scaling_type": 2, "rope_freq_scale": 0.25, "yarn_orig_ctx": 64, "yarn_beta_fast": 8.0},
        ),
        (["--override-kv", f"{BASE}=float:500"], {"overrides": {BASE: 500.0}}),
    ],
)
def test_programs_take_all_flags_for_a_plain_file(
    runtime_dir: Path, stock_dir: Path, files: dict[str, Path], options: list[str], context: dict[str, Any]
) -> None:
    """Each token is the one that stock's library finds likeliest with the same settings."""
    done = command("run", files["plain"], *options)
    assert done.returncode == 0, done.stderr
    tokens = [1, *map(int, done.stdout.split())]
    assert len(tokens) >= 4 + 8 - 2  # the first three print nothing
    outcome = run_job(stock_dir, files["plain"], [["eval", tokens, 0, 0]], n_ctx=256, **context)
    assert not outcome.error, outcome.log[-2000:]
    scores = outcome.arrays[0].reshape(len(tokens), -1)
    scores[:, 2] = -np.inf  # --ignore-eos
    assert scores.argmax(-1)[3:-1].tolist() == tokens[4:]


@pytest.mark.parametrize(
    "arguments", [{}, {"rope_freq_base": 500.0}, {"rope_scaling_type": 2, "rope_freq_scale": 0.25}]
)
def test_load_takes_all_arguments_for_a_plain_file(
    runtime_dir: Path, stock_dir: Path, files: dict[str, Path], arguments: dict[str, Any]
) -> None:
    from ggufrope.runtime.library import load

    tokens = [int(i) for i in np.random.default_rng(5).integers(3, MODEL.n_vocab, 60)]
    exact = {"type_k": 0, "type_v": 0, "flash_attn": False, "n_gpu_layers": 0, "n_threads": 1, "n_threads_batch": 1}
    model = load(files["plain"], n_ctx=512, n_batch=512, logits_all=True, **exact, **arguments)
    model.eval(tokens)
    found = model.scores[: len(tokens)].copy()
    model.close()
    expected = run_job(stock_dir, files["plain"], [["eval", tokens, 0, 0]], **arguments).arrays[0]
    np.testing.assert_array_equal(found, expected)
