"""Both sides read the same prompts, and no longer than they may: on a session and a clock that are not real."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from ggufrope.check import paired_reading, time_budget
from ggufrope.check.paired_reading import CheckSide, read_both
from ggufrope.check.planted_prompts import plant
from ggufrope.errors import UsageError

TEXT = "".join(random.Random(0).choices("abcdefghijklmnopqrstuvwxyz", k=60_000))


def predicted(before, token):
    """Log-likelihood of ``token`` behind ``before``."""
    return -1.0 - (31 * token + 17 * before) % 13


class FakeSession:
    """A token for each character. Its time passes with tokens; ``log`` has what was read by which file."""

    speed = 1000.0
    speeds: ClassVar[dict[str, float]] = {}
    clock = 0.0
    log: ClassVar[list[tuple[str, tuple[int, ...]]]] = []
    opened: ClassVar[list[str]] = []

    def __init__(self, file, *, n_ctx, settings, chunk):
        self.file, self.n_ctx, self.settings, self.chunk = file, n_ctx, settings, chunk
        self.begins_with_bos, self.offset = True, 0.0
        FakeSession.opened.append(file.name)

    def prompt(self, text):
        return [1]

    def tokens(self, text):
        return [ord(c) for c in text]

    def log_probs(self, ids):
        FakeSession.log.append((self.file.name, tuple(ids)))
        for start in range(0, len(ids), self.chunk):
            n = len(ids[start : start + self.chunk])
            FakeSession.clock += n / self.speeds.get(self.file.name, self.speed)
            before = np.array(ids[start : start + n])[:, None]
            yield predicted(before, np.arange(128)[None, :]) + self.offset

    def close(self):
        FakeSession.log.append((self.file.name, ()))


@pytest.fixture(autouse=True)
def fake(monkeypatch):
    monkeypatch.setattr(FakeSession, "log", [])
    monkeypatch.setattr(FakeSession, "opened", [])
    monkeypatch.setattr(FakeSession, "clock", 0.0)
    monkeypatch.setattr(paired_reading, "Session", FakeSession)
    clock = SimpleNamespace(monotonic=lambda: FakeSession.clock)
    monkeypatch.setattr(paired_reading, "time", clock)
    monkeypatch.setattr(time_budget, "time", clock)
    return monkeypatch


def file(name, train_ctx=4096):
    model = SimpleNamespace(train_ctx=train_ctx)
    return SimpleNamespace(name=name, path=f"{name}.gguf", original=SimpleNamespace(model=model))


def read(first, second, seconds=60.0, texts=(TEXT,), **more):
    return read_both(first, second, texts, seconds=seconds, threads=1, progress=None, **more)


def prompts(name=None):
    """What was read but for the three readings that measure speed."""
    return [ids for who, ids in FakeSession.log if ids and name in (None, who)][3 if name in (None, "a") else 0 :]


def test_one_file_is_loaded_once_and_both_sides_read_the_same():
    one = file("a")
    harm = CheckSide(one, lambda session: setattr(session, "offset", -0.5))
    found = read(CheckSide(one), harm)
    assert FakeSession.opened == ["a"]
    assert found.length == 1024
    assert len(found.first) == len(found.second) == 8
    seen = prompts()
    assert seen[:8] == seen[8:]
    assert len(set(seen)) == 8
    assert {len(ids) for ids in seen} == {1024}
    for before, after in zip(found.first, found.second, strict=True):
        assert after.plain == pytest.approx(before.plain - 0.5)
        assert after.copied == pytest.approx(before.copied - 0.5)
    assert FakeSession.log[-1] == ("a", ())  # closed


def test_each_token_is_judged_by_the_prediction_before_it(fake):
    made = []
    fake.setattr(paired_reading, "plant", lambda *given: made.append(plant(*given)) or made[-1])
    one = file("a")
    found = read(CheckSide(one), CheckSide(one))
    assert len(made) == 8
    for prompt, score in zip(made, found.first, strict=True):
        ids = np.array(prompt.ids)
        for places, value in (
            (prompt.plain, score.plain),
            (prompt.unseen, score.unseen),
            (prompt.copied, score.copied),
        ):
            assert value == pytest.approx(predicted(ids[places - 1], ids[places]).mean())


def test_two_files_are_not_open_together():
    found = read(CheckSide(file("a")), CheckSide(file("b")))
    assert FakeSession.opened == ["a", "b"]
    closing = [who for who, ids in FakeSession.log if not ids]
    assert closing == ["a", "b"]
    assert [who for who, _ in FakeSession.log].index("b") > FakeSession.log.index(("a", ()))
    assert prompts("a") == prompts("b")
    assert len(found.second) == 8


@pytest.mark.parametrize("speed", [12, 16, 20, 35, 60, 110, 250, 700, 5000])
def test_a_steady_machine_keeps_to_the_time(fake, speed):
    fake.setattr(FakeSession, "speed", float(speed))
    one = file("a")
    found = read(CheckSide(one), CheckSide(one))
    assert FakeSession.clock <= 60
    assert len(found.first) == len(found.second) >= 4
    if speed >= 35:
        assert len(found.first) >= 6


def test_a_second_side_that_is_slower_stops_in_time(fake):
    fake.setattr(FakeSession, "speeds", {"a": 400.0, "b": 150.0})
    found = read(CheckSide(file("a")), CheckSide(file("b")))
    assert FakeSession.clock < 60
    assert 4 <= len(found.first) == len(found.second) < 8
    assert prompts("b") == prompts("a")[: len(found.second)]


@pytest.mark.parametrize("slower", ["a", "b"])
def test_a_machine_that_becomes_slower_is_not_waited_for(fake, slower):
    """The first side decides by its speed; then either comes to a crawl."""
    speeds = {"a": 400.0, "b": 400.0}
    fake.setattr(FakeSession, "speeds", speeds)

    def crawl(session):
        FakeSession.log.append(("crawling", ()))
        speeds[slower] = 4.0

    if slower == "a":
        fake.setattr(paired_reading, "plant", lambda *given: crawl(None) or plant(*given))
    with pytest.raises(UsageError, match=rf"{slower}\.gguf: \d of 8 prompts were read in time"):
        read(CheckSide(file("a")), CheckSide(file("b"), crawl if slower == "b" else None))
    assert FakeSession.clock < 60 + 64 / 4


def test_too_slow_is_said_and_the_model_closed(fake):
    fake.setattr(FakeSession, "speed", 8.0)
    with pytest.raises(UsageError, match=r"a\.gguf: 8 tokens a second are too few .* use `ggufrope eval`"):
        read(CheckSide(file("a")), CheckSide(file("a")))
    assert FakeSession.clock <= 10
    assert FakeSession.log[-1] == ("a", ())


def test_no_prompt_is_longer_than_the_model_was_trained_for():
    for trained, length in ((4096, 1024), (1023, 512), (512, 512), (100, 64)):
        one = file("a", trained)
        assert read(CheckSide(one), CheckSide(one)).length == length
    with pytest.raises(UsageError, match=r"a\.gguf: trained for 63 tokens"):
        read(CheckSide(file("a", 63)), CheckSide(file("a", 63)))


def test_prompts_come_from_all_over_all_texts():
    other = TEXT.upper()
    one = file("a")
    read(CheckSide(one), CheckSide(one), texts=(TEXT, other))
    upper = [sum(65 <= t < 91 for t in ids) > 512 for ids in prompts()[:8]]
    assert sum(upper) == 4
    assert sum(upper[:4]) == 2
    assert len({ids[1:50] for ids in prompts()[:8]}) == 8


@pytest.mark.parametrize("written", [320, 64 * 6, 700, 1100, 2550, 5000, 9000, 40_000, 200_000])
def test_prompts_do_not_overlap_however_short_the_text_is(fake, written):
    """Each token of the text is another one here, so that a place that is read twice is seen."""
    taken = []
    fake.setattr(FakeSession, "tokens", lambda _self, text: [ord(c) for c in text])
    fake.setattr(FakeSession, "log_probs", lambda self, ids: iter([np.zeros((len(ids), 1))]))
    fake.setattr(
        paired_reading,
        "plant",
        lambda ids, front, length, _seed: taken.append(ids) or plant([0] * length, front, length, 0),
    )
    fake.setattr(paired_reading, "reading_speed", lambda *_: 1e6)
    one = file("a")
    found = read(CheckSide(one), CheckSide(one), texts=("".join(map(chr, range(1000, 1000 + written))),))
    assert len(found.first) == len(taken) >= 6
    places = [token for ids in taken for token in ids]
    assert len(places) == len(set(places))
    assert max(places) - min(places) >= 0.8 * (written - 1) or written > 100_000


def test_a_text_that_is_too_short():
    one = file("a")
    with pytest.raises(UsageError, match="give a longer TEXT"):
        read(CheckSide(one), CheckSide(one), texts=("brief",))
    with pytest.raises(UsageError, match="255 tokens of text are too few for prompts that do not overlap; give a long"):
        read(CheckSide(one), CheckSide(one), texts=(TEXT[:255],))


def test_the_same_call_reads_the_same_prompts():
    one = file("a")
    read(CheckSide(one), CheckSide(one))
    first = prompts()
    FakeSession.log.clear()
    FakeSession.clock = 0.0
    read(CheckSide(one), CheckSide(one))
    assert prompts() == first


def test_progress_reaches_its_total():
    calls: list[tuple[int, int, str]] = []
    one = file("a")
    read_both(CheckSide(one), CheckSide(one), [TEXT], seconds=60, threads=1, progress=lambda *call: calls.append(call))
    assert calls == [(i, 16, "prompts") for i in range(1, 17)]


def test_a_model_is_closed_whatever_happens(fake):
    def fail(_session):
        raise KeyboardInterrupt

    one = file("a")
    with pytest.raises(KeyboardInterrupt):
        read(CheckSide(one), CheckSide(one, fail))
    assert FakeSession.log[-1] == ("a", ())
