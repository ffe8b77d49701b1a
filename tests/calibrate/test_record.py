"""Reading a ``heads.json`` that was damaged, or edited by hand: refused, never used."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ggufrope.calibrate.prompts import Cut
from ggufrope.calibrate.record import CalibrationRecord, CalibrationSettings, read_record
from ggufrope.errors import InputError
from ggufrope.modelfile.identity import Identity

WRONG = {
    "above one": lambda told: told["samples"][0]["scores"].__setitem__(5, 5),
    "below zero": lambda told: told["samples"][0]["scores"].__setitem__(5, -0.1),
    "infinite": lambda told: told["samples"][1]["scores"].__setitem__(5, float("inf")),
    "gone in one": lambda told: told["samples"][1]["scores"].__setitem__(5, None),
    "too many": lambda told: told["samples"].extend(told["samples"]),
    "other lengths": lambda told: told["samples"][0].__setitem__("length", 17),
    "endless model": lambda told: told["model"]["n_head"].__setitem__(0, float("inf")),
}


@pytest.fixture
def told(tmp_path: Path) -> Path:
    model = Identity("llama", (4, 4), (2, 2), 8, "0", "0")
    record = CalibrationRecord(model, CalibrationSettings((("a", "0"),), (16,), 2))
    scores = np.array([np.nan] * 4 + [0.25] * 4)  # the first layer was not scored
    for start in (0, 1):
        record = record.with_sample(Cut(0, start, 16), scores)
    record.save(tmp_path / "heads.json")
    return tmp_path / "heads.json"


def test_a_sound_one_is_read(told: Path) -> None:
    assert read_record(told).samples.shape == (2, 8)


@pytest.mark.parametrize("how", WRONG)
def test_what_no_run_writes_is_refused(told: Path, how: str) -> None:
    content = json.loads(told.read_text())
    WRONG[how](content)
    told.write_text(json.dumps(content))
    with pytest.raises(InputError, match="not a record of"):
        read_record(told)
