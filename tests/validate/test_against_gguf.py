"""A GGUF against another one, with smaller KV caches and flash attention; what is refused, and in what words."""

from __future__ import annotations

import json
from itertools import product

import numpy as np
import pytest
import tiny_checkpoint
from validate_path import validate

from ggufrope.cli import main
from ggufrope.errors import InputError, UsageError
from ggufrope.gguf import read_header
from ggufrope.runtime.programs import quantize

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0", "Q4_K_M"])
def test_a_file_against_itself_is_exactly_zero(demo_file, kind):
    result = validate(demo_file(kind), demo_file(kind), length=300)
    assert (result.total.mean_kl, result.total.max_kl, result.total.max_abs, result.total.top1) == (0, 0, 0, 1)
    assert result.passed is (None if kind == "Q4_K_M" else True)


def test_quantization_has_its_price(demo_file):
    results = [validate(demo_file(k), demo_file("F32"), length=400) for k in ("F16", "Q8_0", "Q4_K_M")]
    prices = [r.total.mean_kl for r in results]
    assert 0 < 100 * prices[0] < prices[1] < prices[2] / 10
    assert [r.passed for r in results] == [True, True, None]
    assert [r.limits and r.limits.name for r in results] == ["F16 weights", "Q8_0 weights", None]
    assert {(r.reference_kind, r.reference_weights) for r in results} == {("gguf", "F32")}


def test_caches_and_attention(demo_file):
    """Each setting reaches FILE's side alone; flash attention casts an F32 cache to F16."""
    file = demo_file("F32")
    settings = [*product(("f32", "f16"), (False, True)), ("q8_0", None), ("q4_0", None)]
    found = {s: validate(file, file, length=400, kv_type=s[0], flash_attn=s[1]) for s in settings}
    kl = {key: result.total.mean_kl for key, result in found.items()}
    assert kl["f32", False] == 0
    assert kl["f32", True] == kl["f16", True] > 0
    assert 0 < kl["f16", False] != kl["f16", True]
    assert 100 * kl["f16", True] < kl["q8_0", None] < kl["q4_0", None] / 10
    assert found["q8_0", None].flash_attn
    assert [r.passed for r in found.values()] == [True] * 5 + [None]


def test_buckets_add_up(demo_file):
    result = validate(demo_file("Q8_0"), demo_file("F16"), length=700)
    assert [(b.start, b.end) for b in result.buckets] == [(0, 64), (64, 128), (128, 256), (256, 512), (512, 700)]
    for name in ("mean_kl", "top1"):
        mean = sum(getattr(b, name) * (b.end - b.start) for b in result.buckets) / 700
        assert mean == pytest.approx(getattr(result.total, name))
    assert max(b.max_abs for b in result.buckets) == result.total.max_abs


def test_methods_are_compared_when_that_is_meant(demo_file):
    ntk, plain = demo_file("F32", "ntk", 2.0), demo_file("F32", "none")
    with pytest.raises(InputError, match=r"rotates differently from .*: ntk × 2 against none: pair 15"):
        validate(ntk, plain, length=200)
    result = validate(ntk, plain, length=200, any_method=True)
    assert result.passed is None
    assert result.methods_differ
    assert "the methods differ, and that is what was measured" in result.verdict
    assert result.total.mean_kl > 1e-4
    assert validate(ntk, plain, length=200, any_method=True, tolerance=1e-6).passed is False
    alike = validate(plain, plain, length=200, any_method=True)
    assert (alike.passed, alike.methods_differ) == (True, False)


def test_two_heads_swapped_fail(demo_file, spoil):
    def swapped(factors):
        factors[[8, 9]] = factors[[9, 8]]

    spoil(swapped)
    assert validate(demo_file("F16"), demo_file("F32"), length=300).passed is False


def test_kl_equals_pytorch_s_on_weights_that_gguf_dequantized(demo_file, demo_dir, tmp_path):
    """An oracle that shares nothing: another dequantization, another forward pass, another KL.

    The quantized weights are expanded to F32 again, so that llama.cpp computes with them in float32 as PyTorch does.
    """
    import gguf
    import torch
    import transformers

    length, n_heads = 300, {"q_proj": 8, "k_proj": 4}
    quantize(demo_file("Q4_K_M", "none"), tmp_path / "back.gguf", "F32", options=["--allow-requantize"])
    found = validate(tmp_path / "back.gguf", demo_file("F32", "none"), length=length)

    ids = np.random.default_rng(0).integers(0, 896, length)
    ids[0] = 1  # <s>
    model = transformers.AutoModelForCausalLM.from_pretrained(demo_dir, dtype=torch.float32).eval()

    def predicted():
        with torch.no_grad():
            return model(torch.tensor(ids)[None]).logits[0].double().log_softmax(-1)

    before = predicted()
    stored = {t.name: t for t in gguf.GGUFReader(demo_file("Q4_K_M", "none")).tensors}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() < 2:
                continue
            *_, stem, _ = name.split(".")
            layer = f"blk.{name.split('.')[2]}." if "layers" in name else ""
            tensor = stored[f"{layer}{tiny_checkpoint.NAMES.get(stem) or _name(stem)}.weight"]
            values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            if stem in n_heads:  # neighbouring pairs become halves
                values = values.reshape(n_heads[stem], -1, 2, 256).swapaxes(1, 2).reshape(values.shape)
            parameter.copy_(torch.from_numpy(values.copy()))
    after = predicted()
    kl = (before.exp() * (before - after)).sum(-1)
    assert kl.mean() > 0.1
    assert found.total.mean_kl == pytest.approx(float(kl.mean()), rel=1e-4)
    assert found.total.max_kl == pytest.approx(float(kl.max()), rel=1e-3)
    assert found.total.top1 == pytest.approx(
        float((before.argmax(-1) == after.argmax(-1)).double().mean()), abs=1 / length
    )


