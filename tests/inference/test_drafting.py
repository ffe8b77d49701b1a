"""What is tried next in an answer: the rest of its draft, or what stood behind the same tokens before."""

from __future__ import annotations

import numpy as np
import pytest

from ggufrope.inference.drafting import continued, draft

TEXT = np.array([7, 1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 50, 51, 52, 53, 54])


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ([1, 2, 3], []),  # three agree: too few
        ([1, 2, 3, 4], [50, 51, 52, 53]),  # the last such place, and as many as agree
        ([7, 1, 2, 3, 4], [5, 6, 7, 8, 9]),  # the longest wins over the last
        ([0, 9, 1, 2, 3, 4], [50, 51, 52, 53, 54]),
        ([51, 52, 53, 54], []),  # nothing behind it
        ([1, 2, 3, 4, 99], []),
        ([], []),
    ],
)
def test_what_stood_behind_the_same_tokens(written, found):
    assert continued(TEXT, written) == found


def test_a_text_of_one_token_or_none_has_nothing():
    assert continued(np.array([], np.int64), [1, 2, 3, 4]) == []
    assert continued(np.array([4]), [1, 2, 3, 4]) == []


def test_the_draft_comes_first_then_itself_begun_otherwise_then_the_prompt():
    given = [30, 1, 2, 3, 4, 60, 61]
    assert draft(given, [], TEXT) == given
    assert draft(given, [30, 1], TEXT) == [2, 3, 4, 60, 61]
    assert draft(given, given, TEXT) == []
    assert draft(given, [1, 2, 3, 4], TEXT) == [60, 61]
    assert draft(given, [0, 0, 7, 1, 2, 3, 4], TEXT) == [60, 61]
    assert draft([30], [1, 2, 3, 4], TEXT) == [50, 51, 52, 53]
    assert draft(given, [1, 2, 3, 4], None) == []
    assert draft(given, [30, 1], None) == [2, 3, 4, 60, 61]
