"""Needles that share no word with their questions: the words, and a reader who knows the world."""

from __future__ import annotations

import re
from itertools import islice, product
from random import Random
from typing import Any

import pytest
from tasks_matrix import DATA, DEPTHS, body, words

from ggufrope.errors import UsageError
from ggufrope.evals.task import Budget, Example
from ggufrope.evals.tasks import TASKS, make
from ggufrope.evals.tasks.haystack import made_up, unused
from ggufrope.evals.tasks.landmarks import LANDMARKS
from ggufrope.evals.tasks.niah_hop import PHRASINGS
from ggufrope.evals.tasks.words import ADJECTIVES, NAMES, NOUNS

#: Country: its city, and words of the landmark there. Written down apart from the task's own table.
ATLAS = """
Australia: Sydney, Bondi. Austria: Vienna, Schönbrunn. Belgium: Brussels, Atomium. Brazil: Rio de Janeiro, Redeemer.
Cambodia: Siem Reap, Angkor. Canada: Toronto, CN. China: Beijing, Forbidden. the Czech Republic: Prague, Charles.
Denmark: Copenhagen, Mermaid. Egypt: Cairo, Tahrir. England: London, Ben. Finland: Helsinki, Suomenlinna.
France: Paris, Eiffel. Germany: Berlin, Brandenburg. Greece: Athens, Acropolis. Hungary: Budapest, Bastion.
Iceland: Reykjavik, Hallgrímskirkja. India: Agra, Mahal. Ireland: Dublin, Temple. Italy: Rome, Colosseum.
Japan: Tokyo, Shibuya. Malaysia: Kuala Lumpur, Petronas. Norway: Oslo, Holmenkollen. Poland: Kraków, Wawel.
Portugal: Lisbon, Belém. Russia: Moscow, Bolshoi. South Africa: Cape Town, Table. South Korea: Seoul, Gyeongbokgung.
Spain: Barcelona, Sagrada. Sweden: Stockholm, Vasa. Switzerland: Zermatt, Matterhorn. Thailand: Bangkok, Arun.
Turkey: Istanbul, Sophia. the Netherlands: Amsterdam, Rijksmuseum. the United Arab Emirates: Dubai, Burj.
the United States: San Francisco, Golden.
"""
KNOWN = {m[1]: (m[2], m[3]) for m in re.finditer(r"([^.:\n]+): ([^,]+), (\S+)\.", ATLAS.replace(". ", ".\n"))}
SMALL = set(
    "a an the of in is are to with by was does and that one who which whose it has from every those at above".split()
)


def stems(text: str) -> set[str]:
    """Words that carry a meaning, in lower case and without endings."""
    found = re.findall(r"\w+", text.casefold().replace("'s", ""))
    return {re.sub(r"(?<=\w{3})(ings?|ers?|ed|es|s|e)$", "", word) for word in found if word not in SMALL}


def related(a: str, b: str) -> bool:
    """The same stem, or one that goes on like the other: ``france`` and ``francs``."""
    return a == b or (min(len(a), len(b)) >= 4 and (a.startswith(b[:5]) or b.startswith(a[:5])))


def shared(needle: str, asked: str) -> set[tuple[str, str]]:
    return {(a, b) for a, b in product(stems(needle), stems(asked)) if related(a, b)}


def ask(length: int = 1000, n: int = 4, **options: Any) -> list[Example]:
    return list(make(TASKS["niah-hop"], options).examples(Budget(length, words), DEPTHS, n, 0))


def asked(example: Example) -> str:
    """What stands after the text: the question, and the beginning of the answer."""
    return example.prompt.rsplit("\n\n", 1)[1] + example.start


def question(hops: int, spot: Any, phrasing: Any) -> str:
    task: Any = make(TASKS["niah-hop"], {"hops": hops})
    return f"Which person {task._clause(phrasing, spot)}?"


def test_stems_by_hand() -> None:
    assert stems("Who lives in the Bakeries' houses?") == {"liv", "bakeri", "hous"}
    assert shared("She lived by the tower.", "Who lives there?") == {("liv", "liv")}
    assert shared("The Frenchman sat down", "in France") == set() and shared("a Dubliner", "Dublin")


@pytest.mark.parametrize("hops", [1, 2])
def test_no_needle_shares_a_word_with_any_question(hops: int) -> None:
    """With none at all: not its own, with what stands around it in the prompt, and not those about other places."""
    prompts = {asked(example) for example in ask(hops=hops)}
    everything = " ".join([*prompts, *(question(hops, spot, PHRASINGS[0]) for spot in LANDMARKS)])
    assert stems(everything) >= {"person", "liv"}
    for phrasing, spot in product(PHRASINGS, LANDMARKS):
        needle = phrasing.needle.replace("{landmark}", spot.name).replace("{name}", "")
        assert question(hops, spot, phrasing) in everything
        assert shared(needle, everything) == set(), needle
    for name in NAMES:
        assert shared(name, everything) == set()


def test_the_control_repeats_the_needle_s_words() -> None:
    for phrasing, spot in product(PHRASINGS, LANDMARKS):
        needle = phrasing.needle.replace("{landmark}", spot.name).replace("{name}", "")
        asked_for = stems(question(0, spot, phrasing))
        # is run and runs, walked and walks, belongs and has: the same words with other endings, or without meaning
        assert asked_for - stems(needle) <= {"person", "run", "walk"}
        assert stems(spot.name) <= asked_for and len(asked_for & stems(needle)) >= len(stems(spot.name)) + 1


