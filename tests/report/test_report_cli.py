"""``ggufrope report``: what it writes, and one line and exit code 2 for what it cannot use; nothing is lost."""

from __future__ import annotations

import json

import pytest
import results_maker as made

from ggufrope.cli import main


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """``results/`` is good, everything else is not."""
    monkeypatch.chdir(tmp_path)
    good = made.answers(made.facts())
    made.write(tmp_path / "results", [good, made.answers(made.facts("yarn"))])
    made.write(tmp_path / "empty", [])
    made.write(tmp_path / "newer", [good, good | {"schema": 2}])
    made.write(tmp_path / "torn", [good])
    with (tmp_path / "torn" / "results.jsonl").open("a") as file:
        file.write(json.dumps(good)[:50])
    (tmp_path / "nothing").mkdir()
    (tmp_path / "text.txt").write_text("hello\n")
    (tmp_path / "model.gguf").write_bytes(b"GGUF\x03\x00\x00\x00\xff\xfe")
    (tmp_path / "other.json").write_text('{"a": 1}\n')
    (tmp_path / "old.html").write_text("precious")
    (tmp_path / "dir.html").mkdir()
    return tmp_path


def test_both_formats_at_once(folder, capsys):
    assert main(["report", "results", "-o", "a.html", "-o", "b.md", "--title", "A title"]) == 0
    assert "<h1>A title</h1>" in (folder / "a.html").read_text()
    assert (folder / "b.md").read_text().startswith("# A title\n")
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("wrote a.html: 2 results of 2 files, ")
    assert out[1].startswith("wrote b.md: ")
    assert sorted(p.name for p in folder.glob(".*")) == []


def test_files_and_directories_are_read_together_and_a_torn_line_is_left_out(folder, capsys):
    assert main(["report", "torn", "results/results.jsonl", "-o", "a.html"]) == 0
    assert "2 results of 2 files" in capsys.readouterr().out


def test_oddities_are_told(folder, capsys):
    made.write(folder / "more", [made.answers(made.facts(), scores={0.5: [0.0, 1.0, 1.0]})])
    assert main(["report", "results", "more", "-o", "a.html"]) == 0
    assert "note: none-f16.gguf, KV cache f16, niah at 512 tokens was measured twice" in capsys.readouterr().out
    assert "was measured twice" in (folder / "a.html").read_text()


BAD = [
    (["results"], "no output given: add -o report.html"),
    (["results", "-o", "a.pdf"], "a.pdf: '.pdf' names no format; end the name in .html or .md"),
    (["results", "-o", "a"], "a: it has no suffix"),
    (["results", "-o", "a.md", "-o", "a.md"], "a.md: is given twice"),
    (["results", "-o", "old.html"], "old.html: exists already; give another name, or --overwrite"),
    (["results", "-o", "dir.html"], "dir.html: is a directory, not a regular file"),
    (["results", "-o", "no/a.html"], "no/a.html: its directory does not exist; create no first"),
    (["results", "-o", "a.html", "-o", "old.html"], "old.html: exists already"),
    (["nothing", "-o", "a.html"], "nothing: holds no results.jsonl"),
    (["empty", "-o", "a.html"], "empty: no results"),
    (["absent", "-o", "a.html"], "absent: cannot be read (No such file or directory)"),
    (["text.txt", "-o", "a.html"], "text.txt, line 1: not JSON"),
    (["model.gguf", "-o", "a.html"], "model.gguf, line 1: not JSON"),
    (["other.json", "-o", "a.html"], 'other.json, line 1: not a line of results (no "schema")'),
    (["results", "newer", "-o", "a.html"], "line 2: results of schema 2, this ggufrope reads 1"),
]


@pytest.mark.parametrize(("arguments", "said"), BAD, ids=[" ".join(a) for a, _ in BAD])
def test_bad_input_is_one_line_and_exit_code_2(folder, capsys, arguments, said):
    assert main(["report", *arguments]) == 2
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 1
    assert said in err[0]
    assert (folder / "old.html").read_text() == "precious"
    assert not (folder / "a.html").exists()


def test_overwrite_replaces_and_results_are_never_replaced(folder, capsys):
    assert main(["report", "results", "-o", "old.html", "--overwrite"]) == 0
    assert "<!DOCTYPE html>" in (folder / "old.html").read_text()
    (folder / "results.md").write_bytes((folder / "results" / "results.jsonl").read_bytes())
    assert main(["report", "results.md", "-o", "results.md", "--overwrite"]) == 2
    assert "is read here" in capsys.readouterr().err
    assert (folder / "results.md").read_text().startswith("{")
    (folder / "link.md").symlink_to(folder / "results" / "results.jsonl")
    assert main(["report", "results", "-o", "link.md", "--overwrite"]) == 2
    assert "is read here" in capsys.readouterr().err
    assert (folder / "results" / "results.jsonl").read_text().startswith("{")


def test_a_failing_write_leaves_the_old_page(folder, capsys, monkeypatch):
    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert main(["report", "results", "-o", "old.html", "--overwrite"]) == 2
    assert "old.html: no space left: " in capsys.readouterr().err
    assert (folder / "old.html").read_text() == "precious"
    assert [p.name for p in folder.iterdir() if p.name.startswith(".")] == []
