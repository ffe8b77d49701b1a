"""``ggufrope calibrate``: read prompts, score heads, write ``heads.json``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ggufrope.calibrate.ordering import Ordering, eligible
from ggufrope.calibrate.prompts import PromptText, check_sizes, cut, default_lengths, read_texts
from ggufrope.calibrate.record import CalibrationRecord, CalibrationSettings, read_record
from ggufrope.errors import GgufropeError, InputError, OutputError, RuntimeLibraryError, UsageError
from ggufrope.files import check_output
from ggufrope.last_words import note
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.rope.model import ModelRope
from ggufrope.rope.table import HeadRatios

if TYPE_CHECKING:
    from llama_cpp import Llama

__all__ = ["CalibrateRequest", "Calibration", "Progress", "calibrate"]

#: Tokens read, tokens in all, what they are.
Progress = Callable[[int, int, str], None]

_BATCH = 512


@dataclass(frozen=True, slots=True)
class CalibrateRequest:
    """What to calibrate.

    Attributes:
        model: a GGUF; ratios that it carries do not act while its heads are scored.
        texts: text files that prompts are cut from.
        output: ``heads.json``; None keeps the result in memory. What an interrupted run measured is in
            ``OUTPUT.partial`` and is not measured again; nor is anything when ``output`` itself is of this request.
        lengths: tokens of the prompts; empty: a quarter, half and all of the trained context (4096 at most).
        prompts: how many of each length.
        ordering: which head gets which ratio.
        overwrite: replace ``output`` although it is of another request.
        backend: which build to use; the platform's default if None.
    """

    model: ModelFile
    texts: Sequence[Path]
    output: Path | None = None
    lengths: tuple[int, ...] = ()
    prompts: int = 8
    ordering: Ordering = field(default_factory=Ordering)
    overwrite: bool = False
    backend: str | None = None


@dataclass(frozen=True, slots=True)
class Calibration:
    """The result: ``record`` has the scores, ``ratios`` what they lead to; ``measured`` counts the prompts read now."""

    record: CalibrationRecord
    model: ModelRope
    ordering: Ordering
    ratios: HeadRatios
    measured: int

    def stability(self) -> tuple[float, int]:
        """Mean rank correlation between prompts over the layers that take ratios, and how many layers have one."""
        values = np.array(self.record.stability(self.ordering.group))[eligible(self.model, self.ordering.first_layer)]
        known = values[np.isfinite(values)]
        return (float(known.mean()) if known.size else float("nan"), int(known.size))


def calibrate(request: CalibrateRequest, progress: Progress | None = None) -> Calibration:
    """Score every head of every layer over many prompts, and say which ratio each KV head takes.

    The model runs as its file says, its own scaling included, except that ratios which it carries are set to 1: scores
    are the plain model's. (The authors' program scores a layer under the ratios of those below; see docs/ms-poe.md.)

    Raises:
        GgufropeError: see ``errors``; what was measured so far is kept.
    """
    model = request.model.original.model
    try:
        eligible(model, request.ordering.first_layer)
    except GgufropeError as error:
        raise error.about(request.model.path) from error
    lengths = tuple(sorted(set(request.lengths))) or default_lengths(model.train_ctx)
    check_sizes(lengths, request.prompts)
    _check_output(request)
    texts = read_texts(request.texts, max(lengths))
    settings = CalibrationSettings(tuple((t.name, t.sha256) for t in texts), lengths, request.prompts)
    empty = CalibrationRecord(request.model.identity, settings)
    record = _known(request, empty)
    done = len(record.cuts)
    if done < len(lengths) * request.prompts:
        record = _measure(request, texts, record, progress)
    ratios = record.ratios(model, request.ordering)
    if request.output is not None:
        record.save(request.output, record.as_json(model, request.ordering))
        _partial(request.output).unlink(missing_ok=True)
    return Calibration(record, model, request.ordering, ratios, len(record.cuts) - done)


def _partial(output: Path) -> Path:
    return output.with_name(output.name + ".partial")


def _check_output(request: CalibrateRequest) -> None:
    if request.output is not None:
        check_output(request.output, [*(header.path for header in request.model.headers), *request.texts])


def _known(request: CalibrateRequest, empty: CalibrationRecord) -> CalibrationRecord:
    """What earlier runs of the same request measured."""
    if request.output is None:
        return empty
    for path, own in ((request.output, False), (_partial(request.output), True)):
        if not path.exists():
            continue
        try:
            record = read_record(path)
        except InputError:
            if own or request.overwrite:
                continue
            raise
        if (record.model, record.settings) == (empty.model, empty.settings):
            return record
        if not own and not request.overwrite:
            raise OutputError(f"{path}: is of another model, text or length of prompts; --overwrite replaces it")
    return empty


def _measure(
    request: CalibrateRequest, texts: Sequence[PromptText], record: CalibrationRecord, progress: Progress | None
) -> CalibrationRecord:
    from ggufrope.runtime.head_scorer import Scorer
    from ggufrope.runtime.library import bindings, load  # finds and loads the library

    longest = max(record.settings.lengths)
    batch = min(_BATCH, longest)
    settings: dict[str, Any] = {"n_ctx": longest, "n_batch": batch, "n_ubatch": batch, "n_gpu_layers": -1}
    runtime = load(request.model, backend=request.backend, flash_attn=True, **settings)
    try:
        front = runtime.tokenize(b"", add_bos=True)
        ids = [_tokens(runtime, text) for text in texts]
        cuts = cut(ids, [t.name for t in texts], record.settings.lengths, request.prompts, len(front))
        _plain(runtime)
        scorer = Scorer(runtime, bindings().llama_cpp._lib)
        total, read = sum(c.length for c in cuts), sum(c.length for c in record.cuts)
        for one in cuts[len(record.cuts) :]:
            _read(runtime, [*front, *ids[one.text][one.start : one.start + one.length - len(front)]])
            record = record.with_sample(one, scorer.scores())
            read += one.length
            if request.output is not None:
                record.save(_partial(request.output))
                note("kept", f"what was read is in {_partial(request.output)}, and the same command goes on from there")
            if progress is not None:
                progress(read, total, "tokens")
        return record
    finally:
        runtime.close()


def _tokens(runtime: Llama, text: PromptText) -> list[int]:
    try:
        return list(runtime.tokenize(text.data, add_bos=False, special=False))
    except RuntimeError as error:
        raise UsageError(
            f"{runtime.model_path}: cannot tokenize {text.name} ({error}); does the file have a vocabulary?"
        ) from None


def _plain(runtime: Llama) -> None:
    """Set the ratios that the file carries to 1."""
    from ggufrope.runtime.library import pair_factors, set_head_factors

    if (pair_factors(runtime) != 1).any():  # those of whole heads are among them
        set_head_factors(runtime, None)


def _read(runtime: Llama, ids: list[int]) -> None:
    """Read a prompt; its last token's logits must be numbers, since a threshold hides what is not.

    Raises:
        RuntimeLibraryError: llama.cpp could not evaluate it.
        InputError: the model computes NaN or infinities.
    """
    runtime.reset()
    runtime._ctx.kv_cache_clear()
    for start in range(0, len(ids), runtime.n_batch):
        runtime._batch.set_batch(ids[start : start + runtime.n_batch], n_past=start, logits_all=False)
        try:
            runtime._ctx.decode(runtime._batch)
        except RuntimeError as error:
            raise RuntimeLibraryError(
                f"{runtime.model_path}: llama.cpp stopped at position {start}: {error}; try shorter --lengths"
            ) from error
    logits: Any = np.ctypeslib.as_array(runtime._ctx.get_logits(), shape=(runtime.n_vocab(),))
    if not np.isfinite(logits).all():
        raise InputError(f"{runtime.model_path}: the model computes NaN or infinities; its heads cannot be scored")
