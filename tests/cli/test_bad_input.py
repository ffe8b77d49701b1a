"""Bad input: one line that names the file and the remedy, exit code 2, and every file as it was."""

from __future__ import annotations

import json

import gguf_builder as gb
import numpy as np
import pytest

from ggufrope.cli import main

NO_0 = [gb.entry("split.no", gb.U16, 0), gb.entry("split.tensors.count", gb.I32, 3)]


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
        "pair-00001-of-00002.gguf": gb.tiny_llama(extra=[gb.entry("split.count", gb.U16, 2), *NO_0]),
        "pair-00002-of-00002.gguf": gb.build([gb.entry("split.count", gb.U16, 2), gb.entry("split.no", gb.U16, 1)], []),
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
    texts = {
        "blank.txt": b" \n ",
        "latin.txt": b"caf\xe9 " * 99,
        "brief.txt": b"give emma drums .",
        "long.txt": b"ab " * 99,
    }
    for name, data in texts.items():
        (tmp_path / name).write_bytes(data)
    heads = {"n_head": [4] * 3, "n_head_kv": [2] * 3, "head_dim": 8, "vectors": "0", "weights": "0"}
    measured = {
        "falcon": heads | {"architecture": "falcon"},
        "deeper": heads | {"architecture": "llama", "n_head": [4] * 4, "n_head_kv": [2] * 4},
        "wider": heads | {"architecture": "llama", "n_head_kv": [2, 1, 2]},
        "finetune": heads | {"architecture": "llama"},
        "damaged": {"architecture": 3},
        "endless": heads | {"architecture": "llama", "n_head": [float("inf")] * 3},
    }
    for name, model in measured.items():
        (tmp_path / f"{name}.json").write_text(json.dumps({"model": model, "ratios": [[1, 1], [1, 1.3], [1.2, 1.5]]}))
    (tmp_path / "list.json").write_text("[1, 2]")
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "hf-empty").mkdir()
    (tmp_path / "hf-bare").mkdir()
    (tmp_path / "hf-bare" / "config.json").write_text('{"model_type": "llama"}')
    plain = [10000.0 ** (-i / 4) for i in range(4)]
    tables = {
        "clex": {"context": 64, "frequencies": [plain, [f / 2 for f in plain]]},
        "clex-zero": {"context": 64, "frequencies": [plain, [0, 0, 0, 0]]},
        "clex-nan": {"context": 64, "frequencies": [plain, [float("nan")] * 4]},
        "clex-ragged": {"context": 64, "frequencies": [plain, plain[:3]]},
        "clex-wide": {"context": 64, "frequencies": [[*plain, 1e-5]]},
        "clex-base": {"context": 64, "frequencies": [[f**2 for f in plain]]},
        "clex-none": {"context": 64, "frequencies": []},
        "clex-words": {"context": 64, "log_scale": "false", "frequencies": [plain]},
    }
    for name, value in tables.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(value))
    (tmp_path / "huge.json").write_text('{"ratios": [[1' + "0" * 400 + ", 1]]}")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    ropes = {
        "linear": {"rope_type": "linear"},
        "dynamic": {"rope_type": "dynamic"},
        "dynamic-words": {"rope_type": "dynamic", "factor": "four"},
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
    ("runtime build --backend cpu --gpu-arch 86", "--gpu-arch is for cuda and hip"),
    ("runtime build --backend cpu -D GGML_RPC", "-D GGML_RPC: NAME=VALUE is needed"),
    ("runtime build --backend tpu", "'tpu' is not one of"),
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
    ("convert good.gguf -o out.gguf --method yarn --factor 2 --beta-fast 0.5", "beta_fast"),
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
    ("convert hf-dynamic -o out.gguf", "Missing required keys"),
    ("convert hf-dynamic-words -o out.gguf", "give a number above 0"),
    ("convert hf-odd -o out.gguf", "'spiral'"),
    ("convert good.gguf -o out.gguf --method ms-poe --min-ratio 1e-50", "fits into float32"),
    ("convert good.gguf -o out.gguf --method ms-poe --max-ratio 1e39", "fits into float32"),
    ("convert good.gguf -o out.gguf --method linear --factor 1e39", "fits into float32"),
    ("convert good.gguf -o out.gguf --method ntk --factor 1e30", "float32"),
    ("convert good.gguf -o out.gguf --method yarn --context 5000000000", "--context"),
    ("convert good.gguf -o out.gguf --method yarn --factor 2 --original-context 5000000000", "original_context"),
    (
        "convert good.gguf -o out.gguf --method ms-poe --head-ratios several.json --min-ratio 1.1 --sliding",
        "--head-ratios cannot be combined with --min-ratio, --sliding",
    ),
    ("convert good.gguf -o out.gguf --method ms-poe --head-ratios huge.json", "too large"),
    ("convert good.gguf -o out.gguf --method ms-poe --head-ratios deep.json", "deep.json: not JSON"),
    ("convert good.gguf -o out.gguf --method YARM --factor 2", "did you mean yarn"),
    ("convert good.gguf -o out.gguf --method dynamic-ntk", "--factor S or --context N"),
    ("convert good.gguf -o out.gguf --method dynamic-ntk --factor 0.5", "factor is 0.5"),
    ("convert good.gguf -o out.gguf --method dynamic-ntk --factor nan", "factor is nan"),
    ("convert good.gguf -o out.gguf --method dynamic-ntk --factor 2 --context 129", "reaches (128)"),
    ("convert good.gguf -o out.gguf --method dynamic-ntk --factor 2 --slope -1", "slope is -1.0"),
    ("convert good.gguf -o out.gguf --method dynamic-ntk --factor 2 --slope nan", "slope is nan"),
    ("convert good.gguf -o out.gguf --method dynamic-ntk --factor 2 --granularity 1", "granularity is 1"),
    ("convert good.gguf -o out.gguf --method dynamic-ntk --factor 1e8", "tokens"),
    ("convert good.gguf -o out.gguf --method dynamic-ntk --factor 2 --slope 1e39", "float32"),
    ("convert good.gguf -o out.gguf --method yarn --factor 2 --granularity 1.5", "granularity needs dynamic"),
    (
        "convert good.gguf -o out.gguf --method yarn --factor 2 --dynamic --attention-factor 1.1",
        "cannot be combined with dynamic",
    ),
    ("convert good.gguf -o out.gguf --method ntk --factor 2 --dynamic", "--dynamic: method 'ntk' has no such"),
    ("convert good.gguf -o out.gguf --method clex", "pass --clex-from"),
    ("convert good.gguf -o out.gguf --method clex --clex-from nowhere", "nowhere: cannot be read"),
    ("convert good.gguf -o out.gguf --method clex --clex-from hf-empty", "no config.json"),
    ("convert good.gguf -o out.gguf --method clex --clex-from hf-linear", "not of type clex"),
    ("convert good.gguf -o out.gguf --method clex --clex-from list.json", "list.json: no CLEX table"),
    ("convert good.gguf -o out.gguf --method clex --clex-from clex-none.json", "one row for each t"),
    ("convert good.gguf -o out.gguf --method clex --clex-from clex-ragged.json", "of the same length"),
    ("convert good.gguf -o out.gguf --method clex --clex-from clex-zero.json", "is 0.0"),
    ("convert good.gguf -o out.gguf --method clex --clex-from clex-nan.json", "is nan"),
    ("convert good.gguf -o out.gguf --method clex --clex-from clex-wide.json", "rotates 4 pairs"),
    ("convert good.gguf -o out.gguf --method clex --clex-from clex-base.json", "not those of this model"),
    ("convert good.gguf -o out.gguf --method clex --clex-from clex.json --max-factor 3", "goes from 1 to 2"),
    ("convert good.gguf -o out.gguf --method clex --clex-from clex.json --context 129", "reaches (128)"),
    ("convert good.gguf -o out.gguf --method clex --clex-from clex.json --factor 2", "--factor: method 'clex' has no"),
    (
        "convert good.gguf -o out.gguf --method clex --clex-from clex.json --granularity 2",
        "granularity needs log_scale",
    ),
    ("convert good.gguf -o out.gguf --method clex --clex-from clex-words.json", "log_scale is 'false'"),
    ("convert good.gguf -o hf-empty --overwrite " + YARN, "not a regular file"),
    ("convert hf-linear -o out.gguf", "Missing required keys"),
    ("convert hf-words -o out.gguf", "give a number above 0"),
    ("convert hf-sliding -o out.gguf", "converter stopped: ValueError: Failed to detect model architecture"),
    ("convert good.gguf -o out.gguf --converter-option=--no-mtp " + YARN, "--converter-option is for Hugging Face"),
    ("convert good.gguf -o out.gguf --read-config-as vllm " + YARN, "--read-config-as is for Hugging Face"),
    ("convert hf-odd -o out.gguf --converter-option=--outfile=x", "gives the converter its own --outfile"),
    ("convert hf-odd -o out.gguf --converter-option=--outf", "gives the converter its own --outf"),
    ("convert hf-odd -o out.gguf --converter-option no-mtp", "it must begin with '-'"),
    ("quantize good.gguf text.gguf Q8_0", "--overwrite"),
    ("quantize good.gguf good.gguf Q8_0 --overwrite", "same file"),
    ("inspect text.gguf", "text.gguf: not a GGUF"),
    ("inspect gpt2.gguf --plot plot.png", "gpt2.gguf: 'gpt2' does not use RoPE"),
    ("inspect good.gguf --plot no/such/plot.png", "no/such/plot.png"),
    ("inspect good.gguf --plot plot.walrus", "plot.walrus"),
    ("inspect good.gguf --plot .", "give the name of a file"),
    *(
        (command, "this is shard 2 of 2; give the first, pair-00001-of-00002.gguf")
        for command in (
            "inspect pair-00002-of-00002.gguf",
            "inspect pair-00002-of-00002.gguf --json",
            "plan pair-00002-of-00002.gguf --context 256",
            "convert pair-00002-of-00002.gguf -o out.gguf --method linear --factor 2",
            "strip pair-00002-of-00002.gguf -o out.gguf",
        )
    ),
    ("convert " + "x" * 300 + " -o out.gguf --method linear --factor 2", "cannot be read (File name too long)"),
    ("nope", "`ggufrope --help` lists them"),
    ("inspct good.gguf", "did you mean inspect"),
    ("plan good.gguf", "Missing option '--context'"),
    ("plan good.gguf --context 0", "--context 0: give 1 to 2147483647 tokens"),
    ("plan good.gguf --context -5", "--context -5: give"),
    ("plan good.gguf --context 2147483648", "--context 2147483648: give"),
    ("plan good.gguf --context many", "'many' is not a valid integer"),
    ("plan text.gguf --context 128", "text.gguf: not a GGUF"),
    ("plan absent.gguf --context 128", "absent.gguf: no such file"),
    ("plan short.gguf --context 128", "short.gguf: "),
    ("plan gpt2.gguf --context 128", "'gpt2' does not use RoPE"),
    ("plan martian.gguf --context 128", "'martian' is unknown"),
    ("plan no-base.gguf --context 128", "llama.block_count is None"),
    ("diff good.gguf absent.gguf", "absent.gguf: no such file"),
    ("diff text.gguf good.gguf", "text.gguf: not a GGUF"),
    ("diff good.gguf", "Missing argument 'B'"),
    ("strip good.gguf -o out.gguf", "nothing to strip"),
    ("strip text.gguf -o out.gguf", "not a GGUF"),
    ("calibrate good.gguf -o heads.json", "no text to calibrate on"),
    ("calibrate good.gguf --text absent.txt -o heads.json", "absent.txt: cannot be read"),
    ("calibrate good.gguf --text blank.txt -o heads.json", "blank.txt: is empty"),
    ("calibrate good.gguf --text latin.txt -o heads.json", "latin.txt: not UTF-8 text (byte 3)"),
    ("calibrate good.gguf --text brief.txt -o heads.json", "brief.txt: 17 bytes are less than one prompt of 64"),
    ("calibrate good.gguf --text long.txt -o heads.json --lengths 16,x", "--lengths 16,x"),
    ("calibrate good.gguf --text long.txt -o heads.json --first-layer 3", "no layer of 3"),
    ("calibrate good.gguf --text long.txt -o heads.json --order best", "'best'; it is code, rank,"),
    ("calibrate good.gguf --text long.txt -o heads.json --min-ratio nan", "min_ratio"),
    ("calibrate good.gguf --text long.txt -o no/heads.json", "create no first"),
    ("calibrate good.gguf --text long.txt -o list.json", "list.json: not a record"),
    (
        "calibrate good.gguf --text long.txt -o good.gguf --overwrite",
        "good.gguf: is the same file as one that is read here; give another",
    ),
    (
        "calibrate good.gguf --text long.txt -o long.txt --overwrite",
        "long.txt: is the same file as one that is read here; give another",
    ),
    ("calibrate pair-00001-of-00002.gguf --text long.txt -o pair-00002-of-00002.gguf --overwrite", "is read here"),
    ("calibrate good.gguf --text long.txt -o .", "not a regular file"),
    ("calibrate good.gguf --text long.txt -o heads.json --lengths 0", "--lengths 0: prompts of at least 16"),
    ("calibrate good.gguf --text long.txt -o heads.json --prompts 0", "--prompts 0: at least 1"),
    ("calibrate mla.gguf --text long.txt -o heads.json", "share one rotated K"),
    ("calibrate gpt2.gguf --text long.txt -o heads.json", "does not use RoPE"),
    ("calibrate text.gguf --text long.txt -o heads.json", "text.gguf: not a GGUF"),
    ("convert good.gguf -o out.gguf --method ms-poe --head-ratios falcon.json", "architecture llama, not falcon"),
    ("convert good.gguf -o out.gguf --method ms-poe --head-ratios deeper.json", "3 layers, not 4"),
    ("convert good.gguf -o out.gguf --method ms-poe --head-ratios wider.json", "n_head_kv 2, not 1 in layer 1"),
    ("convert good.gguf -o out.gguf --method ms-poe --head-ratios finetune.json", "other norms or biases"),
    ("convert good.gguf -o out.gguf --method ms-poe --head-ratios damaged.json", '"model" is damaged'),
    ("convert good.gguf -o out.gguf --method ms-poe --head-ratios endless.json", '"model" is damaged'),
    ("convert good.gguf -o several.json --overwrite --method ms-poe --head-ratios several.json", "is read here"),
    ("convert good.gguf -o long.txt --overwrite --method ms-poe --calibrate long.txt", "is read here"),
    ("convert good.gguf -o out.gguf --method ms-poe --head-order rank", "add --calibrate TEXT"),
    ("convert good.gguf -o out.gguf --method ms-poe --calibrate absent.txt", "absent.txt: cannot be read"),
    ("convert good.gguf -o out.gguf --calibrate long.txt " + YARN, "--calibrate measures the head order of"),
    (
        "convert good.gguf -o out.gguf --method ms-poe --calibrate long.txt --head-ratios several.json",
        "--calibrate cannot be combined with --head-ratios",
    ),
    ("convert hf-bare -o out.gguf --calibrate long.txt", "convert the directory first"),
    ("convert good.gguf -o out.gguf --method ms-poe --sliding --head-order per-prompt", "needs a static order"),
    ("run good.gguf --head-order per-prompt", "good.gguf has no head ratios to hand out"),
    ("serve good.gguf --head-order static", "convert it with --method ms-poe first"),
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


LAYER = {"inv_freq": (4,), "proj_func.ode_up_proj": (4, 8), "proj_func.ode_down_proj": (8, 4)}
CLEX = {"type": "clex", "max_factor": 4, "act": "silu", "time_dt": 0.1}
CLEX_CASES = {
    "nothing is wrong": ({}, {}, {}, ""),
    "no layer": (dict.fromkeys(LAYER), {}, {}, "no clex_layer.inv_freq in its weights"),
    "half a layer": ({"proj_func.ode_down_proj": None}, {}, {}, "no clex_layer.proj_func.ode_down_proj"),
    "up too narrow": ({"proj_func.ode_up_proj": (3, 8)}, {}, {}, "ode_up_proj has shape [3, 8]"),
    "down too wide": ({"proj_func.ode_down_proj": (8, 5)}, {}, {}, "ode_down_proj has shape [8, 5]"),
    "not finite": ({"proj_func.ode_up_proj": float("nan")}, {}, {}, "ode_up_proj has entries that are not finite"),
    "exploding": ({"proj_func.ode_down_proj": 1e30}, {}, {}, "no usable solution"),
    "another base": ({}, {"rope_theta": 500000.0}, {}, "not the frequencies of rope_theta 500000"),
    "act": ({}, {}, {"act": "relu"}, "act is 'relu'"),
    "no max_factor": ({}, {}, {"max_factor": None}, "max_factor is None"),
    "max_factor": ({}, {}, {"max_factor": 2.5}, "max_factor 2.5"),
    "max_factor 0": ({}, {}, {"max_factor": 0}, "max_factor 0"),
    "step": ({}, {}, {"time_dt": 0}, "time_dt 0"),
    "a list": ({}, {"rope_scaling": [CLEX]}, {}, "not of type clex"),
    "base in words": ({}, {"rope_theta": "abc"}, {}, "rope_theta is 'abc'"),
    "base below 1": ({}, {"rope_theta": -1}, {}, "rope_theta is -1"),
    "log_scale": ({}, {"log_scale": "false"}, {}, "log_scale is 'false'"),
    "no context": ({}, {"max_position_embeddings": "many"}, {}, "max_position_embeddings is 'many'"),
}


@pytest.mark.parametrize("case", CLEX_CASES)
def test_clex_checkpoints(folder, capsys, case):
    pytest.importorskip("torchdiffeq", reason="pip install 'ggufrope[torch]'")
    from safetensors.numpy import save_file

    shapes, config, rope, said = CLEX_CASES[case]
    tensors = {name: np.zeros(shape, np.float32) for name, shape in LAYER.items()}
    tensors["inv_freq"] += 10000.0 ** (-np.arange(4) / 4)
    for name, change in shapes.items():
        if change is None:
            del tensors[name]
        elif isinstance(change, tuple):
            tensors[name] = np.zeros(change, np.float32)
        else:
            tensors["proj_func.ode_up_proj"] += 1
            tensors[name] += change
    (folder / "clex").mkdir()
    save_file({f"model.clex_layer.{n}": t for n, t in tensors.items()}, folder / "clex/model.safetensors")
    told = {"max_position_embeddings": 64, "rope_scaling": CLEX | rope, **config}
    (folder / "clex/config.json").write_text(json.dumps(told))
    code = main("convert good.gguf -o out.gguf --method clex --clex-from clex".split())
    err = capsys.readouterr().err
    assert code == (2 if said else 0), err
    assert said in err
    assert err.count("\n") == bool(said), err
    assert (folder / "out.gguf").exists() == (not said)


def test_a_damaged_clex_checkpoint(folder, capsys):
    pytest.importorskip("torchdiffeq", reason="pip install 'ggufrope[torch]'")
    (folder / "clex").mkdir()
    (folder / "clex/config.json").write_text(json.dumps({"rope_scaling": CLEX, "max_position_embeddings": 64}))
    for name in ("model.safetensors", "pytorch_model.bin"):
        (folder / "clex" / name).write_bytes(b"no weights")
        assert main("convert good.gguf -o out.gguf --method clex --clex-from clex".split()) == 2
        err = capsys.readouterr().err
        assert f"clex/{name}: cannot be read" in err
        assert err.count("\n") == 1
        (folder / "clex" / name).unlink()


def test_dry_run_writes_nothing_and_shows_the_keys(folder, capsys):
    before = sorted(p.name for p in folder.iterdir())
    assert main("convert good.gguf --dry-run --method yarn --context 128".split()) == 0
    out = capsys.readouterr().out
    assert "llama.rope.scaling.factor" in out
    assert "- → 2" in out
    assert "64 → 128" in out
    assert sorted(p.name for p in folder.iterdir()) == before


def test_length_points_are_shown_as_they_are(folder, capsys):
    assert main("convert good.gguf --dry-run --method dynamic-ntk --context 1048577 --granularity 1e9".split()) == 0
    out = capsys.readouterr().out
    assert "2 values, 64 to 1048577" in out
    assert "for lengths to 64, 1048577;" in out


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
