"""A whole run in a world whose truth is known: what is written, what is refused, and that it can be killed anywhere."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace

import gguf_builder as gb
import numpy as np
import pytest
from fake_engine import model_file
from fake_model import FakeTools, World

from ggufrope.errors import OutputError, UnsupportedModelError, UsageError
from ggufrope.evals.store import read_results
from ggufrope.methods.table_file import read_table
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.tune.report_split import GOAL, LOSS
from ggufrope.tune.run_setup import request_record
from ggufrope.tune.tune_request import Start, TuneGoal, TuneRequest
from ggufrope.tune.tuning import tune

WORDS = " ".join(f"w{i % 40}" for i in range(6000))


@pytest.fixture(autouse=True)
def no_waiting_for_disks(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)


@pytest.fixture
def request_of(tmp_path):
    """``request_of(**changed)``: of a tiny file, whose parts a fake world stands for."""
    text = tmp_path / "text.txt"
    text.write_text(WORDS)

    def make(**changed):
        file = changed.pop("file", None) or ModelFile.open(model_file(tmp_path / "model.gguf"))
        usual = {
            "goals": (TuneGoal("kv-retrieval"),), "texts": (text,), "lengths": (192,), "spaces": ("layers",),
            "output": tmp_path / "out.gguf", "depths": (0.0, 1.0), "steps": 24, "select_every": 4, "patience": 6,
            "select_texts": 6, "report_texts": 24, "also": ("ruler-vt",),
        }  # fmt: skip
        return TuneRequest(file, **{**usual, **changed})

    return make


def test_a_gain_is_written_with_its_record(request_of, tmp_path):
    request = request_of(table=tmp_path / "table.npz")
    done = tune(request, tools := FakeTools(World()))
    assert (done.reason, done.chosen) == ("", "layers")
    assert done.written == (tmp_path / "table.npz", tmp_path / "out.gguf") and tools.models[0].closed
    written = ModelFile.open(tmp_path / "out.gguf")
    told = written.decoded.params["factor_table"]["params"]["tune"]
    assert (told["for"], told["space"], told["seed"]) == ({"kv-retrieval": 1.0}, "layers", 0)
    assert told["gain"]["low"] > 0 and told["texts"][0]["name"] == "text.txt" and len(told["texts"][0]["sha256"]) == 64
    # the file rotates by the row of the report, and so does the table
    row = next(outcome.row for outcome in done.rows if outcome.row.space)
    own, found = request.file.decoded, tools.models[0].layout.split(np.exp(row.log_factors))
    for layer, part in enumerate(found):
        now = written.decoded.table.frequencies(written.decoded.model, layer, 0)
        assert np.allclose(now, own.table.frequencies(own.model, layer, 0) / part[0], rtol=1e-6)
    table = read_table(tmp_path / "table.npz")
    assert np.allclose(np.concatenate([r.ravel() for r in table.rows(own.model)]), np.exp(row.log_factors))
    assert table.model == request.file.identity.as_json()


def test_the_report_compares_every_row_on_texts_of_its_own(request_of):
    done = tune(request_of(), FakeTools(world := World(also=-0.2)))
    names = [outcome.row.name for outcome in done.rows]
    assert names == ["untouched", "ms-poe as published", "ms-poe", "layers"]
    assert [(c.task.name, c.role) for c in done.cells] == [
        ("kv-retrieval", "goal"), ("ruler-vt", "also"), ("ppl", "loss"),
    ]  # fmt: skip
    results, torn = read_results(done.journal / "report")
    assert len(results) == 12 and not torn
    by_row = {outcome.row.name: outcome for outcome in done.rows}
    goal, also, _ = by_row["layers"].changes
    assert goal.how == "paired" and goal.low > 0 and goal.n == 24
    assert also.value < 0  # what was not tuned for is reported, too
    assert len(world.told) == 12  # each cell once


def test_nothing_better_is_written_where_nothing_gets_better(request_of):
    done = tune(request_of(), FakeTools(World(best=0.3, noise=0.3)))
    assert not done.written
    assert "the gain on texts" in done.reason or "no candidate" in done.reason
    assert not request_of().output.exists()


def test_noise_is_not_taken_for_a_gain(request_of):
    """A control: tables change answers at random. The interval lets one in forty pass, so that two of 20 may."""
    passed = []
    for seed in range(20):
        request = request_of(seed=seed, output=request_of().output.with_name(f"out{seed}.gguf"), steps=8)
        done = tune(request, FakeTools(World(best=0.3, noise=1.0)))
        passed += [seed] * bool(done.written)
    assert len(passed) <= 2


def test_on_shuffled_texts_nothing_is_written_in_20_of_20_seeds(request_of):
    """The answer that is expected is another question's: no table can give it, whatever the search found."""
    for seed in range(20):
        request = request_of(
            seed=seed, settings={"shuffled": "true"}, steps=8, output=request_of().output.with_name(f"{seed}.gguf")
        )
        done = tune(request, FakeTools(World()))
        assert "the gain on texts that neither search nor selection has seen is +0.000" in done.reason
        assert not done.written and not request.output.exists()


