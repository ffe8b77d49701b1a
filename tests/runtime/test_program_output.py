"""Upstream's programs print all they have to say, whoever reads it and however they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from dying import dying_environment
from tiny_transformer import TinyModel

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="upstream's own behaviour there: see the patch")

TAIL = "-" * 40  # words so long that what the log's queue holds (511 tokens) is more than a pipe takes at once (4 KiB)
PROMPT = "3 4 5"
N_TOKENS = 40


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    path.write_bytes(TinyModel("llama").file(words=True, tail=TAIL))
    return path


def program(runtime_dir: Path, name: str) -> str:
    path = runtime_dir / name
    if not path.exists():
        pytest.skip(f"{name} is not in this build")
    return str(path)


def completion(runtime_dir: Path, model: Path, n: int = N_TOKENS, *more: str) -> list[str]:
    options = f"-no-cnv -n {n} --temp 0 -c 256 --no-warmup --ignore-eos -t 1 -ctk f32 -ctv f32 -fa off".split()
    return [program(runtime_dir, "llama-completion"), "-m", str(model), "-p", PROMPT, *options, *more]


def continued(model: Path, n: int) -> str:
    """The prompt and ``n`` tokens after it, the likeliest each time, from the library: no program and no log."""
    import ggufrope

    llama = ggufrope.load(model, n_ctx=256, n_threads=1, flash_attn=False, type_k=0, type_v=0, logits_all=True)
    end = llama.token_eos()
    tokens = llama.tokenize(PROMPT.encode())
    llama.eval(tokens)
    for _ in range(n):
        row = llama.scores[llama.n_tokens - 1].copy()
        row[end] = -1e9  # --ignore-eos
        tokens.append(int(row.argmax()))
        llama.eval(tokens[-1:])
    llama.close()
    return " ".join(f"{i}{TAIL if i > 9 else ''}" for i in tokens if i > 2)  # the first three print nothing


def read_slowly(run: subprocess.Popen) -> str:
    """All that ``run`` prints, through a pipe of one page that is empty at most every 20 ms."""
    if sys.platform == "linux":
        import fcntl

        fcntl.fcntl(run.stdout, fcntl.F_SETPIPE_SZ, 4096)
    time.sleep(0.5)
    found = b""
    while part := os.read(run.stdout.fileno(), 4096):
        found += part
        time.sleep(0.02)
    return found.decode()


@pytest.mark.skipif(find_spec("llama_cpp") is None, reason="llama-cpp-python is missing; run scripts/setup")
def test_every_token_arrives(runtime_dir: Path, model: Path) -> None:
    """14 of 20 such runs lost text, with exit code 0."""
    runs = [
        subprocess.run(completion(runtime_dir, model), capture_output=True, text=True, check=True) for _ in range(20)
    ]
    assert {" ".join(run.stdout.split()) for run in runs} == {continued(model, N_TOKENS)}


def test_a_slow_reader_gets_the_same(runtime_dir: Path, model: Path) -> None:
    """The queue is full when the program ends, and the pipe is, too. (A full queue could hang upstream's logger.)"""
    command = completion(runtime_dir, model, 1500, "--context-shift")
    expected = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert len(expected.split()) > 1200
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as run:
        found = read_slowly(run)
        assert run.wait(timeout=60) == 0
    assert found == expected


@pytest.mark.parametrize("name", ["llama-completion", "llama-cli", "llama-server", "llama-bench", "llama-perplexity"])
def test_an_error_is_said(runtime_dir: Path, tmp_path: Path, name: str) -> None:
    """llama-perplexity lost it in two of three runs."""
    missing = tmp_path / "missing.gguf"
    prompt = {"llama-completion": ["-p", "x"], "llama-cli": ["-p", "x", "-st"], "llama-perplexity": ["-f", os.devnull]}
    command = [program(runtime_dir, name), "-m", str(missing), *prompt.get(name, [])]
    for _ in range(8):
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        assert done.returncode == 1
        assert str(missing) in done.stdout + done.stderr, name


@pytest.mark.parametrize("how", ["assert", "throw"])
def test_what_came_before_an_abort_arrives(runtime_dir: Path, model: Path, tmp_path: Path, how: str) -> None:
    """By GGML_ASSERT, and by an exception that nobody catches: a slow reader still gets every token so far."""
    command = completion(runtime_dir, model, 1500, "--context-shift")
    before = completion(runtime_dir, model, 890, "--context-shift")
    expected = subprocess.run(before, capture_output=True, text=True, check=True).stdout.split()
    dying = dying_environment(tmp_path, 900, how) | {"GGML_NO_BACKTRACE": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | dying) as run:
        found = read_slowly(run).split()
        said = run.stderr.read().decode()
        assert run.wait(timeout=60) == -signal.SIGABRT
    assert ("GGML_ASSERT(n_rows > 0) failed" if how == "assert" else "no such expert") in said
    assert len(expected) > 700
    assert found[: len(expected)] == expected


def test_a_reader_that_goes_away_ends_the_program(runtime_dir: Path, model: Path) -> None:
    """As `| head` does: Python ignores SIGPIPE, and a program would go on for nobody had it inherited that."""
    command = completion(runtime_dir, model, -1, "--context-shift")
    code = "import sys; from ggufrope.runtime.programs import start; sys.exit(start(sys.argv[1:]))"
    with subprocess.Popen(
        [sys.executable, "-c", code, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as run:
        assert run.stdout.read(16)
        run.stdout.close()
        run.stderr.close()
        try:
            assert run.wait(timeout=60) == -signal.SIGPIPE
        finally:
            run.kill()