def test_needles_begin_and_end_with_the_name() -> None:
    first = [t for t in PHRASINGS if t.needle.startswith("{name}")]
    last = [t for t in PHRASINGS if t.needle.endswith("{name}.")]
    assert len(first) == len(last) == 3 and len({*first, *last}) == len(PHRASINGS)
    told = " ".join(body(e.prompt) for e in ask(n=3))
    assert re.search(r"\. [A-Z]\w+ (has|runs|walks) ", told) and re.search(r"(to|by) [A-Z]\w+\.", told)


@pytest.mark.parametrize("hops", [0, 1, 2])
def test_a_reader_who_knows_the_world_is_right(hops: int) -> None:
    for example in ask(n=6, hops=hops):
        where = re.search(r"lives in ([^?]+)\?", asked(example))
        if hops:
            assert where
            [(_, clue)] = [v for k, v in KNOWN.items() if (v[0] if hops == 1 else k) == where[1]]
        else:
            [clue] = [clue for _, clue in KNOWN.values() if re.search(rf"\b{clue}\b", asked(example))]
        facts = [s for s in re.split(r"(?<=\.) ", body(example.prompt)) if re.search(rf"\b{clue}\b", s)]
        assert len(facts) == 1
        assert [name for name in NAMES if re.search(rf"\b{name}\b", facts[0])] == list(example.answers)


def test_the_table_says_what_the_atlas_says() -> None:
    assert len(KNOWN) == len(LANDMARKS) == len({spot.city for spot in LANDMARKS})
    for spot in LANDMARKS:
        city, clue = KNOWN[spot.country]
        assert spot.city == city and re.search(rf"\b{clue}\b", spot.name)
        assert sum(bool(re.search(rf"\b{clue}\b", other.name)) for other in LANDMARKS) == 1


def facts(example: Example) -> list[str]:
    return [s for s in re.split(r"(?<=\.) ", body(example.prompt)) if any(name in s for name in NAMES)]


def test_all_variants_tell_the_same_facts() -> None:
    """The texts differ by a sentence of filler at most, since questions are not equally long."""
    plain, control, shuffled = ask(), ask(hops=0), ask(shuffled=True)
    assert [(facts(e), e.answers) for e in plain] == [(facts(e), e.answers) for e in control]
    assert all(len(facts(e)) == 9 for e in plain)
    assert [(e.prompt, e.draft) for e in plain] == [(e.prompt, e.draft) for e in shuffled]
    task = make(TASKS["niah-hop"], {"shuffled": True})
    assert [task.score(e.draft, e) for e in shuffled] == [0.0] * len(shuffled)  # type: ignore[attr-defined]
    assert all(e.answers[0] in body(e.prompt) for e in shuffled)


def test_names_are_neither_words_nor_places() -> None:
    assert len(set(NAMES)) == len(NAMES) >= 40
    ordinary = {w for s in islice(made_up(Random(0)), 3000) for w in re.findall(r"\w+", s.casefold())}
    ordinary |= {*ADJECTIVES, *NOUNS}
    for spot in LANDMARKS:
        ordinary |= set(re.findall(r"\w+", f"{spot.name} {spot.city} {spot.country}".casefold()))
    assert not {name.casefold() for name in NAMES} & ordinary
    assert not [(a, b) for a in NAMES for b in NAMES if a != b and a in b]


def test_what_a_haystack_says_itself_is_not_told(tmp_path: Any) -> None:
    path = tmp_path / "h.txt"
    path.write_text("Adele went to France with doris. " * 25 + "In SAN FRANCISCO all is well. " * 3)
    assert unused(path, ["Adele", "Doris", "Dori", "San Francisco", "Francisco San", "Franc"]) == [
        "Dori", "Francisco San", "Franc",
    ]  # fmt: skip
    for example in ask(n=4, haystack=path, people=12):
        assert not {"Adele", "Doris"} & set(example.answers)
        assert not re.search(r"Eiffel|Golden Gate|France|United States", body(example.prompt).replace("to France", ""))
    path.write_text(" ".join(f"{name} came." for name in NAMES[:-5]))
    with pytest.raises(UsageError, match=r"niah-hop: people is 9; .*h\.txt mentions so many .* that 5 are left; use"):
        ask(haystack=path)


def test_a_file_of_war_and_peace_leaves_enough(shared_text: Any) -> None:
    assert len(ask(length=2000, n=1, haystack=shared_text)) == len(DEPTHS)


@pytest.fixture
def shared_text(shared: Any) -> Any:
    return shared / "data" / "war-and-peace.txt.gz"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hops": 3}, "niah-hop: hops is 3; it is 0, 1 or 2"),
        ({"hops": -1}, "niah-hop: hops is -1"),
        ({"people": 1}, r"niah-hop: people is 1; it must be from 2 to \d\d"),
        ({"people": 99}, "niah-hop: people is 99; it must be"),
        ({"answer_tokens": 0}, "answer_tokens is 0; 1 is the fewest"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make(TASKS["niah-hop"], options)


def test_whoever_lists_all_names_is_right_by_chance_only() -> None:
    task: Any = make(TASKS["niah-hop"], {})
    examples = ask(n=1)
    everybody = ", ".join(NAMES)
    assert sum(task.score(everybody, e) for e in examples) <= 1
    assert task.score(" It is Annabel.", examples[0]) == 0 and haystack_free(examples[0])


def haystack_free(example: Example) -> bool:
    """No answer stands in the text twice, in whatever case or word."""
    return body(example.prompt).casefold().count(example.answers[0].casefold()) == 1


def test_no_answer_stands_in_the_haystack() -> None:
    assert all(haystack_free(e) for e in ask(n=8))
    assert all(haystack_free(e) for e in ask(n=2, haystack=DATA / "haystack.txt"))
