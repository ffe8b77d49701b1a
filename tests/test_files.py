"""Reading text, refusing outputs, writing whole files or none, and locks."""

from __future__ import annotations

import errno
import gzip
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from ggufrope import files
from ggufrope.convert.hf_config import read_config
from ggufrope.errors import CheckpointError, InputError, OutputError, ParameterError
from ggufrope.files import check_output, decoded, hold, read_bytes, read_json, read_text, replacing, stamp, write_bytes

needs_posix = pytest.mark.skipif(os.name != "posix", reason="signals and links as POSIX has them")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# --- reading


def read_as_calibration_does(path):
    decoded(path, read_bytes(path), empty="give a text")


@pytest.mark.parametrize("read", [lambda path: read_text(path, empty="give a text"), read_as_calibration_does])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read (No such file or directory); check its name and permissions"),
        ("directory", "cannot be read (Is a directory); check its name and permissions"),
        (b"caf\xe9", "not UTF-8 text (byte 3); convert or unpack it first"),
        (gzip.compress(b"text"), "not UTF-8 text (byte 1); convert or unpack it first"),
        ("text".encode("utf-16"), "not UTF-8 text (byte 0); convert or unpack it first"),
        (b"text cut in an umlaut \xc3", "not UTF-8 text (byte 22); convert or unpack it first"),
        (b"", "is empty; give a text"),
        (b" \r\n\t ", "is empty; give a text"),
    ],
)
def test_texts_that_are_none(tmp_path, read, content, said):
    path = tmp_path / "text.txt"
    if content == "directory":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read(path)
    assert str(caught.value) == f"{path}: {said}"


def test_a_text_is_read_as_python_reads_text(tmp_path):
    path = tmp_path / "text.txt"
    for data in (b"a\r\nb\rc\n\r\n", "ä\ufeff—\u2028 \x0c\x85".encode(), b"", b"\r", b"\r\r\n"):
        path.write_bytes(data)
        assert read_text(path) == path.read_text(encoding="utf-8")
    assert decoded(path, b"\xef\xbb\xbfa", encoding="utf-8-sig") == "a"
    assert decoded(path, b" ") == " "  # empty texts are no error where nobody says what to give instead


@pytest.mark.parametrize("error", [InputError, ParameterError])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read (No such file or directory)"),
        (b"\xff", "not UTF-8 text (byte 0); convert or unpack it first"),
        (b"{", "not JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1))"),
        (b"", "not JSON (Expecting value: line 1 column 1 (char 0))"),
        (b"[" * 100_000, "not JSON (maximum recursion depth exceeded"),
    ],
)
def test_json_that_is_none(tmp_path, error, content, said):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error) as caught:
        read_json(path, error)
    assert str(caught.value).startswith(f"{path}: {said}")
    assert type(caught.value) is error


def test_json(tmp_path):
    (tmp_path / "a.json").write_text('{"a": [1, null]}\n')
    assert read_json(tmp_path / "a.json") == {"a": [1, None]}


def test_a_stamp_changes_with_the_file(tmp_path):
    path = tmp_path / "a"
    with pytest.raises(InputError, match="a: cannot be read"):
        stamp(path)
    path.write_bytes(b"1")
    os.utime(path, ns=(1, 1))
    assert stamp(path) == (1, 1)
    path.write_bytes(b"12")
    assert stamp(path)[1] == 2


# --- refusals


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """source, old, dir/, pipe, soft and hard (other names of source), dangling links."""
    monkeypatch.chdir(tmp_path)
    for name in ("source", "old"):
        (tmp_path / name).write_text(name)
    (tmp_path / "dir").mkdir()
    if os.name == "posix":
        os.mkfifo("pipe")
        (tmp_path / "soft").symlink_to("source")
        (tmp_path / "hard").hardlink_to("source")
        (tmp_path / "new-link").symlink_to("dir/new")
        (tmp_path / "bad-link").symlink_to("absent/new")
    return tmp_path


READ = "is the same file as source, which is read here; give another name"


@needs_posix
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("source", "is the same file as one that is read here; give another name"),
        ("./dir/../source", READ),
        ("soft", READ),
        ("hard", READ),
        ("dir", "is a directory, not a regular file; give the name of the file to write"),
        (".", "is a directory, not a regular file; give the name of the file to write"),
        ("pipe", "is not a regular file; give the name of the file to write"),
        ("/dev/null", "is not a regular file; give the name of the file to write"),
        ("absent/new", "its directory does not exist; create absent first"),
        ("old/new", "old is not a directory; give another name"),
        ("bad-link", "its directory does not exist; create .*/absent first"),
        ("x" * 300, "cannot be written: the name is too long; choose a shorter one"),
    ],
)
def test_outputs_that_are_refused(folder, output, said, overwrite):
    path = Path(output)
    with pytest.raises(OutputError, match=rf"^{path}: {said}$"):
        check_output(path, [folder / "absent", Path("source")], overwrite=overwrite)


