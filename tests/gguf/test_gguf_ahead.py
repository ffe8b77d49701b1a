"""What is dropped from the page cache before an edit in place: only what the edit would make the kernel drop anyway."""

import os
import sys
import threading

import numpy as np
import pytest
from gguf_builder import build, llama_entries, tiny_llama

from ggufrope.convert.conversion import strip_in_place
from ggufrope.convert.pipeline import ConvertRequest, carry_out
from ggufrope.gguf import ahead, drop_ahead, read_header
from ggufrope.modelfile.model_file import ModelFile

SIZE = 16 << 20  # the kernel keeps memory in pieces of up to 2 MiB, and drops whole ones


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(build(llama_entries(), [("big", np.arange(SIZE // 4, dtype=np.float32))]))
    return path


@pytest.fixture
def anywhere(monkeypatch):
    """Take any file system for one that inserts blocks, and say what was asked to be dropped instead of dropping it."""
    dropped = []
    monkeypatch.setattr(ahead, "_file_system", lambda device: b"ext4")
    monkeypatch.setattr(ahead, "_drop", lambda file, start, end: (file.close(), dropped.append((start, end))))
    return dropped


def convert(path, method, **params):
    carry_out(ConvertRequest(path, None, method, params, in_place=True))


def finished():
    for thread in threading.enumerate():
        if thread.name == ahead.THREAD:  # others, such as tqdm's, never end
            thread.join()


def test_a_file_without_slack_is_dropped_but_for_its_ends(model, anywhere):
    header = read_header(model)
    assert drop_ahead(header)
    finished()
    assert anywhere == [(header.data_offset + (1 << 20), header.file_size - (1 << 20))]


def test_an_edit_that_fits_into_slack_drops_nothing(model, anywhere):
    before = model.read_bytes()
    convert(model, "yarn", factor=2.0)
    finished()
    assert len(anywhere) == 1
    convert(model, "ms-poe")
    finished()
    assert len(anywhere) == 1
    strip_in_place(ModelFile.open(model))  # moves the data back
    finished()
    assert len(anywhere) == 2
    assert model.read_bytes() == before


def test_a_plan_that_is_not_for_the_file_itself_drops_nothing(model, anywhere):
    carry_out(ConvertRequest(model, model.with_name("out.gguf"), "ms-poe"))
    carry_out(ConvertRequest(model, None, "ms-poe", in_place=True, dry_run=True))
    finished()
    assert not anywhere


def test_what_will_be_refused_is_not_dropped(model, anywhere, monkeypatch):
    os.link(model, model.with_name("other.gguf"))
    assert not drop_ahead(read_header(model))
    assert drop_ahead(read_header(model), force=True)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert not drop_ahead(read_header(model), force=True)


def test_small_files_and_other_file_systems_are_left_alone(model, tmp_path, anywhere, monkeypatch):
    small = tmp_path / "small.gguf"
    small.write_bytes(tiny_llama())
    assert not drop_ahead(read_header(small))
    monkeypatch.setattr(ahead, "_file_system", lambda device: b"btrfs")
    assert not drop_ahead(read_header(model))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux is asked to drop anything")
def test_it_leaves_the_cache_and_nothing_is_lost(model):
    header, whole = read_header(model), model.read_bytes()
    if ahead._file_system(header.stamp.device) not in (b"ext4", b"xfs"):
        pytest.skip("the temporary directory is on neither ext4 nor XFS")
    assert drop_ahead(header)  # much of it is not on disk yet
    finished()
    assert model.read_bytes() == whole
    with model.open("r+b") as file:
        os.fsync(file.fileno())
        assert cached(file, SIZE // 2)
        assert drop_ahead(header)
        finished()
        assert not cached(file, SIZE // 2)
    assert model.read_bytes() == whole


def cached(file, at):
    """Whether the byte at an offset can be read without the disk."""
    try:
        return os.preadv(file.fileno(), [bytearray(1)], at, os.RWF_NOWAIT) == 1
    except BlockingIOError:
        return False