def test_a_task_that_is_never_right_is_refused(request_of):
    with pytest.raises(UsageError, match=r"no answer is right \(score 0\.00 everywhere\).* a shorter one, such as 96"):
        tune(request_of(), FakeTools(World(base=-2.0, best=-2.0)))


@pytest.mark.parametrize(
    ("context", "longer"),
    [(512, "such as 384"), (256, "such as 256"), (192, "such as 384 with --from yarn, or a harder task")],
)
def test_a_task_that_is_always_right_is_refused(request_of, tmp_path, context, longer):
    """What is suggested instead is not refused in its turn."""
    file = ModelFile.open(model_file(tmp_path / "short.gguf", context=context))
    with pytest.raises(UsageError, match=rf"every answer is right \(score 1\.00 everywhere\).* {longer}$"):
        tune(request_of(file=file), FakeTools(World(base=1.1, best=1.1)))


def test_what_plain_text_would_pay_for_is_not_written(request_of):
    done = tune(request_of(), FakeTools(World(cost=0.5)))
    state = done.searches["layers"]
    assert any(point.rise > 0.01 for point in state.points)
    assert all(point.rise <= 0.01 for point in state.points if point.best)
    for outcome in done.rows:
        if outcome.row.space:
            assert all(rise.share <= 0.01 for rise in outcome.gain.rises)


def test_a_cost_that_shows_in_the_report_alone_keeps_it_from_being_written(request_of):
    world, tools = World(), None

    class Later(FakeTools):
        def published(self, model, texts, request, journal):
            world.cost = 0.5
            return []

    done = tune(request_of(), tools := Later(world))
    assert "the loss on plain text rose by" in done.reason and not done.written
    assert tools.models[0].closed


def test_write_anyway(request_of):
    done = tune(request_of(write_anyway=True, allow=0.0), FakeTools(World(noise=1.0, best=0.3)))
    assert done.written == (request_of().output,) or not done.chosen
    assert done.reason


def numbers(done):
    """A run without times."""
    told = json.loads(json.dumps(done.record))
    for name in ("seconds", "peak_memory"):
        told.pop(name)
    for space in told["spaces"]:
        space.pop("seconds")
    for row in told["rows"]:
        for cell in row["cells"]:
            for name in ("seconds", "finished", "tokens"):
                cell["result"].pop(name)
    return told


@pytest.mark.parametrize("killed_at", [1, 3, 6, 20, 50, 64])
def test_killed_and_resumed_equals_not_killed(request_of, tmp_path, killed_at):
    whole = numbers(tune(request_of(), FakeTools(World())))
    first = (tmp_path / "out.gguf").read_bytes()
    request = request_of(output=tmp_path / "again" / "out.gguf")
    (tmp_path / "again").mkdir()
    world, starts = World(), 0
    while True:
        starts += 1
        world.killed_at, world.reads = killed_at + 30 * starts, 0
        try:
            again = tune(request, FakeTools(world))
        except KeyboardInterrupt:
            assert not request.output.exists()
        else:
            break
    assert starts > 1 or killed_at >= 50
    assert numbers(again) == whole and request.output.read_bytes() == first


def test_a_finished_run_reads_nothing_again(request_of):
    first = numbers(tune(request_of(), FakeTools(World())))
    world = World()
    again = tune(request_of(overwrite=True), FakeTools(world))
    assert numbers(again) == first and not world.reads and not world.told


