"""Reading a ``heads.json`` that was damaged, or edited by hand: refused, never used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from ggufrope.calibrate.prompts import Cut
from ggufrope.calibrate.record import CalibrationRecord, CalibrationSettings, read_record
from ggufrope.convert.bound_files import about_heads
from ggufrope.errors import InputError, ParameterError
from ggufrope.methods.parameter_files import HeadsFile
from ggufrope.modelfile.identity import Identity
from ggufrope.modelfile.model_file import ModelFile

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


def test_every_reader_of_the_file_is_of_one_mind(told: Path) -> None:
    """``convert --head-ratios`` and ``calibrate`` read one file: what is no model for one is none for the other."""
    sound = json.loads(told.read_text())
    assert Identity.from_json(sound["model"]) == read_record(told).model
    for name, value in {
        "n_head": [4.5, 4],
        "n_head_kv": None,
        "head_dim": "8",
        "architecture": None,
        "extra": 1,
    }.items():
        model = {**sound["model"], name: value}
        if value is None:
            del model[name]
        with pytest.raises(ValueError, match=r"."):
            Identity.from_json(model)
        told.write_text(json.dumps({**sound, "model": model}))
        with pytest.raises(InputError, match="not a record of"):
            read_record(told)
        with pytest.raises(ParameterError, match=r'heads.json: "model" is damaged; run `ggufrope calibrate` again'):
            about_heads(told, cast("ModelFile", None))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, r"cannot be read \(No such file or directory\); check its name and permissions"),
        (b"{", r"not JSON \(.*\); correct it there, or make the file again"),
        (b"\xff{}", r"not UTF-8 text \(byte 0\); convert or unpack it first"),
    ],
)
def test_a_file_that_is_none(told: Path, content: bytes | None, said: str) -> None:
    told.unlink()
    if content is not None:
        told.write_bytes(content)
    with pytest.raises(ParameterError, match=f"^{told}: {said}$"):
        HeadsFile.read(told)
    with pytest.raises(InputError, match=f"^{told}: {said}; name another output$"):
        read_record(told)


@pytest.mark.parametrize("content", ["[]", "3", "{}", '{"ratios": 3}'])
def test_ratios_that_are_none(told: Path, content: str) -> None:
    told.write_text(content)
    with pytest.raises(ParameterError, match=r'heads.json: no "ratios" found; it must read'):
        HeadsFile.read(told).ratios()
    with pytest.raises(InputError, match="not a record of"):
        read_record(told)


def test_ratios_of_a_file_made_by_hand(told: Path) -> None:
    told.write_text('{"ratios": [[1, 1.5], []]}')
    assert HeadsFile.read(told).ratios() == ((1.0, 1.5), ())
    assert about_heads(told, cast("ModelFile", None)) == ()  # says nothing about a model
