"""RULER's tasks: the answers, worked out from the text alone by counting and by running the program in it."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest
from tasks_matrix import body, words

from ggufrope.errors import UsageError
from ggufrope.evals.task import Budget, Example
from ggufrope.evals.tasks import TASKS, make
from ggufrope.evals.tasks.ruler_fwe import counts


def ask(name: str, length: int, n: int = 3, **options: Any) -> list[Example]:
    return list(make(TASKS[name], options).examples(Budget(length, words), (), n, 0))


@pytest.mark.parametrize(("chains", "hops"), [(1, 4), (1, 1), (4, 2), (3, 6)])
def test_variables_are_followed(chains: int, hops: int) -> None:
    for example in ask("ruler-vt", 1200, chains=chains, hops=hops):
        known: dict[str, str] = {}
        for name, source in re.findall(r"VAR (\w+) = (\w+|VAR \w+)\.", body(example.prompt)):
            assert name not in known
            known[name] = known[source.removeprefix("VAR ")] if source.startswith("VAR ") else source
        assert sorted(Counter(known.values()).values()) == [hops + 1] * chains
        [value] = set(re.findall(r"\b\d{5}\b", example.prompt.rsplit("\n\n", 1)[1]))
        assert set(example.answers) == {name for name in known if known[name] == value}
        assert f"These {hops + 1} variables" in example.start and value in example.start


@pytest.mark.parametrize(
    ("options", "length"),
    [({}, 3500), ({"common": 3, "frequent": 9, "rare": 2}, 900)],
)
def test_common_words_are_the_commonest(options: dict[str, int], length: int) -> None:
    common, frequent, rare = (options.get(k, v) for k, v in (("common", 10), ("frequent", 30), ("rare", 3)))
    for example in ask("ruler-cwe", length, **options):
        listed = re.findall(r"(\d+)\. (\S+)", body(example.prompt))
        assert [int(number) for number, _ in listed] == list(range(1, len(listed) + 1))
        ranks = Counter(word for _, word in listed).most_common()
        assert set(example.answers) == {word for word, _ in ranks[:common]}
        assert [times for _, times in ranks] == [frequent] * common + [rare] * (len(ranks) - common)


@pytest.mark.parametrize(("length", "alpha"), [(0, 2.0), (1000, 2.0), (9000, 1.5), (4000, 3.5)])
def test_frequent_words_are_the_most_frequent(length: int, alpha: float) -> None:
    if not length:  # the shortest that it takes: where rounding could make two words equal
        with pytest.raises(UsageError, match="smallest length is") as error:
            ask("ruler-fwe", 20, alpha=alpha)
        length = int(str(error.value).split()[-1])
    for example in ask("ruler-fwe", length, alpha=alpha):
        ranks = Counter(body(example.prompt).split()).most_common()
        assert ranks[0][0] == "..."
        assert example.answers == tuple(word for word, _ in ranks[1:4])
        assert len({times for _, times in ranks[1:5]}) == 4  # no two of them as frequent, and none like the next


def test_zipf_by_hand() -> None:
    """Of 1000 words, 1/ζ(2) ≈ 0.608 times 1, 1/4, 1/9, ... of them; ζ(2) of 2000 terms is 0.0005 less than π²/6."""
    assert counts(1000, 2.0)[:5] == [608, 152, 67, 38, 24]
    assert 0.9 * 1000 < sum(counts(1000, 2.0)) <= 1000


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ruler-cwe", {"frequent": 3}, "frequent is 3; it must be above rare, 3"),
        ("ruler-cwe", {"common": 20000}, "common is 20000; there are 20034 words"),
        ("ruler-fwe", {"alpha": "1"}, "alpha is 1; it must be above 1 and at most 4"),
        ("ruler-fwe", {"alpha": "nan"}, "alpha is nan"),
        ("ruler-fwe", {"alpha": "two"}, "alpha is 'two'; a number is needed"),
        ("ruler-vt", {"hops": 0}, "hops is 0; 1 is the fewest"),
    ],
)
def test_options_that_make_no_sense(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make(TASKS[name], options)
