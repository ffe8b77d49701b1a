"""Bad input: one line that names the file and the remedy, exit code 2, and every file as it was."""

from __future__ import annotations

import json

import gguf_builder as gb
import numpy as np
import pytest

from ggufrope.cli import main


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A directory with one file of every bad kind, and ``good.gguf``."""
    monkeypatch.chdir(tmp_path)
    good = gb.tiny_llama()
    files = {
        "good.gguf": good,
        "text.gguf": b"hello, I am not a model",
        "empty.gguf": b"",
        "short.gguf": good[: len(good) // 2],
        "big-endian.gguf": good[:4] + good[4:8][::-1] + good[8:],
        "shard.gguf": gb.tiny_llama(extra=[gb.entry("split.count", gb.U16, 3), gb.entry("split.no", gb.U16, 1)]),
        "set-00001-of-00002.gguf": gb.tiny_llama(extra=[gb.entry("split.count", gb.U16, 2)]),
        "gpt2.gguf": gb.tiny_llama("gpt2"),
        "martian.gguf": gb.tiny_llama("martian"),
        "mla.gguf": gb.build(gb.llama_entries("deepseek2", **{"attention.kv_lora_rank": 16}), gb.tiny_tensors()),
        "no-base.gguf": gb.build([e for e in gb.llama_entries() if b"block_count" not in e], gb.tiny_tensors()),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "linked.gguf").write_bytes(good)
    (tmp_path / "name.gguf").hardlink_to(tmp_path / "linked.gguf")
    ratios = {
        "shape": [[1, 1]] * 2,
        "narrow": [[1], [1], [1]],
        "zero": [[1, 1], [1, 0], [1, 1]],
        "negative": [[1, 1], [1, -1], [1, 1]],
        "nan": [[1, 1], [1, float("nan")], [1, 1]],
        "words": [["a", "b"]] * 3,
        "several": [[1, 1], [1.1, 1.2], [1, 1]],
    }
    for name, value in ratios.items():
        (tmp_path / f"{name}.json").write_text(json.dumps({"ratios": value}))
    (tmp_path / "list.json").write_text("[1, 2]")
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "hf-empty").mkdir()
    (tmp_path / "hf-bare").mkdir()
    (tmp_path / "hf-bare" / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "hf-dynamic").mkdir()
    (tmp_path / "hf-dynamic" / "config.json").write_text('{"rope_scaling": {"rope_type": "dynamic", "factor": 2}}')
    (tmp_path / "hf-dynamic" / "model.safetensors").write_bytes(b"")
    (tmp_path / "huge.json").write_text('{"ratios": [[1' + "0" * 400 + ", 1]]}")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    ropes = {
        "linear": {"rope_type": "linear"},
        "words": {"rope_type": "linear", "factor": "four"},
        "sliding": {"full_attention": {}, "sliding_attention": {"rope_type": "linear", "factor": 4}},
    }
    for name, rope in ropes.items():
        (tmp_path / f"hf-{name}").mkdir()
        (tmp_path / f"hf-{name}" / "config.json").write_text(json.dumps({"rope_parameters": rope}))
        (tmp_path / f"hf-{name}" / "model.safetensors").write_bytes(b"")
    (tmp_path / "hf-odd").mkdir()
    (tmp_path / "hf-odd" / "config.json").write_text('{"rope_scaling": {"rope_type": "spiral"}}')
    (tmp_path / "hf-odd" / "model.safetensors").write_bytes(b"")
    return tmp_path


YARN = "--method yarn --factor 2"
CASES = [
    ("convert", "needs one"),
    ("convert nothing.gguf -o out.gguf " + YARN, "nothing.gguf: no such file"),
    ("convert text.gguf -o out.gguf " + YARN, "text.gguf: not a GGUF"),
    ("convert empty.gguf -o out.gguf " + YARN, "empty.gguf: "),
    ("convert short.gguf -o out.gguf " + YARN, "short.gguf: "),
    ("convert big-endian.gguf -o out.gguf " + YARN, "big-endian"),
    ("convert shard.gguf -o out.gguf " + YARN, "shard 2 of 3"),
    ("convert set-00001-of-00002.gguf --in-place " + YARN, "set-00002-of-00002.gguf: no such file"),
    ("convert good.gguf -o out.gguf --in-place " + YARN, "--in-place edits SRC itself: it takes no -o"),
    ("convert hf-bare --in-place", "it takes a GGUF, not a directory"),
    ("convert good.gguf -o out.gguf --force " + YARN, "--force goes with --in-place"),
    ("convert short.gguf --in-place " + YARN, "short.gguf: "),
    ("convert good.gguf --in-place --method yarm", "did you mean yarn"),
    ("convert linked.gguf --in-place " + YARN, "has 2 names (hard links)"),
    ("strip linked.gguf --in-place", "nothing to strip"),
    ("strip good.gguf", "give either -o OUT or --in-place"),
    ("strip good.gguf -o out.gguf --in-place", "give either -o OUT or --in-place"),
    ("convert gpt2.gguf -o out.gguf " + YARN, "'gpt2' does not use RoPE"),
    ("convert martian.gguf -o out.gguf " + YARN, "'martian' is unknown"),
    ("convert no-base.gguf -o out.gguf " + YARN, "llama.block_count is None"),
    ("convert mla.gguf -o out.gguf --method ms-poe", "one ratio per layer"),
    ("convert mla.gguf -o out.gguf --method ms-poe --head-ratios several.json", "several ratios"),
    ("convert good.gguf -o out.gguf --method ms-poe --head-ratios shape.json", "2 layers given, the model has 3"),
    ("convert good.gguf -o out.gguf --method ms-poe --head-ratios narrow.json", "layer 0 has 1 ratios"),
    ("convert good.gguf -o out.gguf --method ms-poe --head-ratios zero.json", "layer 1, KV head 1 is 0.0"),
    ("convert good.gguf -o out.gguf --method ms-poe --head-ratios negative.json", "KV head 1 is -1.0"),
    ("convert good.gguf -o out.gguf --method ms-poe --head-ratios nan.json", "KV head 1 is nan"),
    ("convert good.gguf -o out.gguf --method ms-poe --head-ratios words.json", "words.json: ratios of layer 0"),
    ("convert good.gguf -o out.gguf --method ms-poe --head-ratios list.json", 'no "ratios" found'),
    ("convert good.gguf -o out.gguf --method ms-poe --head-ratios broken.json", "broken.json: not JSON"),
    ("convert good.gguf -o out.gguf --method ms-poe --head-ratios absent.json", "absent.json: cannot be read"),
    ("convert good.gguf -o out.gguf --method ms-poe --head-order random", "random:SEED"),
    ("convert good.gguf -o out.gguf --method ms-poe --min-ratio 0", "min_ratio"),
    ("convert good.gguf -o out.gguf --method ms-poe --min-ratio 2 --max-ratio 1", "min_ratio"),
    ("convert good.gguf -o out.gguf --method ms-poe --first-layer 3", "no layer of 3"),
    ("convert good.gguf -o out.gguf --method ms-poe --context 128", "ms-poe+yarn"),
    ("convert good.gguf -o out.gguf --method linear --factor 0.9", "factor is 0.9"),
    ("convert good.gguf -o out.gguf --method linear --factor nan", "factor is nan"),
    ("convert good.gguf -o out.gguf --method linear", "--factor S or --context N"),
    ("convert good.gguf -o out.gguf --method yarn --context 63", "below the trained context 64"),
    ("convert good.gguf -o out.gguf --method yarn --factor 2 --context 129", "reaches (128)"),
    ("convert good.gguf -o out.gguf --method yarn --factor 2 --beta-fast 1", "beta_fast"),
    ("convert good.gguf -o out.gguf --method ntk --factor 2 --beta-fast 9", "--beta-fast: method 'ntk' has no such"),
    ("convert good.gguf -o out.gguf --method longrope --factor 2", "no short_factor"),
    (
        "convert good.gguf -o out.gguf --method longrope --factor 2 --short-factor list.json --long-factor list.json",
        "4",
    ),
    ("convert good.gguf -o out.gguf --method yarm --factor 2", "did you mean yarn"),
    ("convert good.gguf -o out.gguf --method ms-poe+none", "unknown method"),
    ("convert good.gguf -o out.gguf", "no method given"),
    ("convert good.gguf " + YARN, "no output given"),
    ("convert good.gguf -o good.gguf " + YARN, "same file"),
    ("convert good.gguf -o ./good.gguf --overwrite " + YARN, "same file"),
    ("convert good.gguf -o text.gguf " + YARN, "--overwrite"),
    ("convert good.gguf -o no/such/place.gguf " + YARN, "create"),
    ("convert good.gguf -o text.gguf/below.gguf " + YARN, "text.gguf"),
    ("convert good.gguf -o out.gguf --outtype f16 " + YARN, "--outtype is for Hugging Face"),
    ("convert hf-empty -o out.gguf", "no config.json"),
    ("convert hf-bare -o out.gguf", "no weights"),
    ("convert hf-dynamic -o out.gguf", "dynamic NTK"),
    ("convert hf-dynamic -o out.gguf --method ms-poe", "dynamic NTK"),
    ("convert hf-odd -o out.gguf", "'spiral'"),
    ("convert good.gguf -o out.gguf --method ms-poe --min-ratio 1e-50", "fits into float32"),
    ("convert good.gguf -o out.gguf --method ms-poe --max-ratio 1e39", "fits into float32"),
    ("convert good.gguf -o out.gguf --method linear --factor 1e39", "fits into float32"),
    ("convert good.gguf -o out.gguf --method ntk --factor 1e30", "float32"),
    ("convert good.gguf -o out.gguf --method yarn --context 5000000000", "--context"),
    ("convert good.gguf -o out.gguf --method yarn --factor 2 --original-context 5000000000", "original_context"),
    ("convert good.gguf -o out.gguf --method ms-poe --head-ratios several.json --min-ratio 1.1", "head_ratios says"),
    ("convert good.gguf -o out.gguf --method ms-poe --head-ratios huge.json", "too large"),
    ("convert good.gguf -o out.gguf --method ms-poe --head-ratios deep.json", "deep.json: not JSON"),
    ("convert good.gguf -o out.gguf --method YARM --factor 2", "did you mean yarn"),
    ("convert good.gguf -o out.gguf --method dynamic-ntk --factor 2", "not in this version"),
    ("convert good.gguf -o hf-empty --overwrite " + YARN, "not a regular file"),
    ("convert hf-linear -o out.gguf", "incomplete"),
    ("convert hf-words -o out.gguf", "not numbers"),
    ("convert hf-sliding -o out.gguf", "sliding_attention"),
    ("quantize good.gguf text.gguf Q8_0", "--overwrite"),
    ("quantize good.gguf good.gguf Q8_0 --overwrite", "same file"),
    ("inspect text.gguf", "text.gguf: not a GGUF"),
    ("inspect gpt2.gguf", "does not use RoPE"),
    ("inspect good.gguf --plot no/such/plot.png", "no/such/plot.png"),
    ("inspect good.gguf --plot plot.walrus", "plot.walrus"),
    ("diff good.gguf absent.gguf", "absent.gguf: no such file"),
    ("diff text.gguf good.gguf", "text.gguf: not a GGUF"),
    ("diff good.gguf", "Missing argument 'B'"),
    ("strip good.gguf -o out.gguf", "nothing to strip"),
    ("strip text.gguf -o out.gguf", "not a GGUF"),
    ("konvert", "did you mean convert"),
]


@pytest.mark.parametrize(("line", "said"), CASES, ids=[c[0] for c in CASES])
def test_one_clear_line_and_nothing_lost(folder, capsys, line, said):
    if line == "convert":
        said = "Missing argument 'SRC'"
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert main(line.split()) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_dry_run_writes_nothing_and_shows_the_keys(folder, capsys):
    before = sorted(p.name for p in folder.iterdir())
    assert main("convert good.gguf --dry-run --method yarn --context 128".split()) == 0
    out = capsys.readouterr().out
    assert "llama.rope.scaling.factor" in out
    assert "- → 2" in out
    assert "64 → 128" in out
    assert sorted(p.name for p in folder.iterdir()) == before


def test_the_uncalibrated_order_is_called_a_baseline(folder, capsys):
    assert main("convert good.gguf -o out.gguf --method ms-poe".split()) == 0
    assert "uncalibrated baseline, not the published method" in capsys.readouterr().out
    (folder / "given.json").write_text(json.dumps({"ratios": [[1, 1], [1, 1.3], [1.2, 1.5]]}))
    assert main("convert good.gguf -o out2.gguf --method ms-poe --head-ratios given.json".split()) == 0
    assert "uncalibrated" not in capsys.readouterr().out


def test_inspect_says_who_will_honour_what(folder, capsys):
    for method, extra, stock in (
        ("ms-poe", "", "as the source model"),
        ("ms-poe+yarn", "--factor 2", "yarn only"),
        ("ms-poe+ntk", "--factor 2", "the raised base only"),
        ("yarn", "--factor 2", "in full"),
        ("ms-poe", "--require-patched", "refuses"),
    ):
        assert main(f"convert good.gguf -o x.gguf --overwrite --method {method} {extra}".split()) == 0
        capsys.readouterr()
        assert main(["inspect", "x.gguf", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert stock in found["honoured_by"]["stock"], method
        assert found["method"] == method
        assert main(["inspect", "x.gguf"]) == 0
        assert stock in capsys.readouterr().out


def test_inspect_frequencies_are_the_file_s(folder, capsys):
    main("convert good.gguf -o x.gguf --method linear --factor 4".split())
    capsys.readouterr()
    main(["inspect", "x.gguf", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["frequencies"][0] == pytest.approx(list(10000.0 ** -(np.arange(4) / 4) / 4), rel=1e-6)
    assert (found["trained_context"], found["context"]) == (64, 256)


def test_plot_is_a_picture(folder, capsys):
    main("convert good.gguf -o x.gguf --method ms-poe+yarn --factor 4".split())
    assert main("inspect x.gguf --plot x.png".split()) == 0
    assert (folder / "x.png").read_bytes().startswith(b"\x89PNG")
