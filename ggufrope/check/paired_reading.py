"""Both sides of a comparison read the same prompts, as many as time allows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ggufrope.check.planted_prompts import PlantedPrompt, plant, text_tokens
from ggufrope.check.time_budget import LENGTHS, SAMPLE, affordable, reading_speed
from ggufrope.errors import UsageError
from ggufrope.inference.opening import InferenceSettings
from ggufrope.inference.session import Session
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.runtime.cores import cores_of_process

__all__ = ["CheckSide", "PairedReading", "PromptScore", "read_both"]

#: Prompts read, prompts in all, what they are.
Progress = Callable[[int, int, str], None]

_CHUNK = 64  # rows of logits at a time; fewer would slow the reading down, more take memory
_CHARACTERS = 16  # of a token, at most on average: enough of a text is tokenized, not all of it
_SHARE = 0.9  # of the time that is left; attention over long prompts and a second file take some of it
_STEPS = (5, 7)  # one that shares no divisor with n: the first of n prompts are from all over, should time run out
_FEWEST = 4  # prompts, below which nothing is said


@dataclass(frozen=True, slots=True)
class CheckSide:
    """A model to read with: a file as it is, or with other factors, which ``prepare`` sets."""

    file: ModelFile
    prepare: Callable[[Session], None] | None = None


@dataclass(frozen=True, slots=True)
class PromptScore:
    """What a model makes of a prompt, in nats a token.

    Attributes:
        plain: log-likelihood of plain text; its loss has the other sign.
        unseen: of values at their first occurrence.
        copied: of the same values at the end.
    """

    plain: float
    unseen: float
    copied: float


@dataclass(frozen=True, slots=True)
class PairedReading:
    """The scores of both sides, prompt by prompt; ``length`` of each in tokens."""

    length: int
    first: tuple[PromptScore, ...]
    second: tuple[PromptScore, ...]


@dataclass(slots=True)
class _Plan:
    """What the first side decides, and the second keeps to."""

    prompts: list[PlantedPrompt] = field(default_factory=list)
    length: int = 0


def read_both(
    first: CheckSide,
    second: CheckSide,
    texts: Sequence[str],
    *,
    seconds: float,
    threads: int | None,
    progress: Progress | None,
) -> PairedReading:
    """Read prompts with both sides, one after the other: no more memory than one model takes.

    Args:
        first: the side that decides how many prompts there are.
        second: where it has the same file, the model is loaded once.
        texts: to cut prompts from.
        seconds: how long this may take.
        threads: as many as this process may use if None.
        progress: called with prompts done and in all.

    Raises:
        UsageError: too little time for a few short prompts, a text that is too short, or a model for shorter ones.
        GgufropeError: see ``Session``.
    """
    end, plan, scores = time.monotonic() + seconds, _Plan(), list[tuple[PromptScore, ...]]()
    settings = InferenceSettings.choose("f16", threads or cores_of_process(), None)
    longest = _longest(first.file)
    session: Session | None = None
    try:
        for side, share in ((first, 0.5), (second, 1.0)):  # of the time that is left then
            if session is None or side.file is not session.file:
                if session is not None:
                    session.close()
                session = Session(side.file, n_ctx=longest, settings=settings, chunk=_CHUNK)
            if side.prepare is not None:
                side.prepare(session)
            if not plan.prompts:
                plan = _planned(session, texts, longest, end)
            done, of = len(scores) * len(plan.prompts), 2 * len(plan.prompts)
            report = (lambda n, done=done, of=of: progress(done + n, of, "prompts")) if progress else None
            now = time.monotonic()
            scores.append(_read(session, plan.prompts, now + share * (end - now), end, report))
            if (n := len(scores[-1])) < _FEWEST:
                raise UsageError(
                    f"{side.file.path}: {n} of {len(plan.prompts)} prompts were read in time: the machine became "
                    "slower; use `ggufrope eval`"
                )
    finally:
        if session is not None:
            session.close()
    n = min(map(len, scores))
    return PairedReading(plan.length, scores[0][:n], scores[1][:n])


def _longest(file: ModelFile) -> int:
    trained = file.original.model.train_ctx
    if lengths := [n for n in LENGTHS if n <= trained]:
        return max(lengths)
    raise UsageError(
        f"{file.path}: trained for {trained} tokens, where the shortest prompt has {min(LENGTHS)}; use `ggufrope eval`"
    )


def _planned(session: Session, texts: Sequence[str], longest: int, end: float) -> _Plan:
    front = session.prompt("")[:1] if session.begins_with_bos else []
    text = "\n\n".join(texts)
    sample = _excerpt(session, text, 0.0, min(longest, SAMPLE) - len(front), 1)
    speed = reading_speed(lambda ids: [None for _ in session.log_probs(ids)], [*front, *sample])
    in_time = speed * _SHARE * (end - time.monotonic()) / 2
    # prompts that overlapped would count one place of a text several times, and the interval would be too narrow
    enough = longest * LENGTHS[longest]
    written = len(session.tokens(text[: _CHARACTERS * enough]))
    length = affordable(min(in_time, written), longest)
    if length is None and affordable(in_time, longest) is not None:
        raise UsageError(f"{written} tokens of text are too few for prompts that do not overlap; give a longer TEXT")
    if length is None:
        raise UsageError(
            f"{session.file.path}: {speed:.2g} tokens a second are too few for a check in time; use `ggufrope eval`"
        )
    tokens = text_tokens(length, len(front))
    n = min(LENGTHS[length], written // tokens)
    step = next(step for step in _STEPS if math.gcd(step, n) == 1)
    ids = [_excerpt(session, text, (i * step % n) / (n - 1), tokens, n) for i in range(n)]
    return _Plan([plant(part, front, length, seed) for seed, part in enumerate(ids)], length)


def _excerpt(session: Session, text: str, at: float, tokens: int, n: int) -> list[int]:
    """``tokens`` of the text, from a place between 0, its beginning, and 1, the last one that is followed by enough.

    ``n`` places from 0 to 1 do not overlap where the text has that many times ``tokens``.
    """
    start = int(at * max(0, len(text) - _CHARACTERS * tokens))
    ids = session.tokens(text[start : start + _CHARACTERS * tokens])
    if len(text) < _CHARACTERS * tokens * n or len(ids) < tokens:
        ids = session.tokens(text)
        if len(ids) < tokens:
            raise UsageError(f"{len(ids)} tokens of text are less than the {tokens} of one prompt; give a longer TEXT")
        start = int(at * (len(ids) - tokens))
        return ids[start : start + tokens]
    return ids[:tokens]


def _read(
    session: Session, prompts: Sequence[PlantedPrompt], until: float, end: float, report: Callable[[int], None] | None
) -> tuple[PromptScore, ...]:
    """Scores of as many prompts as can be read ``until`` then, or of the fewest; but nothing is read after ``end``."""
    scores, begin = list[PromptScore](), time.monotonic()
    for prompt in prompts:
        now, done = time.monotonic(), len(scores)
        if done >= _FEWEST and now + (now - begin) / done > until:  # the next one would be too late
            break
        if (score := _score(session, prompt, end)) is None:
            break
        scores.append(score)
        if report is not None:
            report(done + 1)
    return tuple(scores)


def _score(session: Session, prompt: PlantedPrompt, end: float) -> PromptScore | None:
    """What the model says of a prompt; None if that is not known before ``end``."""
    values, start = np.zeros(len(prompt.ids)), 1
    for block in session.log_probs(prompt.ids):
        if time.monotonic() > end:
            return None
        targets = np.array(prompt.ids[start : start + len(block)], np.intp)
        values[start : start + len(targets)] = block[np.arange(len(targets)), targets]
        start += len(block)
    return PromptScore(*(float(values[places].mean()) for places in (prompt.plain, prompt.unseen, prompt.copied)))
