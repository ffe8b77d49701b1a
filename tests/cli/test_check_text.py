"""What ``convert`` says of a check, word for word, and where."""

from __future__ import annotations

import math
from pathlib import Path

import gguf_builder as gb
import pytest

from ggufrope.check import Checked, Finding, NotChecked, PairedChange
from ggufrope.check.harm import copying_change, loss_change
from ggufrope.cli import main
from ggufrope.cli._check_text import check_text
from ggufrope.gguf import keys, read_header

LOSS = loss_change([3.0, 3.2, 2.8, 3.0], [3.01, 3.21, 2.80, 3.02])
COPYING = copying_change([-2.0, -2.2, -1.8, -2.0], [-3.9, -3.7, -3.8, -3.8])


def found(loss: PairedChange = LOSS, copying: PairedChange = COPYING, unseen: float = -9.0, remedy: str = "this"):
    texts = ("a.txt", "b.txt")
    return Checked("the untouched model", texts, 4, 512, 40.6, loss, copying, unseen, remedy)


def test_a_file_that_is_worse() -> None:
    assert check_text(found()) == [
        "check: 4 prompts of 512 tokens of a.txt and b.txt, 41 s, nats a token, the untouched model → converted",
        "  loss on plain text: 3.000 → 3.010, +0.3% (95% interval of the difference −0.003 to +0.023): no harm shown",
        "  copying from the middle, log-likelihood: −2.000 → −3.800 (95% interval of the difference −2.144 to −1.456): "
        "worse",
        "warning: the converted file is worse than the untouched model on this text; try this, or keep the model as it "
        "was",
    ]
    assert check_text(found(remedy=""))[-1].endswith("on this text; keep the model as it was")


@pytest.mark.parametrize(
    ("after", "said"),
    [
        ([-2.0, -2.2, -1.8, -2.0], "no harm shown"),
        ([-2.1, -2.3, -1.9, -2.1], "slightly worse"),
        ([-5.0, -2.2, -1.8, -2.0], "perhaps worse, too few prompts to tell"),
        ([-1.0, -1.2, -0.8, -1.0], "better"),
    ],
)
def test_other_findings_are_no_warning(after: list[float], said: str) -> None:
    lines = check_text(found(copying=copying_change([-2.0, -2.2, -1.8, -2.0], after)))
    assert lines[-1].endswith(f": {said}")
    assert not any("warning" in line for line in lines)
    assert not any("fine" in line or "safe" in line for line in lines)


def test_numbers_that_are_gone() -> None:
    nan = loss_change([3.0, 3.2], [3.0, math.nan])
    *_, loss, copying, warning = check_text(found(loss=nan))
    assert "3.100 → nan" in loss
    assert loss.endswith("it computes NaN or infinities")
    assert copying.endswith(": worse")
    assert warning.startswith("warning: ")


def test_nothing_to_lose_is_said() -> None:
    same = copying_change([-9.0, -9.1], [-9.0, -9.1])
    lines = check_text(found(copying=same, unseen=-9.2))
    assert lines[-1].endswith("no harm shown, but the untouched model hardly copies here, so little could be lost")
    assert "hardly" not in check_text(found(copying=same, unseen=-12.0))[-1]


def test_what_was_not_checked() -> None:
    assert check_text(NotChecked("the reason")) == ["note: not checked on this model: the reason"]
    assert check_text(None) == []


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("plain.gguf").write_bytes(gb.tiny_llama())
    return tmp_path


@pytest.mark.parametrize("target", [["-o", "out.gguf"], ["--in-place"], ["--dry-run"]], ids=" ".join)
def test_without_a_text_one_note_says_so_before_wrote(
    folder: Path, capsys: pytest.CaptureFixture[str], target: list[str]
) -> None:
    assert main(["convert", "plain.gguf", *target, "-m", "ms-poe"]) == 0
    first, second, *rest = capsys.readouterr().out.splitlines()
    assert first.startswith(
        "note: not checked on this model: --calibrate TEXT measures ratios and checks them; `ggufrope eval"
    )
    assert second.split()[0] in ("wrote", "edited", "would")
    assert not any("not checked" in line for line in rest)


def test_no_check_is_silent_and_writes_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "plain.gguf", "-o", "out.gguf", "-m", "ms-poe"]) == 0
    assert main(["convert", "plain.gguf", "-o", "quiet.gguf", "-m", "ms-poe", "--no-check"]) == 0
    assert "checked" not in capsys.readouterr().out.split("wrote out.gguf")[1]
    assert Path("out.gguf").read_bytes() == Path("quiet.gguf").read_bytes()
    assert keys.PAIR_FACTORS in read_header(Path("quiet.gguf"))


def test_other_methods_hear_nothing_of_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "plain.gguf", "-o", "out.gguf", "-m", "yarn", "--factor", "2"]) == 0
    assert "checked" not in capsys.readouterr().out
    assert main(["convert", "plain.gguf", "-o", "b.gguf", "-m", "yarn", "--factor", "2", "--no-check"]) == 2
    assert "--no-check omits the check of --calibrate, which no other method has; drop it" in capsys.readouterr().err
    assert not Path("b.gguf").exists()


def test_findings_have_words() -> None:
    assert len({finding.value for finding in Finding}) == 5
