"""``eval`` on the patched runtime: against llama-perplexity and transformers, killed and resumed, and repeated."""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from ggufrope.convert.pipeline import ConvertRequest, carry_out
from ggufrope.evals.position_kind import PositionReading
from ggufrope.evals.result_line import to_json
from ggufrope.evals.store import read_results
from ggufrope.evals.tasks.kl_divergence import KlDivergence
from ggufrope.evals.tasks.perplexity import Perplexity
from ggufrope.runtime.programs import quantize

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "models" / "demo"
TEXT = DEMO / "calibration.txt"
EDGES = [0, 64, 128, 256, 512]

pytest.importorskip("transformers", reason="pip install 'ggufrope[torch]'")
pytestmark = [
    # found, not imported: the first import decides on which libllama the whole process runs
    pytest.mark.skipif(find_spec("llama_cpp") is None, reason="llama-cpp-python is missing; run scripts/setup"),
    pytest.mark.usefixtures("runtime_dir"),
]


def quiet(_done, _total):
    pass


def engine(path, **options):
    from ggufrope.inference.engine import Engine

    return Engine(path, n_ctx=512, **{"threads": 2} | options)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The demo model as F32, Q8_0, and F32 with YaRN."""
    folder = tmp_path_factory.mktemp("models")
    carry_out(ConvertRequest(DEMO, folder / "f32.gguf", "none", outtype="f32"))
    carry_out(ConvertRequest(folder / "f32.gguf", folder / "yarn.gguf", "yarn", {"factor": 2.0}))
    quantize(folder / "f32.gguf", folder / "q8_0.gguf", "Q8_0")
    return folder


def llama_perplexity(runtime_dir, base, model, folder):
    """What upstream's program says: it scores the second half of each text."""
    program, options = runtime_dir / "llama-perplexity", "-c 512 -b 512 --chunks 4 -t 2 -fa off -ngl 0".split()
    if not program.is_file():
        pytest.skip("this runtime has no llama-perplexity")
    kept = folder / f"{base.stem}.logits"
    if not kept.exists():
        subprocess.run(
            [program, "-m", base, "-f", TEXT, *options, "--kl-divergence-base", kept], check=True, capture_output=True
        )
    command = [program, "-m", model, *options, "--kl-divergence", "--kl-divergence-base", kept]
    lines = {"kl": "Mean +KLD", "ppl": r"Mean PPL\(Q\) +", "top1": "Same top p"}
    done = subprocess.run(command, check=True, capture_output=True)
    said = done.stdout.decode(errors="replace")
    found = {name: re.search(rf"{line}: +([-\d.]+)", said) for name, line in lines.items()}
    return {name: float(match[1]) for name, match in found.items()}


@pytest.mark.parametrize("name", ["q8_0", "yarn"])
def test_llama_perplexity_says_the_same(runtime_dir, models, name):
    """Its baseline keeps 16 bits of a logit, over a range of 16: steps of 2.4e-4, whose effect averages out."""
    base, model = models / "f32.gguf", models / f"{name}.gguf"
    theirs = llama_perplexity(runtime_dir, base, model, models)
    with engine(base) as one, engine(model) as two:
        mine = KlDivergence(text=TEXT).measure(two, one, PositionReading(512, 4, EDGES, 0), quiet).by_position[-1]
        loss = Perplexity(text=TEXT).measure(two, None, PositionReading(512, 4, EDGES, 0), quiet).by_position[-1]
    assert (mine.n, mine.start) == (4 * 255, 256)
    assert mine.mean == pytest.approx(theirs["kl"], abs=1e-5 if name == "q8_0" else 1e-4)
    assert loss.mean == pytest.approx(np.log(theirs["ppl"]), abs=1e-4)
    assert theirs["kl"] > (1e-5 if name == "q8_0" else 1e-2)


