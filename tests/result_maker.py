"""Results for tests, written out by hand."""

from __future__ import annotations

from typing import Any

FILE = {
    "name": "model.gguf", "size": 1000, "architecture": "llama", "method": "yarn", "params": {"factor": 2.0},
    "quantization": "F16", "context": 1024, "trained": 512, "header": "a" * 64, "weights": "b" * 64,
}  # fmt: skip


def answers(**changed: Any) -> dict[str, Any]:
    return {
        "schema": 1, "kind": "answers", "task": "niah", "options": {"keys": 1}, "cell": "c" * 64, "file": dict(FILE),
        "kv_type": "f16", "length": 512, "seed": 0, "n": 2,
        "runtime": {"backend": "cpu", "fingerprint": "0123", "threads": None, "flash_attn": None},
        "machine": {"cpu": "a CPU", "cores": 2, "os": "Linux x86_64"}, "ggufrope": "0.1.0", "seconds": 1.5,
        "tokens": {"evaluated": 600, "asked": 1024}, "finished": "2026-01-01T00:00:00Z",
        "low": 0.1, "high": 0.9, "interval": "wilson 95%", "score": 0.5,
        "by_depth": [{"depth": 0.0, "n": 1, "score": 0.0, "low": 0.0, "high": 0.8},
                     {"depth": 1.0, "n": 1, "score": 1.0, "low": 0.2, "high": 1.0}],
        "examples": [{"name": "0/0", "depth": 0.0, "score": 0.0, "output": "drums ☃\n"},
                     {"name": "0/1", "depth": 1.0, "score": 1.0, "output": ""}],
        "notes": ["a note"], **changed,
    }  # fmt: skip


def positions(**changed: Any) -> dict[str, Any]:
    value = answers(
        kind="positions", task="kl", unit="nats per token", mean=None, low=None, high=None,
        by_position=[{"start": 0, "end": 64, "n": 64, "mean": 0.1, "low": None, "high": None}],
        baseline=dict(FILE), top1=0.99,
    )  # fmt: skip
    return {k: v for k, v in value.items() if k not in ("score", "by_depth", "examples")} | changed
