"""llama-server's saved slots, its cache of prompts and its checkpoints, on files that rotate otherwise."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llama_process import run_job
from tiny_transformer import TinyModel

from ggufrope.convert.pipeline import ConvertRequest, carry_out

MODEL = TinyModel("llama")
TOKENS = np.random.default_rng(5).integers(3, 64, 90).tolist()
PARAMETERS = {"yarn": {"factor": 4.0}, "ntk": {"factor": 4.0}}

Ask = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("files")
    made = {"model": folder / "model.gguf"}
    made["model"].write_bytes(MODEL.file(words=True))
    for method in ("none", "yarn", "ntk", "ms-poe"):
        made[method] = folder / f"{method}.gguf"
        carry_out(ConvertRequest(made["model"], made[method], method, PARAMETERS.get(method, {})))
    return made


@contextmanager
def serving(library: Path, path: Path, log: Path, *options: str) -> Iterator[Ask]:
    """A server with strict settings; ``ask(path, body)`` answers the status and the JSON."""
    program = library / "llama-server"
    if not program.exists():
        pytest.skip("llama-server is not in this build")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [program, "-m", path, "--port", port, "-c", 512, "-t", 1, "-ctk", "f32", "-ctv", "f32", "-fa", "off"]
    with log.open("a") as text:
        process = subprocess.Popen([*map(str, command), "--no-warmup", *options], stdout=text, stderr=text)
    url = f"http://127.0.0.1:{port}"

    def ask(where: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        request = urllib.request.Request(url + where, json.dumps(body).encode(), {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    try:
        for _ in range(600):
            assert process.poll() is None, log.read_text()[-2000:]
            try:
                urllib.request.urlopen(f"{url}/health", timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        yield ask
        assert process.poll() is None, "the server died: " + log.read_text()[-2000:]
    finally:
        process.kill()
        process.wait()


def complete(ask: Ask, tokens: list[int]) -> dict[str, Any]:
    body = {"prompt": tokens, "n_predict": 1, "temperature": 0, "n_probs": 64, "cache_prompt": True, "id_slot": 0}
    status, answer = ask("/completion", body)
    assert status == 200, answer
    return answer


def distribution(answer: dict[str, Any]) -> dict[int, float]:
    return {top["id"]: top["logprob"] for top in answer["completion_probabilities"][0]["top_logprobs"]}


def assert_same(found: dict[str, Any], right: dict[str, Any]) -> None:
    a, b = distribution(found), distribution(right)
    assert a.keys() == b.keys() and len(a) > 32
    np.testing.assert_allclose(list(a.values()), [b[i] for i in a], atol=1e-4)


def test_slot_is_restored_by_what_rotates_alike(runtime_dir: Path, files: dict[str, Path], tmp_path: Path) -> None:
    """All pairs of files and options. A refusal has status 400 and both sides in words, and the slot goes on."""
    log, options = tmp_path / "log", ("-np", "1", "--slot-save-path", str(tmp_path) + "/")
    given = {"a base by flag": ("--rope-freq-base", "40000")}
    given["a base by override"] = ("--override-kv", "llama.rope.freq_base=float:40000")
    names, alike_sets = [*files, *given], [{"model", "none"}, set(given)]
    whole = {}
    for name in names:
        with serving(runtime_dir, files.get(name, files["model"]), log, *options, *given.get(name, ())) as ask:
            complete(ask, TOKENS[:70])
            assert ask("/slots/0?action=save", {"filename": f"{name}.bin"})[0] == 200
            whole[name] = complete(ask, TOKENS)
    for name in names:
        with serving(runtime_dir, files.get(name, files["model"]), log, *options, *given.get(name, ())) as ask:
            for saved in names:
                status, answer = ask("/slots/0?action=restore", {"filename": f"{saved}.bin"})
                alike = saved == name or {saved, name} in alike_sets
                assert status == (200 if alike else 400), f"{saved} into {name}: {answer}"
                if not alike:
                    text = answer["error"]["message"]
                    assert text.startswith("Unable to restore slot: the saved state was made with")
                    for side in (saved, name):
                        says = "no RoPE scaling" if side in ("model", "none") else f"method {side}"
                        says = "base 40000" if side in given else says
                        assert says in text, f"{saved} into {name}: {text}"
                found = complete(ask, TOKENS)
                assert found["timings"]["cache_n"] == (70 if alike else 0)
                assert_same(found, whole[name])
                ask("/slots/0?action=erase", {})


def test_slot_of_an_unpatched_server(
    runtime_dir: Path, stock_dir: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    """Saved by the function that llama-server calls: the unscaled file's loads, the scaled one's does not."""
    log, options = tmp_path / "log", ("-np", "1", "--slot-save-path", str(tmp_path) + "/")
    for name, status in (("none", 200), ("yarn", 400)):
        steps = [["eval", TOKENS[:70], 0, 0], ["save_seq", str(tmp_path / "slot.bin"), 0]]
        assert not run_job(stock_dir, files[name], steps).error
        with serving(runtime_dir, files[name], log, *options) as ask:
            found, answer = ask("/slots/0?action=restore", {"filename": "slot.bin"})
            assert found == status
            if status == 400:
                assert "by a runtime that does not say" in answer["error"]["message"]


def test_reason_of_a_refusal_is_not_told_of_other_failures(
    runtime_dir: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    log, options = tmp_path / "log", ("-np", "1", "--slot-save-path", str(tmp_path) + "/")
    with serving(runtime_dir, files["none"], log, *options) as ask:
        complete(ask, TOKENS[:70])
        ask("/slots/0?action=save", {"filename": "none.bin"})
    (tmp_path / "part.bin").write_bytes((tmp_path / "none.bin").read_bytes()[:50])
    (tmp_path / "text.bin").write_bytes(b"no state" * 100)
    with serving(runtime_dir, files["yarn"], log, *options) as ask:
        for name in ("missing", "part", "text"):
            said = []
            for filename in ("none.bin", f"{name}.bin"):
                status, answer = ask("/slots/0?action=restore", {"filename": filename})
                assert status == 400
                said.append(answer["error"]["message"])
            assert "the saved state was made with" in said[0]
            assert said[1] == "Unable to restore slot: No available space in KV cache or invalid slot save file"


def test_slot_that_is_cut_short(runtime_dir: Path, files: dict[str, Path], tmp_path: Path) -> None:
    """The server lives; upstream's aborts."""
    log, options = tmp_path / "log", ("-np", "1", "--slot-save-path", str(tmp_path) + "/")
    with serving(runtime_dir, files["yarn"], log, *options) as ask:
        complete(ask, TOKENS[:70])
        ask("/slots/0?action=save", {"filename": "whole.bin"})
        right, data = complete(ask, TOKENS), (tmp_path / "whole.bin").read_bytes()
        for length in (len(data) - 1, len(data) // 2, 12 + 4 * 70 + 5, 12 + 4 * 70):
            (tmp_path / "part.bin").write_bytes(data[:length])
            status, answer = ask("/slots/0?action=restore", {"filename": "part.bin"})
            assert status == 400, answer
            assert_same(complete(ask, TOKENS), right)


def test_prompts_come_back_from_the_cache_in_memory(runtime_dir: Path, files: dict[str, Path], tmp_path: Path) -> None:
    """One slot, two prompts in turn: the state of the first is kept in memory, with its tag."""
    other = TOKENS[::-1]
    for name in ("none", "yarn"):
        with serving(runtime_dir, files[name], tmp_path / "log", "-np", "1", "--cache-ram", "64") as ask:
            right = complete(ask, TOKENS)
        with serving(runtime_dir, files[name], tmp_path / "log", "-np", "1", "--cache-ram", "64") as ask:
            complete(ask, TOKENS[:70])
            complete(ask, other)
            found = complete(ask, TOKENS)
            assert found["timings"]["cache_n"] == 70
            assert_same(found, right)
