"""The check on a real model: the published ratios destroy its copying (docs/ms-poe.md), by parts they hardly touch it.

The model is in no test's reach by itself: `scripts/real-models` fetches it into a folder of the user's cache.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from real_models.pinned_models import MODELS, cache_folder

from ggufrope.check import Checked, Finding, check_conversion
from ggufrope.convert.pipeline import ConvertRequest, carry_out

ROOT = Path(__file__).resolve().parents[2]
MODEL = MODELS["smollm2"].path(cache_folder())
ENOUGH = 6  # prompts
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("runtime_dir")]


@pytest.fixture(scope="module")
def model() -> Path:
    if not MODEL.is_file():
        pytest.skip(f"no {MODEL}; `scripts/real-models fetch smollm2` gets it")
    return MODEL


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "pages.txt"
    path.write_text("\n".join(p.read_text(encoding="utf-8") for p in sorted((ROOT / "docs").glob("*.md"))))
    return path


@pytest.mark.parametrize(
    ("params", "finding"),
    [
        ({"from_wavelength": 0.0}, Finding.WORSE),
        ({"from_wavelength": 256.0}, None),
        ({"min_ratio": 1.0, "max_ratio": 1.0}, Finding.NO_HARM),
    ],
    ids=["published", "by parts", "identity"],
)
def test_smollm2(model: Path, text: Path, tmp_path: Path, params: dict[str, float], finding: Finding | None) -> None:
    request = ConvertRequest(model, tmp_path / "out.gguf", "ms-poe", params)
    done = carry_out(request)
    found = check_conversion(dataclasses.replace(request, texts=(text,)), done, threads=1)
    if getattr(found, "prompts", 0) < ENOUGH:
        pytest.skip(f"this machine is too slow, or too busy, for a check in a minute: {found}")
    assert isinstance(found, Checked)
    assert found.seconds < 70  # with a little patience for a machine that gets slower meanwhile
    assert found.worse == (finding is Finding.WORSE), found
    if finding is not None:
        assert found.copying.finding is finding
    assert found.copies
