"""A grid from order to lines of results, with an engine that is not one."""

from __future__ import annotations

import json
from dataclasses import replace

import fake_engine
import gguf_builder as gb
import pytest
from fake_engine import FakeEngine, model_file

from ggufrope.errors import InputError, UsageError
from ggufrope.evals import answers
from ggufrope.evals import grid as grid_module
from ggufrope.evals.grid import DEFAULT_DEPTHS, Order, plan
from ggufrope.evals.result_line import to_json
from ggufrope.evals.results import RuntimeFacts
from ggufrope.evals.runner import run
from ggufrope.evals.store import Store
from ggufrope.evals.tasks import TASKS

RUNTIME = RuntimeFacts("cpu", "0123", None, None)


@pytest.fixture
def files(tmp_path):
    FakeEngine.reset()
    return model_file(tmp_path / "a.gguf"), model_file(tmp_path / "b.gguf", seed=1)


@pytest.fixture
def text(tmp_path):
    (tmp_path / "text").write_text("".join(f" w{i % 41}" for i in range(3000)))
    return tmp_path / "text"


def order(files, task="niah", **changed):
    few = {"settings": {"keys": "4"}} if task == "niah" else {}
    base = Order(tuple(files), task, lengths=(256, 512), limit=2, depths=(0.0, 0.5, 1.0))
    return replace(base, **few | changed)


def ppl(files, text, **changed):
    return order(files, "ppl", depths=(), settings={"text": text}, **changed)


def results(wanted, store=None, **options):
    grid = plan(wanted, RUNTIME)
    return [d.result for d in run(grid, RUNTIME, store, open_engine=FakeEngine, **options)]


def timeless(result):
    value = to_json(result)
    del value["seconds"], value["finished"]
    return value


def test_a_grid_of_answers(files):
    found = results(order(files, kv_types=("f16", "q8_0")))
    assert [(r.file.name, r.kv_type, r.length) for r in found] == [
        (f, k, n) for f in ("a.gguf", "b.gguf") for k in ("f16", "q8_0") for n in (256, 512)
    ]
    assert len({r.cell for r in found}) == 8
    assert len(FakeEngine.opened) == 4
    assert all(e.n_ctx == 512 and e.closed for e in FakeEngine.opened)
    for r in found:
        assert r.n == len(r.examples) == 6
        assert [(d.depth, d.n) for d in r.by_depth] == [(0.0, 2), (0.5, 2), (1.0, 2)]
        assert r.score == pytest.approx(sum(e.score for e in r.examples) / 6)
        assert r.low <= r.score <= r.high
        assert r.interval.endswith("over texts")
        assert r.tokens.evaluated == 6
        assert r.tokens.asked > 600
    assert 0.2 < sum(r.score for r in found) / 8 < 0.95


def test_two_runs_with_one_seed_agree_exactly(files, text):
    for wanted in (
        order(files),
        ppl(files, text),
        order(files, "kl", depths=(), settings={"text": text}, baseline=files[0]),
    ):
        assert [timeless(r) for r in results(wanted)] == [timeless(r) for r in results(wanted)]
    assert results(order(files))[0].examples != results(order(files, seed=1))[0].examples


def test_positions(files, text):
    found = results(ppl(files, text))
    assert [(r.kind, r.n, r.unit, r.score) for r in found] == [("positions", 2, "nats per token", None)] * 4
    assert [(p.start, p.end, p.n) for p in found[1].by_position] == [
        (0, 64, 128), (64, 128, 128), (128, 256, 256), (256, 512, 510)
    ]  # fmt: skip
    assert found[0].low < found[0].mean < found[0].high


def test_kl_against_itself_is_zero_and_shows_what_the_cache_costs(files, text):
    wanted = order(files, "kl", depths=(), settings={"text": text}, baseline=files[0], kv_types=("f16", "q8_0"))
    found = results(wanted)
    assert [(r.file.name, r.kv_type, r.mean == 0, r.top1 == 1) for r in found if r.length == 512] == [
        ("a.gguf", "f16", True, True), ("a.gguf", "q8_0", False, False),
        ("b.gguf", "f16", False, False), ("b.gguf", "q8_0", False, False),
    ]  # fmt: skip
    assert all(r.baseline.name == "a.gguf" for r in found)
    baselines = [e for e in FakeEngine.opened if e.path == files[0] and e.kv_type == "f16"]
    assert len(baselines) == 4 + 1
    assert all(e.closed for e in FakeEngine.opened)


