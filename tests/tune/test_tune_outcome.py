"""What is said of methods that gained more than what was found."""

from __future__ import annotations

import numpy as np
import pytest

from ggufrope.report.difference import Difference
from ggufrope.tune.constraint import LossRise
from ggufrope.tune.gain import GoalGain, gain
from ggufrope.tune.report_split import ReportRow
from ggufrope.tune.tune_outcome import UNTOUCHED, RowOutcome, rivals


def outcome(name, value, method="", space=False, width=0.01, rise=0.0):
    difference = Difference(value, value - width, value + width, "paired")
    found = gain([GoalGain("niah", 512, 1.0, difference)], [LossRise(512, 2.0, 2.0 * (1 + rise), 8)], 0.01)
    return RowOutcome(ReportRow(name, np.zeros(1), method, {}, space), (), (), found)


UNTOUCHED_ROW = RowOutcome(ReportRow(UNTOUCHED, np.zeros(1)), (), (), None)
FOUND = outcome("full", 0.02, space=True)


def test_one_that_gained_more_is_named_with_its_command():
    rows = [UNTOUCHED_ROW, outcome("ms-poe", 0.05, "ms-poe"), FOUND]
    (said,) = rivals(rows, "full", "+ntk --context 1024 --calibrate TEXT")
    assert said == (
        "ms-poe gained +0.050 (+0.040 to +0.060) on the same texts, more than what was found; without a search, "
        "`ggufrope convert --method ms-poe+ntk --context 1024 --calibrate TEXT` writes it"
    )
    assert rivals(rows, "full")[0].endswith("`ggufrope convert --method ms-poe` writes it")
    assert len(rivals(rows, "")) == 1, "also where nothing was found"


def test_other_settings_are_not_given_a_command_that_writes_something_else():
    (said,) = rivals([UNTOUCHED_ROW, outcome("ms-poe as published", 0.05, "ms-poe"), FOUND], "full")
    assert said.endswith("more than what was found")


@pytest.mark.parametrize(
    "other",
    [
        outcome("ms-poe", 0.01, "ms-poe"),
        outcome("ms-poe", 0.05, "ms-poe", width=0.06),
        outcome("ms-poe", 0.05, "ms-poe", rise=0.02),
        outcome("pairs", 0.05, space=True),
    ],
    ids=["it gained less", "its gain is not shown", "plain text pays too much", "another space has its row"],
)
def test_others_are_not(other):
    assert rivals([UNTOUCHED_ROW, other, FOUND], "full") == []
