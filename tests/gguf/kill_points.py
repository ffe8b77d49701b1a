"""Kills a process at every kind of point of writing a file, and checks what is left: run as a program by the tests.

Every call that changes a file or a directory counts as two points, before and after it; a write of n bytes is also
interrupted after some of them. A child process is forked for each trial and sends itself SIGKILL at the chosen point.
Nothing is synced meanwhile: a killed process loses nothing that it wrote, so that only the order of the calls matters.

    kill_points.py TRIALS SEED FOLDER [SCENARIO]     prints, for each, {"points", "killed", "restored", "done"}
"""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from gguf_builder import tiny_llama

from ggufrope.gguf import (
    Layout,
    TypedValue,
    ValueType,
    edit_in_place,
    extents,
    inplace,
    journal,
    keys,
    original_facts,
    output,
    read_header,
    recovery,
    rewrite,
)

MODULES = [inplace, journal, output, recovery, sys.modules["ggufrope.gguf.rewrite"]]
TENSOR = {"rope_freqs.weight": np.arange(1, 5000, dtype=np.float32)}


class Countdown:
    """Kills this process when it reaches a point; counts points when there is none to reach."""

    def __init__(self, at=None, fraction=0.5, sync=lambda descriptor: None):
        self.at, self.fraction, self.sync, self.passed = at, fraction, sync, 0

    def point(self):
        if self.passed == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.passed += 1

    def around(self, call):
        def counted(*args, **options):
            self.point()
            result = call(*args, **options)
            self.point()
            return result

        return counted

    def write(self, file, data):
        self.point()
        cut = int(len(data) * self.fraction)
        REAL_WRITE(file, data[:cut])
        self.point()
        REAL_WRITE(file, data[cut:])
        self.point()

    def copy(self, source, out, count, **options):
        self.point()
        return REAL_COPY(source, out, min(count, 700), **options)

    def install(self):
        for module in MODULES:
            if hasattr(module, "write_all"):
                module.write_all = self.write
        for name in ("replace", "unlink", "utime", "chmod", "link"):
            setattr(os, name, self.around(getattr(os, name)))
        extents._fallocate = self.around(extents._fallocate)
        os.fsync = self.around(self.sync)
        os.copy_file_range = self.copy


REAL_WRITE, REAL_COPY = output.write_all, os.copy_file_range


def text(length):
    return {"ggufrope.method": TypedValue(ValueType.STRING, "m" * length)}


def edit(path, **edits):
    edit_in_place(read_header(path), **edits)


def spacious(path):
    """A file that was edited before: it has slack, and a tensor that was added."""
    edit(path, set=text(5), add_tensors={"old": np.ones(3000, np.float32)})


