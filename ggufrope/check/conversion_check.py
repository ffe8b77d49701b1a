"""What a conversion with measured ratios does to the model at hand: loss and copying, untouched against converted."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from ggufrope.check.harm import Finding, PairedChange, copying_change, loss_change
from ggufrope.check.paired_reading import CheckSide, Progress, PromptScore, read_both
from ggufrope.errors import GgufropeError, InputError
from ggufrope.files import read_text
from ggufrope.gguf import keys
from ggufrope.last_words import note
from ggufrope.methods import scaling_method
from ggufrope.modelfile.model_file import ModelFile

if TYPE_CHECKING:
    from ggufrope.convert.conversion import Conversion
    from ggufrope.convert.pipeline import Converted, ConvertRequest
    from ggufrope.inference.session import Session

__all__ = ["SECONDS", "Checked", "NotChecked", "check_conversion"]

#: How long a check may take: a minute, less what a machine that gets slower meanwhile may add.
SECONDS = 55.0
#: A model that copies hardly knows a value better than one it never saw: nothing to lose.
_COPIES = 0.5

_UNTOUCHED = "the untouched model"
_WITHOUT_RATIOS = "the same file with all ratios 1"


@dataclass(frozen=True, slots=True)
class Checked:
    """What was measured.

    Attributes:
        against: what the converted file was compared with.
        texts: names of the texts that prompts were cut from.
        prompts: how many.
        length: tokens of each.
        seconds: how long it took.
        loss: on plain text.
        copying: log-likelihood of planted values where the end of a prompt repeats them.
        unseen: the same values before they were seen, untouched.
        remedy: what to try where the file is worse.
    """

    against: str
    texts: tuple[str, ...]
    prompts: int
    length: int
    seconds: float
    loss: PairedChange
    copying: PairedChange
    unseen: float
    remedy: str

    @property
    def worse(self) -> bool:
        """Whether the converted file is worse, by as much as matters."""
        return Finding.WORSE in (self.loss.finding, self.copying.finding)

    @property
    def copies(self) -> bool:
        """Whether the untouched model copies at all."""
        return self.copying.before - self.unseen > _COPIES


@dataclass(frozen=True, slots=True)
class NotChecked:
    """Why nothing was measured, and how it can be: one sentence that follows "not checked on this model: "."""

    reason: str


def check_conversion(
    request: ConvertRequest,
    done: Converted,
    progress: Progress | None = None,
    *,
    seconds: float = SECONDS,
    threads: int | None = None,
) -> Checked | NotChecked | None:
    """Compare the converted file with what it was made from, on prompts from the text that it was calibrated on.

    The bytes that were written are what is read. Where ratios are all that the conversion adds, the other side is the
    same file with ratios of 1, loaded once; where it has a base method as well, it is the source.

    Args:
        request: what was asked for.
        done: what ``carry_out`` did.
        progress: called with prompts done and in all.
        seconds: how long this may take.
        threads: as many as this process may use if None.

    Returns:
        None for methods that nothing is measured for, or with ``--no-check``. A check that fails loses nothing: it is
        ``NotChecked``.

    Raises:
        KeyboardInterrupt: with a message that says what is written.
    """
    if not request.calibrated or request.no_check or done.plan is None:
        return None
    if not request.texts:
        return NotChecked(_how(request))
    path = request.source if done.saved is None else done.saved.path
    kept = f"{path} is complete, and was not checked" if done.saved else ""
    if kept:
        note("kept", f"{kept} (--no-check omits that)")
    if progress is not None:
        progress(0, 0, f"checking {path}")
    try:
        return _check(request, done, done.plan, progress, seconds, threads)
    except (GgufropeError, MemoryError, OSError) as error:
        return NotChecked(str(error) or "memory ran out; a smaller context or machine load may help")
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted; {kept or 'nothing was changed'}") from None


def _how(request: ConvertRequest) -> str:
    target = request.source if request.in_place else request.output or "OUT"
    by_text = "" if request.heads or request.from_directory else "--calibrate TEXT measures ratios and checks them; "
    return f"{by_text}`ggufrope eval {request.source} {target} --task ppl --text TEXT` (or kv-retrieval) compares"


def _check(
    request: ConvertRequest,
    done: Converted,
    plan: Conversion,
    progress: Progress | None,
    seconds: float,
    threads: int | None,
) -> Checked | NotChecked:
    sides = _sides(request, done, plan)
    if isinstance(sides, NotChecked):
        return sides
    texts = [read_text(path, empty="give a text") for path in request.texts]
    begin = time.monotonic()
    read = read_both(sides.converted, sides.untouched, texts, seconds=seconds, threads=threads, progress=progress)
    return Checked(
        against=sides.against,
        texts=tuple(path.name for path in request.texts),
        prompts=len(read.second),
        length=read.length,
        seconds=time.monotonic() - begin,
        **_changes(request.source, after=read.first, before=read.second),
        remedy=plan.method.milder(plan.model) if plan.model else "",
    )


class _Changes(TypedDict):
    loss: PairedChange
    copying: PairedChange
    unseen: float


def _changes(source: Path, *, before: Sequence[PromptScore], after: Sequence[PromptScore]) -> _Changes:
    try:
        return {
            "loss": loss_change([-s.plain for s in before], [-s.plain for s in after]),
            "copying": copying_change([s.copied for s in before], [s.copied for s in after]),
            "unseen": sum(s.unseen for s in before) / len(before),
        }
    except ValueError:
        raise InputError(
            f"{source}: the untouched model computes NaN or infinities; there is nothing to compare with"
        ) from None


@dataclass(frozen=True, slots=True)
class _Sides:
    """What is compared; ``against`` names the untouched side."""

    converted: CheckSide
    untouched: CheckSide
    against: str = _UNTOUCHED


def _sides(request: ConvertRequest, done: Converted, plan: Conversion) -> _Sides | NotChecked:
    only_ratios = scaling_method(plan.name).traits.keeps_scaling
    if done.saved is None:
        if not only_ratios or plan.source.converted:
            return NotChecked("a dry run writes no file that could be read; omit --dry-run")
        source = ModelFile(plan.source.header)
        return _Sides(CheckSide(source, _planned(plan)), CheckSide(source, _ratios_of_one))
    file = ModelFile.open(done.saved.path)
    if only_ratios:
        return _Sides(CheckSide(file), CheckSide(file, _ratios_of_one))
    if plan.source.converted or done.saved.in_place:  # what it was before is in no file any more
        return _Sides(CheckSide(file), CheckSide(file, _ratios_of_one), _WITHOUT_RATIOS)
    return _Sides(CheckSide(file), CheckSide(ModelFile(plan.source.header)))


def _ratios_of_one(session: Session) -> None:
    session.set_pair_factors(np.ones_like(session.pair_factors()))  # those of whole heads are among them


def _planned(plan: Conversion) -> Callable[[Session], None]:
    """Sets what the file would carry."""
    planned = plan.edit.set

    def prepare(session: Session) -> None:
        if keys.PAIR_FACTORS in planned:
            session.set_pair_factors(planned[keys.PAIR_FACTORS].value)
        elif keys.HEAD_FACTORS in planned:
            session.set_head_factors(planned[keys.HEAD_FACTORS].value)

    return prepare
