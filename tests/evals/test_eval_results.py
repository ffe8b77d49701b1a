"""The file of results: what is written comes back, what is damaged is refused in words, and nothing is lost."""

from __future__ import annotations

import json
import multiprocessing

import pytest
import result_maker

from ggufrope.errors import InputError, OutputError
from ggufrope.evals.notes import Note
from ggufrope.evals.result_line import from_json, to_json
from ggufrope.evals.store import Store, read_results


def line(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


@pytest.mark.parametrize("made", [result_maker.answers(), result_maker.positions()], ids=["answers", "positions"])
def test_a_line_comes_back_as_it_was(made, tmp_path):
    with Store(tmp_path / "new" / "results") as store:
        store.add(from_json(made, "here"))
    data = (tmp_path / "new/results/results.jsonl").read_bytes()
    assert json.loads(data) == made
    assert data.endswith(b"}\n")
    assert data.startswith(b'{"schema":1,')
    assert [to_json(r) for r in read_results(tmp_path / "new/results")[0]] == [made]


def test_parts_that_have_no_meaning_are_absent():
    made = result_maker.answers()
    del made["by_depth"], made["notes"]
    assert to_json(from_json(made, "here")) == made | {"notes": []}


def test_notes_have_a_code_each():
    made = result_maker.answers(note_codes=["of-a-later-version"])
    result = from_json(made, "here")
    assert to_json(result) == made
    assert result.coded_notes == (Note("of-a-later-version", "a note"),)


def test_old_lines_have_no_codes_and_come_back_without():
    result = from_json(result_maker.answers(), "here")
    assert result.coded_notes == (Note("", "a note"),)
    assert "note_codes" not in to_json(result)


def test_keys_of_later_versions_are_passed_over():
    assert from_json(result_maker.answers(added=1), "here") == from_json(result_maker.answers(), "here")


WRONG = [
    ([], "not a line of results"),
    ({"score": 1}, "not a line of results"),
    (result_maker.answers(schema=2), "results of schema 2, this ggufrope reads 1"),
    (result_maker.answers(n="two"), "n is 'two', not a whole number"),
    (result_maker.answers(n=True), "n is True, not a whole number"),
    (result_maker.answers(score="0.5"), "score is '0.5', not a number"),
    (result_maker.answers(score=None), "score is missing"),
    (result_maker.answers(kind="songs"), "kind is 'songs'"),
    (result_maker.answers(file={**result_maker.FILE, "name": 3}), "file.name is 3, not text"),
    (result_maker.answers(file=[]), "file is [], not an object"),
    (result_maker.answers(by_depth=[{"depth": 0.0}]), "by_depth[0].n is missing"),
    (result_maker.answers(by_depth={}), "by_depth is {}, not a list"),
    (result_maker.answers(note_codes=[]), "1 notes have 0 note_codes"),
    (result_maker.answers(note_codes=[1]), "note_codes[0] is 1, not text"),
    (result_maker.positions(by_position=None), "by_position is missing"),
    ({k: v for k, v in result_maker.answers().items() if k != "cell"}, "cell is missing"),
]


@pytest.mark.parametrize(("value", "said"), WRONG, ids=[w[1] for w in WRONG])
def test_a_wrong_line_is_refused_and_left_alone(value, said, tmp_path):
    path = tmp_path / "results.jsonl"
    data = line(result_maker.answers()) + line(value) + line(result_maker.answers())
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        Store(tmp_path)
    assert said in str(caught.value)
    assert f"{path}, line 2: " in str(caught.value)
    assert "-o" in str(caught.value)
    with pytest.raises(InputError):
        read_results(tmp_path)
    assert path.read_bytes() == data
    assert [p.name for p in tmp_path.iterdir()] == ["results.jsonl"]


@pytest.mark.parametrize(
    "data", [b"hello", b"\x1f\x8b\x08\x00garbage", b"{}\n", b"\n", b"{\n", b'{"a": 1}', b"[" * 9999]
)
def test_a_foreign_file_is_refused(data, tmp_path):
    (tmp_path / "results.jsonl").write_bytes(data)
    with pytest.raises(InputError, match="line 1: not"):
        Store(tmp_path)
    assert (tmp_path / "results.jsonl").read_bytes() == data


def test_a_line_cut_off_anywhere_is_moved_aside(tmp_path):
    first, second = line(result_maker.answers()), line(result_maker.answers(cell="d" * 64))
    path, aside = tmp_path / "results.jsonl", tmp_path / "results.torn"
    for cut in (1, 5, 40, len(second) - 2, len(second) - 1):
        path.write_bytes(first + second[:cut])
        results, torn = read_results(path)
        assert (len(results), torn) == (1, True)
        with Store(tmp_path) as store:
            assert set(store.results) == {"c" * 64}
            assert "cut off" in store.repaired
            store.add(from_json(json.loads(second), "here"))
        assert path.read_bytes() == first + second
        assert aside.read_bytes() == second[:cut] + b"\n"
        aside.unlink()
    with Store(tmp_path) as store:
        assert not store.repaired


def try_to_open(directory, queue):
    try:
        Store(directory)
        queue.put("opened")
    except OutputError as error:
        queue.put(str(error))


def test_a_second_process_is_refused(tmp_path):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    with Store(tmp_path):
        other = context.Process(target=try_to_open, args=(tmp_path, queue))
        other.start()
        assert "another ggufrope is writing to it" in queue.get(timeout=60)
        other.join()
    with Store(tmp_path):
        pass


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        Store(tmp_path / "file")


def test_a_full_disk_is_said(tmp_path):
    with Store(tmp_path) as store:
        store.add(from_json(result_maker.answers(), "here"))
        before = store.path.read_bytes()

        class Full:
            def __getattr__(self, name):
                return getattr(file, name)

            def write(self, data):
                return file.write(data[:10])

        file, store._file = store._file, Full()
        with pytest.raises(OutputError, match="disk is full"):
            store.add(from_json(result_maker.answers(cell="d"), "here"))
        assert store.path.read_bytes() == before
        assert set(store.results) == {"c" * 64}
