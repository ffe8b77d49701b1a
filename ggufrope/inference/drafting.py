"""What an answer may well go on with; only a matter of speed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["continued", "draft"]

#: Tokens that must agree before what follows them is tried: four of a random UUID stand once among thousands.
_AGREED = 4


def draft(given: Sequence[int], written: Sequence[int], prompt: npt.NDArray[np.int64] | None) -> list[int]:
    """What may follow ``written``: the rest of the draft ``given``, or what stood behind the same tokens before.

    An answer that leaves its draft is mostly one of these: the same words begun otherwise, such as a value without its
    quote, or others from the prompt (prompt lookup decoding, as transformers' ``prompt_lookup_num_tokens``).

    Args:
        given: the request's draft.
        written: the answer's tokens so far.
        prompt: the prompt's tokens; None: nothing but the draft itself is tried.
    """
    if list(given[: len(written)]) == list(written):
        return list(given[len(written) :])
    if prompt is None:
        return []
    return continued(np.asarray(given, np.int64), written) or continued(prompt, written)


def continued(text: npt.NDArray[np.int64], written: Sequence[int]) -> list[int]:
    """What stands in ``text`` behind the longest end of ``written`` that is in it; the last such place counts.

    As many tokens as agree before it, since a model that has copied long goes on copying; none if fewer than four do.

    Args:
        text: tokens.
        written: tokens whose end is looked for.
    """
    ends = np.arange(1, len(text))  # where what follows would begin
    agreed = 0
    for token in reversed(written):
        longer = ends[ends > agreed]
        longer = longer[text[longer - agreed - 1] == token]
        if not longer.size:
            break
        ends, agreed = longer, agreed + 1
    if agreed < _AGREED:
        return []
    return [int(token) for token in text[ends[-1] : ends[-1] + agreed]]
