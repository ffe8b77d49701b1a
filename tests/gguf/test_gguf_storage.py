"""Disks that are full, directories that are closed, other file systems, and files that other programs change."""

import contextlib
import os
import random
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import numpy as np
import pytest
from gguf_builder import build, llama_entries, tiny_llama

from ggufrope.cli import main
from ggufrope.errors import GgufError, OutputError
from ggufrope.gguf import Layout, TypedValue, ValueType, edit_in_place, output, read_header, rewrite

sys.path.insert(0, str(Path(__file__).parent))
import kill_points

NEW = {
    "set": {"ggufrope.method": TypedValue(ValueType.STRING, "new" * 9000)},
    "add_tensors": {"t": np.ones(9999, "f4")},
}


@contextlib.contextmanager
def loop_mount(kind, megabytes, image=None):
    """A file system of its own in a file; needs to be root where loop devices are allowed."""
    with tempfile.TemporaryDirectory() as name:
        image, folder, made = image or Path(name) / "image", Path(name) / "mounted", image is not None
        folder.mkdir()
        if not made:
            with image.open("wb") as file:
                file.truncate(megabytes << 20)
        try:
            for command in (
                ["true"] if made else [f"mkfs.{kind}", "-q", str(image)],
                ["mount", "-o", "loop,nouuid" if kind == "xfs" else "loop", str(image), str(folder)],
            ):
                subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"cannot mount a small {kind} here ({error})")
        try:
            yield folder
        finally:
            subprocess.run(["umount", folder], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
@pytest.mark.parametrize("name", kill_points.SCENARIOS)
def test_a_power_failure_at_any_point(tmp_path, kind, name):
    """The disk as it is at the moment of a kill, without what the kernel had yet to write, mounted again."""
    scenario, chance = kill_points.SCENARIOS[name], random.Random(name)
    image, snapshot = tmp_path / "image", tmp_path / "snapshot"
    with image.open("wb") as file:
        file.truncate((320 if kind == "xfs" else 12) << 20)
    with contextlib.suppress(FileNotFoundError):
        subprocess.run([f"mkfs.{kind}", "-q", image], check=True)
    with loop_mount(kind, 0, image) as folder:
        for path in folder.glob("lost+found"):
            path.rmdir()
        before = scenario.start(folder)
        points = kill_points.forked(scenario.act, folder, kill_points.Countdown())
        after = scenario.result(folder)
        for at in [*chance.sample(range(points), min(points, 10)), points]:
            for path in folder.iterdir():
                path.unlink()
            scenario.start(folder)
            os.sync()
            countdown = kill_points.Countdown(at, chance.random(), os.fsync)
            killed = kill_points.forked(scenario.act, folder, countdown) is None
            subprocess.run(["cp", "--sparse=always", image, snapshot], check=True)
            with loop_mount(kind, 0, snapshot) as mounted:
                scenario.recover(mounted)
                assert scenario.result(mounted) in ((before, after) if killed else (after,)), at
                assert not [name for name in scenario.leftovers(mounted) if name != "lost+found"]


def model(path, megabytes=0):
    weights = np.random.default_rng(0).standard_normal(max(megabytes << 18, 100), dtype=np.float32)
    path.write_bytes(build(llama_entries(), [("w", weights)]))
    return path


def fill(folder, leave):
    """Take all space but ``leave`` bytes."""
    with (folder / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 16))
    with (folder / "filler").open("r+b") as file:
        file.truncate(max((folder / "filler").stat().st_size - leave, 0))
    os.sync()


@pytest.mark.slow
def test_a_full_disk_leaves_everything_as_it_was():
    with loop_mount("ext4", 16) as folder:
        path = model(folder / "m.gguf", 2)
        before = path.read_bytes()
        refused = 0
        for leave in range(0, 200_000, 8192):
            fill(folder, leave)
            for attempt in (
                lambda: edit_in_place(read_header(path), **NEW),
                lambda: rewrite(read_header(path), folder / "o"),
            ):
                try:
                    attempt()
                except OutputError as error:
                    assert "no space left" in str(error)
                    refused += 1
                    assert path.read_bytes() == before
                    assert sorted(p.name for p in folder.iterdir()) == ["filler", "lost+found", "m.gguf"]
                else:
                    assert read_header(path).get("ggufrope.method") or (folder / "o").read_bytes() == before
                    path.write_bytes(before)
        assert refused > 20


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["xfs", "btrfs", "vfat"])
def test_other_file_systems(kind):
    with loop_mount(kind, 320) as folder:
        path = model(folder / "m.gguf", 20)
        before = path.read_bytes()
        os.sync()
        free, source = os.statvfs(folder).f_bfree, read_header(path)
        rewrite(source, folder / "o.gguf", **NEW, layout=Layout(source.data_offset))
        os.sync()
        taken = (free - os.statvfs(folder).f_bfree) * os.statvfs(folder).f_frsize
        assert (taken < 5 << 20) == (kind != "vfat")  # the others share blocks
        done = edit_in_place(read_header(path), **NEW)
        assert ("inserted" in done.how) == (kind == "xfs") and ("rewritten" in done.how) == (kind != "xfs")
        assert read_header(path).tensor_data("w").tobytes() in before


