"""What tasks read: texts to hide needles in, wordings in other languages, examples that others published."""

from __future__ import annotations

import dataclasses
import gzip
import json
import random
import re
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from demo_model.wording import wording
from tasks_matrix import DATA, DEPTHS, words

from ggufrope.errors import InputError, UsageError
from ggufrope.evals.task import Budget, Example
from ggufrope.evals.tasks import TASKS, make, record
from ggufrope.evals.tasks.haystack import made_up, read_sentences, sentences
from ggufrope.evals.tasks.passages import Passage, Question, distractors
from ggufrope.evals.tasks.wording import ENGLISH, read_wording
from ggufrope.evals.tasks.words import ADJECTIVES, NOUNS, pairs

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "models" / "demo" / "wording.json"


def ask(name: str, length: int, n: int = 2, depths: tuple[float, ...] = DEPTHS, **options: Any) -> list[Example]:
    return list(make(TASKS[name], options).examples(Budget(length, words), depths, n, 0))


def saved(path: Path, data: str | bytes) -> Path:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def test_sentences_by_hand() -> None:
    text = 'One. "Two!" she\nsaid.  Is it 3.5 or four?\n\nMr. Five (no. six.) and so on'
    expected = ["One.", '"Two!"', "she said.", "Is it 3.5 or four?", "Mr.", "Five (no.", "six.)", "and so on"]
    assert sentences(text) == expected
    assert sentences(" \n ") == []


def test_made_up_sentences() -> None:
    some = list(islice(made_up(random.Random(1)), 2000))
    assert some == list(islice(made_up(random.Random(1)), 2000))
    assert all(re.fullmatch(r"[A-Z][a-z ,]+\.", sentence) for sentence in some)  # no slots left, no digits
    assert len(set(some)) > 1000


def test_no_key_stands_inside_another() -> None:
    """``red cart`` stands inside another pair only if an adjective ends, or a noun begins, like another."""
    assert len(set(pairs())) == len(ADJECTIVES) * len(NOUNS)
    assert not [(a, b) for a in ADJECTIVES for b in ADJECTIVES if a != b and b.endswith(a)]
    assert not [(a, b) for a in NOUNS for b in NOUNS if a != b and b.startswith(a)]


def test_a_haystack_is_read_in_order_from_somewhere_and_repeats() -> None:
    own = sentences((DATA / "haystack.txt").read_text())
    [example] = ask("niah-single", 900, n=1, depths=(0.0,), haystack=DATA / "haystack.txt")
    text = example.prompt.split("\n\n")[1].split(". ", 1)[1]
    doubled = " ".join(own * 6)
    assert text in doubled
    assert len(text) > len(" ".join(own))


@pytest.mark.parametrize("packed", [False, True])
def test_haystacks_may_be_packed(tmp_path: Path, packed: bool) -> None:
    text = "This is a sentence — mit Umlaut ä. " * 30
    path = saved(tmp_path / "h", gzip.compress(text.encode()) if packed else b"\xef\xbb\xbf" + text.encode())
    assert read_sentences(path) == ("This is a sentence — mit Umlaut ä.",) * 30


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"Too short. To hide. Anything.", "3 sentences found, a haystack needs 20 or more"),
        (b"", "0 sentences found"),
        (b"caf\xe9 " * 50, r"not UTF-8 text \(byte 3\); convert or unpack it first"),
        (gzip.compress(b"One. " * 99)[:-12], "damaged gzip data"),
        (b"\x1f\x8bnot gzip at all", "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_haystacks_that_cannot_be_used(tmp_path: Path, data: bytes | None, message: str) -> None:
    path = saved(tmp_path / "h.txt", data) if data is not None else tmp_path / "none.txt"
    with pytest.raises(InputError, match=rf"{path.name}: {message}"):
        ask("niah", 1500, haystack=path)


def test_the_demo_model_s_wording_is_what_the_script_makes() -> None:
    assert DEMO.read_text(encoding="utf-8") == wording()


def test_the_documentation_names_every_key() -> None:
    table = (ROOT / "docs" / "eval.md").read_text(encoding="utf-8").partition("`--wording FILE` gives")[2]
    named = [name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)]
    expected = {field.name for field in dataclasses.fields(ENGLISH)} | {"about"}
    assert expected == set(named[: len(expected)])


