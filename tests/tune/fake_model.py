"""A world without a model: what a table does to answers and losses is known, so that verdicts can be checked."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field

import numpy as np
from fake_engine import FakeEngine

from ggufrope.evals.file_facts import describe
from ggufrope.evals.positions import Sums
from ggufrope.evals.results import RuntimeFacts, TokenCounts
from ggufrope.evals.task_kind import CellRun, Measured
from ggufrope.inference.requests import Answer
from ggufrope.tune.layout import PairLayout
from ggufrope.tune.searcher import Purpose, StepReport, purpose_of
from ggufrope.tune.tuning_texts import TuningQuestion, TuningText


def share(*parts):
    """A number from 0 to 1 that follows from what is given."""
    text = json.dumps([p.tolist() if isinstance(p, np.ndarray) else p for p in parts])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48


@dataclass
class World:
    """How a table acts.

    ``target``: the log factor of every entry that is best. ``base``, ``best``: how often answers are right untouched,
    and at the target. ``cost``: the relative rise of the plain-text loss at the target. ``noise``: of what texts say of
    a table, besides. ``also``: what the target does to tasks that are not tuned for. ``killed_at``: tables read, after
    which the process dies.
    """

    target: float = 0.3
    base: float = 0.3
    best: float = 0.8
    cost: float = 0.0
    noise: float = 0.0
    also: float = 0.0
    killed_at: int | None = None
    reads: int = 0
    told: list[str] = field(default_factory=list)

    def progress(self, log_factors):
        """0 for the untouched file, 1 at the target, less beyond it."""
        return 1 - float(np.abs(log_factors - self.target).mean()) / abs(self.target)

    def count(self):
        self.reads += 1
        if self.killed_at is not None and self.reads > self.killed_at:
            raise KeyboardInterrupt

    def right(self, log_factors, task):
        at = self.progress(log_factors)
        return self.base + ((self.best - self.base) if task == "kv-retrieval" else self.also) * at

    def loss(self, log_factors, text):
        return (3 + 0.2 * share(text)) * (1 + self.cost * self.progress(log_factors))


@dataclass
class FakeReading:
    log_probs: np.ndarray
    margins: np.ndarray


class AskedEngine(FakeEngine):
    """Answers right as often as the world has it; which questions, is by their prompt."""

    world: World
    table: np.ndarray
    task: str

    def __init__(self, file, **options):
        super().__init__(file, **options)
        self.words, self.names = {}, [""]  # its own, and short: the class's grow with every test

    def tokens(self, text, *, special=False):
        found = re.findall(r"\s*\S+|\s+$", text)
        for word in found:
            if word not in self.words:
                self.words[word] = len(self.names)
                self.names.append(word)
        return [self.words[word] for word in found]

    def text(self, ids):
        return "".join(self.names[i] for i in ids)

    def greedy(self, requests, progress=None):
        self.world.count()
        for index, request in enumerate(requests):
            self.evaluated += 1
            text, prompt = self.text(request.draft), self.text(request.prompt[1:])
            luck = share(prompt) + self.world.noise * (share(self.table, prompt) - 0.5)
            right = luck < self.world.right(self.table, self.task)
            yield index, Answer(text if right else "no", request.draft, "limit")


class FakeModel:
    """A ``TunedModel`` of a world."""

    runtime = RuntimeFacts("cpu", "0123", 1, False)
    chat = "none"

    def __init__(self, file, world):
        self.file, self.world, self.facts = file, world, describe(file)
        self.layout = PairLayout.of(file.decoded.model)
        self.own = np.ones(self.layout.size)
        self.tokenizer = AskedEngine(file, n_ctx=1 << 20)
        self.tokenizer.world = world
        self.closed = False

    def form(self, task, length, depths, n, seed):
        return " "

    def make(self, task, length, depths, n, seed, lead):
        return [
            TuningText(
                f"{task.name}/{length}/{seed}/{i}",
                (0, 1, 2),
                tuple(TuningQuestion(f"{i}/{d}", d, (3,), (4, 5)) for d in depths or (None,)),
            )
            for i in range(n)
        ]

    def read(self, log_factors, texts):
        self.world.count()
        return [[self._reading(log_factors, text, question) for question in text.questions] for text in texts]

    def _reading(self, log_factors, text, question):
        if purpose_of(text) is not Purpose.ANSWER:
            n = len(question.answer)
            return FakeReading(np.full(n, -self.world.loss(log_factors, text.name.removeprefix("keep/"))), np.zeros(n))
        luck = share(text.name, question.name) + self.world.noise * (share(log_factors, text.name, question.name) - 0.5)
        lead = 4 * (self.world.right(log_factors, text.name.partition("/")[0]) - luck)
        return FakeReading(-np.logaddexp(0, -np.array([lead, 4.0])), np.array([lead, 4.0]))

    def measure(self, log_factors, cell, progress):
        self.world.told.append(f"{cell.task.name} {cell.length} {cell.role}")
        if cell.texts:
            sums = Sums([0, cell.length])
            for text in cell.texts:
                ids = (*text.prefix, *text.questions[0].answer)
                sums.begin(ids)
                sums.add(0, np.full(len(ids) - 1, self.world.loss(log_factors, text.name)))
            means = sums.means(cell.seed)
            parts = {
                "unit": "nats per token", "mean": means.mean, "by_position": means.by_position,
                "by_text": means.by_text, "baseline": None, "top1": None,
            }  # fmt: skip
            return Measured(means.n, means.low, means.high, means.interval, parts)
        self.tokenizer.table, self.tokenizer.task = log_factors, cell.task.name
        run = CellRun(
            self.tokenizer, None, cell.length, cell.depths, cell.limit, cell.seed, self.facts, None, str, progress
        )
        return cell.task.kind.measure(cell.task, run)

    def tokens(self):
        return TokenCounts(self.tokenizer.evaluated, self.tokenizer.evaluated)

    def close(self):
        self.closed = True


class Climber:
    """Tries a random neighbour at each step, and goes there if the step's texts like it better."""

    engine = "blind"

    def __init__(self, space, model, file, texts, seed):
        self._space, self._model, self._file, self._texts = space, model, file, texts
        self._theta, self._rng = space.start(model.layout, file), np.random.default_rng(seed)

    @property
    def theta(self):
        return self._theta.copy()

    def _loss(self, theta, texts):
        log_factors = self._space.log_factors(theta, self._model.layout, self._file)
        found = self._model.read(log_factors, [t for t in texts if purpose_of(t) is not Purpose.KEEP])
        return -float(np.mean([reading.log_probs.sum() for text in found for reading in text]))

    def advance(self, step):
        texts = self._texts(step)
        assert [purpose_of(text) for text in texts][-1] is Purpose.KEEP
        before = self._loss(self._theta, texts)
        tried = self._theta + 0.15 * self._rng.normal(size=self._theta.size)
        if self._loss(tried, texts) < before:
            self._theta = tried
        return StepReport(step, before, 0.0, 10, 2)

    def state(self):
        kept = json.dumps(self._rng.bit_generator.state).encode()
        return {"theta": self._theta.copy(), "rng": np.frombuffer(kept, np.uint8)}

    def restore(self, state):
        self._theta = state["theta"].copy()
        self._rng.bit_generator.state = json.loads(state["rng"].tobytes())


class FakeTools:
    """``TuneTools`` of a world; ``models`` are those that were opened."""

    def __init__(self, world):
        self.world, self.models = world, []

    def open_model(self, file, request):
        self.models.append(FakeModel(file, self.world))
        return self.models[-1]

    def engine(self, file, space, request):
        return "blind", ""

    def searcher(self, engine, space, model, texts, request, journal):
        return Climber(space, model, model.file, texts, request.seed)

    def published(self, model, texts, request, journal):
        from ggufrope.tune.compared_methods import published_rows

        return published_rows(model.file, None)