@needs_posix
def test_outputs_that_are_taken(folder):
    reads = [folder / "source", folder / "absent"]
    for name in ("new", "dir/new", "new-link", "./new"):
        check_output(Path(name), reads, overwrite=False)
    check_output(folder / "old", reads, overwrite=True)
    with pytest.raises(OutputError, match=r"old: exists already; give another name, or --overwrite to replace it$"):
        check_output(folder / "old", reads, overwrite=False)
    assert names(folder) == ["bad-link", "dir", "hard", "new-link", "old", "pipe", "soft", "source"]


# --- writing


def test_a_file_appears_when_it_is_whole(tmp_path):
    out = tmp_path / "out"
    with replacing(out) as file:
        file.write(b"12")
        assert not out.exists()
        assert names(tmp_path) == [Path(file.name).name]
        file.write(b"34")
    assert out.read_bytes() == b"1234"
    assert names(tmp_path) == ["out"]
    assert out.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("problem", [KeyboardInterrupt, SystemExit, ZeroDivisionError, InputError])
@pytest.mark.parametrize("old", [None, b"old"])
def test_what_is_raised_meanwhile_leaves_everything_as_it_was(tmp_path, problem, old):
    out = tmp_path / "out"
    if old:
        out.write_bytes(old)
    with pytest.raises(problem), replacing(out) as file:
        file.write(b"half")
        raise problem
    assert names(tmp_path) == (["out"] if old else [])
    assert not old or out.read_bytes() == old


@pytest.mark.parametrize("call", ["fsync", "replace", "chmod", "write"])
@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.ENOSPC, "no space left: 2 kB needed, .* free in .*; free space or use another disk"),
        (errno.EACCES, "cannot be written: no permission to write in .*; choose another directory or change its"),
        (errno.EROFS, "cannot be written: .* is read-only; choose another directory"),
        (errno.EFBIG, "cannot be written: 2 kB are more than the file system or `ulimit -f` allows"),
        (errno.EIO, "cannot be written: Input/output error; choose another output"),
    ],
)
def test_a_system_that_refuses(tmp_path, monkeypatch, call, code, said):
    out = tmp_path / "out"
    out.write_bytes(b"old")

    def refuse(*_args, **_options):
        raise OSError(code, os.strerror(code))

    if call == "write":
        monkeypatch.setattr(files, "write_all", refuse)
    else:
        monkeypatch.setattr(os, call, refuse)
    with pytest.raises(OutputError, match=rf"^{out}: {said}"):
        write_bytes(out, b"x" * 2000)
    assert out.read_bytes() == b"old"
    assert names(tmp_path) == ["out"]


@needs_posix
def test_links_stay_and_permissions_too(tmp_path):
    (tmp_path / "dir").mkdir()
    real, link = tmp_path / "dir" / "real", tmp_path / "link"
    real.write_bytes(b"old")
    real.chmod(0o600)
    link.symlink_to("dir/real")
    write_bytes(link, b"new")
    assert link.is_symlink() and real.read_bytes() == b"new"
    assert real.stat().st_mode & 0o7777 == 0o600
    with replacing(tmp_path / "fresh", mode=0o100640) as file:
        file.write(b"1")
    assert (tmp_path / "fresh").stat().st_mode & 0o7777 == 0o640


def test_bytes_that_a_system_takes_in_parts(tmp_path, monkeypatch):
    class Slow:
        def __init__(self):
            self.taken = b""

        def write(self, data):
            self.taken += bytes(data[:3])
            return min(3, len(data))

    slow = Slow()
    files.write_all(slow, b"0123456789")
    assert slow.taken == b"0123456789"


def test_another_program_may_write_the_file(tmp_path):
    with replacing(tmp_path / "out") as file:
        subprocess.run([sys.executable, "-c", f"open({file.name!r}, 'w').write('theirs')"], check=True)
    assert (tmp_path / "out").read_text() == "theirs"