def test_a_second_run_skips_what_is_there(files, tmp_path):
    with Store(tmp_path / "out") as store:
        first = results(order(files), store)
    before = (tmp_path / "out/results.jsonl").read_bytes()
    FakeEngine.reset()
    with Store(tmp_path / "out") as store:
        again = results(order(files), store)
    assert again == first
    assert not FakeEngine.opened
    assert (tmp_path / "out/results.jsonl").read_bytes() == before
    with Store(tmp_path / "out") as store:
        more = results(order(files, lengths=(256, 512, 400)), store)
    assert [r.length for r in more] == [256, 400, 512] * 2
    assert len(store.results) == 6


def test_an_interrupted_run_goes_on(files, tmp_path):
    FakeEngine.reset(mood=15)  # in the third of four cells of six
    with Store(tmp_path / "out") as store, pytest.raises(KeyboardInterrupt):
        results(order(files), store)
    lines = (tmp_path / "out/results.jsonl").read_bytes().splitlines()
    assert len(lines) == 2
    (tmp_path / "out/results.jsonl").write_bytes(b"\n".join(lines) + b'\n{"schema":1,"ki')
    FakeEngine.reset()
    with Store(tmp_path / "out") as store:
        assert "cut off" in store.repaired
        found = results(order(files), store)
    assert sum(e.answered for e in FakeEngine.opened) == 12
    assert [timeless(r) for r in found] == [timeless(r) for r in results(order(files))]
    assert [json.loads(line)["cell"] for line in (tmp_path / "out/results.jsonl").read_bytes().splitlines()] == [
        r.cell for r in found
    ]


def cells(wanted, runtime=RUNTIME):
    return [c.id for c in plan(wanted, runtime).cells]


def test_what_decides_a_result_decides_the_cell(files, text, tmp_path):
    base = order(files[:1], lengths=(256,))
    same = [replace(base, threads=2), replace(base, beyond_context=True), replace(base, settings={"keys": 4})]
    assert {i for o in same for i in cells(o)} == set(cells(base))
    other = [
        replace(base, seed=1), replace(base, limit=3), replace(base, depths=(0.0, 1.0)), replace(base, lengths=(255,)),
        replace(base, kv_types=("q8_0",)), replace(base, files=files[1:]), replace(base, settings={"keys": "3"}),
        replace(base, task="niah-single"), replace(base, settings={"haystack": text}),
    ]  # fmt: skip
    assert len({i for o in [base, *other] for i in cells(o)}) == 10
    assert cells(base, replace(RUNTIME, fingerprint="4567")) != cells(base)
    read = replace(base, settings={"haystack": text})
    before = cells(read)
    moved = text.rename(tmp_path / "elsewhere")
    assert cells(replace(base, settings={"haystack": moved})) == before
    moved.write_text("Other words. " * 30)
    assert cells(replace(base, settings={"haystack": moved})) != before
    renamed = files[0].rename(tmp_path / "renamed.gguf")
    assert cells(replace(base, files=(renamed,))) == cells(replace(base, files=(renamed,), depths=(0, 0.5, 1)))


def test_another_edition_is_another_cell_with_the_same_options(files, monkeypatch):
    base = order(files[:1], lengths=(256,))
    first = cells(base)
    for edition in (2, 3):
        monkeypatch.setattr(TASKS["niah"], "edition", edition, raising=False)
        assert cells(base) != first
        assert [r.options["edition"] for r in results(base)] == [edition]
    monkeypatch.setattr(TASKS["niah"], "edition", 1)
    assert cells(base) == first


