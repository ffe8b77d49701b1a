"""``validate``: one file, one reference, every position."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from ggufrope.codec import Decoded, decode
from ggufrope.errors import CheckFailed, InputError, UsageError
from ggufrope.gguf import Header, read_header
from ggufrope.reference import ReferenceSpec
from ggufrope.source import Source
from ggufrope.validate.compare import PositionErrors, bucket, compare, edges
from ggufrope.validate.engine import chunk_size, log_probs, open_strict
from ggufrope.validate.result import ValidationResult
from ggufrope.validate.settings import reference_spec, served_as
from ggufrope.validate.tokens import random_ids, text_ids
from ggufrope.validate.tolerances import TOLERANCES, limits, weight_types

if TYPE_CHECKING:
    from llama_cpp import Llama

__all__ = ["require", "validate"]

_DEFAULT_LENGTH = 1024
_PAD = 256  # llama.cpp rounds a context up to this


def validate(
    file: Path,
    reference: Path,
    *,
    length: int | None = None,
    text: Path | None = None,
    tolerance: float | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> ValidationResult:
    """Compare log-probabilities of ``file`` on the patched runtime with the PyTorch reference, at every position.

    Args:
        file: the GGUF.
        reference: the Hugging Face directory that it was made from.
        length: positions to compare; default: the file's context, at most 1024.
        text: text to read; default: pseudo-random ids.
        tolerance: limit on |Δ log p|; default: the named one for the file's weights, if there is one.
        seed: of the pseudo-random ids.
        progress: called with positions done and in all.

    Raises:
        GgufError, CheckpointError, InputError: file or reference cannot be used, or are not the same model.
        UsageError: no positions, or not enough text.
        UnsupportedModelError, ParameterError: the reference does not have the model or the method.
        RuntimeLibraryError: the patched runtime is missing or fails.
    """
    header = read_header(file)
    decoded = decode(Source(header))
    spec, weights = reference_spec(decoded), weight_types(header)
    length = min(decoded.context, _DEFAULT_LENGTH) if length is None else length
    if length < 1:
        raise UsageError(f"--length {length}: at least one position is needed")
    served = served_as(decoded, length)
    stored = TOLERANCES[weights].stored if weights in TOLERANCES else None
    runtime = open_strict(file, length, chunk_size(_vocabulary(header)))
    try:
        ids = text_ids(runtime, text, length) if text else random_ids(runtime, length, seed)
        errors = _errors(runtime, reference, spec, served, stored, ids, progress)
    finally:
        runtime.close()
    bounds = edges(length, decoded.model.original_ctx)
    return ValidationResult(
        file=str(file),
        reference=str(reference),
        method=decoded.method,
        rotation=spec.describe() + (f", frequencies of {served} tokens" if served else ""),
        weights=weights,
        length=length,
        tokens=str(text) if text else f"pseudo-random, seed {seed}",
        limits=limits(weights, length, tolerance),
        total=bucket(errors, 0, length),
        buckets=tuple(bucket(errors, a, b) for a, b in pairwise(bounds)),
        notes=tuple(_notes(decoded, length, stored)),
    )


def _errors(
    runtime: Llama,
    reference: Path,
    spec: ReferenceSpec,
    served: int | None,
    stored: str | None,
    ids: list[int],
    progress: Callable[[int, int], None] | None,
) -> PositionErrors:
    from ggufrope.reference import forward  # torch and transformers: seconds

    model = forward.load_reference(reference, spec, length=served, stored=stored)
    n_vocab = model.config.vocab_size
    if runtime.n_vocab() != n_vocab:
        raise InputError(
            f"{runtime.model_path} has {runtime.n_vocab()} tokens, {reference} has {n_vocab}: not the same model"
        )
    return compare(
        forward.log_probs(model, ids, runtime.n_batch),
        log_probs(runtime, ids),
        (lambda done: progress(done, len(ids))) if progress else None,
    )


def _vocabulary(header: Header) -> int:
    embedding = header.tensor("token_embd.weight")
    return max(1, embedding.shape[-1] if embedding else 1)


def require(result: ValidationResult) -> None:
    """Raise CheckFailed unless the result passed or is not to be judged."""
    if result.passed is False:
        raise CheckFailed(f"{result.file}: {result.verdict}")


def _notes(decoded: Decoded, length: int, stored: str | None) -> list[str]:
    notes = []
    if stored:
        notes.append(f"the reference's matrices are rounded to {stored}, as the file stores them")
    padded = -(-length // _PAD) * _PAD
    original = decoded.model.original_ctx
    if len(decoded.stock_table.factors) > 1 and not decoded.by_length and length <= original < padded:
        notes.append(
            f"llama.cpp pads the context to {padded}, beyond the original {original}, and uses the long factors; "
            f"the reference uses the short ones, which {length} positions call for"
        )
    return notes