def test_another_request_is_refused(request_of):
    tune(request_of(), FakeTools(World()))
    with pytest.raises(OutputError, match=r"another request \(allow 0\.01, now 0\.02\)"):
        tune(request_of(allow=0.02, output=request_of().output, overwrite=False), FakeTools(World())) if (
            request_of().output.unlink() is None
        ) else None


def test_an_output_that_exists_is_refused_before_any_work(request_of):
    request_of().output.write_bytes(b"somebody's")
    with pytest.raises(OutputError, match="--overwrite"):
        tune(request_of(), FakeTools(World()))
    assert request_of().output.read_bytes() == b"somebody's"


def test_the_source_is_never_the_output(request_of, tmp_path):
    before = request_of().file.path.read_bytes()
    with pytest.raises(OutputError):
        tune(request_of(output=tmp_path / "model.gguf", overwrite=True), FakeTools(World()))
    assert request_of().file.path.read_bytes() == before


def test_several_spaces_tasks_and_lengths(request_of):
    request = request_of(
        goals=(TuneGoal("kv-retrieval", 2.0), TuneGoal("ppl")), lengths=(192, 224), spaces=("layers", "pairs"), steps=12
    )
    done = tune(request, FakeTools(World()))
    goals = [(c.task.name, c.length, c.weight) for c in done.cells if c.role == GOAL]
    assert goals == [("kv-retrieval", 192, 2.0), ("kv-retrieval", 224, 2.0), ("ppl", 192, 1.0), ("ppl", 224, 1.0)]
    assert [c.length for c in done.cells if c.role == LOSS] == [224]
    assert set(done.searches) == {"layers", "pairs"}
    assert done.chosen in done.searches


def test_a_table_of_pairs_is_written_in_keys_that_stock_has(request_of):
    done = tune(request_of(spaces=("pairs",), steps=60, patience=20), FakeTools(World()))
    assert done.written
    assert not ModelFile.open(done.written[0]).decoded.needs_patched


def test_beyond_the_context_from_a_method(request_of):
    request = request_of(lengths=(1024,), start=Start("linear"))
    request.texts[0].write_text(WORDS * 8)
    done = tune(request, FakeTools(World()))
    assert done.written
    written = ModelFile.open(done.written[0]).decoded
    assert written.context == 1024 and written.method == "table+linear"
    start = ModelFile.open(done.journal / "start.gguf").decoded
    row = next(outcome.row for outcome in done.rows if outcome.row.space)
    assert np.allclose(
        written.table.frequencies(written.model, 1, 0),
        start.table.frequencies(start.model, 1, 0) / np.exp(row.log_factors).reshape(written.model.n_layer, -1)[1][:1],
        rtol=1e-5,
    )


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"texts": ()}, "no text given: add --text"),
        ({"goals": ()}, "no task given"),
        ({"steps": None}, "no limit given"),
        ({"output": None}, "no output given"),
        ({"lengths": (1024,)}, r"has a context of 512 tokens; add --from yarn"),
        ({"start": Start("yarn")}, "no method has to extend"),
        ({"report_texts": 5}, "--report-texts 5"),
        ({"allow": -0.1}, "--allow"),
        ({"also": ("kl",)}, "--also kl: the task compares two files"),
        ({"settings": {"colour": "red"}}, "--set colour: none of the tasks"),
        ({"lengths": (192, 192)}, "--length 192: is given twice"),
        ({"spaces": ("fulll",)}, "--space fulll"),
        ({"depths": (2.0,)}, "--depths 2"),
        ({"minutes": 0.0}, "--minutes 0"),
        ({"minutes": float("nan")}, "--minutes nan"),
        ({"steps": 0}, "--steps 0"),
        ({"steps": -3}, "--steps -3"),
        ({"seed": -1}, "--seed -1"),
        ({"also": ("ruler-vt", "ruler-vt")}, "--also ruler-vt: is given twice"),
        ({"spaces": ("layers", "layers")}, "--space layers: is given twice"),
        ({"goals": (TuneGoal("niah"), TuneGoal("niah", 2.0))}, "--for niah: is given twice"),
        ({"depths": (0.0, 0.0)}, "--depths 0.0: is given twice"),
    ],
)
def test_bad_requests(request_of, changed, said):
    with pytest.raises(UsageError, match=said):
        tune(request_of(**changed), FakeTools(World()))