def test_chat_templates_decide_too(tmp_path):
    plain = model_file(tmp_path / "plain.gguf")
    chatty = model_file(tmp_path / "chatty.gguf", template="{{ messages[0].content }}!")
    (tmp_path / "template").write_text("{{ messages[0].content }}?")
    ids = [cells(order([chatty], lengths=(256,), chat_template=kind)) for kind in (None, "none", tmp_path / "template")]
    assert len({i for one in ids for i in one}) == 3
    assert cells(order([chatty], lengths=(256,), chat_template="default")) == ids[0]
    assert cells(order([plain], chat_template="none")) == cells(order([plain]))
    with pytest.raises(UsageError, match="has no chat template; omit --chat-template"):
        plan(order([plain], chat_template="default"), RUNTIME)


def test_a_file_that_rotates_by_its_context_gets_one_of_the_right_size(tmp_path):
    lists = [(f"rope_factors_{kind}.weight", 1 + i) for i, kind in enumerate(("long", "short"))]
    import numpy as np

    entries = [
        *gb.llama_entries("phi3", context_length=512),
        gb.entry("phi3.rope.scaling.original_context_length", gb.U32, 256),
    ]
    tensors = [*gb.tiny_tensors(), *((name, np.full(4, value, np.float32)) for name, value in lists)]
    (tmp_path / "long.gguf").write_bytes(gb.build(entries, tensors))
    FakeEngine.reset()
    results(order([tmp_path / "long.gguf"]))
    assert [e.n_ctx for e in FakeEngine.opened] == [256, 512]
    assert all(e.closed for e in FakeEngine.opened)


def test_a_model_that_says_nothing(files):
    FakeEngine.reset("silent")
    for r in results(order(files)):
        assert r.score == 0
        assert "said nothing at all" in r.notes[0]
        assert r.note_codes[0] == "all-empty"
    FakeEngine.reset("shy")
    found = results(order(files, limit=4))
    for r in found:
        empty = sum(not e.output for e in r.examples)
        assert 0 < empty < 12
        assert r.notes[0].startswith(f"{empty} of 12 answers are empty")
        assert r.note_codes[0] == "some-empty"


def test_questions_are_asked_in_batches_that_fit_into_memory(files, monkeypatch):
    whole, steps = results(order(files)), []
    monkeypatch.setattr(answers, "_TOKENS", 700)
    asked = []
    real = FakeEngine.greedy
    monkeypatch.setattr(FakeEngine, "greedy", lambda self, r, p=None: asked.append(len(r)) or real(self, r, p))
    found = results(order(files), progress=lambda cell, done, total: steps.append((done, total)))
    assert [timeless(r) for r in found] == [timeless(r) for r in whole]
    assert max(asked) < 6
    assert sum(asked) == 24
    assert {total for _, total in steps} == {6}


def test_notes(files, text):
    found = results(ppl(files, text, lengths=(600, 3000), beyond_context=True, limit=9))
    assert [r.n for r in found[:2]] == [5, 1]
    assert found[0].notes == (
        "600 tokens are beyond the file's context of 512",
        "the text is enough for 5 texts of 600 tokens, not for 9",
    )
    assert found[0].note_codes == ("beyond-context", "fewer-texts")
    assert found[0].interval == "t 95%, over texts"
    assert "one text says nothing about others" in found[1].notes[2]
    assert found[1].note_codes == ("beyond-context", "fewer-texts", "one-text")
    assert found[1].low is found[1].high is None


def test_a_file_with_few_examples_gives_few_texts(files, tmp_path):
    pairs = [[f"k{i}", f"v{i}"] for i in range(40)]
    lines = [{"ordered_kv_records": pairs, "key": k, "value": v} for k, v in pairs[:3]]
    (tmp_path / "kv.jsonl").write_text("\n".join(map(json.dumps, lines)))
    settings = {"data": tmp_path / "kv.jsonl", "keys": "20"}
    (found,) = results(order(files[:1], "kv-retrieval", settings=settings, lengths=(512,), limit=9))
    assert found.n == 9 == 3 * len(found.by_depth)
    assert found.notes[0] == "the file is enough for 3 texts, not for 9"
    assert found.note_codes[0] == "fewer-texts"


