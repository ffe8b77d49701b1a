"""What a crash leaves, and what becomes of it; ``kill_points.py`` makes the crashes."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gguf_builder import build, llama_entries

from ggufrope.cli import main
from ggufrope.convert import pipeline
from ggufrope.convert.prepared import Prepared
from ggufrope.convert.request import ConvertRequest
from ggufrope.errors import GgufError
from ggufrope.gguf import (
    TypedValue,
    ValueType,
    edit_in_place,
    extents,
    inplace,
    keys,
    original_facts,
    read_header,
    rewrite,
)
from ggufrope.gguf.journal import MOVED, MOVING, Change, Journal, journal_path
from ggufrope.gguf.slack import BLOCK
from ggufrope.modelfile.model_file import ModelFile

NEW = {"set": {"ggufrope.method": TypedValue(ValueType.STRING, "new")}}


class PowerFailureError(BaseException):
    """Ends a process without giving it the chance to tidy up."""


@pytest.fixture
def model(tmp_path):
    """A file of 50 blocks without a hole."""
    path = tmp_path / "m.gguf"
    data = np.random.default_rng(1).standard_normal(50_000, dtype=np.float32)
    path.write_bytes(build(llama_entries(), [("t", data), ("u", data[:77])]))
    return path


@pytest.fixture
def crash(monkeypatch):
    """Makes an edit end at a given step as if the power had failed: nothing is undone."""

    def crash(path, step, **edits):
        def fail(*args):
            step(*args)
            raise PowerFailureError

        with monkeypatch.context() as patch:
            patch.setattr(inplace, "insert_range", fail)
            patch.setattr(inplace, "collapse_range", fail)
            patch.setattr(inplace, "settle", lambda *args: True)
            patch.setattr(Journal, "remove", lambda self: None)
            with pytest.raises(PowerFailureError):
                edit_in_place(read_header(path), **edits)

    return crash


@pytest.fixture
def _inserts(tmp_path):
    path = tmp_path / "probe"
    path.write_bytes(bytes(3 * BLOCK))
    with path.open("r+b") as file:
        try:
            extents.insert_range(file.fileno(), BLOCK)
        except OSError as error:
            pytest.skip(f"{tmp_path} is on a file system that cannot insert space ({error.strerror})")
    path.unlink()


def kill(trials, seed, folder):
    command = [sys.executable, Path(__file__).with_name("kill_points.py"), str(trials), str(seed), folder]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert all(counts["killed"] and counts["restored"] and counts["done"] for counts in found.values()), found
    copies = sum(found[name]["killed"] for name in ("copy", "copy over", "rewrite in place"))
    return copies, sum(counts["killed"] for counts in found.values()) - copies


def test_killed_at_random_points(tmp_path):
    copies, edits = kill(30, 7, tmp_path)
    assert copies >= 80 and edits >= 200


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_killed_at_very_many_points(tmp_path, seed):
    copies, edits = kill(300, seed, tmp_path)
    assert copies >= 800 and edits >= 2000


@pytest.mark.usefixtures("_inserts")
@pytest.mark.parametrize("block", [0, 1, 2, 17, 49])
@pytest.mark.parametrize("twice", [False, True])
def test_a_power_failure_while_data_moves_back(model, crash, caplog, monkeypatch, block, twice):
    """Extents move one after the other, the last first: the hole travels towards the front."""
    before = model.read_bytes()
    crash(model, lambda fd, length: extents._fallocate(fd, extents._INSERT, block * BLOCK, length), **NEW)
    if twice:  # and again, while that is being undone

        def half(fd, start, length):
            extents.collapse_range(fd, start, length)
            extents._fallocate(fd, extents._INSERT, 30 * BLOCK, length)
            raise PowerFailureError

        with monkeypatch.context() as patch:
            patch.setattr("ggufrope.gguf.recovery.collapse_range", half)
            with pytest.raises(PowerFailureError):
                read_header(model)
    with caplog.at_level(logging.WARNING):
        read_header(model)
    assert model.read_bytes() == before
    assert list(model.parent.iterdir()) == [model]
    assert caplog.messages == [
        f"{model}: an edit of this file had been interrupted; it was undone: the file is as it was before"
    ]


@pytest.mark.usefixtures("_inserts")
@pytest.mark.parametrize("block", [None, 0, 1, 17, 43])
def test_a_power_failure_while_data_moves_forward(model, crash, caplog, block):
    before, facts = model.read_bytes(), original_facts(read_header(model))
    edit_in_place(read_header(model), **NEW)

    def partly(fd, start, length):
        if block is not None:
            extents.collapse_range(fd, start, length)
            extents._fallocate(fd, extents._INSERT, block * BLOCK, length)

    crash(model, partly, remove=["ggufrope.method", keys.PADDING], restore=facts)
    with caplog.at_level(logging.WARNING):
        read_header(model)
    assert (model.read_bytes() == before) is (block is not None)
    assert ("finished" in caplog.text) is (block is not None)
    assert list(model.parent.iterdir()) == [model]


@pytest.mark.usefixtures("_inserts")
def test_a_directory_s_gguf_may_replace_a_file_whose_edit_was_interrupted(model, crash):
    """Or the old file's journal would keep everybody from the new one."""
    weights = model.with_name("weights.gguf")
    weights.write_bytes(build(llama_entries(), []))
    whole = weights.read_bytes()
    crash(model, lambda fd, length: extents._fallocate(fd, extents._INSERT, 0, length), **NEW)
    assert journal_path(model).exists()
    request = ConvertRequest(model.parent, model, None, overwrite=True)
    pipeline._save(request, Prepared(ModelFile.open(weights), None, {}, temporary=True), None, None)
    assert model.read_bytes() == whole
    assert list(model.parent.iterdir()) == [model]


