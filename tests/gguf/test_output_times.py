"""Whoever goes by size and time, as ``make``, ``cp -u`` and ``rsync`` do, sees that a file has changed."""

from __future__ import annotations

import errno
import os

import pytest
from gguf_builder import tiny_llama

from ggufrope.cli import main

OLD = 1_000_000_000  # seconds; long ago


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "in.gguf"
    path.write_bytes(tiny_llama(tail=b"x" * 10_000))
    os.utime(path, (OLD, OLD))
    return path


def run(*words):
    assert main([str(word) for word in words]) == 0


def stamp(path):
    return path.stat().st_size, path.stat().st_mtime_ns


def test_a_second_conversion_of_the_same_size_is_seen(source, tmp_path):
    out, stamps = tmp_path / "out.gguf", []
    for factor in (2, 4):
        run("convert", source, "-o", out, "--method", "yarn", "--factor", factor, "--overwrite")
        stamps.append(stamp(out))
        os.utime(out, (OLD + factor, OLD + factor))
    (size, first), (same, second) = stamps
    assert size == same
    assert first > OLD * 10**9 and second > first
    assert source.stat().st_mtime == OLD


@pytest.mark.parametrize("how", [["strip"], ["strip", "--in-place"], ["convert", "--in-place", "--method", "ntk"]])
def test_every_output_is_newer_than_what_it_was_made_of(source, tmp_path, how):
    made = tmp_path / "made.gguf"
    run("convert", source, "-o", made, "--method", "yarn", "--factor", 2)
    os.utime(made, (OLD, OLD))
    command, *options = how
    if "--in-place" in options:
        out, where = made, []
    else:
        out, where = tmp_path / "out.gguf", ["-o", tmp_path / "out.gguf"]
    run(command, made, *options, *where, *(["--factor", 4] if command == "convert" else []))
    assert out.stat().st_mtime > OLD


def test_a_refusal_leaves_the_time_alone(source, tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    assert main(["convert", str(source), "--in-place", "--method", "yarn", "--factor", "2"]) != 0
    assert source.stat().st_mtime == OLD
