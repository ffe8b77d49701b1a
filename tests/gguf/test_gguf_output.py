import contextlib
import errno
import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import numpy as np
import pytest
from gguf_builder import tiny_llama

from ggufrope.errors import GgufError, OutputError
from ggufrope.gguf import TypedValue, ValueType, output, read_header, rewrite

NEW = {"set": {"ggufrope.version": TypedValue(ValueType.UINT32, 1)}, "add_tensors": {"t": np.ones(3, np.float32)}}


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source.gguf"
    path.write_bytes(tiny_llama(tail=b"x" * 10_000))
    return read_header(path)


@pytest.fixture
def intact(source, tmp_path):
    """An old output; afterwards it, the source and the directory are as they were."""
    out = tmp_path / "out.gguf"
    out.write_bytes(b"old")
    before = source.path.read_bytes()
    yield out
    assert out.read_bytes() == b"old"
    assert source.path.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.gguf", "source.gguf"]


@pytest.fixture
def expected(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("expected") / "out.gguf"
    rewrite(source, out, **NEW)
    return out.read_bytes()


def refuse(code):
    def call(*args, **options):
        raise OSError(code, os.strerror(code))

    return call


@pytest.mark.parametrize("copy_file_range", [None, refuse(errno.EXDEV), refuse(errno.ENOSYS), lambda *a, **k: 0])
@pytest.mark.parametrize("sendfile", [None, refuse(errno.EINVAL), refuse(errno.ENOTSOCK), lambda *a, **k: 0, "real"])
def test_every_way_of_copying_gives_the_same_bytes(source, tmp_path, expected, monkeypatch, copy_file_range, sendfile):
    for name, replacement in (("copy_file_range", copy_file_range), ("sendfile", sendfile)):
        if replacement is None:
            monkeypatch.delattr(os, name, raising=False)
        elif replacement != "real":
            monkeypatch.setattr(os, name, replacement, raising=False)
    rewrite(source, tmp_path / "out.gguf", **NEW)
    assert (tmp_path / "out.gguf").read_bytes() == expected


def test_progress_reaches_the_size(source, tmp_path, expected, monkeypatch):
    monkeypatch.setattr(output, "CHUNK", 1000)
    seen = []
    rewrite(source, tmp_path / "out.gguf", progress=lambda *args: seen.append(args), **NEW)
    assert (tmp_path / "out.gguf").read_bytes() == expected
    assert {total for _, total in seen} == {len(expected)}
    done = [count for count, _ in seen]
    assert len(done) > 10 and done == sorted(done) and done[-1] == len(expected)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_an_interruption_leaves_everything_as_it_was(source, intact, error):
    def stop(done, total):
        raise error

    with pytest.raises(error):
        rewrite(source, intact, progress=stop, **NEW)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            errno.ENOSPC,
            r"out.gguf: no space left: 11.5 kB needed, .* free in .*; free space or use another disk",
        ),
        (errno.EDQUOT, "no space left"),
        (errno.EACCES, "no permission to write in .*; choose another directory or change its permissions"),
        (errno.EROFS, "is read-only; choose another directory"),
        (errno.EFBIG, "kB are more than the file system or `ulimit -f` allows"),
        (errno.EIO, "cannot be written: Input/output error"),
    ],
)
@pytest.mark.parametrize("call", ["copy_file_range", "fsync"])
def test_a_system_that_refuses_to_write(source, intact, monkeypatch, code, message, call):
    monkeypatch.setattr(os, call, refuse(code))
    if call == "copy_file_range":
        monkeypatch.setattr(os, "sendfile", refuse(code))
        monkeypatch.setattr(output, "write_all", refuse(code))
    with pytest.raises(OutputError, match=message) as caught:
        rewrite(source, intact, **NEW)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no file size limits here")
def test_a_full_disk(source, intact):
    script = """
        import resource, sys
        from ggufrope.errors import OutputError
        from ggufrope.gguf import read_header, rewrite
        header = read_header(sys.argv[1])
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
        try:
            rewrite(header, sys.argv[2])
        except OutputError as error:
            print(error)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), source.path, intact]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout.startswith(f"{intact}: cannot be written: 11.4 kB are more than the file system or `ulimit -f`")


def test_the_source_is_never_the_output(source, tmp_path):
    before = source.path.read_bytes()
    (tmp_path / "soft").symlink_to(source.path)
    (tmp_path / "hard").hardlink_to(source.path)
    for name in ("source.gguf", "soft", "hard", "../" + tmp_path.name + "/source.gguf"):
        with pytest.raises(OutputError, match=r"same file as (one that|.*/source.gguf, which) is read here; give"):
            rewrite(source, tmp_path / name)
    assert source.path.read_bytes() == before


def test_outputs_that_cannot_be_files(source, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for out, message in (
        (tmp_path, "is a directory, not a regular file; give the name of the file"),
        (tmp_path / "pipe", "is not a regular file"),
        ("/dev/null", "is not a regular file"),
        (tmp_path / "absent" / "out", "out: its directory does not exist; create .*/absent first"),
        (source.path / "out", "source.gguf is not a directory"),
        (tmp_path / ("x" * 300), "name is too long|File name too long"),
    ):
        with pytest.raises(OutputError, match=message):
            rewrite(source, out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pipe", "source.gguf"]


@contextlib.contextmanager
def ordinary_user():
    """Root may read and write anything; act as somebody else for a while."""
    if not hasattr(os, "geteuid"):
        pytest.skip("no user ids here")
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_no_permission():
    # pytest's own directories are closed to everybody else
    with tempfile.TemporaryDirectory() as name:
        folder, path = Path(name), Path(name) / "source.gguf"
        path.write_bytes(tiny_llama())
        header = read_header(path)
        folder.chmod(0o555)
        with (
            ordinary_user(),
            pytest.raises(OutputError, match=f"out.gguf: .*no permission to write in {folder}; choose"),
        ):
            rewrite(header, folder / "out.gguf")
        path.chmod(0)
        with (
            ordinary_user(),
            pytest.raises(GgufError, match="cannot be read: Permission denied; check its permissions"),
        ):
            read_header(path)
        folder.chmod(0o700)
        assert [file.name for file in folder.iterdir()] == ["source.gguf"]


def test_permissions_follow_the_source_or_the_old_output(source, tmp_path):
    source.path.chmod(0o640)
    out = tmp_path / "out.gguf"
    rewrite(source, out)
    assert out.stat().st_mode & 0o7777 == 0o640
    out.chmod(0o604)
    rewrite(source, out)
    assert out.stat().st_mode & 0o7777 == 0o604


def test_a_symlink_stays_and_its_target_is_replaced(source, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "real.gguf").write_bytes(b"old")
    link = tmp_path / "link.gguf"
    link.symlink_to("models/real.gguf")
    rewrite(source, link)
    assert link.is_symlink()
    assert (tmp_path / "models" / "real.gguf").read_bytes() == source.path.read_bytes()


@pytest.mark.parametrize("change", [lambda path: os.truncate(path, 3000), lambda path: path.open("ab").close()])
def test_a_source_that_changes_while_it_is_copied(source, tmp_path, monkeypatch, change):
    monkeypatch.setattr(output, "CHUNK", 1000)
    out = tmp_path / "out.gguf"
    out.write_bytes(b"old")

    def interfere(done, total):
        change(source.path)
        os.utime(source.path)

    with pytest.raises(GgufError, match=r"the file (shrank|changed) while it was copied; wait until it is complete"):
        rewrite(source, out, progress=interfere, **NEW)
    assert out.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.gguf", "source.gguf"]