def transformers_losses(length, n, size=None, stride=None):
    """``(n, length - 1)``: one forward pass for each window, with transformers' own tokenizer and model."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(2)
    tokenizer, model = (
        AutoTokenizer.from_pretrained(DEMO),
        AutoModelForCausalLM.from_pretrained(DEMO, dtype=torch.float32),
    )
    every = torch.tensor(tokenizer(TEXT.read_text())["input_ids"])
    assert every[0] == tokenizer.bos_token_id
    found = np.full((n, length - 1), np.nan)
    for i in range(n):
        ids = every[i * length : (i + 1) * length]
        end = size or length
        scored = 0
        while True:
            window = ids[end - (size or length) : end].clone()
            window[0] = tokenizer.bos_token_id
            with torch.no_grad():
                logits = model(window[None]).logits[0].double()
            loss = torch.nn.functional.cross_entropy(logits[:-1], window[1:], reduction="none").numpy()
            found[i, scored : end - 1] = loss[len(loss) - (end - 1 - scored) :]
            if end == length:
                break
            scored, end = end - 1, min(end + stride, length)
    return found


def test_transformers_loses_the_same(models):
    want = transformers_losses(512, 3)
    with engine(models / "f32.gguf", kv_type="f32") as reader:
        found = Perplexity(text=TEXT).measure(reader, None, PositionReading(512, 3, EDGES, 0), quiet)
    assert found.mean == pytest.approx(want.mean(), abs=1e-3)
    for row in found.by_position:
        assert row.mean == pytest.approx(want[:, row.start : row.end].mean(), abs=1e-3)
    assert want[:, :64].mean() - want[:, 256:].mean() > 0.01


def test_transformers_loses_the_same_through_windows(models):
    want = transformers_losses(400, 2, size=128, stride=48)
    with engine(models / "f32.gguf", kv_type="f32") as reader:
        found = Perplexity(text=TEXT, window=128, stride=48).measure(
            reader, None, PositionReading(400, 2, [0, 128, 400], 0), quiet
        )
    assert not np.isnan(want).any()
    assert found.mean == pytest.approx(want.mean(), abs=1e-3)
    assert found.by_position[1].mean == pytest.approx(want[:, 128:].mean(), abs=1e-3)


def command(models, out, *options):
    files = [str(models / f"{name}.gguf") for name in ("f32", "q8_0")]
    task = [
        "--task",
        "niah",
        "--wording",
        str(DEMO / "wording.json"),
        "--lengths",
        "256,512",
        "--depths",
        "0,0.5,1",
    ]
    return [
        sys.executable, "-m", "ggufrope", "eval", *files, *task, "--kv-type", "f16,q8_0", "--limit", "3",
        "-o", str(out), *(options or ["--threads", "2"]),
    ]  # fmt: skip


def timeless(out):
    """Every line but for time."""
    lines = [to_json(r) for r in read_results(out)[0]]
    for line in lines:
        del line["seconds"], line["finished"]
    return lines


@pytest.fixture(scope="module")
def whole(models, tmp_path_factory):
    """The results of a run that nobody disturbed."""
    out = tmp_path_factory.mktemp("whole")
    subprocess.run(command(models, out), check=True, capture_output=True)
    return timeless(out)


def test_killed_and_resumed(models, whole, tmp_path):
    path = tmp_path / "results.jsonl"
    process = subprocess.Popen(command(models, tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(6000):
        if path.exists() and path.read_bytes().count(b"\n") >= 2:
            break
        time.sleep(0.01)
    process.kill()
    process.wait()
    kept = path.read_bytes()
    assert 2 <= kept.count(b"\n") < 8
    done = subprocess.run(command(models, tmp_path), check=True, capture_output=True, text=True)
    assert path.read_bytes().startswith(kept[: kept.rindex(b"\n") + 1])
    assert timeless(tmp_path) == whole
    assert done.stdout.count("f16") == 4


def test_one_seed_one_result_and_threads_do_not_matter(models, whole, tmp_path):
    subprocess.run(command(models, tmp_path / "again"), check=True, capture_output=True)
    assert timeless(tmp_path / "again") == whole
    subprocess.run(command(models, tmp_path / "one", "--threads", "1"), check=True, capture_output=True)
    pairs = list(zip(timeless(tmp_path / "one"), whole, strict=True))
    assert all(a["cell"] == b["cell"] for a, b in pairs)
    # with a quantized cache, llama.cpp's flash attention sums in an order that depends on the threads
    assert all(a["score"] == b["score"] for a, b in pairs if a["kv_type"] == "f16")
    assert sum(r["score"] for r in whole) / len(whole) > 0.9
    text = json.dumps(whole)
    assert str(models) not in text
    assert platform.node() not in text


@pytest.mark.parametrize(("task", "data"), [("kv-retrieval", "kv-retrieval-75_keys"), ("mdqa", "nq-open-oracle")])
def test_published_data_with_stories260k(shared, tmp_path, task, data):
    """The machinery: a model of 260 thousand parameters knows none of the answers."""
    from ggufrope.cli import main

    path = shared / f"data/{data}.jsonl.gz"
    model = shared / "models/stories260K/stories260K-f16.gguf"
    line = (
        f"eval {model} --task {task} --data {path} --lengths 2048 --beyond-context --limit 2 --depths 0,1 -o {tmp_path}"
    )
    assert main(line.split()) == 0
    ((result,), _) = read_results(tmp_path)
    assert result.n == len(result.examples) == 4
    assert 0 <= result.score < 0.5
    assert all(e.output for e in result.examples)
    assert result.options["data"]["name"] == path.name


@pytest.mark.slow
def test_memory_does_not_grow_with_the_text():
    """A vocabulary of 131072. What grows is llama.cpp's cache and attention: about half a kilobyte a token."""
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/bench/bench-eval-memory", "--tokens", "1024,4096"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = [int(n) for n in re.findall(r": (\d+) MiB above", done.stdout)]
    assert len(found) == 2
    assert abs(found[0] - found[1]) < 20
