"""One rule says which row of factors serves a length; whoever asks gets the same answer."""

from __future__ import annotations

import numpy as np
import pytest

from ggufrope.reference.rows import LengthRows
from ggufrope.rope.length_rows import ServingRow, row_for
from ggufrope.rope.table import RopeTable

POINTS = (512, 609, 1024)
EDGES = (1, 511, 512, 513, 609, 610, 1024, 5000)


def test_rows_and_how_far_they_reach():
    assert [row_for(POINTS, n).index for n in EDGES] == [0, 0, 0, 1, 1, 2, 2, 2]
    assert [row_for(POINTS, n).point for n in EDGES] == [512, 512, 512, 609, 609, 1024, 1024, 1024]
    # the last row serves what is beyond its point, too
    assert [row_for(POINTS, n).end for n in EDGES] == [512, 512, 512, 609, 609, None, None, None]
    assert row_for(POINTS) == ServingRow(2, 1024, None)


@pytest.mark.parametrize("length", [None, 1, 5000])
def test_one_row_serves_every_length(length):
    assert row_for((), length) == ServingRow(0, None, None)
    assert row_for((512,), length) == ServingRow(0, 512, None)


def test_tables_and_the_reference_follow_the_same_rule():
    table = RopeTable(np.ones((3, 4)), np.ones(3), length_points=POINTS)
    assert [table.row(n) for n in (None, *EDGES)] == [row_for(POINTS, n).index for n in (None, *EDGES)]
    oracle = LengthRows(POINTS, ((1.0,) * 4,) * 3, (1.0,) * 3)
    assert [oracle.row(n) for n in EDGES] == [row_for(POINTS, n).index for n in EDGES]