WRITER = """
    import signal
    import sys
    from pathlib import Path
    from ggufrope import cli
    from ggufrope.files import replacing

    def write(*_arguments, **_options):
        with replacing(Path(sys.argv[1])) as file:
            file.write(b"half")
            print("begun", flush=True)
            sys.stdin.read()

    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs tests in the background has it ignored
    cli.cli.main = write
    sys.exit(cli.main([]))
"""


@needs_posix
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_process_that_is_ended(tmp_path, number, code):
    out = tmp_path / "out"
    out.write_bytes(b"old")
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(out)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        assert run.stdout.readline() == b"begun\n"
        assert len(names(tmp_path)) == 2
        write_bytes(tmp_path / "other", b"")  # nor does anybody take a running process's file for abandoned
        (tmp_path / "other").unlink()
        with replacing(out):
            assert len(names(tmp_path)) == 3
            run.send_signal(number)
            raised = run.wait(timeout=60)
            left = len(names(tmp_path))
    assert raised == code
    assert left == (3 if number == signal.SIGKILL else 2)  # nobody can do anything about that one
    write_bytes(out, b"new")  # until the next one that writes here
    assert names(tmp_path) == ["out"]
    assert out.read_bytes() == b"new"


def test_a_temporary_file_that_is_swept_away_before_it_is_locked(tmp_path, monkeypatch):
    real, swept = files.hold, []

    def late(file):
        if not swept:
            Path(file.name).unlink()
            swept.append(file.name)
        return real(file)

    monkeypatch.setattr(files, "hold", late)
    write_bytes(tmp_path / "out", b"whole")
    assert swept and (tmp_path / "out").read_bytes() == b"whole"
    assert names(tmp_path) == ["out"]


# --- locks


@pytest.mark.parametrize(
    ("first", "second", "had"), [(True, True, False), (True, False, False), (False, True, False), (False, False, True)]
)
def test_who_excludes_whom(tmp_path, first, second, had):
    path = tmp_path / "a"
    path.touch()
    with path.open("rb+") as one, path.open("rb+") as other:
        assert files.try_lock(one, alone=first)
        assert files.try_lock(other, alone=second) is had
        began = time.monotonic()
        assert hold(other, alone=second, patience=0.2) is had
        assert had or time.monotonic() - began >= 0.2
        one.close()
        assert hold(other, alone=second)


def test_a_lock_is_waited_for(tmp_path):
    path = tmp_path / "a"
    path.touch()
    with path.open("rb") as one, path.open("rb") as other:
        assert files.try_lock(one)
        timer = threading.Timer(0.2, one.close)
        timer.start()
        began = time.monotonic()
        assert hold(other)
        assert time.monotonic() - began >= 0.15
        timer.join()


@needs_posix
def test_a_file_system_without_locks_is_no_reason_to_stop(tmp_path, monkeypatch):
    def none(*_arguments):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(files.fcntl, "flock", none)
    write_bytes(tmp_path / "out", b"1")
    with (tmp_path / "out").open("rb") as file:
        assert files.try_lock(file)


def test_what_is_written_can_be_read(tmp_path):
    write_bytes(tmp_path / "a.json", (json.dumps({"ä": "—"}, ensure_ascii=False) + "\n").encode())
    assert read_json(tmp_path / "a.json") == {"ä": "—"}


@pytest.mark.parametrize(
    ("word", "users"),
    [
        (r"\bmkstemp\b|NamedTemporaryFile", {"files.py"}),
        (r"\b(fcntl|msvcrt)\b", {"files.py"}),
        (r"\bsamefile\b", {"files.py", "gguf/shards.py"}),  # a shard that already is where it is to be
        (r"exists already", {"files.py"}),
        (r"not UTF-8 text", {"files.py"}),
    ],
)
def test_what_is_here_is_nowhere_else(word, users):
    package = Path(files.__file__).parent
    found = {p.relative_to(package).as_posix() for p in package.rglob("*.py") if re.search(word, p.read_text("utf-8"))}
    assert found == users


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "hf: no config.json; give a Hugging Face model directory or a GGUF file"),
        (b"{", "hf/config.json: not JSON (Expecting"),
        (b"\xff", "hf/config.json: not UTF-8 text (byte 0)"),
        (b"[]", "hf/config.json: an object is needed, found a list"),
    ],
)
def test_a_checkpoint_s_configuration(tmp_path, content, said):
    folder = tmp_path / "hf"
    folder.mkdir()
    if content is not None:
        (folder / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        read_config(folder)
    assert str(caught.value).startswith(f"{tmp_path}/{said}")