def test_the_demo_model_is_asked_what_it_was_trained_on() -> None:
    task = make(TASKS["niah"], {"wording": DEMO})
    assert task.max_new == 1
    examples = ask("niah", 400, n=1, wording=DEMO)
    fact = r"give [a-z]+ [a-z]+ \."
    sentence = r"(?!give)[a-z ]+ \."
    for example in examples:
        text = example.prompt + example.start
        assert re.fullmatch(rf"(?:(?:{fact}|{sentence}) )+so give [a-z]+", text)
        key = text.split()[-1]
        assert f"give {key} {example.answers[0]} ." in text
        assert example.draft == f" {example.answers[0]}"
        assert len(re.findall(fact, text)) == 12


def test_a_wording_of_one_s_own(tmp_path: Path) -> None:
    own = {
        "needle": "{key} hat {value}.", "question": "\nWas hat {key}?\n", "start": "{key} hat", "preamble": "Los: ",
        "keys": ["Anna", "Bert"], "values": ["Äpfel", "Birnen"], "filler": ["Es regnet.", "Es schneit."],
        "separator": "\n", "answer": " {value}!", "max_new": 5, "question_all": "\nAlles von {key}?\n",
    }  # fmt: skip
    path = saved(tmp_path / "w.json", json.dumps(own))
    [example] = ask("niah", 60, n=1, depths=(0.5,), wording=path, keys=1)
    name, value = example.start.split()[0], example.answers[0]
    assert example.prompt.startswith("Los: Es ") and example.prompt.endswith(f"\nWas hat {name}?\n")
    assert f".\n{name} hat {value}.\nEs " in example.prompt
    assert example.draft == f" {value}!"
    [example] = ask("niah-multivalue", 60, n=1, wording=path, values=2)
    assert "Alles von" in example.prompt and set(example.answers) == {"Äpfel", "Birnen"}
    assert make(TASKS["niah-multivalue"], {"wording": path, "values": 2}).max_new == 10
    with pytest.raises(UsageError, match="12 values are needed for each text, the wording has 2"):
        ask("niah", 500, wording=path)