def test_output_on_another_file_system(tmp_path):
    other = next((Path(p) for p in ("/dev/shm", "/run", "/tmp") if os.access(p, os.W_OK)
                  and Path(p).stat().st_dev != tmp_path.stat().st_dev), None)  # fmt: skip
    if other is None:
        pytest.skip("there is only one file system to write to")
    source = model(tmp_path / "m.gguf")
    rewrite(read_header(source), tmp_path / "here.gguf", **NEW)
    with tempfile.TemporaryDirectory(dir=other) as folder:
        rewrite(read_header(source), Path(folder) / "there.gguf", **NEW)
        assert (Path(folder) / "there.gguf").read_bytes() == (tmp_path / "here.gguf").read_bytes()
        edit_in_place(read_header(Path(folder) / "there.gguf"), remove=["ggufrope.method"])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no file size limits here")
@pytest.mark.parametrize("limit", [0, 500, 1000, 1500, 5000, 40_000])
def test_a_size_limit_in_place(tmp_path, limit):
    path = model(tmp_path / "m.gguf")
    before = path.read_bytes()
    script = """
        import resource, sys
        import numpy as np
        from ggufrope.errors import OutputError
        from ggufrope.gguf import Layout, TypedValue, ValueType, edit_in_place, read_header
        new = TypedValue(ValueType.STRING, "new" * 9000)
        header = read_header(sys.argv[1])
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
        try:
            edit_in_place(header, set={"ggufrope.method": new}, add_tensors={"t": np.ones(9999, "f4")})
        except OutputError as error:
            print(error)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), path, str(limit)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "more than the file system or `ulimit -f` allows" in run.stdout
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_holes_stay_holes(tmp_path):
    path = tmp_path / "m.gguf"
    data = build(llama_entries(), [("w", np.zeros(2 << 20, np.float32)), ("x", np.ones(5, np.float32))])
    with path.open("wb") as file:
        file.write(data[:4096])
        file.seek(8 << 20)
        file.write(data[8 << 20 :])
    if path.stat().st_blocks * 512 > 1 << 20:
        pytest.skip("the file system makes no holes")
    assert path.read_bytes() == data
    out = tmp_path / "o.gguf"
    rewrite(read_header(path), out, **NEW)
    assert out.stat().st_blocks * 512 < 1 << 20
    assert np.array_equal(read_header(out).tensor_data("x"), np.ones(5))
    edit_in_place(read_header(path), **NEW)
    assert path.stat().st_blocks * 512 < 1 << 20
    assert read_header(path).tensor_data("w").any() == np.False_
    end = tmp_path / "end.gguf"  # a hole up to the end of the file
    end.write_bytes(data[:4096])
    os.truncate(end, 8 << 20 | 4096)
    with contextlib.suppress(GgufError):
        rewrite(read_header(end), out)
    assert out.stat().st_size > 8 << 20


@pytest.mark.parametrize("change", ["grow", "shrink", "replace"])
def test_a_file_that_another_program_changes_is_never_half_copied_or_edited(tmp_path, monkeypatch, change):
    path, out = tmp_path / "m.gguf", tmp_path / "o.gguf"
    path.write_bytes(tiny_llama(tail=b"x" * 5000))
    header = read_header(path)
    monkeypatch.setattr(output, "CHUNK", 500)

    def interfere(*args):
        if change == "replace":
            path.rename(tmp_path / "moved")
            path.write_bytes(tiny_llama(arch="qwen2"))
        else:
            os.truncate(path, path.stat().st_size + (900 if change == "grow" else -900))
            os.utime(path)
        monkeypatch.setattr(sys.modules["ggufrope.gguf.rewrite"], "write_all", output.write_all)

    real = output.write_all
    monkeypatch.setattr(
        sys.modules["ggufrope.gguf.rewrite"], "write_all", lambda file, data: (real(file, data), interfere())
    )
    if change == "replace":  # the open file is still whole
        rewrite(header, out)
        assert out.read_bytes() == (tmp_path / "moved").read_bytes()
    else:
        with pytest.raises(GgufError, match=r"(shrank|changed) while it was copied"):
            rewrite(header, out)
        assert not out.exists()
    now = path.read_bytes()
    with pytest.raises(GgufError, match=r"changed"):
        edit_in_place(header, **NEW)
    assert path.read_bytes() == now


def test_an_interrupted_command_says_that_nothing_changed(tmp_path, monkeypatch, capsys):
    path = tmp_path / "m.gguf"
    path.write_bytes(tiny_llama())
    before = path.read_bytes()

    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("ggufrope.gguf.inplace.insert_range", stop)
    assert main(["convert", str(path), "--in-place", "--method", "ms-poe"]) == 130
    assert capsys.readouterr().err.strip() == "ggufrope: interrupted; nothing was changed"
    assert path.read_bytes() == before
