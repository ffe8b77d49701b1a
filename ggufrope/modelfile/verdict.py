"""Who honours a file: the patched llama.cpp, the stock one at the pin, and the other programs that were measured.

It follows from what the file's keys and tensors make each of them compute, never from the method's name. ``convert``,
``inspect``, ``plan`` and the README's table all say what stands here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ggufrope.errors import GgufropeError
from ggufrope.gguf import keys
from ggufrope.late import np
from ggufrope.modelfile.decoded import Decoded, decode
from ggufrope.modelfile.edited import EditedSource
from ggufrope.modelfile.facts import KeySource
from ggufrope.modelfile.foreign_runtimes import RUNTIMES, FileKind, ForeignRuntime, Outcome
from ggufrope.modelfile.loading import Fault, faults
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.rope.stock import LINEAR, LONGROPE, YARN

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Verdict", "verdict_of", "verdict_of_edit"]

_PATCHED = "the patched llama.cpp (`ggufrope run|serve`)"
_PLAIN = "plain RoPE"
_LAST_POSITION = 2**31 - 1
_RTOL = 1e-6  # float32 keys carry 6e-8
_DEFAULT_RAMP = (32.0, 1.0)  # YaRN's beta_fast and beta_slow where a file says nothing
#: Of several means that a file holds, what comes first here decides.
_WORST_FIRST = (
    Outcome.CRASHES, Outcome.REFUSES, Outcome.WRONG, Outcome.NOT_MEASURED, Outcome.ALLOCATED, Outcome.BASE,
    Outcome.SOURCE, Outcome.FULL,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Verdict:
    """Who honours a file, and why.

    Attributes:
        method: what the file calls its method.
        patched: what the patched runtime does: in full, or it refuses the file.
        stock: what stock llama.cpp at the pin does.
        left_out: what stock leaves out of the method; empty where it runs it in full.
        rest: what stock runs instead, in ``convert``'s words; empty where it runs it in full or refuses.
        only: the same in ``inspect``'s.
        means: what upstream's keys and tensors hold of the scaling: what other programs go by.
        foreign: what each measured program does.
        skipped_by: those that load the file, and skip ``means``.
        crashed_by: those that crash on ``means``.
        raised_to: the context in upstream's key, where it is above what the model was trained for; None elsewhere.
        faults: why no llama.cpp loads the file; empty where it does.
        uncounted: that a context is longer than llama.cpp can count, in a sentence; empty where it is not.
    """

    method: str
    patched: Outcome
    stock: Outcome
    left_out: tuple[str, ...]
    rest: str
    only: str
    means: tuple[FileKind, ...]
    foreign: tuple[tuple[ForeignRuntime, Outcome], ...]
    skipped_by: tuple[ForeignRuntime, ...]
    crashed_by: tuple[ForeignRuntime, ...]
    raised_to: int | None
    faults: tuple[Fault, ...] = ()
    uncounted: tuple[str, ...] = ()

    def runs_on(self) -> str:
        """Which runtimes give the file's effect, and what stock llama.cpp runs it as where it does not."""
        if self.faults:
            return f"no llama.cpp: {self.faults[0]}"
        if self.stock is Outcome.FULL:
            return "stock llama.cpp as well as the patched one"
        if self.stock is Outcome.REFUSES:
            return f"{_PATCHED}; stock llama.cpp refuses the file"
        return f"{_PATCHED}; stock llama.cpp runs it as {self.rest}"

    def honoured_by(self) -> dict[str, str]:
        """One sentence for each kind of llama.cpp."""
        if self.faults:
            does = "aborts on the file" if any(fault.aborts for fault in self.faults) else "does not load the file"
            return dict.fromkeys(("patched", "stock"), f"{does}: {'; '.join(map(str, self.faults))}")
        full = f"runs it in full ({self.method})"
        if self.stock is Outcome.FULL:
            stock = full
        elif self.stock is Outcome.REFUSES:
            stock = "refuses the file (it was converted with --require-patched)"
        elif self.stock is Outcome.SOURCE:
            stock = "runs it as the source model: it ignores the ggufrope keys"
        else:
            stock = f"runs {self.only} only: it ignores {' and '.join(self.left_out)}"
        return {"patched": full, "stock": stock}

    def warnings(self) -> list[str]:
        """Which measured programs crash on the file, or skip the means by which its context was raised."""
        if self.faults:
            return [f"`ggufrope convert` repairs {fault.name}" for fault in self.faults if fault.repair]
        means, said = " and ".join(kind.whatever_parameters() for kind in self.means), list(self.uncounted)
        if self.skipped_by and self.raised_to is not None:
            said.append(
                f"context_length is raised to {self.raised_to} by {means}; {_names(self.skipped_by)} accept the longer "
                "context and rotate it wrongly, without an error (docs/runtimes.md)"
            )
        if self.crashed_by:
            said.append(f"{_names(self.crashed_by)} crash on a file with {means} (docs/runtimes.md)")
        return said

    def as_json(self) -> dict[str, object]:
        """What ``inspect --json`` adds to ``honoured_by``."""
        measured = [
            {"name": r.name, "version": r.version, "outcome": does.name.lower(), "notes": r.notes}
            for r, does in self.foreign
        ]
        return {
            "measured_runtimes": measured,
            "warnings": self.warnings(),
            "not_loaded_because": [str(fault) for fault in self.faults],
        }


