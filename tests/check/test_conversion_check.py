"""What a conversion does to the demo model: orders of heads that are known to harm it, and others that are not."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from demo_model.text import make_document

from ggufrope.check import Checked, Finding, NotChecked, check_conversion, conversion_check, paired_reading
from ggufrope.check.paired_reading import CheckSide, read_both
from ggufrope.convert.pipeline import ConvertRequest, carry_out
from ggufrope.errors import RuntimeLibraryError, UsageError
from ggufrope.modelfile.model_file import ModelFile

REVERSE = {
    "head_order": "reverse",
    "from_wavelength": 0,
}  # docs/ms-poe.md: answers fall from 1.00 to .23, the loss rises by half
HARMLESS = {"head_order": "sequential", "from_wavelength": 0}  # all answers stay right


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    rng = random.Random(7)
    path.write_text(" ".join(" ".join(make_document(rng, 400, rng.random())) for _ in range(16)))
    return path


@pytest.fixture
def plain(demo_file: Callable[..., Path]) -> Path:
    return demo_file()


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many prompts of one size, however fast the machine is."""
    monkeypatch.setattr(paired_reading, "LENGTHS", {128: 8})


def converted(source: Path, out: Path | None, text: Path, params: dict[str, Any], method: str = "ms-poe", **more: Any):
    """What ``convert --calibrate`` does, with an order of heads that is given instead."""
    request = ConvertRequest(source, out, method, params, overwrite=True, **more)
    done = carry_out(request)
    return dataclasses.replace(request, texts=(text,)), done


def checked(*arguments: Any, **more: Any) -> Checked:
    found = check_conversion(*converted(*arguments, **more), seconds=600, threads=1)
    assert isinstance(found, Checked)
    return found


def test_an_order_that_harms_is_called_worse(plain: Path, text: Path, tmp_path: Path) -> None:
    found = checked(plain, tmp_path / "out.gguf", text, REVERSE)
    assert found.worse
    assert found.loss.finding is Finding.WORSE
    assert found.loss.after > 1.05 * found.loss.before
    assert (found.prompts, found.length, found.texts) == (8, 128, ("text.txt",))
    assert found.against == "the untouched model"
    assert 0 < found.seconds < 600


def test_one_that_does_not_is_not(plain: Path, text: Path, tmp_path: Path) -> None:
    found = checked(plain, tmp_path / "out.gguf", text, HARMLESS)
    assert not found.worse
    assert found.loss.low <= found.loss.difference <= found.loss.high


def test_ratios_of_one_change_not_a_bit(plain: Path, text: Path, tmp_path: Path) -> None:
    found = checked(plain, tmp_path / "out.gguf", text, {"min_ratio": 1.0, "max_ratio": 1.0})
    for change in (found.loss, found.copying):
        assert change.before == change.after
        assert change.low == change.high == 0
        assert change.finding is Finding.NO_HARM
    assert not found.worse


def test_what_is_called_untouched_is_the_source(plain: Path, text: Path, tmp_path: Path) -> None:
    """One file with its ratios set to 1 is read, and gives the numbers of another, which has none."""
    found = checked(plain, tmp_path / "out.gguf", text, REVERSE)
    source = CheckSide(ModelFile.open(plain))
    alone = read_both(source, source, [text.read_text()], seconds=600, threads=1, progress=None)
    assert found.loss.before == pytest.approx(-sum(s.plain for s in alone.first) / 8, rel=1e-14)
    assert found.copying.before == pytest.approx(sum(s.copied for s in alone.first) / 8, rel=1e-14)
    assert found.unseen == pytest.approx(sum(s.unseen for s in alone.first) / 8, rel=1e-14)
    result = CheckSide(ModelFile.open(tmp_path / "out.gguf"))
    after = read_both(result, result, [text.read_text()], seconds=600, threads=1, progress=None)
    assert found.loss.after == pytest.approx(-sum(s.plain for s in after.first) / 8, rel=1e-14)
    assert found.loss.after != found.loss.before


@pytest.mark.parametrize("params", [REVERSE, {**REVERSE, "from_wavelength": 8.0}], ids=["heads", "pairs"])
def test_in_place_and_a_dry_run_say_the_same(plain: Path, text: Path, tmp_path: Path, params: dict[str, Any]) -> None:
    expected = checked(plain, tmp_path / "out.gguf", text, params)
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(plain.read_bytes())
    dry = checked(copy, None, text, params, dry_run=True)
    assert copy.read_bytes() == plain.read_bytes()
    edited = checked(copy, None, text, params, in_place=True)
    assert copy.read_bytes() != plain.read_bytes()
    for found in (dry, edited):
        assert (found.loss, found.copying, found.against) == (expected.loss, expected.copying, expected.against)


