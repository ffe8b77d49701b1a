"""``ggufrope calibrate`` on the demo model: what it measures, what it keeps, and whose ratios it accepts."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from demo_model.text import make_document

from ggufrope.calibrate import CalibrateRequest, Ordering, calibrate, read_record
from ggufrope.check import paired_reading
from ggufrope.cli import main
from ggufrope.convert.bound_files import about_heads
from ggufrope.errors import InputError, OutputError, ParameterError
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.runtime.programs import quantize

MODEL = Path(__file__).resolve().parents[2] / "models" / "demo"


@pytest.fixture(scope="module")
def plain(runtime_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("transformers", reason="llama.cpp's converter needs it")
    path = tmp_path_factory.mktemp("demo") / "plain.gguf"
    assert main(["convert", str(MODEL), "-o", str(path), "--outtype", "f32"]) == 0
    return path


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    rng = random.Random(5)
    path.write_text(" ".join(" ".join(make_document(rng, 300, rng.random())) for _ in range(6)))
    return path


@pytest.fixture(scope="module")
def heads(plain: Path, text: Path) -> Path:
    path = plain.with_name("heads.json")
    calibrate(CalibrateRequest(ModelFile.open(plain), [text], path, (64, 200), 3))
    return path


def test_scores_are_the_reference_s(plain: Path, text: Path, heads: Path) -> None:
    import torch

    from ggufrope.reference import forward
    from ggufrope.reference.head_scores import OrderSpec, PromptOrder
    from ggufrope.runtime.library import load

    record = read_record(heads)
    assert [c.length for c in record.cuts] == [64] * 3 + [200] * 3
    tokens = load(plain, vocab_only=True)
    ids = tokens.tokenize(text.read_bytes(), add_bos=False)
    front = tokens.tokenize(b"", add_bos=True)
    torch.set_num_threads(1)
    for one, scores in zip(record.cuts, record.samples, strict=True):
        model = forward.load_reference(MODEL)
        order = PromptOrder(model, one.length, OrderSpec(first_layer=99))
        list(forward.logits(model, [*front, *ids[one.start : one.start + one.length - len(front)]]))
        expected = np.concatenate([order.counts[layer].numpy() for layer in range(6)])
        # flash attention and the cache's f16 shift hidden states a little: single keys near the threshold
        assert np.abs(np.rint(scores * one.length) - expected).sum() <= 2


def test_the_file_says_what_was_found(plain: Path, heads: Path) -> None:
    content = json.loads(heads.read_text())
    assert content["model"]["n_head"] == [8] * 6
    samples = np.array([s["scores"] for s in content["samples"]])
    np.testing.assert_allclose(np.ravel(content["scores"]), samples.mean(axis=0), atol=1e-8)
    np.testing.assert_allclose(np.ravel(content["spread"]), samples.std(axis=0), atol=1e-8)
    assert np.shape(content["ratios"]) == (6, 4) and content["ratios"][:2] == [[1.0] * 4] * 2
    assert len(content["stability"]) == 6 and all(-1 <= s <= 1 for s in content["stability"])


def test_another_order_costs_nothing(plain: Path, text: Path, heads: Path) -> None:
    before = json.loads(heads.read_text())
    done = calibrate(CalibrateRequest(ModelFile.open(plain), [text], heads, (64, 200), 3, Ordering("rank", "paper")))
    assert done.measured == 0
    after = json.loads(heads.read_text())
    assert after["samples"] == before["samples"] and after["ratios"] != before["ratios"]
    assert sorted(after["ratios"][2]) == pytest.approx([1.2, 1.4, 1.6, 1.8])


def test_an_interrupted_run_goes_on(plain: Path, text: Path, heads: Path, tmp_path: Path) -> None:
    out = tmp_path / "heads.json"

    def stop(done: int, _total: int, _text: str) -> None:
        if done >= 128:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibrate(CalibrateRequest(ModelFile.open(plain), [text], out, (64, 200), 3), stop)
    assert not out.exists()
    done = calibrate(CalibrateRequest(ModelFile.open(plain), [text], out, (64, 200), 3))
    assert done.measured == 4
    assert np.array_equal(done.record.samples, read_record(heads).samples)
    assert [p.name for p in tmp_path.iterdir()] == ["heads.json"]


def test_ratios_in_the_file_do_not_act(plain: Path, text: Path, heads: Path, tmp_path: Path) -> None:
    converted = tmp_path / "ms-poe.gguf"
    assert main(["convert", str(plain), "-o", str(converted), "-m", "ms-poe", "--head-ratios", str(heads)]) == 0
    done = calibrate(CalibrateRequest(ModelFile.open(converted), [text], None, (64, 200), 3))
    assert np.array_equal(done.record.samples, read_record(heads).samples)
    assert ModelFile.open(converted).identity == ModelFile.open(plain).identity


def test_convert_calibrates_itself(
    plain: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paired_reading, "affordable", lambda _tokens, _longest: 64)
    out, heads = tmp_path / "ms-poe.gguf", tmp_path / "heads.json"
    line = ["convert", str(plain), "-o", str(out), "-m", "ms-poe", "--calibrate", str(text), "--head-order", "rank"]
    line += ["--from-wavelength", "0"]
    assert main(line) == 0
    said = capsys.readouterr().out
    assert "note: head order 'rank' from 24 prompts" in said and "uncalibrated" not in said
    assert said.startswith("check: ")  # before it says what it wrote
    assert said.index("copying from the middle") < said.index(f"wrote {out}")
    assert "not checked" not in said
    assert main(["calibrate", str(plain), "--text", str(text), "-o", str(heads), "--order", "rank"]) == 0
    assert "24 prompts of 128, 256, 512 tokens" in capsys.readouterr().out
    expected = np.ravel(json.loads(heads.read_text())["ratios"]).astype(np.float32)
    np.testing.assert_array_equal(ModelFile.open(out).header.get("ggufrope.head_factors"), expected)


def test_quantizations_share_an_identity_and_other_models_do_not(plain: Path, heads: Path, tmp_path: Path) -> None:
    small = tmp_path / "small.gguf"
    quantize(plain, small, "Q8_0")
    assert about_heads(heads, ModelFile.open(plain)) == ()
    assert about_heads(heads, ModelFile.open(small)) == (
        "heads.json was measured on another quantization of this model",
    )
    other = tmp_path / "other.gguf"
    data = bytearray(plain.read_bytes())
    info = ModelFile.open(plain).header
    norm = info.tensor("output_norm.weight")
    assert norm is not None
    data[info.data_offset + norm.offset] ^= 1
    other.write_bytes(data)
    with pytest.raises(ParameterError, match=r"measured on another model than .*other\.gguf, which has other norms"):
        about_heads(heads, ModelFile.open(other))


def test_what_cannot_be_calibrated(plain: Path, text: Path, heads: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.txt"
    short.write_text("give emma drums . " * 20)
    with pytest.raises(InputError, match=r"short\.txt: \d+ tokens are less than one prompt of 200"):
        calibrate(CalibrateRequest(ModelFile.open(plain), [short], tmp_path / "x.json", (200,), 1))
    with pytest.raises(OutputError, match="--overwrite"):
        calibrate(CalibrateRequest(ModelFile.open(plain), [text], heads, (64,), 3))
    broken = tmp_path / "nan.gguf"
    data = bytearray(plain.read_bytes())
    info = ModelFile.open(plain).header
    norm = info.tensor("blk.3.attn_norm.weight")
    assert norm is not None
    at = info.data_offset + norm.offset
    data[at : at + 4] = np.float32("nan").tobytes()
    broken.write_bytes(data)
    with pytest.raises(InputError, match="computes NaN"):
        calibrate(CalibrateRequest(ModelFile.open(broken), [text], None, (64,), 1))