def test_one_text_by_two_names_is_one_text(request_of, tmp_path):
    """The same text twice would make intervals of what is predicted narrower than they are."""
    (tmp_path / "link.txt").symlink_to(tmp_path / "text.txt")
    with pytest.raises(UsageError, match=r"--text .*text\.txt: is given twice"):
        tune(request_of(texts=(tmp_path / "text.txt", tmp_path / "link.txt")), FakeTools(World()))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"table": "table.csv"}, r"table\.csv: a table is written as \.json or \.npz"),
        ({"table": "sub/../out.npz", "output": "out.npz"}, "is also the name of -o"),
        ({"table": "haystack.json", "settings": {"haystack": "haystack.json"}}, "the same file as one that is read"),
        ({"output": "nowhere/out.gguf"}, "its directory does not exist"),
    ],
)
def test_outputs_are_refused_before_any_work(request_of, tmp_path, changed, said):
    """All of them, with all that a run reads: after a search of hours it would be late."""
    (tmp_path / "haystack.json").write_text("Sentences. " * 50)
    (tmp_path / "sub").mkdir()
    named = {name: tmp_path / value for name, value in changed.items() if isinstance(value, str)}
    settings = {name: tmp_path / value for name, value in changed.get("settings", {}).items()}
    request = request_of(goals=(TuneGoal("niah"),), **named, settings=settings, overwrite=True)
    with pytest.raises(OutputError if "also" not in said else UsageError, match=said):
        tune(request, FakeTools(world := World()))
    assert not world.reads and not list(tmp_path.glob("*.tune"))


def test_a_model_in_shards(request_of, tmp_path):
    (first_name, first_value), *rest = gb.tiny_tensors()
    counts = [("split.count", gb.U16, 2), ("split.tensors.count", gb.I32, 1 + len(rest))]
    shards = [tmp_path / f"model-0000{n}-of-00002.gguf" for n in (1, 2)]
    for n, tensors in enumerate(([(first_name, first_value)], rest)):
        entries = [gb.entry(*count) for count in (*counts, ("split.no", gb.U16, n))]
        shards[n].write_bytes(gb.build([*(gb.llama_entries(context_length=512) if n == 0 else []), *entries], tensors))
    done = tune(request_of(file=ModelFile.open(shards[0])), FakeTools(World()))
    assert done.written == (tmp_path / "out-00001-of-00002.gguf",)
    assert done.record["written"] == ["out-00001-of-00002.gguf"]
    assert ModelFile.open(done.written[0]).decoded.method == "table"
    with pytest.raises(OutputError, match="exists already"):  # said before the search, of any shard
        tune(request_of(file=ModelFile.open(shards[0]), seed=1), FakeTools(world := World()))
    assert not world.reads


def test_a_file_that_computes_nothing_is_refused(request_of):
    class Broken(World):
        def loss(self, log_factors, text):
            return math.nan

    with pytest.raises(UnsupportedModelError, match=r"model\.gguf: computes NaN or infinities"):
        tune(request_of(), FakeTools(Broken()))


def test_a_loss_that_cannot_be_compared_is_not_within_what_is_allowed(request_of):
    """Untouched, the report's plain text has no finite loss; the selection's has."""

    class Broken(World):
        def loss(self, log_factors, text):
            return math.nan if "/report/" in text else super().loss(log_factors, text)

    done = tune(request_of(), FakeTools(Broken()))
    assert not done.written and done.reason.startswith("the loss on plain text could not be compared")


def test_written_anyway_with_a_loss_that_is_no_number(request_of):
    """The record in the file has no infinities, which JSON has not."""

    class Costly(World):
        def loss(self, log_factors, text):
            return math.inf if "/report/" in text and log_factors.any() else super().loss(log_factors, text)

    done = tune(request_of(write_anyway=True), FakeTools(Costly()))
    assert done.written and "not finite" in done.reason
    told = ModelFile.open(done.written[0]).decoded.params["factor_table"]["params"]["tune"]
    assert told["loss_rise"] == {"192": None} and told["gain"]["low"] > 0


def test_reading_the_untouched_file_twice_may_differ_a_little(request_of):
    """As on a GPU: with nothing allowed at all, the untouched file is still what a search begins from."""

    class Restless(World):
        def loss(self, log_factors, text):
            return super().loss(log_factors, text) + 1e-9 * self.reads

    done = tune(request_of(allow=0.0, steps=4), FakeTools(Restless()))
    assert done.searches["layers"].points[0].best and not done.written


