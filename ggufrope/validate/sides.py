"""What FILE is compared with: PyTorch on the checkpoint, or another GGUF on the same runtime."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ggufrope.errors import InputError, UsageError
from ggufrope.inference.divergence import Block
from ggufrope.inference.session import open_strict
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.reference import ReferenceSpec
from ggufrope.validate.agreement import require_same_model, rotation_gap
from ggufrope.validate.claim import BY_NAME, Claim, claim_of, require_static, served_as
from ggufrope.validate.frequency_check import FrequencyCheck
from ggufrope.validate.parts import Weights
from ggufrope.validate.rotation_proof import prove_rotation
from ggufrope.validate.tolerances import TOLERANCES

__all__ = ["Opened", "Reference", "reference_side"]


@dataclass(frozen=True, slots=True)
class Opened:
    """A loaded reference.

    Attributes:
        n_vocab: size of its vocabulary.
        log_probs: of ids, so many positions at a time: ``(≤ chunk, n_vocab)`` blocks.
        rotation: how its frequencies compare with FILE's; nothing where that was looked at before.
    """

    n_vocab: int
    log_probs: Callable[[Sequence[int], int], Iterator[Block]]
    rotation: FrequencyCheck = field(default_factory=FrequencyCheck)


@dataclass(frozen=True, slots=True)
class Reference:
    """What FILE is compared with, not loaded yet.

    Attributes:
        kind: ``pytorch`` or ``gguf``.
        weights: types of its matrices in a GGUF, or None.
        parts: the weights of both sides, for ``run_parts``.
        rotation: what it computes, in words.
        gap: in what it rotates differently on purpose; empty when it does not.
        notes: what a person should know.
        open: load it for batches of so many positions.
        declared: what a Hugging Face directory's own configuration asks for, as transformers reads it.
        claim: what FILE claims; None against a GGUF.
    """

    kind: str
    weights: tuple[str, ...] | None
    parts: tuple[Weights, ...]
    rotation: str
    gap: str
    notes: tuple[str, ...]
    open: Callable[[int], AbstractContextManager[Opened]]
    declared: str = ""
    claim: Claim | None = None


def reference_side(
    file: ModelFile, path: Path, length: int, *, any_method: bool = False, as_stored: bool = False
) -> Reference:
    """The reference at ``path`` for ``length`` positions of ``file``.

    Args:
        file: what is compared with it.
        path: a Hugging Face directory, or a GGUF of the same model.
        length: positions.
        any_method: let a GGUF rotate differently.
        as_stored: give PyTorch the file's own matrices.

    Raises:
        InputError: nothing is there, it is another model, or it rotates differently without ``any_method``.
        UsageError: ``as_stored`` or ``any_method`` where it means nothing.
        GgufError, ParameterError, NotHonouredError: see ``decode`` and ``claim_of``.
    """
    if path.is_dir():
        if any_method:
            raise UsageError(f"--any-method: {path} is a directory, which PyTorch rotates in one way; give a GGUF")
        return _pytorch(file, path, length, as_stored)
    if not path.exists():
        raise InputError(f"{path}: no such file or directory; give a Hugging Face directory or a GGUF of the model")
    if as_stored:
        raise UsageError(f"--as-stored: {path} is a GGUF with matrices of its own; give a Hugging Face directory")
    return _gguf(file, path, length, any_method)


def _pytorch(file: ModelFile, path: Path, length: int, as_stored: bool) -> Reference:
    from ggufrope.reference import declared, forward  # torch and transformers: seconds

    claim, config = claim_of(file), declared.config_of(path)
    text, spec = declared.text_of(config), forward.resolved(config, claim.reference)
    served = served_as(file.decoded, length)
    if claim.reference.method is None and served is not None:
        served = max(served, length)  # beyond FILE's last row the checkpoint's own settings go on
    if spec.by_length:
        served = served or length
    weights = Weights.of(file.weight_types, as_stored)
    known = TOLERANCES.get(weights)
    stored = known.stored if known and not as_stored else None
    notes = []
    if claim.source == BY_NAME and claim.method is not None and declared.scales(text):
        notes.append(
            f"the file does not say that its method was read from the checkpoint: it counts as asked for by name and "
            f"replaces what {path} asks for"
        )
    if stored:
        notes.append(f"the reference's matrices are rounded to {stored}, as the file stores them")
    elif as_stored:
        notes.append("the reference's matrices are the file's own: what quantization costs is not in these numbers")
    return Reference(
        "pytorch",
        None,
        (weights,),
        spec.describe() + (f", frequencies of {served} tokens" if served else ""),
        "",
        tuple(notes),
        partial(_open_pytorch, file, path, (claim, spec), (length, served), stored, as_stored),
        declared.describe(text),
        claim,
    )


@contextmanager
def _open_pytorch(
    file: ModelFile,
    path: Path,
    asked: tuple[Claim, ReferenceSpec],
    lengths: tuple[int, int | None],
    stored: str | None,
    as_stored: bool,
    _chunk: int,
) -> Iterator[Opened]:
    from ggufrope.reference import declared, forward

    (claim, spec), (length, served) = asked, lengths
    model = forward.load_reference(path, spec, length=served, stored=stored)
    if as_stored:
        from ggufrope.validate.stored import take_matrices

        take_matrices(model, file.headers)
    check = prove_rotation(path, model, file, claim, spec, length)
    yield Opened(declared.text_of(model.config).vocab_size, partial(forward.log_probs, model), check)


def _gguf(file: ModelFile, path: Path, length: int, any_method: bool) -> Reference:
    other = file if file.path == path else ModelFile.open(path)
    require_same_model(file.headers, other.headers)
    for side in (file, other):
        require_static(side.decoded)
    gap = rotation_gap(file.decoded, other.decoded)
    if gap and not any_method:
        raise InputError(f"{file.path} rotates differently from {path}: {gap}; --any-method compares them all the same")
    return Reference(
        "gguf",
        other.weight_types,
        (Weights.of(file.weight_types), Weights.of(other.weight_types)),
        f"{other.decoded.method} on the patched runtime, F32 KV cache, flash attention off",
        gap,
        (f"the methods differ: {gap}",) if gap else (),
        partial(_open_gguf, other, length),
    )


@contextmanager
def _open_gguf(file: ModelFile, length: int, chunk: int) -> Iterator[Opened]:
    with open_strict(file, length, chunk=chunk) as session:
        yield Opened(session.n_vocab, lambda ids, _chunk: session.log_probs(ids))