def _name(stem):
    """Of a matrix within attention or feed-forward."""
    return next(ours for theirs, ours in tiny_checkpoint.NAMES.items() if theirs.rpartition(".")[2] == stem)


def test_bad_matrices_for_pytorch(demo_file, demo_dir, tmp_path):
    """``--as-stored`` where file and directory are not the same model."""
    tiny = tiny_checkpoint.make("llama", tmp_path / "hf", vocab_size=896)
    with pytest.raises(InputError, match=r"tensor token_embd\.weight is 896 × 128, the reference's is 896 × 256"):
        validate(tiny, demo_dir, length=20, as_stored=True)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "phi", "phi3"])
def test_matrices_as_stored(tmp_path, kind):
    """With the same F32 matrices put in place, nothing changes: names and order of rows are right."""
    file = tiny_checkpoint.make(kind, tmp_path / "hf")
    plain = validate(file, tmp_path / "hf", length=100)
    again = validate(file, tmp_path / "hf", length=100, as_stored=True)
    assert again.total == plain.total
    quantize(file, tmp_path / "q8.gguf", "Q8_0")
    assert read_header(tmp_path / "q8.gguf").architecture == read_header(file).architecture
    cost = validate(tmp_path / "q8.gguf", tmp_path / "hf", length=100)
    rest = validate(tmp_path / "q8.gguf", tmp_path / "hf", length=100, as_stored=True)
    assert rest.total.mean_kl < cost.total.mean_kl


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--reference", "nowhere.gguf"], "nowhere.gguf: no such file or directory"),
        (["--reference", "FILE", "--kv-type", "q9"], "--kv-type q9: validate knows f32, f16, q8_0, q4_0"),
        (["--reference", "FILE", "--kv-type", "q4_0", "--flash-attn", "off"], "quantizes V only with flash attention"),
        (["--reference", "FILE", "--flash-attn", "maybe"], "'maybe' is not one of 'on', 'off'"),
        (["--reference", "FILE", "--as-stored"], "is a GGUF with matrices of its own"),
        (["--reference", "FILE", "--length", "0"], "at least one position"),
        (["--reference", "FILE", "--length", "3000000000"], "llama.cpp counts up to 2147483647 positions"),
        (["--reference", "FILE", "--length", "1000000000"], "GB; compare fewer positions"),
        (["--reference", "TINY"], "are not the same model"),
    ],
)
def test_bad_input(demo_file, tmp_path, capsys, args, said):
    file = demo_file("F16")
    tiny = tiny_checkpoint.make("llama", tmp_path / "hf") if "TINY" in args else None
    named = {"FILE": str(file), "TINY": str(tiny)}
    assert main(["validate", str(file), *(named.get(a, a) for a in args)]) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert "Traceback" not in shown.err


def test_heads_too_small_for_a_block(tmp_path):
    file = tiny_checkpoint.make("llama", tmp_path / "hf", hidden_size=64)
    with pytest.raises(UsageError, match=r"heads of 16 dimensions, which are no multiple of 32; take f32 or f16"):
        validate(file, file, length=20, kv_type="q8_0")


def test_command_says_its_settings(demo_file, capsys):
    line = ["validate", str(demo_file("Q8_0")), "--reference", str(demo_file("F16")), "--length", "100"]
    assert main([*line, "--kv-type", "f16", "--flash-attn", "on", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["kv_type"], found["flash_attn"], found["reference_weights"]) == ("f16", True, "F16")
    assert [b["end"] for b in found["buckets"]] == [64, 100]
    assert all(0 < b["mean_kl"] < 1 and 0 < b["top1"] <= 1 for b in found["buckets"])
    assert main([*line, "--kv-type", "q8_0"]) == 0
    assert "(ms-poe, Q8_0; Q8_0 KV cache, flash attention on) against" in capsys.readouterr().out
