"""Edits in place against rewritten copies of the same file, and slack, locks and refusals."""

import errno
import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import numpy as np
import pytest
from gguf_builder import STR, U8, U32, build, entry, llama_entries, tiny_llama, tiny_tensors
from test_gguf_output import ordinary_user

from ggufrope import files
from ggufrope.errors import GgufError, OutputError
from ggufrope.gguf import (
    Layout,
    TypedValue,
    ValueType,
    edit_in_place,
    extents,
    inplace,
    keys,
    lock,
    original_facts,
    read_header,
    rewrite,
)
from ggufrope.gguf.extents import UNSUPPORTED, insert_range
from ggufrope.gguf.slack import BLOCK, SLACK, padding_entry

ADDED = {"rope_freqs.weight": np.arange(1, 5, dtype=np.float32)}


def text(length):
    return {"ggufrope.method": TypedValue(ValueType.STRING, "m" * length)}


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(tiny_llama())
    return path


@pytest.fixture(scope="session")
def inserts(tmp_path_factory):
    """Skips where the system cannot insert space into files."""
    path = tmp_path_factory.mktemp("insert") / "file"
    path.write_bytes(bytes(3 * BLOCK))
    with path.open("r+b") as file:
        try:
            insert_range(file.fileno(), BLOCK)
        except OSError as error:
            assert error.errno in UNSUPPORTED
            pytest.skip(f"{path.parent} is on a file system that cannot insert space ({error.strerror})")


def content(path):
    """Everything in a file but its padding key."""
    header = read_header(path)
    return (
        [header.raw(field) for field in header.fields if field.key != keys.PADDING],
        {info.name: header.tensor_data(info.name).tolist() for info in header.tensors},
    )


@pytest.mark.parametrize("room", [40, 41, 95, 96, 4096, 20000])
def test_a_padding_entry_has_the_length_asked_for(tmp_path, room):
    raw = padding_entry(room)
    assert len(raw) == room
    path = tmp_path / "m.gguf"
    path.write_bytes(build([raw]))
    assert read_header(path).get(keys.PADDING).tolist() == [0] * (room - 40)


