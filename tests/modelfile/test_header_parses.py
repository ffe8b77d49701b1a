"""A header is parsed once for each file and command: what is opened is passed on, not its path."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import gguf_builder as gb
import numpy as np
import pytest
from demo_model.text import make_document
from fake_engine import FakeEngine, model_file

from ggufrope.check import paired_reading
from ggufrope.cli import main
from ggufrope.evals.grid import Order, plan
from ggufrope.evals.results import RuntimeFacts
from ggufrope.evals.runner import run
from ggufrope.gguf import parse
from ggufrope.modelfile.model_file import ModelFile

RUNTIME = RuntimeFacts("cpu", "0123", None, None)


@pytest.fixture
def parses(monkeypatch):
    """How often each file's header was parsed, by the name that was read; counted where parsing begins."""
    counts: Counter[str] = Counter()
    scan = parse._scan_prefix

    def counted(scanner):
        counts[Path(scanner.label).name] += 1
        return scan(scanner)

    monkeypatch.setattr(parse, "_scan_prefix", counted)
    return counts


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A plain file, a converted one, one with LongRoPE's lists, and a split one."""
    monkeypatch.chdir(tmp_path)
    Path("m.gguf").write_bytes(gb.tiny_llama())
    assert (
        main(["convert", "m.gguf", "-o", "poe.gguf", "-m", "ms-poe+yarn", "--factor", "2", "--from-wavelength", "0"])
        == 0
    )
    lists = [(f"rope_factors_{kind}.weight", np.full(4, 1 + i, np.float32)) for i, kind in enumerate(("long", "short"))]
    entries = [*gb.llama_entries("phi3"), gb.entry("phi3.rope.scaling.original_context_length", gb.U32, 32)]
    Path("long.gguf").write_bytes(gb.build(entries, [*gb.tiny_tensors(), *lists]))
    for number in (0, 1):
        keys = [
            gb.entry("split.no", gb.U16, number),
            gb.entry("split.count", gb.U16, 2),
            gb.entry("split.tensors.count", gb.I32, len(gb.tiny_tensors())),
        ]
        data = gb.build([*(gb.llama_entries() if number == 0 else []), *keys], gb.tiny_tensors()[number::2])
        Path(f"s-0000{number + 1}-of-00002.gguf").write_bytes(data)
    return tmp_path


SPLIT = ("s-00001-of-00002.gguf", "s-00002-of-00002.gguf")
CONVERT = "-m yarn --factor 2"


@pytest.mark.parametrize(
    ("command", "files"),
    [
        (f"convert m.gguf -o out.gguf {CONVERT}", ["m.gguf"]),
        (f"convert m.gguf --dry-run {CONVERT}", ["m.gguf"]),
        (f"convert poe.gguf -o out.gguf {CONVERT}", ["poe.gguf"]),
        (f"convert poe.gguf --in-place {CONVERT}", ["poe.gguf"]),
        ("convert long.gguf -o out.gguf -m ms-poe", ["long.gguf"]),
        (f"convert {SPLIT[0]} -o out.gguf {CONVERT}", SPLIT),
        (f"convert {SPLIT[0]} --in-place {CONVERT}", SPLIT),
        ("strip poe.gguf -o out.gguf", ["poe.gguf"]),
        ("strip poe.gguf --in-place", ["poe.gguf"]),
        ("inspect m.gguf", ["m.gguf"]),
        ("inspect poe.gguf --json", ["poe.gguf"]),
        (f"inspect {SPLIT[0]}", SPLIT),
        ("plan m.gguf --context 256", ["m.gguf"]),
        ("plan poe.gguf --context 256 --json", ["poe.gguf"]),
        (f"plan {SPLIT[0]} --context 256", SPLIT),
        ("diff m.gguf poe.gguf", ["m.gguf", "poe.gguf"]),
        (f"diff m.gguf {SPLIT[0]}", ["m.gguf", *SPLIT]),
    ],
)
def test_commands_on_files(folder, parses, command, files):
    parses.clear()
    assert main(command.split()) in (0, 1)
    assert parses == dict.fromkeys(files, 1)


@pytest.mark.parametrize("command", ["run poe.gguf", "serve poe.gguf --head-order per-prompt", "bench poe.gguf"])
def test_commands_that_become_a_program(runtime_dir, folder, parses, monkeypatch, command):
    from ggufrope.runtime import programs

    started = []
    monkeypatch.setattr(programs, "start", lambda line: started.append(line) or 0)
    parses.clear()
    assert main(command.split()) == 0
    assert "poe.gguf" in started[0]
    assert parses == {"poe.gguf": 1}


