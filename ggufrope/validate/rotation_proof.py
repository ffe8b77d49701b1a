"""Whether FILE rotates as the reference does, and as its own parameters say, before any token is read."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ggufrope.gguf import keys
from ggufrope.methods.factor_table import digest_of
from ggufrope.modelfile.decoded import Decoded
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.reference import ReferenceSpec, Switch
from ggufrope.validate.claim import CHECKPOINT, Claim, given_rows
from ggufrope.validate.frequency_check import (
    LIMIT,
    FrequencyCheck,
    GivenFactors,
    RotationAt,
    check_frequencies,
    check_heads,
    check_points,
)

__all__ = ["compared_lengths", "prove_rotation"]


def prove_rotation(
    path: Path, model: Any, file: ModelFile, claim: Claim, spec: ReferenceSpec, length: int
) -> FrequencyCheck:
    """Compare FILE's frequencies with those of a loaded reference, and with what its own parameters ask for.

    The second matters where the reference goes by the checkpoint: a file that says other parameters than it rotates
    with is wrong, too.

    Args:
        path: the Hugging Face directory.
        model: what ``load_reference`` loaded from it with ``spec``.
        file: FILE.
        claim: what it claims.
        spec: what the reference computes.
        length: of the text, in tokens.
    """
    from ggufrope.reference import asked  # torch and transformers: seconds
    from ggufrope.reference.declared import config_of, text_of

    decoded, text = file.decoded, text_of(config_of(path))
    kinds = asked.layer_kinds(text)
    own = claim.reference.method is None  # the checkpoint's settings, whether it declares any or not
    ends, starts = compared_lengths(decoded, length, asked.switch_of(text) if own else None)
    given = GivenFactors(spec.pair_factors, spec.layer_scales) if spec.has_table else None
    seen = check_frequencies(decoded, _turns(asked.rotations_of(path, model, spec)), ends, starts, kinds, given)
    gaps = [f"it does not rotate as {path} asks for: {seen.gap}" if own else seen.gap] if seen.gap else []
    if claim.method is not None:
        points = check_points(decoded, asked.asked_points(path, claim.method))
        gaps += [points] if points else []
        if claim.source == CHECKPOINT:
            said = check_frequencies(decoded, _turns(asked.asked(path, claim.method)), ends, (), kinds, given)
            gaps += [f"{keys.PARAMS} asks for another rotation than the file's: {said.gap}"] if said.gap else []
    # rows that a converter left there may be coarser than the file's; those that were written with them are the same
    written = keys.ROPE_LONG in file.original.added_tensors
    if written and not decoded.stock_table.close_to(decoded.table.without_heads(), LIMIT):
        gaps.append("stock llama.cpp would rotate otherwise: its own rows, short and long, are not those of the file")
    gaps += _gaps_of_heads(path, decoded, claim)
    return FrequencyCheck(seen.frequency, seen.scale, seen.lengths, gaps[0] if gaps else "")


def _gaps_of_heads(path: Path, decoded: Decoded, claim: Claim) -> list[str]:
    """What heads have in FILE that its parameters do not ask for."""
    from ggufrope.reference import asked

    if claim.reference.has_table:  # whose numbers were compared with the frequencies
        changed = claim.digest and digest_of(given_rows(decoded)) != claim.digest
        return ["its factors are not those that it was given: their sha256 is another"] if changed else []
    heads = check_heads(decoded, claim.reference.head_ratios, partial(asked.part_factors_of, path, claim.reference))
    return [heads] if heads else []


def compared_lengths(decoded: Decoded, length: int, switch: Switch | None = None) -> tuple[set[int], set[int]]:
    """At which lengths all is compared, and at which frequencies alone.

    Args:
        decoded: FILE.
        length: of the text.
        switch: where a checkpoint's own settings begin to follow the length; None: they do not, or do not matter.
    """
    points = decoded.table.length_points if decoded.table.n_rows > 1 else ()
    ends, starts = set(points or [length]), set[int]()
    if switch is not None:
        ends |= {switch.original} | ({switch.original + 1} if switch.once else set())
        ends |= set() if points else {decoded.context}
        if switch.in_steps and points:  # a row's frequencies are right from its first length on, not at its end alone
            starts = {1, *(point + 1 for point in points[:-1])}
    return ends, starts


def _turns(rotations: Callable[[int], Any]) -> RotationAt:
    return lambda length: {kind: (r.frequencies, r.scale) for kind, r in rotations(length).items()}