def test_harm_is_seen_where_the_source_had_it_already(plain: Path, text: Path, tmp_path: Path) -> None:
    """A conversion starts from the original; so does the comparison."""
    file = tmp_path / "out.gguf"
    expected = checked(plain, file, text, REVERSE)
    again = checked(file, None, text, REVERSE, in_place=True)
    assert again.worse
    assert again.loss == expected.loss


def test_a_base_method_is_part_of_what_is_compared(plain: Path, text: Path, tmp_path: Path) -> None:
    params = {**HARMLESS, "factor": 8.0}
    found = checked(plain, tmp_path / "out.gguf", text, params, method="ms-poe+linear")
    assert found.against == "the untouched model"
    assert found.loss.finding is Finding.WORSE  # positions divided by 8, without training
    untouched = checked(plain, tmp_path / "b.gguf", text, HARMLESS)
    assert found.loss.before == untouched.loss.before
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(plain.read_bytes())
    edited = checked(copy, None, text, params, method="ms-poe+linear", in_place=True)
    assert edited.against == "the same file with all ratios 1"  # the source is gone
    assert edited.loss.after == found.loss.after
    assert edited.loss.before > 1.1 * found.loss.before


def test_a_base_in_a_dry_run_is_not_checked(plain: Path, text: Path) -> None:
    request, done = converted(plain, None, text, {"factor": 2.0}, method="ms-poe+yarn", dry_run=True)
    found = check_conversion(request, done)
    assert found == NotChecked("a dry run writes no file that could be read; omit --dry-run")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeLibraryError("plain.gguf: no runtime; run `ggufrope runtime build`"), "no runtime"),
        (UsageError("1 token a second"), "1 token a second"),
        (MemoryError(), "memory ran out"),
        (OSError(12, "Cannot allocate memory"), "Cannot allocate memory"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_check_that_fails_loses_nothing(
    plain: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    def fail(*_arguments: object, **_settings: object) -> None:
        raise error

    request, done = converted(plain, tmp_path / "out.gguf", text, HARMLESS)
    before = (tmp_path / "out.gguf").read_bytes()
    monkeypatch.setattr(conversion_check, "read_both", fail)
    found = check_conversion(request, done)
    assert isinstance(found, NotChecked)
    assert said in found.reason
    assert (tmp_path / "out.gguf").read_bytes() == before


def test_who_interrupts_learns_what_is_there(
    plain: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_arguments: object, **_settings: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(conversion_check, "read_both", interrupt)
    request, done = converted(plain, tmp_path / "out.gguf", text, HARMLESS)
    with pytest.raises(KeyboardInterrupt, match=r"interrupted; .*out\.gguf is complete, and was not checked"):
        check_conversion(request, done)
    request, done = converted(plain, None, text, HARMLESS, dry_run=True)
    with pytest.raises(KeyboardInterrupt, match="interrupted; nothing was changed"):
        check_conversion(request, done)


def test_a_model_without_numbers_has_nothing_to_compare(
    plain: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(*_arguments: object, **_settings: object) -> paired_reading.PairedReading:
        score = paired_reading.PromptScore(float("nan"), -9.0, -1.0)
        return paired_reading.PairedReading(64, (score,) * 6, (score,) * 6)

    monkeypatch.setattr(conversion_check, "read_both", nothing)
    found = check_conversion(*converted(plain, tmp_path / "out.gguf", text, HARMLESS))
    assert isinstance(found, NotChecked)
    assert "the untouched model computes NaN or infinities" in found.reason


def test_without_a_text_it_is_said_how(plain: Path, text: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    request, done = converted(plain, out, text, HARMLESS)
    found = check_conversion(dataclasses.replace(request, texts=()), done)
    assert isinstance(found, NotChecked)
    assert found.reason.startswith("--calibrate TEXT measures ratios and checks them; ")
    assert f"`ggufrope eval {plain} {out} --task ppl --text TEXT`" in found.reason
    heads = tmp_path / "heads.json"  # with which --calibrate cannot be combined
    heads.write_text(json.dumps({"ratios": [[1.2] * 4] * 6}))
    found = check_conversion(dataclasses.replace(request, texts=(), heads=heads), done)
    assert isinstance(found, NotChecked)
    assert "--calibrate" not in found.reason
    assert "ggufrope eval" in found.reason


def test_who_wants_none_gets_none(plain: Path, text: Path, tmp_path: Path) -> None:
    request, done = converted(plain, tmp_path / "out.gguf", text, HARMLESS, no_check=True)
    assert check_conversion(request, done) is None
    request, done = converted(plain, tmp_path / "out.gguf", text, {"factor": 2.0}, method="yarn")
    assert check_conversion(request, done) is None
    with pytest.raises(UsageError, match="--no-check omits the check of --calibrate"):
        converted(plain, tmp_path / "out.gguf", text, {"factor": 2.0}, method="yarn", no_check=True)
