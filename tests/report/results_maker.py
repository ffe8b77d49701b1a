"""Results as `ggufrope eval` writes them, made up; ``python results_maker.py DIR`` to look at a page of them."""

from __future__ import annotations

import hashlib
import json
import math
import random
import sys
from pathlib import Path

METHODS = {
    "none": ({}, 512), "ntk": ({"factor": 4.0}, 2048), "yarn": ({"factor": 4.0}, 2048),
    "dynamic-ntk": ({"factor": 4.0, "slope": 1.0}, 2048), "ms-poe": ({"min_ratio": 1.2, "max_ratio": 1.8}, 512),
}  # fmt: skip
SIZES = {"F16": 8_000_000, "Q8_0": 4_300_000, "Q4_K_M": 2_400_000}
DEPTHS = [i / 8 for i in range(9)]


def digest(*parts) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def facts(method="none", quantization="F16", **changed):
    params, context = METHODS.get(method, ({}, 512))
    made = {
        "name": f"{method}-{quantization.lower()}.gguf", "size": SIZES.get(quantization, 1), "architecture": "llama",
        "method": method, "params": params, "quantization": quantization, "context": context, "trained": 512,
    } | changed  # fmt: skip
    return {"header": digest(made), "weights": digest(quantization), **made}


def wilson(right, n):
    z, p = 1.96, right / n
    mid, half = (
        (p + z * z / 2 / n) / (1 + z * z / n),
        z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / 4 / n / n),
    )
    return {"low": max(0.0, mid - half), "high": min(1.0, mid + half)}


def common(file, task, length, kv_type, seed, n, **rest):
    beyond = f"{length} tokens are beyond the file's context of {file['context']}"
    return {
        "schema": 1, "task": task, "options": {}, "file": file, "kv_type": kv_type, "length": length, "seed": seed,
        "n": n, "notes": [beyond] if length > file["context"] else [], "ggufrope": "0.1.0", "seconds": 12.34,
        "runtime": {"backend": "cpu", "fingerprint": "0c1e570-ab12", "threads": 2, "flash_attn": None},
        "machine": {"cpu": "Some CPU @ 2.10GHz", "cores": 2, "os": "Linux 6.1"},
        "tokens": {"evaluated": 10_000, "asked": 45_000}, "finished": "2026-11-20T15:01:02Z",
        "cell": digest(file, task, length, kv_type, seed, n),
    } | rest  # fmt: skip


def answers(file, length=512, scores=None, *, task="niah", kv_type="f16", seed=0, **rest):
    """``scores`` by depth: one number a text. Depth None: no depths."""
    scores = {0.5: [1.0]} if scores is None else scores
    flat = [s for of in scores.values() for s in of]
    examples = [
        {"name": f"{i}/{d}" if d is not None else f"{i}", "depth": d, "score": s, "output": "drums" if s else "pears"}
        for d, of in scores.items()
        for i, s in enumerate(of)
    ]
    made = {
        "kind": "answers", "score": sum(flat) / len(flat), **wilson(sum(flat), len(flat)), "interval": "wilson 95%",
        "examples": examples,
    }  # fmt: skip
    if None not in scores:
        made["by_depth"] = [
            {"depth": d, "n": len(of), "score": sum(of) / len(of), **wilson(sum(of), len(of))}
            for d, of in scores.items()
        ]
    return common(file, task, length, kv_type, seed, len(flat), **made | rest)


def positions(
    file, length=512, means=(2.0, 1.5), *, task="ppl", unit="nats per token", kv_type="f16", width=0.05,
    by_text=None, text="t", **rest
):  # fmt: skip
    step = length // len(means)
    made = {
        "kind": "positions", "unit": unit, "mean": sum(means) / len(means), "interval": "bootstrap 95%, over texts",
        "by_position": [
            {"start": i * step, "end": (i + 1) * step, "n": step * 5, "mean": m, "low": m - width, "high": m + width}
            for i, m in enumerate(means)
        ],
    }  # fmt: skip
    if by_text is not None:
        made["by_text"] = [{"tokens": digest(text, i)[:16], "n": length - 1, "mean": m} for i, m in enumerate(by_text)]
    made |= {"low": made["mean"] - width / 2, "high": made["mean"] + width / 2}
    return common(file, task, length, kv_type, 0, 5, **made | rest)


def chance(method, quantization, kv_type, length, depth):
    """Of a right answer: much as the demo model's, whose numbers stand in models/demo/README.md."""
    reach = {"none": 700, "ntk": 3300, "yarn": 6000, "dynamic-ntk": 4200, "ms-poe": 1000}[method]
    seen = length * (1 - 0.75 * depth)
    loss = {"F16": 0.0, "Q8_0": 0.002, "Q4_K_M": 0.02}[quantization] + {"f16": 0, "q8_0": 0.002, "q4_0": 0.08}[kv_type]
    return max(
        0.02, 1 / (1 + math.exp((seen - reach) / reach * 6)) - loss * length / 512 - (0.02 if method == "ms-poe" else 0)
    )


def grid(n=20, kv_types=("f16",), quantizations=tuple(SIZES), tasks=("niah", "ppl", "kl")):
    """The default grid on the demo model."""
    luck = random.Random(1)
    files = {(m, q): facts(m, q) for m in METHODS for q in quantizations}
    options = {
        "niah": {
            "limit": n,
            "chat_template": "none",
            "keys": 1,
            "values": 1,
            "queries": 1,
            "wording": {"name": "wording.json", "sha256": digest("w")},
        },
        "ppl": {"text": {"name": "text.txt", "sha256": digest("t")}, "stride": 0, "limit": 5},
        "kl": {"text": {"name": "text.txt", "sha256": digest("t")}, "limit": 5},
    }
    for (method, quantization), file in files.items():
        for kv_type in kv_types:
            for length in (512, 1024, 2048):
                hard = [luck.random() for _ in range(n)]
                scores = {
                    d: [
                        float((luck.random() + hard[i]) / 2 < chance(method, quantization, kv_type, length, d))
                        for i in range(n)
                    ]
                    for d in DEPTHS
                }
                noise = {"F16": 0, "Q8_0": 0.004, "Q4_K_M": 0.03}[quantization]
                far = [max(0, 1 - chance(method, quantization, kv_type, length * (k + 0.5) / 8, 0)) for k in range(8)]
                if "niah" in tasks:
                    yield answers(file, length, scores, kv_type=kv_type, options=options["niah"])
                if "ppl" in tasks:
                    means = [1.75 + noise + 0.4 * f + luck.gauss(0, 0.01) for f in far]
                    yield positions(file, length, means, kv_type=kv_type, options=options["ppl"])
                if "kl" in tasks and (method, quantization) != ("none", "F16"):
                    means = [0.0005 + noise * 0.3 + 0.8 * f * f for f in far]
                    yield positions(
                        file, length, means, task="kl", kv_type=kv_type, width=0.0003, options=options["kl"],
                        baseline=files["none", "F16"], top1=0.97 - noise,
                    )  # fmt: skip


def write(path: Path, lines) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


if __name__ == "__main__":
    write(Path(sys.argv[1]), grid(kv_types=tuple(sys.argv[2:]) or ("f16",)))