def test_a_baseline_beyond_its_own_context_is_refused_or_said(files, text, tmp_path):
    long = model_file(tmp_path / "long.gguf", context=1024, seed=2)
    wanted = order([long], "kl", depths=(), lengths=(1000,), settings={"text": text}, baseline=files[0])
    with pytest.raises(UsageError, match=r"--lengths 1000: a\.gguf has a context of 512 tokens"):
        plan(wanted, RUNTIME)
    (found,) = results(replace(wanted, beyond_context=True))
    assert found.notes[0].startswith("the baseline was read beyond its context of 512 tokens")
    assert found.note_codes[0] == "baseline-beyond-context"


def test_windows_within_the_context_read_a_text_beyond_it(files, text):
    settings = {"text": text, "window": "512"}
    (found,) = results(order(files[:1], "ppl", depths=(), lengths=(1400,), settings=settings))
    assert [e.n_ctx for e in FakeEngine.opened] == [512]
    assert found.length == 1400 and found.by_position[-1].end == 1400
    assert not any("beyond" in note for note in found.notes)
    settings["window"] = "513"
    with pytest.raises(UsageError, match=r"--lengths 1400: a\.gguf has a context of 512 tokens"):
        plan(order(files[:1], "ppl", depths=(), lengths=(1400,), settings=settings), RUNTIME)


def test_defaults(files):
    grid = plan(Order(files, "niah"), RUNTIME)
    assert {c.length for c in grid.cells} == {512}
    assert grid.depths == DEFAULT_DEPTHS == (0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1)


BAD = [
    ({"task": "naih"}, "unknown task 'naih': did you mean niah"),
    ({"task": "chess"}, "unknown task 'chess': it is one of "),
    ({"settings": {"kays": "3"}}, "unknown option 'kays': did you mean keys"),
    ({"settings": {"keys": "three"}}, "keys is 'three'; a whole number is needed"),
    ({"lengths": (1024,)}, "--lengths 1024: a.gguf has a context of 512 tokens; convert it for more"),
    ({"lengths": (0,)}, "--lengths 0: at least 1 token"),
    ({"lengths": (512, 512)}, "--lengths: 512 is given twice"),
    ({"depths": (0.0, 1.5)}, "--depths 1.5: a depth must be from 0"),
    ({"depths": (float("nan"),)}, "--depths nan: a depth must be from 0"),
    ({"depths": (0.5, 0.5)}, "--depths: 0.5 is given twice"),
    ({"kv_types": ("f16", "f16")}, "--kv-type: f16 is given twice"),
    ({"limit": 0}, "--limit 0: at least 1 text"),
    ({"seed": -1}, "--seed -1: a seed must be 0 or more"),
    ({"threads": 0}, "--threads 0: at least one is needed"),
    ({"files": ()}, "no FILE given"),
    ({"baseline": "A"}, "--baseline: niah has no baseline"),
    (
        {"task": "kl", "depths": (), "settings": {"text": "TEXT"}},
        "kl: a baseline is needed; name a file with --baseline",
    ),
    ({"task": "ppl"}, "ppl: no text to read; give one with --text"),
    ({"task": "ppl", "settings": {"text": "TEXT"}}, "--depths: ppl has no depths"),
    (
        {"task": "ppl", "depths": (), "settings": {"text": "TEXT"}, "lengths": (1,)},
        "--lengths 1 has nothing to predict",
    ),
    ({"task": "ppl", "settings": {"text": "TEXT", "stride": "5"}}, "stride 5 needs a window"),
    ({"task": "ppl", "settings": {"text": "TEXT", "window": "1"}}, "window is 1; 2 tokens"),
    ({"task": "ppl", "settings": {"text": "TEXT", "window": "8", "stride": "8"}}, "stride is 8; it goes from 1 to 7"),
    (
        {"task": "ppl", "depths": (), "settings": {"text": "TEXT", "window": "300"}},
        "a window of 300 is longer than the text",
    ),
]