GOOD = {"needle": "{key} {value}", "start": "{key}", "keys": ["a"], "values": ["b"]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"needle": "{key}"}, "needle: no {value} in '{key}'"),
        ({"answer": "x"}, "answer: no {value} in 'x'"),
        ({"start": ""}, "neither question nor start holds {key}"),
        ({"keys": []}, "keys: none given"),
        ({"keys": ["a", "a"]}, "keys: 'a' stands there twice"),
        ({"keys": "a"}, "keys: a list of strings is needed"),
        ({"filler": ["x", " "]}, "filler: a list of strings is needed, none of them empty"),
        ({"values": ["locks", "clocks"]}, "values: 'locks' stands inside another one"),
        ({"question_keys": "and {key}?"}, "neither question_keys nor start_keys holds {keys}; put it into one of them"),
        ({"max_new": 0}, "max_new is 0; a whole number from 1 on is needed"),
        ({"max_new": True}, "max_new is True"),
        ({"separator": 7}, "separator: a string is needed, found 7"),
        ({"sperator": " "}, "unknown key 'sperator'; known: needle, question"),
    ],
)
def test_wordings_that_cannot_be_used(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = saved(tmp_path / "w.json", json.dumps({**GOOD, **change}))
    with pytest.raises(InputError, match=rf"w\.json: {re.escape(message)}"):
        read_wording(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{", "not JSON"),
        ('["\\ud800"]', r"not JSON \(\\ud800 is half a character"),
        ("[]", "an object such as .* is needed, found list"),
        ("{}", "needle: no"),
    ],
)
def test_wordings_that_are_something_else(tmp_path: Path, data: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"w\.json: {message}"):
        read_wording(saved(tmp_path / "w.json", data))


def test_records_of_files_say_what_was_in_them(tmp_path: Path) -> None:
    task = make(TASKS["niah"], {"wording": saved(tmp_path / "w.json", json.dumps(GOOD)), "keys": "1"})
    sha = "a8de0dfc0a3a6b1c"
    found = record(task)
    assert found.keys() == {"keys", "shuffled", "wording"} and found["keys"] == 1
    assert found["wording"]["name"] == "w.json" and len(found["wording"]["sha256"]) == 4 * len(sha)
    json.dumps(found)


KV = {"ordered_kv_records": [["a", "1"], ["b", "2"]], "key": "a", "value": "1"}
QA = {"question": "who", "answers": ["me"], "ctxs": [{"title": "T", "text": "It was me."}]}


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("kv-retrieval", "{", "line 2: not JSON"),
        ("kv-retrieval", "[]", "line 2: an object is needed, found list"),
        ("kv-retrieval", {**KV, "key": "\ud800"}, r"line 2: not JSON \(\\ud800 is half a character"),
        ("kv-retrieval", {**KV, "key": "c"}, "line 2: its key 'c' with its value is not among ordered_kv_records"),
        ("kv-retrieval", {"key": "a", "value": "1"}, "line 2: no 'ordered_kv_records'; it has key, value"),
        ("kv-retrieval", {**KV, "ordered_kv_records": [["a"]]}, "line 2: "),
        ("kv-retrieval", {**KV, "ordered_kv_records": 7}, "line 2: "),
        ("mdqa", {**QA, "ctxs": []}, "line 2: a question needs at least one of ctxs and one of answers"),
        ("mdqa", {**QA, "answers": ["the"]}, "line 2: a question needs at least one of ctxs"),
        (
            "mdqa",
            {**QA, "ctxs": ["x"]},
            "line 2: ctxs: an object with title and text is needed, found 'x'; docs/eval.md",
        ),
        ("mdqa", {**QA, "ctxs": {"title": "x"}}, "line 2: ctxs: a list is needed, found {'title': 'x'}"),
        ("mdqa", {**QA, "answers": "me"}, "line 2: answers: a list is needed, found 'me'; docs/eval.md has the format"),
        (
            "mdqa",
            {**QA, "ctxs": [{"title": "T", "text": "x", "isgold": "false"}]},
            "line 2: isgold: true or false is needed, found 'false'",
        ),
        ("ruler-qa", {"question": "who", "answers": ["me"]}, "line 2: no 'ctxs'; it has question, answers"),
        ("mdqa", {**QA, "ctxs": [{"text": "x"}]}, "line 2: no 'title'"),
        ("mdqa", QA, "nothing to put beside a question's own document"),
    ],
)
def test_published_examples_that_cannot_be_used(tmp_path: Path, name: str, line: Any, message: str) -> None:
    text = line if isinstance(line, str) else json.dumps(line)
    path = saved(tmp_path / "x.jsonl", "\n" + text + "\n")
    with pytest.raises(InputError, match=rf"x\.jsonl: {message}"):
        ask(name, 3000, data=path)


def test_options_that_the_file_cannot_serve(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="passkey: digits is 5000; 1000 is the most"):
        make(TASKS["passkey"], {"digits": "5000"})
    with pytest.raises(UsageError, match=r"kv-retrieval: keys is 75; .*kv\.jsonl has 48 pairs"):
        ask("kv-retrieval", 9000, data=DATA / "kv.jsonl", keys=75)
    with pytest.raises(UsageError, match=r"mdqa: documents is 40; .*mdqa\.jsonl has 1\d"):
        ask("mdqa", 9000, data=DATA / "mdqa.jsonl", documents=40)
    with pytest.raises(UsageError, match=r"mdqa: no questions; --data FILE"):
        make(TASKS["mdqa"], {})
    with pytest.raises(UsageError, match="keys is 1; there is nothing to look up in one pair"):
        make(TASKS["kv-retrieval"], {"keys": 1})
    with pytest.raises(InputError, match=r"no examples in it"):
        ask("mdqa", 900, data=saved(tmp_path / "e.jsonl", "\n"))
    with pytest.raises(UsageError, match="not enough text for 9000 tokens"):
        ask("mdqa", 9000, data=DATA / "mdqa.jsonl")


