"""What is compared between the builds, each as a row of the table."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gguf_builder as gb
import numpy as np
from bench_runtime.model import Shape, write_model

from ggufrope.runtime.device_check import check_devices
from ggufrope.runtime.locate import Runtime
from gpu_check.steps import Builds, Clock

__all__ = ["Plan", "Row", "bench_rows", "check_rows", "logit_rows", "make_models", "op_row"]

_OPS = "ROPE,ROPE_BACK,ROPE_SET_ROWS,RMS_NORM_MUL_ROPE"


@dataclass(frozen=True)
class Plan:
    """How large everything is; the rehearsal's is small."""

    device: str
    layers: int
    shape: Shape
    prompts: tuple[int, ...]
    decode: int
    chunks: int


@dataclass(frozen=True)
class Row:
    """A line of the table. ``failed`` makes the check fail."""

    what: str
    stock: str
    patched: str
    ms_poe: str
    failed: bool = False

    def __str__(self) -> str:
        return f"| {self.what} | {self.stock} | {self.patched} | {self.ms_poe} |"


def make_models(folder: Path, plan: Plan, builds: Builds, clock: Clock) -> dict[str, dict[str, Path]]:
    """The random model as F16 and Q4_K, each without our keys (``plain``) and with a ratio for every head."""
    models: dict[str, dict[str, Path]] = {"F16": {}, "Q4_K": {}}
    for name in ("plain", "ms-poe"):
        models["F16"][name] = path = folder / f"{name}-f16.gguf"
        write_model(path, plan.shape, "f16", ms_poe=name == "ms-poe", tokenizer=_tokenizer(plan.shape.n_vocab))
        models["Q4_K"][name] = small = folder / f"{name}-q4_k.gguf"
        clock.run([str(builds.patched / "llama-quantize"), str(path), str(small), "Q4_K"], folder / "quantize.log", 90)
    return models


def op_row(folder: Path, plan: Plan, builds: Builds, clock: Clock) -> Row:
    """Upstream's op tests with our cases, against the CPU."""
    command = [str(builds.patched / "test-backend-ops"), "-o", _OPS, "-b", plan.device]
    text = clock.run(command, folder / "ops.log", 150)
    passed = re.search(r"(\d+)/(\d+) tests passed", text)
    good = passed is not None and passed[1] == passed[2] and int(passed[2]) > 0
    said = f"{passed[1]} of {passed[2]} passed" if passed else "no result"
    return Row(f"test-backend-ops `{_OPS}`", "–", said, "–", not good)


def check_rows(plan: Plan, builds: Builds, clock: Clock, tables: list[str]) -> Iterator[Row]:
    """What ``ggufrope runtime check`` says of each device; its tables are appended to ``tables``."""
    devices, said = check_devices(Runtime(builds.patched, "", "", builds.backend, ()), limit=max(1.0, clock.left))
    tables.append("\n".join(f"    {line}" for line in said))
    for device in devices:
        tables.append(device.table())
        failed = not device.good or not device.cases
        yield Row(f"`runtime check`, {device.name}", "–", f"{'**failed**: ' * failed}{device.summary}", "–", failed)
    if plan.device not in {device.name for device in devices}:
        yield Row("`runtime check`", "–", f"**failed**: there is no {plan.device}", "–", True)


def bench_rows(
    folder: Path, plan: Plan, builds: Builds, models: dict[str, dict[str, Path]], clock: Clock
) -> Iterator[Row]:
    """Tokens per second; builds take turns, and a ratio is of medians."""
    runs = {"stock": (builds.stock, "plain"), "patched": (builds.patched, "plain"), "ms": (builds.patched, "ms-poe")}
    sizes = ["-p", ",".join(map(str, plan.prompts)), "-n", str(plan.decode), "-ngl", str(plan.layers), "-fa", "0"]
    for kind, files in models.items():
        samples: dict[tuple[str, str], list[float]] = {}
        for names in (list(runs), list(runs)[::-1]):
            for name in names:
                program, file = runs[name]
                log = folder / f"bench-{kind}-{name}.log"
                command = [str(program / "llama-bench"), "-m", str(files[file]), *sizes, "-r", "3", "-o", "jsonl"]
                for line in clock.run(command, log, 90).splitlines():
                    if line.startswith("{"):
                        test = json.loads(line)
                        what = f"prompt {test['n_prompt']}" if test["n_prompt"] else f"decode {test['n_gen']}"
                        samples.setdefault((what, name), []).extend(test["samples_ts"])
        for what in dict.fromkeys(what for what, _ in samples):
            stock, patched, ms = (statistics.median(samples[what, name]) for name in runs)
            spread = (max(samples[what, "stock"]) - min(samples[what, "stock"])) / stock
            yield Row(
                f"{kind} {what}, tokens/s",
                f"{stock:.0f} (spread {spread:.1%})",
                f"{patched:.0f} (× {patched / stock:.3f})",
                f"{ms:.0f} (× {ms / stock:.3f})",
            )


def logit_rows(
    folder: Path, plan: Plan, builds: Builds, models: dict[str, dict[str, Path]], text: Path, clock: Clock
) -> Iterator[Row]:
    """Logits of every position as llama-perplexity stores them (16 bits each), and the perplexity that it prints."""

    def run(build: Path, model: Path) -> tuple[str, bytes]:
        stored = folder / "logits"
        command = [str(build / "llama-perplexity"), "-m", str(model), "-f", str(text), "-c", "512", "-fa", "off"]
        command += ["--chunks", str(plan.chunks), "-ngl", str(plan.layers), "--save-all-logits", str(stored)]
        for _ in range(3):  # upstream's program may end before its last line is printed
            stored.unlink(missing_ok=True)
            said = clock.run(command, folder / "perplexity.log", 90)
            if found := re.search(r"PPL = (\S+)", said):
                break
        return found[1] if found else "not printed", stored.read_bytes()

    for kind, files in models.items():
        (stock, a), (patched, b) = run(builds.stock, files["plain"]), run(builds.patched, files["plain"])
        ms_poe, c = run(builds.patched, files["ms-poe"])
        equal, moved = a == b, c != a
        said = "equal to the bit" if equal else "**differ**"
        if not equal and run(builds.stock, files["plain"])[1] != a:
            equal, said = True, "differ, but stock differs from itself as well"
        what, failed = f"{kind} logits, {plan.chunks * 512} tokens", not (equal and moved)
        yield Row(what, "–", said, "change" if moved else "**same**", failed)
        yield Row(f"{kind} perplexity (random model)", stock, patched, ms_poe)


def _tokenizer(n_vocab: int) -> list[bytes]:
    """Bytes and fillers: any text becomes tokens."""
    names = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
    names += [f"\u2581filler{i}" for i in range(n_vocab - len(names))]
    kinds = [2, 3, 3, *[6] * 256, *[1] * (n_vocab - 259)]
    scores = np.linspace(0, -100, n_vocab, dtype=np.float32).tolist()
    return [
        gb.entry("tokenizer.ggml.model", gb.STR, "llama"),
        gb.entry("tokenizer.ggml.tokens", gb.ARR, names, gb.STR),
        gb.entry("tokenizer.ggml.scores", gb.ARR, scores, gb.F32),
        gb.entry("tokenizer.ggml.token_type", gb.ARR, kinds, gb.I32),
        gb.entry("tokenizer.ggml.bos_token_id", gb.U32, 1),
        gb.entry("tokenizer.ggml.eos_token_id", gb.U32, 2),
        gb.entry("tokenizer.ggml.unknown_token_id", gb.U32, 0),
    ]