@pytest.mark.parametrize(("changed", "said"), BAD, ids=[b[1] for b in BAD])
def test_orders_that_make_no_sense(files, text, changed, said):
    settings = {k: text if v == "TEXT" else v for k, v in changed.get("settings", {}).items()}
    changed = (
        changed
        | {"settings": settings or {"keys": 3} if "task" not in changed else settings}
        | ({"baseline": files[0]} if "baseline" in changed else {})
    )
    with pytest.raises(UsageError) as caught:
        plan(replace(order(files, **{k: v for k, v in changed.items() if k == "task"}), **changed), RUNTIME)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_go_together(files, text, tmp_path):
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(files[0].read_bytes())
    with pytest.raises(UsageError, match=r"a.gguf and .*copy.gguf are the same model"):
        plan(order([*files, copy]), RUNTIME)
    (tmp_path / "sub").mkdir()
    namesake = model_file(tmp_path / "sub/a.gguf", seed=5)
    with pytest.raises(UsageError, match="would have the same name in the results; rename one"):
        plan(order([*files, namesake]), RUNTIME)
    with pytest.raises(InputError, match=r"absent.gguf: no such file"):
        plan(order([tmp_path / "absent.gguf"]), RUNTIME)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"tokens": ["<unk>", "<s>", "</s>", "▁a", "c"]}, "their tokens differ"),
        ({"extra": [gb.entry("tokenizer.ggml.merges", gb.ARR, ["a b"], gb.STR)]}, "only one has merges"),
        ({"extra": [gb.entry("tokenizer.ggml.pre", gb.STR, "qwen2")]}, "pre None and qwen2"),
        ({"extra": [gb.entry("tokenizer.ggml.bos_token_id", gb.U32, 1)]}, "first token None and 1"),
    ],
)
def test_kl_of_different_tokenizers_is_refused(files, text, tmp_path, changed, said):
    other = model_file(tmp_path / "other.gguf", seed=2, **changed)
    with pytest.raises(UsageError) as caught:
        plan(order([files[0], other], "kl", depths=(), settings={"text": text}, baseline=files[0]), RUNTIME)
    assert said in str(caught.value)
    assert "other.gguf have different tokenizers" in str(caught.value)


def test_texts_that_cannot_be_read(files, tmp_path):
    for data, said in ((None, "cannot be read"), (b"caf\xe9", "not UTF-8"), (b"", "is empty")):
        if data is not None:
            (tmp_path / "bad").write_bytes(data)
        with pytest.raises(InputError, match=said):
            plan(ppl(files, tmp_path / "bad"), RUNTIME)


def test_a_length_too_short_for_the_task_loses_nothing(files, tmp_path):
    with Store(tmp_path / "out") as store:
        results(order(files), store)
    with (
        Store(tmp_path / "out") as store,
        pytest.raises(UsageError, match="tokens are too few; the smallest length is"),
    ):
        results(order(files, lengths=(20, 512)), store)
    with Store(tmp_path / "out") as store:
        assert len(store.results) == 4


def test_a_text_too_short_loses_nothing(files, tmp_path):
    (tmp_path / "text").write_text(" w1 w2 w3" * 100)
    with Store(tmp_path / "out") as store, pytest.raises(UsageError, match="301 tokens are less than one text of 512"):
        results(ppl(files, tmp_path / "text"), store)
    assert len(store.results) == 1
    assert fake_engine.N_VOCAB


def test_cells_keep_their_ids(tmp_path, text, monkeypatch):
    """Or a grid that is half done would begin anew: ids as the version before kinds of task gave them."""
    monkeypatch.setattr(grid_module, "__version__", "0.0")
    plain = model_file(tmp_path / "a.gguf")
    chat = model_file(tmp_path / "b.gguf", seed=1, template="<user>{{ messages[0].content }}</user>")
    orders = [
        Order((chat,), "niah", {"keys": "4"}, (256,), (0.0, 0.5), limit=2),
        Order((plain,), "ruler-vt", {}, (256,), kv_types=("q8_0",)),
        Order((plain,), "ppl", {"text": text, "window": "64"}, (256,)),
        Order((plain,), "kl", {"text": text}, (256,), baseline=chat, seed=3),
    ]
    assert [plan(wanted, RUNTIME).cells[0].id[:16] for wanted in orders] == [
        "fa67f7302ebf417f",
        "ef8c38ce23170685",
        "83f1f85fd5824621",
        "fbb7fbd2a9adf79c",
    ]