@pytest.mark.parametrize("alignment", [8, 32, 64, 8192])
@pytest.mark.parametrize("stay", [False, True])
def test_the_layout_moves_data_by_whole_blocks(alignment, stay):
    base, step = 3 * alignment, max(alignment, BLOCK)
    for length in [*range(base - 150, base + 150), base + step - 41, base + step, base + 3 * step + 7]:
        end = length + len(Layout(base, stay).padding(length, alignment))
        start = -(-end // alignment) * alignment
        assert (start - base) % step == 0 and start >= base
        if stay and (length <= base - 40 or base - alignment < length <= base):
            assert start == base
        elif stay or length > base:
            assert SLACK + 40 <= end - length < SLACK + 40 + step
        else:
            assert end - length >= SLACK + 40


def test_copies_have_slack_and_keep_block_boundaries(model, tmp_path):
    source = read_header(model)
    rewrite(source, tmp_path / "o.gguf", set=text(5), layout=Layout(source.data_offset))
    new = read_header(tmp_path / "o.gguf")
    assert new.fields[-1].key == keys.PADDING
    assert new.field(keys.PADDING).count >= SLACK
    assert (new.data_offset - source.data_offset) % BLOCK == 0


@pytest.mark.parametrize("options", [{}, {"pad_last": False}, {"tail": b"stray"}, {"fill": b"\xaa"}, {"version": 2}])
@pytest.mark.usefixtures("inserts")
def test_a_chain_of_edits_equals_copies_and_can_be_undone(tmp_path, options):
    path, copy = tmp_path / "m.gguf", tmp_path / "c.gguf"
    path.write_bytes(tiny_llama(**options))
    before, facts = path.read_bytes(), original_facts(read_header(path))
    whole = options.get("pad_last", True)
    steps = [
        ({"set": text(10)}, "20 KiB inserted"),
        ({"set": text(5000)}, "fits into the old one's place"),
        ({"set": text(3), "add_tensors": ADDED}, "fits"),
        ({"set": text(30000)}, "KiB inserted"),
        ({"remove": list(text(1)), "drop_tensors": list(ADDED), "add_tensors": {"x": np.ones(7, np.float32)}}, "fits"),
    ]
    for edits, how in steps:
        rewrite(read_header(path), copy, **edits, layout=Layout(0))
        done = edit_in_place(read_header(path), **edits)
        assert how in done.how
        assert content(path) == content(copy)
        assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
    undo = {"remove": [*text(1), keys.PADDING], "drop_tensors": ["x"], "restore": facts}
    done = edit_in_place(read_header(path), **undo)
    assert done.restored and "removed from the header" in done.how, whole
    assert path.read_bytes() == before


@pytest.mark.usefixtures("inserts")
def test_an_alignment_above_a_block(tmp_path):
    path = tmp_path / "m.gguf"
    entries = [*llama_entries(), entry("general.alignment", U32, 8192)]
    path.write_bytes(build(entries, tiny_tensors(), alignment=8192))
    done = edit_in_place(read_header(path), set=text(7000))
    assert "inserted" in done.how or "fits" in done.how
    assert read_header(path).get("ggufrope.method") == "m" * 7000
    assert read_header(path).data_offset % 8192 == 0


@pytest.mark.parametrize("code", sorted(UNSUPPORTED))
def test_a_system_that_cannot_insert_gets_a_copy_and_is_told(model, monkeypatch, code):
    def refuse(*args):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(extents, "_fallocate", refuse)
    model.chmod(0o640)
    os.utime(model, (1, 2))
    done = edit_in_place(read_header(model), set=text(9), add_tensors=ADDED)
    assert "rewritten, since the system cannot insert space into it" in done.how
    assert read_header(model).get("ggufrope.method") == "m" * 9
    assert model.stat().st_mode & 0o777 == 0o640 and model.stat().st_mtime > 2
    assert list(model.parent.iterdir()) == [model]


def test_a_file_without_tensors_is_rewritten(tmp_path):
    path = tmp_path / "vocab.gguf"
    path.write_bytes(build(llama_entries()))
    done = edit_in_place(read_header(path), set=text(9))
    assert "rewritten, since it holds no tensors" in done.how
    assert keys.PADDING not in read_header(path)


@pytest.mark.parametrize("step", ["write", "fsync", "mark", "insert"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_failing_step_is_undone_at_once(model, monkeypatch, step, code):
    before = model.read_bytes()
    calls = 0

    def fail(*args):
        nonlocal calls
        calls += 1
        if calls == 1 or step == "insert":
            raise OSError(code, os.strerror(code))
        return real(*args)

    owner, name = {
        "write": (inplace, "write_all"),
        "fsync": (os, "fsync"),
        "mark": (inplace.Journal, "mark"),
        "insert": (inplace, "insert_range"),
    }[step]
    real = getattr(owner, name)
    monkeypatch.setattr(owner, name, fail)
    with pytest.raises(OutputError, match=r"no space left|Input/output error"):
        edit_in_place(read_header(model), set=text(9), add_tensors=ADDED)
    assert calls
    assert model.read_bytes() == before
    assert list(model.parent.iterdir()) == [model]


def test_hard_links_are_refused_unless_forced(model, tmp_path):
    other = tmp_path / "other"
    other.hardlink_to(model)
    with pytest.raises(OutputError, match=r"has 2 names \(hard links\).*or give --force"):
        edit_in_place(read_header(model), set=text(9))
    edit_in_place(read_header(model), force=True, set=text(9))
    assert read_header(model).get("ggufrope.method") == "m" * 9


def test_a_symlink_stays_and_its_target_is_edited(model, tmp_path):
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "l.gguf"
    link.symlink_to(model)
    edit_in_place(read_header(link), set=text(9))
    assert link.is_symlink() and read_header(model).get("ggufrope.method") == "m" * 9
    assert list((tmp_path / "links").iterdir()) == [link]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who has a file mapped")
def test_a_mapped_file_is_refused_unless_forced(model):
    script = "import mmap, sys; f = open(sys.argv[1], 'rb'); m = mmap.mmap(f.fileno(), 0, prot=1); print(); input()"
    with subprocess.Popen([sys.executable, "-c", script, model], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as run:
        try:
            run.stdout.readline()
            with pytest.raises(OutputError, match=rf"\(process {run.pid}\) has the file in use.*--force"):
                edit_in_place(read_header(model), set=text(9))
            edit_in_place(read_header(model), force=True, set=text(9))
        finally:
            run.communicate(b"\n")
    edit_in_place(read_header(model), set=text(10))


def test_an_editor_waits_for_readers_and_readers_for_it(model, monkeypatch):
    monkeypatch.setattr(lock, "WAIT_SECONDS", 0.2)
    header = read_header(model)
    for alone in (True, False):
        with model.open("rb") as file:
            lock.lock(file, alone=alone)
            with pytest.raises(GgufError, match="another ggufrope process is using the file; try again"):
                edit_in_place(header, set=text(9))
            if alone:
                with pytest.raises(GgufError, match="another ggufrope process is using the file"):
                    read_header(model)
            else:
                read_header(model)
    edit_in_place(header, set=text(9))


def test_a_waiting_editor_notices_that_the_file_changed(model, monkeypatch):
    script = """
        import sys
        from ggufrope.gguf import TypedValue, ValueType, edit_in_place, lock, read_header
        header = read_header(sys.argv[1])
        with open(sys.argv[1], "rb") as file:
            lock.lock(file, alone=True)
            print(flush=True)
            input()
        edit_in_place(header, set={"other": TypedValue(ValueType.UINT8, 1)})
    """
    header = read_header(model)
    command = [sys.executable, "-c", textwrap.dedent(script), model]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as run:
        run.stdout.readline()
        # the first thing this process does while it waits is to let the other one finish its edit
        monkeypatch.setattr(files.time, "sleep", lambda _: run.communicate(b"\n"))
        with pytest.raises(GgufError, match="another process changed the file meanwhile; try again"):
            edit_in_place(header, set=text(9))
    assert run.returncode == 0
    assert read_header(model).get("other") == 1
    assert "ggufrope.method" not in read_header(model)


def test_a_read_only_directory_and_file():
    # pytest's own directories are closed to everybody else
    with tempfile.TemporaryDirectory() as name:
        folder, path = Path(name), Path(name) / "m.gguf"
        path.write_bytes(tiny_llama())
        before, header = path.read_bytes(), read_header(path)
        folder.chmod(0o555)
        path.chmod(0o666)
        with ordinary_user(), pytest.raises(OutputError, match=f"m.gguf: .*no permission to write in {folder}; choose"):
            edit_in_place(header, set=text(9))
        path.chmod(0o444)
        with ordinary_user(), pytest.raises(OutputError, match=r"no permission to change the file .*; write a copy"):
            edit_in_place(header, set=text(9))
        folder.chmod(0o700)
        assert path.read_bytes() == before
        assert list(folder.iterdir()) == [path]


def test_stray_text_keys_stay_as_they_were(tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(tiny_llama(extra=[entry("odd", STR, b"\xff"), entry("n", U8, 3)]))
    edit_in_place(read_header(path), set=text(9))
    header = read_header(path)
    assert header.raw(header.field("odd")) == entry("odd", STR, b"\xff")