@pytest.mark.parametrize("task", ["niah", "ppl", "kl"])
def test_a_grid_however_many_cells_it_has(tmp_path, folder, parses, task):
    FakeEngine.reset()
    (tmp_path / "text").write_text("".join(f" w{i % 41}" for i in range(3000)))
    template = "{{ messages[0].content }}!"
    files = [model_file(tmp_path / f"{name}.gguf", seed=i, template=template) for i, name in enumerate("ab")]
    entries = [*gb.llama_entries("phi3", context_length=512), gb.entry("tokenizer.chat_template", gb.STR, template)]
    lists = [(f"rope_factors_{kind}.weight", np.full(4, 2, np.float32)) for kind in ("long", "short")]
    by_context = tmp_path / "c.gguf"
    by_context.write_bytes(gb.build(entries, [*gb.tiny_tensors(2), *lists]))
    settings = {"keys": "4"} if task == "niah" else {"text": tmp_path / "text"}
    order = Order(
        (*files, by_context),
        task,
        settings,
        lengths=(160, 256, 512),
        depths=(0.0, 1.0) if task == "niah" else (),
        kv_types=("f16", "q8_0"),
        limit=2,
        baseline=files[0] if task == "kl" else None,
    )
    parses.clear()
    grid = plan(order, RUNTIME)
    assert len([done.result for done in run(grid, RUNTIME, None, open_engine=FakeEngine)]) == 3 * 2 * 3
    assert parses == {"a.gguf": 1, "b.gguf": 1, "c.gguf": 1}


def test_a_baseline_that_is_no_other_file(tmp_path, parses):
    FakeEngine.reset()
    (tmp_path / "text").write_text("".join(f" w{i % 41}" for i in range(3000)))
    subject, baseline = (model_file(tmp_path / f"{name}.gguf", seed=i) for i, name in enumerate("ab"))
    order = Order((subject,), "kl", {"text": tmp_path / "text"}, lengths=(128, 256), limit=2, baseline=baseline)
    grid = plan(order, RUNTIME)
    assert len(list(run(grid, RUNTIME, None, open_engine=FakeEngine))) == 2
    assert parses == {"a.gguf": 1, "b.gguf": 1}


@pytest.fixture
def demo(demo_file, tmp_path):
    """The demo model as two files, and a text for it."""
    rng = random.Random(5)
    text = tmp_path / "text.txt"
    text.write_text(" ".join(" ".join(make_document(rng, 300, rng.random())) for _ in range(3)))
    return demo_file(), demo_file("yarn", factor=2.0), text


def test_calibrate(demo, tmp_path, parses, monkeypatch):
    plain, _, text = demo
    monkeypatch.setattr(paired_reading, "affordable", lambda _tokens, _longest: 64)
    heads = tmp_path / "heads.json"
    line = ["calibrate", str(plain), "--text", str(text), "--lengths", "64", "--prompts", "1", "-o", str(heads)]
    assert main(line) == 0
    assert parses == {plain.name: 1}
    parses.clear()
    assert main(["convert", str(plain), "-m", "ms-poe", "--head-ratios", str(heads), "--dry-run"]) == 0
    assert parses == {plain.name: 1}
    parses.clear()
    assert main(["convert", str(plain), "-m", "ms-poe", "--calibrate", str(text), "--dry-run"]) == 0
    assert parses == {plain.name: 1}


def test_validate(demo, parses):
    plain, yarn, _ = demo
    assert main(["validate", str(yarn), "--reference", str(plain), "--length", "8", "--any-method"]) == 0
    assert parses == {plain.name: 1, yarn.name: 1}
    parses.clear()
    assert main(["validate", str(plain), "--reference", str(plain), "--length", "8", "--kv-type", "f16"]) == 0
    assert parses == {plain.name: 1}


def test_eval_with_the_engine(demo, parses):
    plain, yarn, text = demo
    kinds = ["--kv-type", "f16,q8_0"]
    line = ["eval", str(plain), str(yarn), "--task", "kl", "--set", f"text={text}", "--lengths", "64,128", *kinds]
    assert main([*line, "--limit", "2", "--baseline", str(plain), "--threads", "1"]) == 0
    assert parses == {plain.name: 1, yarn.name: 1}


def test_quantize_reads_what_it_wrote_once(demo, tmp_path, parses):
    plain, _, _ = demo
    assert main(["quantize", str(plain), str(tmp_path / "q8.gguf"), "Q8_0"]) == 0
    written = [name for name in parses if name.startswith(".q8.gguf.")]
    assert len(written) == 1
    assert parses == {plain.name: 1, written[0]: 1}


def test_a_file_that_is_open_is_not_parsed_again_to_be_loaded(demo, parses):
    import ggufrope

    plain, _, _ = demo
    file = ModelFile.open(plain)
    for _ in range(2):
        ggufrope.load(file, vocab_only=True).close()
    assert parses == {plain.name: 1}
    ggufrope.load(plain, vocab_only=True).close()
    assert parses == {plain.name: 2}


def test_lm_eval_s_model(demo, parses):
    pytest.importorskip("lm_eval")
    from ggufrope.lm_eval.adapter import GgufropeLM

    plain, _, _ = demo
    model = GgufropeLM(path=str(plain), n_ctx=64)
    assert model.get_model_info()["ggufrope"]["file"]["name"] == plain.name
    model.engine.close()
    assert parses == {plain.name: 1}