def test_a_short_text_beside_a_long_one(request_of, tmp_path):
    """It has no text for training; the long one has them all, also at steps that would have taken the short one."""
    (tmp_path / "short.txt").write_text(WORDS[:200])
    request = request_of(texts=(tmp_path / "text.txt", tmp_path / "short.txt"), goals=(TuneGoal("ppl"),), steps=12)
    assert len(tune(request, FakeTools(World())).searches["layers"].steps) == 12


def test_a_data_file_is_for_the_tasks_that_were_named(request_of, tmp_path):
    """Tasks that are only reported by default have their own texts: MDQA's records are no pairs of keys and values."""
    records = [
        {"question": f"who is w{i}?", "answers": [f"w{i}"],
         "ctxs": [{"title": f"t{d}", "text": f"w{d} is w{i + d}", "isgold": d == 0} for d in range(3)]}
        for i in range(60)
    ]  # fmt: skip
    data = tmp_path / "mdqa.jsonl"
    data.write_text("".join(json.dumps(record) + "\n" for record in records))
    request = request_of(goals=(TuneGoal("mdqa"),), settings={"data": data}, also=(), steps=1)
    told = request_record(request)["tasks"]
    assert told["mdqa"]["data"]["name"] == "mdqa.jsonl" and not told["kv-retrieval"].get("data")


def test_a_default_task_that_does_not_fit_is_left_out(request_of):
    class Tools(FakeTools):
        def open_model(self, file, request):
            model = super().open_model(file, request)
            make = model.make

            def short(task, *rest):
                if task.name == "niah":
                    raise UsageError("--length 192: niah needs more; give a greater length")
                return make(task, *rest)

            model.make = short
            return model

    done = tune(request_of(also=(), steps=2), Tools(World()))
    assert "niah" not in {cell.task.name for cell in done.cells}
    assert any("niah at 192 tokens is not in the report: --length 192" in note for note in done.notes)
    with pytest.raises(UsageError, match="niah needs more"):  # but a person asked for this one
        tune(request_of(also=("niah",), steps=3, overwrite=True), Tools(World()))


def test_another_engine_does_not_go_on_from_a_state_that_is_not_its_own(request_of):
    """What was installed meanwhile may change which engine there is."""

    class Gradient(FakeTools):
        def engine(self, file, space, request):
            return "gradient", ""

    with pytest.raises(KeyboardInterrupt):
        tune(request_of(), FakeTools(World(killed_at=40)))
    with pytest.raises(UsageError, match=r"space layers was begun by the blind engine, and is now for the gradient"):
        tune(request_of(), Gradient(World()))
    assert tune(request_of(), FakeTools(World())).written


def test_too_little_text_for_the_splits(request_of):
    request = request_of()
    request.texts[0].write_text(WORDS[:2000])
    with pytest.raises(UsageError, match=r"text\.txt: \d+ tokens of plain text are too few.*give a longer --text"):
        tune(request, FakeTools(World()))


def test_a_file_that_orders_heads_for_each_prompt(request_of, tmp_path):
    from ggufrope.convert.pipeline import ConvertRequest, carry_out

    carry_out(
        ConvertRequest(
            request_of().file.path, tmp_path / "pp.gguf", "ms-poe", {"head_order": "per-prompt", "first_layer": 0}
        )
    )
    with pytest.raises(UsageError, match=r"pp\.gguf: its heads are ordered anew for each prompt"):
        tune(request_of(file=ModelFile.open(tmp_path / "pp.gguf")), FakeTools(World()))


def test_a_converted_file_keeps_its_method_beneath_the_table(request_of, tmp_path):
    from ggufrope.convert.pipeline import ConvertRequest, carry_out

    carry_out(ConvertRequest(request_of().file.path, tmp_path / "yarn.gguf", "yarn", {"factor": 4.0}))
    file = ModelFile.open(tmp_path / "yarn.gguf")
    done = tune(replace(request_of(), file=file), FakeTools(World()))
    written = ModelFile.open(done.written[0]).decoded
    assert (written.method, written.context) == ("table+yarn", 2048)
    assert written.table.attn_scale[0] == pytest.approx(file.decoded.table.attn_scale[0])
