"""Models in several files: read as one, edited in the first, never copied where a link will do."""

import errno
import os

import numpy as np
import pytest
from gguf_builder import I32, STR, U16, build, entry, llama_entries, tiny_tensors

from ggufrope.convert.conversion import plan, strip, strip_in_place, write, write_in_place
from ggufrope.errors import GgufError, OutputError
from ggufrope.gguf import keys, output_names, place, read_header, read_shards
from ggufrope.modelfile.model_file import ModelFile


def shard(number, count=3, total=3, entries=(), tensors=None):
    split = [entry("split.no", U16, number), entry("split.count", U16, count), entry("split.tensors.count", I32, total)]
    tensors = tiny_tensors()[number : number + 1] if tensors is None else tensors
    return build([*entries, *split], tensors)


@pytest.fixture
def first(tmp_path):
    """The first of three shards, each with one tensor."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(3):
        data = shard(number, entries=llama_entries() if number == 0 else [])
        (folder / f"m-{number + 1:05}-of-00003.gguf").write_bytes(data)
    return folder / "m-00001-of-00003.gguf"


def test_tensors_are_found_in_all_shards(first):
    source = ModelFile.open(first).original
    assert len(source.shards) == 2
    for name, data in tiny_tensors():
        for view in (source, ModelFile.open(first)):
            assert view.has_tensor(name)
            assert np.array_equal(view.tensor_data(name), data)
    assert not source.has_tensor("absent")


@pytest.mark.parametrize("name", ["out.gguf", "out-00001-of-00003.gguf"])
def test_the_first_is_written_and_the_others_are_linked(first, tmp_path, name):
    before = {p.name: p.read_bytes() for p in first.parent.iterdir()}
    saved = write(plan(ModelFile.open(first), "llama3", {"factor": 8.0}, require_patched=True), tmp_path / name)
    assert saved.path.name == "out-00001-of-00003.gguf"
    assert "only the first was changed" in saved.how
    for number in (2, 3):
        other = tmp_path / f"out-0000{number}-of-00003.gguf"
        assert other.samefile(first.with_name(f"m-0000{number}-of-00003.gguf"))
    new = read_shards(saved.path)
    # llama.cpp compares this with what it finds, and what it finds with what it uses: there the sentinel acts
    assert new[0].get(keys.SPLIT_TENSORS) == sum(len(h.tensors) for h in new) == 5
    back = strip(ModelFile.open(saved.path), tmp_path / "back.gguf")
    assert back.restored and back.path.read_bytes() == first.read_bytes()
    assert {p.name: p.read_bytes() for p in first.parent.iterdir()} == before


def test_where_there_are_no_links_the_others_are_copied(first, tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", refuse)
    saved = write(plan(ModelFile.open(first), "yarn", {"factor": 2.0}), tmp_path / "out.gguf")
    for number in (2, 3):
        other, source = tmp_path / f"out-0000{number}-of-00003.gguf", first.with_name(f"m-0000{number}-of-00003.gguf")
        assert not other.samefile(source) and other.read_bytes() == source.read_bytes()
    assert read_shards(saved.path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", *(f"out-0000{n}-of-00003.gguf" for n in (1, 2, 3))]


def test_the_first_has_a_time_of_its_own_and_links_have_the_one_of_what_they_link_to(first, tmp_path):
    for path in first.parent.iterdir():
        os.utime(path, (1, 2))
    write(plan(ModelFile.open(first), "yarn", {"factor": 2.0}), tmp_path / "out.gguf")
    times = [(tmp_path / f"out-0000{number}-of-00003.gguf").stat().st_mtime for number in (1, 2, 3)]
    assert times[0] > 2 and times[1:] == [2, 2]
    assert first.stat().st_mtime == 2


def test_in_place_touches_the_first_alone(first):
    stamps = {p: p.stat().st_mtime_ns for p in first.parent.iterdir() if p != first}
    before = first.read_bytes()
    write_in_place(plan(ModelFile.open(first), "llama3", {"factor": 8.0}))
    assert read_header(first).tensor("rope_freqs.weight")
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps
    assert strip_in_place(ModelFile.open(first)).restored and first.read_bytes() == before


def test_an_old_output_is_replaced_and_placing_twice_is_harmless(first, tmp_path):
    out = tmp_path / "o.gguf"
    out.write_bytes(b"old")
    header = read_header(first.with_name("m-00002-of-00003.gguf"))
    for _ in range(2):
        place(header, out)
        assert out.samefile(header.path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "o.gguf"]
    with pytest.raises(OutputError, match=r"o\.gguf"):
        place(header, out / "below")


def test_output_names(tmp_path):
    assert output_names(tmp_path / "a.gguf", 1) == (tmp_path / "a.gguf",)
    expected = tuple(tmp_path / f"a-0000{n}-of-00002.gguf" for n in (1, 2))
    for name in ("a", "a.gguf", "a-00001-of-00002.gguf"):
        assert output_names(tmp_path / name, 2) == expected
    for name in ("a-00002-of-00002.gguf", "a-00001-of-00003.gguf"):
        with pytest.raises(OutputError, match=r"has 2 shards; name the output a-00001-of-00002\.gguf"):
            output_names(tmp_path / name, 2)


def test_sets_that_do_not_fit_together(first):
    def path(number):
        return first.with_name(f"m-0000{number}-of-00003.gguf")

    with pytest.raises(GgufError, match=r"this is shard 2 of 3; give the first, m-00001-of-00003.gguf"):
        read_shards(path(2))
    second = path(2).read_bytes()
    for data, message in (
        (shard(2), r"00002-of-00003.gguf: is shard 3 of 3 by its keys, not 2 of 3; fetch it again"),
        (shard(1, count=4), r"is shard 2 of 4 by its keys"),
        (build([], tiny_tensors()[1:2]), r"is shard 1 of 1 by its keys"),
        (shard(1, tensors=tiny_tensors()[:1]), r"tensor 'token_embd.weight' is in an earlier shard too"),
        (shard(1, tensors=[]), r"split.tensors.count is 3, but its shards hold 2"),
        (build([entry("split.count", STR, "x")]), r"split.count is not a count"),
        (second[:-200], r"00002-of-00003.gguf: .*truncated"),
    ):
        path(2).write_bytes(data)
        with pytest.raises(GgufError, match=message):
            read_shards(first)
    path(2).unlink()
    with pytest.raises(GgufError, match=r"m-00002-of-00003.gguf: no such file"):
        read_shards(first)
    first.rename(first.with_name("model.gguf"))
    with pytest.raises(GgufError, match=r"is the first of 3 shards; name it model-00001-of-00003.gguf, and the others"):
        read_shards(first.with_name("model.gguf"))