def balanced(path):
    """A file that an edit drops as many bytes from as it inserts, so that its size says little."""
    whole = path.read_bytes()
    spacious(path)
    before = read_header(path).data_offset
    edit(path, set=text(30000), drop_tensors=["old"])
    moved = read_header(path).data_offset - before
    path.write_bytes(whole)
    edit(path, set=text(5), add_tensors={"old": np.ones(moved // 4, np.float32)})


class InPlace:
    """An edit of ``m.gguf``, after which it must be the old file or the new one."""

    def __init__(self, action, prepare=lambda path: None, **options):
        self.action, self.setup, self.options = action, prepare, options

    def start(self, folder):
        path = folder / "m.gguf"
        path.write_bytes(tiny_llama(tail=b"x" * 3000, **self.options))
        self.facts = original_facts(read_header(path))
        self.setup(path)
        return path.read_bytes()

    def act(self, folder):
        self.action(folder / "m.gguf", self.facts)

    def result(self, folder):
        return (folder / "m.gguf").read_bytes()

    def recover(self, folder):
        recovery.recover(folder / "m.gguf")

    def leftovers(self, folder):
        """What should not be there any more. An unfinished copy goes when the next one to that name begins."""
        known = ("m.gguf", "out.gguf", ".m.gguf.ggufrope-journal.new")
        return [path.name for path in folder.iterdir() if path.name not in known and "ggufrope-tmp" not in path.name]


class Copied(InPlace):
    """A rewrite of ``m.gguf`` to ``out.gguf``, where there is an old file or none."""

    def __init__(self, old):
        super().__init__(None)
        self.old = old

    def start(self, folder):
        super().start(folder)
        if self.old:
            (folder / "out.gguf").write_bytes(b"old")
        return self.result(folder)

    def act(self, folder):
        source = read_header(folder / "m.gguf")
        rewrite(source, folder / "out.gguf", set=text(5), add_tensors=TENSOR, layout=Layout(source.data_offset))

    def result(self, folder):
        out = folder / "out.gguf"
        return (folder / "m.gguf").read_bytes(), out.read_bytes() if out.exists() else None

    def recover(self, folder):
        """There is nothing to do."""


def undo(path, facts):
    edit(path, remove=[*text(1), keys.PADDING], drop_tensors=["old"], restore=facts)


def without_insertion(path, facts):
    def refuse(*args):
        raise OSError(95, "not supported")

    extents._fallocate = refuse
    edit(path, set=text(9), add_tensors=TENSOR)


SCENARIOS = {
    "copy": Copied(old=False),
    "copy over": Copied(old=True),
    "insert": InPlace(lambda path, facts: edit(path, set=text(9))),
    "insert and add": InPlace(lambda path, facts: edit(path, set=text(9), add_tensors=TENSOR)),
    "overwrite": InPlace(lambda path, facts: edit(path, set=text(4000)), spacious),
    "overwrite and add": InPlace(lambda path, facts: edit(path, set=text(40), add_tensors=TENSOR), spacious),
    "drop": InPlace(lambda path, facts: edit(path, remove=list(text(1)), drop_tensors=["old"]), spacious),
    "insert and drop": InPlace(lambda path, facts: edit(path, set=text(30000), drop_tensors=["old"]), spacious),
    "insert what is dropped": InPlace(lambda path, facts: edit(path, set=text(30000), drop_tensors=["old"]), balanced),
    "undo": InPlace(undo, spacious),
    "rewrite in place": InPlace(without_insertion),
}


def forked(action, folder, countdown):
    """Run ``action(folder)`` in a child with kill points; return the points passed, or None when it was killed."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            countdown.install()
            action(folder)
            os.write(write, str(countdown.passed).encode())
            code = 0
        except BaseException as error:  # a child must not return into the loop
            os.write(write, f"{type(error).__name__}: {error}".encode())
        os._exit(code)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        said = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return None
    if status:
        raise SystemExit(f"child failed: {said}")
    return int(said)


def trial(scenario, folder, before, after, countdown, again):
    """One kill, perhaps another one during recovery; return whether the old state came out."""
    for path in folder.iterdir():
        path.unlink()
    scenario.start(folder)
    killed = forked(scenario.act, folder, countdown) is None
    if again is not None:
        forked(scenario.recover, folder, again)
    scenario.recover(folder)
    found = scenario.result(folder)
    if found not in (before, after) or scenario.leftovers(folder):
        raise SystemExit(f"point {countdown.at}, {again and again.at}: damaged, left {scenario.leftovers(folder)}")
    if not killed and found != after:
        raise SystemExit(f"point {countdown.at}: not killed, but not done")
    return killed, found == before


def run(name, trials, chance, folder):
    scenario = SCENARIOS[name]
    for path in folder.iterdir():
        path.unlink()
    before = scenario.start(folder)
    points = forked(scenario.act, folder, Countdown())
    after = scenario.result(folder)
    if before == after:
        raise SystemExit(f"{name}: the edit changes nothing")
    # the very first and last steps always: only the last ones leave the new state, and a sample may miss them all
    ends = [0, points - 2, points - 1]
    places = list(range(points)) if trials >= points else [*ends, *chance.sample(range(1, points - 2), trials - 3)]
    places += [chance.randrange(points) for _ in range(trials - len(places))]
    results = []
    for place in places:
        again = Countdown(chance.randrange(20), chance.random()) if chance.random() < 0.5 else None
        results.append(trial(scenario, folder, before, after, Countdown(place, chance.random()), again))
    killed = sum(was for was, _ in results)
    old = sum(was for _, was in results)
    return {"points": points, "killed": killed, "restored": old, "done": len(results) - old}


def main(trials, seed, folder, *names):
    os.fsync = lambda descriptor: None
    logging.disable()
    chance = random.Random(int(seed))
    print(json.dumps({name: run(name, int(trials), chance, Path(folder)) for name in names or SCENARIOS}))


if __name__ == "__main__":
    main(*sys.argv[1:])