@pytest.mark.parametrize(("name", "n", "size"), [("kv-retrieval", 6, {"keys": 20}), ("mdqa", 16, {"documents": 4})])
def test_no_example_of_a_file_is_asked_twice(name: str, n: int, size: dict[str, int]) -> None:
    data = DATA / f"{name.removesuffix('-retrieval')}.jsonl"
    examples = ask(name, 3000, n=40, depths=(0.5,), data=data, **size)
    assert len({e.prompt for e in examples}) == len(examples) == n


def test_documents_with_an_answer_are_no_distractors() -> None:
    def about(title: str, text: str, *others: Passage) -> Question:
        return Question("?", ("The Red-Fox", "nobody"), (Passage(title, text),), others)

    questions = [
        about("A", "It was a red-fox.", Passage("own", "Said the redfox."), Passage("own", "It was a red-fox.")),
        about("B", "He saw a RedFox, too."),
        about("C", "Nobody."),
        about("A", "Another part of A."),
        about("D", "A red fox in two words."),
        about("E", "A red fox in two words."),
    ]
    found = distractors(questions, 0, random.Random(0))
    assert [d.text for d in found] == ["Said the redfox.", "A red fox in two words."]


def test_the_question_stands_first_and_last_or_last_only() -> None:
    for first, times in ((True, 2), (False, 1)):
        [example] = ask("mdqa", 600, n=1, depths=(0.5,), data=DATA / "mdqa.jsonl", question_first=first)
        [question] = re.findall(r"Question: (.*\?)\n$", example.prompt)
        assert example.prompt.count(question) == times
        assert example.prompt.startswith(f"Question: {question}\n") is first


def test_the_gold_document_moves_and_the_others_stay() -> None:
    examples = ask("mdqa", 2000, n=1, depths=(0.0, 0.5, 1.0), data=DATA / "mdqa.jsonl", documents=5)
    orders = [re.findall(r"Document \[(\d)\] \(([^)]*)\)", e.prompt) for e in examples]
    assert [[int(number) for number, _ in order] for order in orders] == [[1, 2, 3, 4, 5]] * 3
    titles = [[title for _, title in order] for order in orders]
    gold = titles[0][0]
    assert [order.index(gold) for order in titles] == [0, 2, 4]
    assert len({tuple(t for t in order if t != gold) for order in titles}) == 1


def unpacked(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines()]


def test_the_authors_own_pairs(shared: Path) -> None:
    path = shared / "data" / "kv-retrieval-75_keys.jsonl.gz"
    lines = unpacked(path)
    gold = {line["key"]: line for line in lines}
    for example in ask("kv-retrieval", 4000, n=3, data=path, keys=75):
        [key] = re.findall(r'value of the key "([^"]*)"', example.prompt)
        line = gold[key]
        found = re.findall(r'"([^"]*)": "([^"]*)"', example.prompt)
        assert sorted(found) == sorted(map(tuple, line["ordered_kv_records"]))
        assert example.answers == (line["value"],)
        assert abs(found.index((key, line["value"])) - example.depth * 74) <= 0.5
        others = [tuple(pair) for pair in line["ordered_kv_records"] if pair[0] != key]
        assert [pair for pair in found if pair[0] != key] == others


def test_the_authors_own_questions(shared: Path) -> None:
    path = shared / "data" / "nq-open-oracle.jsonl.gz"
    lines = {line["question"]: line for line in unpacked(path)}
    for example in ask("mdqa", 4000, n=3, depths=(0.0, 1.0), data=path, documents=10):
        [question] = re.findall(r"Question: (.*)\?\n$", example.prompt)
        line = lines[question]
        assert example.answers == tuple(line["answers"])
        documents = re.split(r"\n?Document \[\d+\] ", example.prompt.rsplit("\n\n", 1)[0])[1:]
        assert len(documents) == 10
        ctx = line["ctxs"][0]
        assert documents[0 if example.depth == 0 else 9] == f"({ctx['title']}): {ctx['text']}"
        others = documents[1:] if example.depth == 0 else documents[:9]
        assert not any(answer.lower() in other.lower() for answer in line["answers"] for other in others)
