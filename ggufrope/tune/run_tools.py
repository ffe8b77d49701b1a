"""What a run needs from outside, as it really is: the model on the patched runtime, the engines, published methods.

A test gives a run other tools; nothing else knows these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from ggufrope.errors import GgufropeError, UsageError
from ggufrope.files import write_bytes
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.tune.compared_methods import calibrated_ratios, published_rows
from ggufrope.tune.model_on_runtime import ModelOnRuntime
from ggufrope.tune.report_split import ReportRow
from ggufrope.tune.run_journal import RunJournal
from ggufrope.tune.searcher import Searcher
from ggufrope.tune.spaces.space import Space
from ggufrope.tune.split_seeds import TRAIN
from ggufrope.tune.step_texts import RunTexts
from ggufrope.tune.tune_request import TuneRequest

if TYPE_CHECKING:
    from ggufrope.tune.gradient.streamed_model import StreamedModel

__all__ = ["RunTools"]

#: Cells of a context beyond the longest text.
_SPARE = 64
#: Tokens that are enough for scoring heads.
_SCORED = 1 << 17
#: Tokens of the text on which PyTorch and the runtime are compared.
_COMPARED = 384
#: The type in which PyTorch is compared with the runtime, and the one that steps are taken in by default.
_EXACT = "float32"


class RunTools:
    """``TuneTools`` on the patched runtime."""

    def __init__(self, progress: Callable[[int, int, str], None] | None = None) -> None:
        """``progress`` is called with tokens done and in all while heads are scored."""
        self._progress = progress

    def open_model(self, file: ModelFile, request: TuneRequest) -> ModelOnRuntime:
        """See ``TuneTools``."""
        # a file that rotates by the context that was allocated gets exactly what the texts need
        spare = 0 if file.decoded.by_allocated_context else _SPARE
        return ModelOnRuntime(
            file,
            n_ctx=request.longest + spare,
            threads=request.threads,
            sliding=request.sliding,
            chat_template=request.chat_template,
        )

    def engine(self, file: ModelFile, space: Space, request: TuneRequest) -> tuple[str, str]:
        """See ``TuneTools``."""
        if request.engine in ("blind", "coordinate"):
            return request.engine, ""
        if not space.differentiable:
            if request.engine is None:
                return "blind", ""
            raise UsageError(f"--engine gradient: space {space.name} has no gradient; take --engine blind, or omit it")
        from ggufrope.tune.gradient.ability import why_no_gradient

        if not (why := why_no_gradient(file, request.longest, kept=2 * request.longest, **_of_torch(request))):
            return "gradient", ""
        if request.engine is None:
            return "blind", f"the blind engine searches, since {why}"
        raise UsageError(f"--engine gradient: {why}; or omit it")

    def searcher(
        self, engine: str, space: Space, model: Any, texts: RunTexts, request: TuneRequest, journal: RunJournal
    ) -> Searcher:
        """See ``TuneTools``; before the first step of the gradient engine it is compared with the runtime."""
        if engine == "coordinate":
            from ggufrope.tune.blind.coordinate_searcher import CoordinateSearcher

            return CoordinateSearcher(model.reader, space, texts, seed=request.seed, allow=request.allow)
        if engine == "blind":
            from ggufrope.tune.blind.blind_searcher import BlindSearcher

            return BlindSearcher(model.reader, space, texts, seed=request.seed, allow=request.allow)
        from ggufrope.tune.gradient.gradient_searcher import GradientSearcher
        from ggufrope.tune.gradient.streamed_model import StreamedModel

        options = _of_torch(request)
        streamed = StreamedModel(model.file, **options)
        if journal.get("agreement.json") is None:
            exact = (
                streamed if options["dtype"] == _EXACT else StreamedModel(model.file, **{**options, "dtype": _EXACT})
            )
            journal.put("agreement.json", _compared(exact, model, texts, request))
        return GradientSearcher(
            space, model.layout, model.file, texts, seed=request.seed, allow=request.allow, threads=request.threads,
            model=streamed, **options,
        )  # fmt: skip

    def published(self, model: Any, texts: RunTexts, request: TuneRequest, journal: RunJournal) -> list[ReportRow]:
        """See ``TuneTools``; heads are scored on the part of the text that training has."""
        file, ratios = model.file, journal.get("calibrated.json")
        if ratios is None:
            plain = texts.plain[0]
            path = journal.folder / "parts" / "calibration.txt"
            write_bytes(path, model.reader.engine.text(plain.parts[TRAIN][:_SCORED]).encode())
            length = min(request.longest, file.original.model.train_ctx)
            try:
                ratios = calibrated_ratios(file, path, length, self._progress)
            except GgufropeError:  # no head that can be scored: the orders that are made up are left
                ratios = []
            journal.put("calibrated.json", ratios)
        return published_rows(file, ratios or None)


def _compared(streamed: StreamedModel, model: Any, texts: RunTexts, request: TuneRequest) -> dict[str, Any]:
    """PyTorch and the runtime on one text: loss and slope, where they agree.

    In float32 whatever steps are taken in: what can be wrong is the class, its weights or its rotation, and differences
    over a short step are lost in bfloat16's eight bits.

    Raises:
        UnsupportedModelError: they do not.
    """
    from ggufrope.tune.gradient.runtime_agreement import check_against_runtime
    from ggufrope.tune.runtime_reader import RuntimeReader

    length = min(_COMPARED, request.longest)
    text = texts.plain_texts(TRAIN, length, 1)[0]
    moving = np.repeat(model.layout.free, [heads * pairs for heads, pairs in model.layout.shapes])
    with RuntimeReader(
        model.file, n_ctx=length, threads=request.threads, kv_type="f32", sliding=request.sliding
    ) as reader:
        return asdict(check_against_runtime(streamed, reader, text, moving))


def _of_torch(request: TuneRequest) -> dict[str, Any]:
    return {"device": request.device or _device(), "dtype": request.dtype or _EXACT}


def _device() -> str:
    """The fastest device that PyTorch has."""
    from importlib.util import find_spec

    if find_spec("torch") is None:
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
