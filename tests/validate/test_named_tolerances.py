"""Every named tolerance on the demo model: the right file is within it, and the mistakes it is said to notice are not.

One KV head's ratio is wrong in one of six layers, which is about the smallest mistake there is.
"""

from __future__ import annotations

import pytest
from validate_path import validate

from ggufrope.validate.tolerances import TOLERANCES

LENGTH = 512
HEAD = 9  # layer 2, KV head 1


def off_by(share):
    def change(factors):
        factors[HEAD] *= 1 + share

    return change


def swapped(factors):
    factors[[HEAD - 1, HEAD]] = factors[[HEAD, HEAD - 1]]


SWAP = swapped
#: name of the tolerance: (type of the weights, options, mistakes that it must notice).
RUNS = {
    "F32 weights": ("F32", {}, [off_by(0.001), off_by(0.01), off_by(0.1), SWAP]),
    "F16 weights": ("F16", {}, [off_by(0.01), off_by(0.1), SWAP]),
    "BF16 weights": ("BF16", {}, [SWAP]),
    "Q8_0 weights": ("Q8_0", {}, [SWAP]),
    "Q8_0 weights as stored": ("Q8_0", {"as_stored": True}, [SWAP]),
    "Q4_K_M weights as stored": ("Q4_K_M", {"as_stored": True}, [SWAP]),
    "F16 KV cache": ("F32", {"kv_type": "f16"}, [off_by(0.01), off_by(0.1), SWAP]),
    "Q8_0 KV cache": ("F32", {"kv_type": "q8_0"}, [SWAP]),
    "flash attention": ("F32", {"flash_attn": True}, [off_by(0.01), off_by(0.1), SWAP]),
}
UNJUDGED = {
    "Q4_K_M weights": ("Q4_K_M", {}),
    "Q4_0 KV cache": ("F32", {"kv_type": "q4_0"}),
}


@pytest.mark.parametrize("name", RUNS)
def test_right_files_pass_and_mistakes_do_not(demo_file, demo_dir, spoil, name):
    kind, options, mistakes = RUNS[name]
    right = validate(demo_file(kind), demo_dir, length=LENGTH, **options)
    assert name in right.limits.name
    assert right.passed, "\n".join(right.lines())
    assert right.total.mean_kl < 0.6 * right.limits.mean_kl, "less than the margin that was meant"
    for mistake in mistakes:
        spoil(mistake)
        found = validate(demo_file(kind), demo_dir, length=LENGTH, **options)
        assert found.passed is False, "\n".join(found.lines())


@pytest.mark.parametrize("name", UNJUDGED)
def test_what_no_limit_separates_is_not_judged(demo_file, demo_dir, spoil, name):
    """The right file is already further away than a swap of two heads takes an exact one."""
    kind, options = UNJUDGED[name]
    right = validate(demo_file(kind), demo_dir, length=LENGTH, **options)
    assert right.passed is None
    assert f"{name} alone may be as far off as a mistake would be" in right.verdict
    spoil(swapped)
    assert right.total.mean_kl > validate(demo_file("F32"), demo_dir, length=LENGTH).total.mean_kl


def test_all_parts_together_still_notice_a_swap(demo_file, demo_dir, spoil):
    options = {"length": LENGTH, "kv_type": "q8_0"}
    right = validate(demo_file("Q8_0"), demo_file("F16"), **options)
    assert right.limits.name == "F16 weights + Q8_0 weights + Q8_0 KV cache + flash attention"
    assert right.passed, "\n".join(right.lines())
    spoil(swapped)
    assert validate(demo_file("Q8_0"), demo_file("F16"), **options).passed is False


def test_every_tolerance_is_here():
    assert RUNS.keys() | UNJUDGED.keys() == {str(part) for part in TOLERANCES}
    assert {str(part) for part, t in TOLERANCES.items() if t.mean_kl is None} == UNJUDGED.keys()