def verdict_of(file: ModelFile) -> Verdict:
    """The verdict on a file.

    Raises:
        GgufError, UnsupportedModelError: see ``ModelFile.decoded`` and ``ModelFile.before``.
    """
    if file.unrotated:
        return _without_rope(file)
    return _verdict(file, file.decoded, None if file.original_fault else file.before)


def verdict_of_edit(edited: EditedSource) -> Verdict:
    """The verdict on what an edit would write.

    Raises:
        GgufError: the result could not be read.
    """
    if edited.unrotated:
        return _without_rope(edited)
    try:
        before = edited.source.decoded
    except GgufropeError:  # a scaling that makes no sense can still be replaced
        before = None
    return _verdict(edited, decode(edited), before)


def _without_rope(source: KeySource) -> Verdict:
    """Of a model that does not rotate; what other programs do with such models was not measured."""
    found = tuple(faults(source))
    return Verdict(
        method="no RoPE",
        patched=Outcome.REFUSES if found else Outcome.FULL,
        stock=Outcome.REFUSES if found or source.has_tensor(keys.SENTINEL) else Outcome.FULL,
        left_out=(),
        rest="",
        only="",
        means=(FileKind.PLAIN,),
        foreign=tuple((runtime, Outcome.NOT_MEASURED) for runtime in RUNTIMES),
        skipped_by=(),
        crashed_by=(),
        raised_to=None,
        faults=found,
    )


def _verdict(source: KeySource, now: Decoded, before: Decoded | None) -> Verdict:
    found = tuple(faults(source))
    changed = before is None or not _same_stock_rotation(now, before)
    stock = _stock(source.has_tensor(keys.SENTINEL), now, changed)
    heads = now.table.per_head or bool(now.table.n_head_kv)
    left_out = ("the length in use",) * now.by_length + ("the per-head ratios",) * heads or ("the factors",)
    means = _means(now, changed)
    sentinel = source.has_tensor(keys.SENTINEL)
    by_means = {runtime: _by_means(runtime, now, means, changed) for runtime in RUNTIMES}
    foreign = {r: r.on(FileKind.SENTINEL) if sentinel else does for r, does in by_means.items()}
    if found:  # what programs do with such a file was not measured
        foreign = dict.fromkeys(RUNTIMES, Outcome.NOT_MEASURED)
    return Verdict(
        method=now.method,
        patched=Outcome.REFUSES if found else Outcome.FULL,
        stock=Outcome.REFUSES if found else stock,
        left_out=left_out if now.needs_patched else (),
        rest=_rest(now, stock, heads),
        only=_only(now, before),
        means=means,
        foreign=tuple(foreign.items()),
        skipped_by=tuple(r for r in RUNTIMES if by_means[r] is foreign[r] is Outcome.WRONG),
        crashed_by=tuple(r for r in RUNTIMES if by_means[r] is foreign[r] is Outcome.CRASHES),
        raised_to=_raised_to(now, before),
        faults=found,
        uncounted=_uncounted(now),
    )


def _names(runtimes: tuple[ForeignRuntime, ...]) -> str:
    return ", ".join(map(str, runtimes))


