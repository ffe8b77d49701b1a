"""``validate``: one file, one reference, every position."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from ggufrope.errors import CheckFailed, InputError
from ggufrope.gguf.keys import TOKEN_EMBEDDING
from ggufrope.inference.kv_types import KvCache
from ggufrope.inference.session import Session, chunk_size, open_strict
from ggufrope.modelfile.decoded import Decoded
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.validate.frequency_check import FrequencyCheck
from ggufrope.validate.kv_cache import choose_cache, require_length, require_memory
from ggufrope.validate.parts import run_parts
from ggufrope.validate.position_errors import PositionErrors, bucket, compare, edges
from ggufrope.validate.result import ValidationResult
from ggufrope.validate.sides import Reference, reference_side
from ggufrope.validate.token_ids import random_ids, text_ids
from ggufrope.validate.tolerances import limits, why_not

__all__ = ["require", "validate"]

_DEFAULT_LENGTH = 1024
_PAD = 256  # llama.cpp rounds a context up to this


def validate(
    file: ModelFile | Path,
    reference: Path,
    *,
    length: int | None = None,
    text: Path | None = None,
    tolerance: float | None = None,
    seed: int = 0,
    kv_type: str = "f32",
    flash_attn: bool | None = None,
    any_method: bool = False,
    as_stored: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> ValidationResult:
    """Compare log-probabilities of ``file`` on the patched runtime with a reference, at every position, in step.

    Args:
        file: the GGUF; it is opened where it is not yet.
        reference: the Hugging Face directory that it was made from (PyTorch computes it), or another GGUF of the same
            model, such as the one that it was quantized from (the patched runtime does, with an F32 KV cache).
        length: positions to compare; default: the file's context, at most 1024.
        text: text to read; default: pseudo-random ids.
        tolerance: limit on |Δ log p|; default: the named ones for the run's parts, if there are some.
        seed: of the pseudo-random ids.
        kv_type: of ``file``'s KV cache: a key of ``KV_TYPES``.
        flash_attn: on ``file``'s side; default: only where ``kv_type`` needs it.
        any_method: let a GGUF reference rotate differently: what a method changes is meant to be measured.
        as_stored: give PyTorch the file's own matrices, so that quantization is not part of the difference.
        progress: called with positions done and in all.

    Raises:
        GgufError, CheckpointError, InputError: file or reference cannot be used, or are not the same model.
        UsageError: no positions, more than fit, not enough text, or options that contradict each other.
        UnsupportedModelError, ParameterError: the reference does not have the model or the method.
        RuntimeLibraryError: the patched runtime is missing or fails.
    """
    cache, file = choose_cache(kv_type, flash_attn), ModelFile.of(file)
    decoded = file.decoded
    length = min(decoded.context, _DEFAULT_LENGTH) if length is None else length
    require_length(length)
    other = reference_side(file, reference, length, any_method=any_method, as_stored=as_stored)
    caches = [cache] if other.kind == "pytorch" else [cache, KvCache()]
    require_memory(file, decoded.model, length, caches)
    with open_strict(file, length, cache=cache, chunk=chunk_size(*_sizes(file, length))) as runtime:
        ids = text_ids(runtime, text, length) if text else random_ids(runtime, length, seed)
        errors, rotation = _errors(runtime, reference, other, ids, progress)
    parts = run_parts(other.parts, cache.kv_type, cache.flash_attn)
    return ValidationResult(
        file=str(file.path),
        reference=str(reference),
        method=decoded.method,
        rotation=other.rotation,
        weights="+".join(file.weight_types),
        length=length,
        tokens=str(text) if text else f"pseudo-random, seed {seed}",
        limits=None if other.gap and tolerance is None else limits(parts, length, tolerance),
        total=bucket(errors, 0, length),
        buckets=tuple(bucket(errors, a, b) for a, b in pairwise(edges(length, decoded.model.original_ctx))),
        notes=(*other.notes, *_notes(decoded, length, other.kind)),
        reference_kind=other.kind,
        reference_weights=None if other.weights is None else "+".join(other.weights),
        kv_type=cache.kv_type,
        flash_attn=cache.flash_attn,
        methods_differ=bool(other.gap),
        declared=other.declared,
        claimed=other.claim.text if other.claim else "",
        claimed_from=(other.claim.source or None) if other.claim else None,
        frequency_gap=rotation.frequency,
        scale_gap=rotation.scale,
        compared_at=rotation.lengths,
        disagreement=rotation.gap,
        unjudged="the methods differ, and that is what was measured" if other.gap else why_not(parts),
    )


def _errors(
    runtime: Session,
    path: Path,
    reference: Reference,
    ids: list[int],
    progress: Callable[[int, int], None] | None,
) -> tuple[PositionErrors, FrequencyCheck]:
    with reference.open(runtime.chunk) as opened:
        if runtime.n_vocab != opened.n_vocab:
            raise InputError(
                f"{runtime.file.path} has {runtime.n_vocab} tokens, {path} has {opened.n_vocab}: not the same model; "
                "give the reference that FILE was made from"
            )
        errors = compare(
            opened.log_probs(ids, runtime.chunk),
            runtime.log_probs(ids),
            (lambda done: progress(done, len(ids))) if progress else None,
        )
        return errors, opened.rotation


def _sizes(file: ModelFile, length: int) -> tuple[int, int]:
    """Logits and attention scores of one position."""
    embedding = next((i for header in file.headers for i in header.tensors if i.name == TOKEN_EMBEDDING), None)
    return max(1, embedding.shape[-1] if embedding else 1), max(file.decoded.model.n_head) * length


def require(result: ValidationResult) -> None:
    """Raise CheckFailed unless the result passed or is not to be judged."""
    if result.passed is False:
        raise CheckFailed(f"{result.file}: {result.verdict}")


def _notes(decoded: Decoded, length: int, kind: str) -> list[str]:
    padded = -(-length // _PAD) * _PAD
    original = decoded.model.original_ctx
    if kind == "gguf" or len(decoded.stock_table.factors) < 2 or decoded.by_length or not length <= original < padded:
        return []
    return [
        f"llama.cpp pads the context to {padded}, beyond the original {original}, and uses the long factors; "
        f"the reference uses the short ones, which {length} positions call for"
    ]