def change(path, **options):
    size = path.stat().st_size
    values = {"old_size": size, "old_times": (0, 0), "shift": 0, "kept": size, "head_start": 0, "old_head": b"GGUF",
              "new_head": b"GGUF", "old_tail": b"", "new_tail": b"", "holed": False, "samples": ()}  # fmt: skip
    return Change(**{**values, **options})


@pytest.mark.usefixtures("_inserts")
def test_a_journal_of_another_file_is_left_alone(model):
    before = model.read_bytes()
    for options, marks in (
        ({"old_size": 5, "kept": 5}, b""),
        ({"old_size": 10**9, "kept": 10**9}, b""),
        ({"samples": ((100, 4, "00"),)}, b""),
        ({"shift": BLOCK, "samples": ((100, 4, "00"),), "old_size": len(before) - BLOCK, "kept": len(before) - BLOCK},
         MOVING + MOVED),
        ({"shift": BLOCK, "old_size": len(before) - BLOCK, "kept": len(before) - BLOCK}, MOVING),
        ({"shift": -BLOCK, "old_size": len(before) + BLOCK, "kept": len(before) + BLOCK, "samples": ((5000, 4, "00"),)},
         MOVING),
    ):  # fmt: skip
        journal = Journal.create(model, change(model, **options))
        if marks:
            journal.mark(marks)
        with pytest.raises(GgufError, match=r"tells of an interrupted edit, but of another file; .* delete .*-journal"):
            read_header(model)
        assert model.read_bytes() == before
        assert journal.path.exists()
        journal.remove()
    read_header(model)


@pytest.mark.usefixtures("_inserts")
def test_a_sparse_file_caught_while_it_moved_is_not_guessed_at(model, crash):
    with model.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, model.stat().st_size)
        extents._fallocate(file.fileno(), 0x02 | 0x01, 20 * BLOCK, 2 * BLOCK)  # punch a hole
    crash(model, lambda fd, length: extents._fallocate(fd, extents._INSERT, 40 * BLOCK, length), **NEW)
    with pytest.raises(GgufError, match="another file"):
        read_header(model)


def test_damaged_journals_are_named(model):
    Journal.create(model, change(model))
    path = journal_path(model)
    whole = path.read_bytes()
    flipped = whole[:60] + bytes([whole[60] ^ 1]) + whole[61:]
    for data in (b"", whole[:10], whole[:-1], flipped, b"x" * 100, whole[:19] + b"\xff" * 8 + whole[27:]):
        path.write_bytes(data)
        with pytest.raises(GgufError, match=r"-journal: the journal of an interrupted edit is damaged .*; if m"):
            read_header(model)
    path.write_bytes(whole)
    read_header(model)


@pytest.mark.usefixtures("_inserts")
def test_the_command_line_recovers_and_says_so(tmp_path, crash, capfd):
    from gguf_builder import tiny_llama

    path = tmp_path / "m.gguf"
    path.write_bytes(tiny_llama())
    before = path.read_bytes()
    crash(path, extents.insert_range, **NEW)
    assert path.read_bytes() != before
    logging.getLogger("ggufrope").handlers.clear()
    run = subprocess.run(
        [sys.executable, "-m", "ggufrope", "inspect", str(path), "--json"], capture_output=True, text=True, check=True
    )
    assert json.loads(run.stdout)["method"] == "none"
    assert run.stderr.startswith(f"{path}: an edit of this file had been interrupted; it was undone")
    assert path.read_bytes() == before
    assert main(["inspect", str(path)]) == 0


def test_leftovers_of_killed_copies_go_with_the_next_one(model, tmp_path):
    stale = tmp_path / ".out.gguf.abc.ggufrope-tmp"
    other = tmp_path / ".other.gguf.abc.ggufrope-tmp"
    for path in (stale, other):
        path.write_bytes(b"half")
    rewrite(read_header(model), tmp_path / "out.gguf")
    assert not stale.exists() and other.exists()
