"""llama-server: the whole prompt's row from its first batch on, and prompts that reuse what other rows have cached."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from test_runtime_length import POINTS, TOKENS, log_probs, with_table
from tiny_cache import LengthTable, Session
from tiny_transformer import TinyModel

MODEL = TinyModel("llama")
TABLE = LengthTable.growing(MODEL.n_rot, POINTS)
OTHER = TOKENS[::-1]

Ask = Callable[..., dict]


def post(url: str, body: dict) -> dict:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


@pytest.fixture
def start(runtime_dir: Path, tmp_path: Path) -> Iterator[Callable[..., Ask]]:
    """A server of the tiny model, with strict settings and these options; asks for one token after a prompt."""
    running: list[subprocess.Popen] = []

    def start(*options: str) -> Ask:
        program, path = runtime_dir / "llama-server", tmp_path / "model.gguf"
        if not program.exists():
            pytest.skip("llama-server is not in this build")
        path.write_bytes(MODEL.file(with_table(TABLE), words=True))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [program, "-m", path, "--port", port, "-c", 512, "-t", 1, "-ctk", "f32", "-ctv", "f32", "-fa", "off"]
        with (tmp_path / "server.log").open("w") as log:
            running.append(subprocess.Popen([*map(str, command), "--no-warmup", *options], stdout=log, stderr=log))
        url = f"http://127.0.0.1:{port}"
        for _ in range(600):
            assert running[-1].poll() is None, (tmp_path / "server.log").read_text()[-2000:]
            try:
                urllib.request.urlopen(f"{url}/health", timeout=5).close()
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)

        def ask(tokens: list[int], **more: object) -> dict:
            body = {"prompt": tokens, "n_predict": 1, "temperature": 0, "n_probs": 64, "cache_prompt": True, **more}
            return post(f"{url}/completion", body)

        return ask

    yield start
    for process in running:
        process.kill()
        process.wait()


def assert_distribution(answer: dict, logits: np.ndarray) -> None:
    """The first token that was generated was drawn from these log-probabilities."""
    found = {top["id"]: top["logprob"] for top in answer["completion_probabilities"][0]["top_logprobs"]}
    right = log_probs(logits)
    assert len(found) > 32
    np.testing.assert_allclose([found[i] for i in found], [right[i] for i in found], atol=1e-3)


def test_chunks_of_a_prompt_use_the_row_of_all(start: Callable[..., Ask]) -> None:
    ask = start("-b", "32", "-ub", "32", "-np", "1")
    answer = ask(TOKENS[:150])
    row = TABLE.row(150)
    right = MODEL.logits(TOKENS[:150], None, TABLE.factors[row].astype(float), float(TABLE.scales[row]))
    assert_distribution(answer, right[-1])


def test_second_request_reuses_a_prefix_and_crosses_a_switch(start: Callable[..., Ask]) -> None:
    ask = start("-b", "32", "-ub", "32", "-np", "1")
    session = Session(MODEL, TABLE)
    assert_distribution(ask(TOKENS[:60]), session.step(TOKENS[:60])[-1])
    answer = ask(TOKENS[:150])
    assert answer["timings"]["cache_n"] == 60
    assert_distribution(answer, session.step(TOKENS[60:150])[-1])


def test_prompt_from_the_cache_in_memory(start: Callable[..., Ask]) -> None:
    """One slot: another prompt, long enough for another row, moves the first one out; it comes back and goes on."""
    ask = start("-b", "512", "-np", "1", "--cache-ram", "64")
    first, other = Session(MODEL, TABLE), Session(MODEL, TABLE)
    assert_distribution(ask(TOKENS[:90]), first.step(TOKENS[:90])[-1])
    assert_distribution(ask(OTHER[:150]), other.step(OTHER[:150])[-1])
    answer = ask(TOKENS[:120])
    assert answer["timings"]["cache_n"] == 90
    assert_distribution(answer, first.step(TOKENS[90:120])[-1])


def test_the_log_says_which_row_serves(start: Callable[..., Ask], tmp_path: Path) -> None:
    """At the server's default level; the first row, which serves an empty memory, is not worth a line."""
    ask = start("-b", "512", "-np", "1")
    for n in 60, 70, 60, 150:
        ask(TOKENS[:n], cache_prompt=False)
    said = [line for line in (tmp_path / "server.log").read_text().splitlines() if "ggufrope: row" in line]
    rows = [line.partition("ggufrope: ")[2] for line in said]
    assert rows == [f"row {TABLE.row(n) + 1} of 5, for lengths to {POINTS[TABLE.row(n)]}" for n in (70, 60, 150)]


def test_slots_share_the_row_of_the_longest(start: Callable[..., Ask]) -> None:
    ask = start("-b", "512", "-np", "2", "-kvu", "--no-cache-idle-slots")
    first, other = Session(MODEL, TABLE), Session(MODEL, TABLE)
    assert_distribution(ask(TOKENS[:60], id_slot=0), first.step(TOKENS[:60])[-1])
    assert_distribution(ask(OTHER[:150], id_slot=1), other.step(OTHER[:150])[-1])
    assert_distribution(ask(TOKENS[:80], id_slot=0), first.step(TOKENS[60:80], length=150)[-1])