def _stock(sentinel: bool, now: Decoded, changed: bool) -> Outcome:
    """What stock llama.cpp does with a file."""
    if sentinel:
        return Outcome.REFUSES
    if not now.needs_patched:
        return Outcome.FULL
    if not changed:
        return Outcome.SOURCE
    return Outcome.ALLOCATED if now.stock_table.n_rows > 1 else Outcome.BASE


def _rest(now: Decoded, stock: Outcome, heads: bool) -> str:
    if stock is Outcome.SOURCE:
        return "the source model, unchanged"
    without = "without the head ratios"
    if stock is Outcome.ALLOCATED:
        return "longrope by the allocated context" + f", {without}" * heads
    if stock is not Outcome.BASE:
        return ""
    base = now.method.partition("+")[2] or now.stock.kind
    return f"{base} {without}" if heads else _PLAIN


def _means(now: Decoded, changed: bool) -> tuple[FileKind, ...]:
    """What upstream's keys and tensors hold; the keys of ours alone where upstream's say what the source's said."""
    if now.needs_patched and not changed:
        return (FileKind.OURS_ONLY,)
    stock, found = now.stock, []
    if stock.long or stock.scaling_type == LONGROPE:
        found.append(FileKind.LONGROPE)
    elif stock.scaling_type == YARN:
        found.append(FileKind.YARN)
    elif stock.kind == LINEAR:
        found.append(FileKind.LINEAR)
    if now.model.own_factors:
        found.append(FileKind.FACTORS if stock.attn_factor == 1.0 else FileKind.FACTORS_AND_SCALE)
    return tuple(found) or (FileKind.PLAIN,)


def _by_means(runtime: ForeignRuntime, now: Decoded, means: tuple[FileKind, ...], changed: bool) -> Outcome:
    """What a measured program does with upstream's keys and tensors, the tensor of --require-patched aside.

    None of them knows the keys of ours, so head ratios on top of a base leave what they do with the base; with YARN
    that was measured (``FileKind.COMPOSED``), and a test compares.
    """
    does = min((runtime.on(kind) for kind in means), key=_WORST_FIRST.index)
    ramp = (now.stock.beta_fast, now.stock.beta_slow)
    if does is Outcome.FULL and changed and now.stock.scaling_type == YARN and ramp != _DEFAULT_RAMP:
        return Outcome.NOT_MEASURED  # as keys; only as a tensor it was. Who skips or refuses YARN does so with any ramp
    return Outcome.BASE if does is Outcome.FULL and now.needs_patched else does


def _only(now: Decoded, before: Decoded | None) -> str:
    if now.stock.scaling_type:
        return now.stock.scaling_type
    if before is None and not now.model.own_factors:  # whatever the source's scaling was, it is gone
        return _PLAIN
    added = now.model.own_factors != (before.model.own_factors if before else ())
    return f"the factors in {keys.ROPE_FREQS}" if added else "the raised base"


def _raised_to(now: Decoded, before: Decoded | None) -> int | None:
    trained = (before or now).model.original_ctx
    return now.model.train_ctx if now.model.train_ctx > trained else None


def _uncounted(now: Decoded) -> tuple[str, ...]:
    name = keys.stock(keys.CONTEXT_LENGTH, now.model.arch)
    beyond = f"beyond the {_LAST_POSITION} positions that llama.cpp can count: give it a context (-c)"
    return (f"{name} is {now.model.train_ctx}, {beyond}",) if now.model.train_ctx > _LAST_POSITION else ()


def _same_stock_rotation(a: Decoded, b: Decoded) -> bool:
    """Whether stock rotates both alike: the same frequencies, whatever base, factors and tensors they come from."""
    if a.stock_table.length_points[:-1] != b.stock_table.length_points[:-1] or a.model.sliding != b.model.sliding:
        return False
    return all(
        np.shape(_stock_turns(a, layer)) == np.shape(_stock_turns(b, layer))
        and np.allclose(_stock_turns(a, layer), _stock_turns(b, layer), rtol=_RTOL, atol=0)
        for layer in a.model.one_of_each_kind()
    )


def _stock_turns(decoded: Decoded, layer: int) -> NDArray[np.float64]:
    """Frequencies of each row in a layer, and behind them what multiplies cos and sin."""
    table, model = decoded.stock_table, decoded.model
    lengths = table.length_points or (None,)
    rows = [[*table.frequencies(model, layer, length=n), table.scale(model, layer, n)] for n in lengths]
    return np.asarray(rows)
