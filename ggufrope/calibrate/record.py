"""What a calibration found, and its file: ``heads.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ggufrope.calibrate.ordering import Ordering, group_scores, rank_correlation
from ggufrope.calibrate.prompts import Cut
from ggufrope.errors import InputError
from ggufrope.files import write_bytes
from ggufrope.methods.parameter_files import HeadsFile
from ggufrope.modelfile.identity import Identity
from ggufrope.rope.model import ModelRope
from ggufrope.rope.table import HeadRatios

__all__ = ["CalibrationRecord", "CalibrationSettings", "read_record"]

_VERSION = 1
_DIGITS = 9  # after the point, in memory as in the file
_PAIRS = 300  # of prompts at most, when their orders are compared


@dataclass(frozen=True, slots=True)
class CalibrationSettings:
    """What was read: text files by name and sha256, prompt lengths, and how many prompts of each length."""

    texts: tuple[tuple[str, str], ...]
    lengths: tuple[int, ...]
    prompts: int


@dataclass(frozen=True, slots=True)
class CalibrationRecord:
    """Scores of heads, prompt by prompt.

    Attributes:
        model: which model they belong to.
        settings: what was read.
        cuts: the prompts read so far.
        samples: ``(prompts, sum of n_head)`` shares of keys with more than three times the mean attention, row-major
            by layer; NaN in layers that were not scored.
    """

    model: Identity
    settings: CalibrationSettings
    cuts: tuple[Cut, ...] = ()
    samples: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))

    def with_sample(self, cut: Cut, scores: npt.NDArray[Any]) -> CalibrationRecord:
        """The record with one more prompt."""
        row = np.asarray(np.round(np.asarray(scores, np.float64), _DIGITS), np.float64)[None]
        samples = np.concatenate([self.samples, row]) if len(self.cuts) else row
        return CalibrationRecord(self.model, self.settings, (*self.cuts, cut), samples)

    def of_kv_heads(self, group: str) -> list[npt.NDArray[np.float64]]:
        """By layer: ``(prompts, n_head_kv)``."""
        ends = np.cumsum(self.model.n_head)[:-1]
        layers = np.split(self.samples, ends, axis=1)
        return [group_scores(s, n, group) if n else s[:, :0] for s, n in zip(layers, self.model.n_head_kv, strict=True)]

    def ratios(self, model: ModelRope, ordering: Ordering) -> HeadRatios:
        """The ratios that the mean scores lead to; see ``Ordering.ratios``."""
        return ordering.ratios(model, [s.mean(axis=0) for s in self.of_kv_heads(ordering.group)])

    def stability(self, group: str) -> list[float]:
        """By layer: the mean rank correlation of KV heads' scores between two prompts; NaN where there is none."""
        pairs = list(combinations(range(len(self.cuts)), 2))
        chosen = [pairs[i] for i in np.random.default_rng(0).permutation(len(pairs))[:_PAIRS]]
        result = []
        for scores in self.of_kv_heads(group):
            correlations = [rank_correlation(scores[a], scores[b]) for a, b in chosen if scores.shape[1] > 1]
            known = [value for value in correlations if np.isfinite(value)]
            result.append(float(np.mean(known)) if known else float("nan"))
        return result

    def as_json(self, model: ModelRope, ordering: Ordering) -> dict[str, Any]:
        """The file's content; see docs/ms-poe.md."""
        ends = np.cumsum(self.model.n_head)[:-1]
        ratios = self.ratios(model, ordering)
        return {
            **self._raw(),
            "scores": [_numbers(s) for s in np.split(self.samples.mean(axis=0), ends)],
            "spread": [_numbers(s) for s in np.split(self.samples.std(axis=0), ends)],
            "stability": _numbers(self.stability(ordering.group)),
            "ordering": asdict(ordering),
            "ratios": [list(row) for row in ratios],
        }

    def _raw(self) -> dict[str, Any]:
        samples = [asdict(c) | {"scores": _numbers(s)} for c, s in zip(self.cuts, self.samples, strict=True)]
        return {
            "format": _VERSION,
            "model": self.model.as_json(),
            "settings": asdict(self.settings),
            "samples": samples,
        }

    def save(self, path: Path, content: Mapping[str, Any] | None = None) -> None:
        """Write ``content``, or the samples alone, to ``path``, which is replaced only by a complete file.

        Raises:
            OutputError: it cannot be written.
        """
        write_bytes(path, (json.dumps(content or self._raw(), allow_nan=False) + "\n").encode())


def read_record(path: Path) -> CalibrationRecord:
    """Read a ``heads.json``, or a part of one.

    Raises:
        InputError: it cannot be read, or is something else.
    """
    try:
        content = HeadsFile.read(path, InputError).content
    except InputError as error:
        raise InputError(f"{error}; name another output") from None
    try:
        model, stored = Identity.from_json(content["model"]), content["settings"]
        settings = CalibrationSettings(
            tuple((str(a), str(b)) for a, b in stored["texts"]), tuple(stored["lengths"]), stored["prompts"]
        )
        cuts = tuple(Cut(s["text"], s["start"], s["length"]) for s in content["samples"])
        rows = [[float("nan") if v is None else float(v) for v in s["scores"]] for s in content["samples"]]
        samples = np.array(rows, np.float64).reshape(len(cuts), -1)
        if content["format"] != _VERSION or (cuts and samples.shape[1] != sum(model.n_head)):
            raise ValueError("another format or number of heads")  # noqa: TRY301  (handled like every other defect)
        _require_plausible(settings, cuts, samples)
        return CalibrationRecord(model, settings, cuts, samples)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise InputError(
            f"{path}: not a record of `ggufrope calibrate` ({type(error).__name__}: {error}); name another output"
        ) from None


def _require_plausible(settings: CalibrationSettings, cuts: tuple[Cut, ...], samples: npt.NDArray[np.float64]) -> None:
    """Refuse what no run writes, with ValueError: shares beyond 0 to 1, other lengths, layers scored now and then."""
    expected = [length for length in settings.lengths for _ in range(settings.prompts)]
    if [c.length for c in cuts] != expected[: len(cuts)]:
        raise ValueError("its samples are not of the lengths that its settings name")
    absent = np.isnan(samples)
    if (absent != absent[:1]).any() or not ((samples >= 0) & (samples <= 1) | absent).all():
        raise ValueError("a score is missing or not from 0 to 1")


def _numbers(values: npt.ArrayLike) -> list[float | None]:
    return [round(float(v), _DIGITS) if np.isfinite(v) else None for v in np.asarray(values)]
