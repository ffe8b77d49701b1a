"""The declared grid: what it declares, how its files are known again, and that it goes on where it stopped."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_engine import FakeEngine
from real_models import commands, declared_grid, disk_need, grid_pieces
from real_models.declared_grid import GRID, PARTS, REQUANTIZED, SMOKE, Piece, cells, declared
from real_models.grid_pieces import Settings, _order, eval_words, listing, run_pieces, seconds_of
from real_models.method_recipes import METHODS, recipe_of
from toy_workshop import RUNTIME, Commands, grid_model, order_of, workshop

from ggufrope.errors import InputError, OutputError, UsageError
from ggufrope.evals.file_facts import describe
from ggufrope.evals.store import read_results
from ggufrope.modelfile.model_file import ModelFile

FEW = (Piece("few", "smollm2", "niah", (512,), ("none", "seq", "code"), depths=(0.0, 1.0), limit=2),)


@pytest.fixture(autouse=True)
def runtime(monkeypatch):
    FakeEngine.reset()
    monkeypatch.setattr(grid_pieces, "runtime_facts", lambda **_: RUNTIME)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    grid_model(monkeypatch, tmp_path / "cache")
    return tmp_path / "cache"


def test_every_cell_is_declared_once():
    keys = [(c.model.name, c.piece.task, c.method.name, c.weights, c.kv, c.length) for c in cells((*GRID, *SMOKE))]
    assert len(keys) == len(set(keys))
    assert {key[2] for key in keys} == set(METHODS)
    assert {key[0] for key in keys} == {"smollm2", "qwen2.5-coder", "gemma3"}
    assert {key[3] for key in keys} == {"F16", "Q8_0", "Q4_1", "Q4_K_M", "Q3_K_M", "Q2_K"}
    assert {key[4] for key in keys} == {"f16", "q8_0", "q4_0"}
    assert {key[1] for key in keys} == {"kv-retrieval", "niah", "mdqa", "ppl"}
    assert {key[5] for key in keys} == {256, 512, 1024, 2048, 4096, 8192, 16384}


def test_what_decides_comes_first():
    names = [(c.piece.task, c.length, c.method.name, c.weights) for c in declared()]
    assert names[:4] == [("kv-retrieval", 1024, name, "F16") for name in ("none", "seq", "seq-w64", "seq-w256")]
    parts = list(dict.fromkeys(c.piece.part for c in declared()))
    assert parts[:4] == ["middle", "loss", "weights", "cache"]
    assert "smoke" not in parts
    assert "smoke" in PARTS


def test_a_method_is_measured_after_none(monkeypatch):
    """Every cell has the untouched model in the same task, length, weights and cache before it, to compare with."""
    seen = set()
    for cell in declared():
        place = (cell.model.name, cell.piece.task, cell.length, cell.weights, cell.kv)
        assert cell.method.name == "none" or place in seen, cell.name
        seen |= {place} if cell.method.name == "none" else set()


def test_an_unknown_part():
    with pytest.raises(UsageError, match="--part: unknown part 'midle': did you mean middle"):
        declared("midle")


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("named", ["{0}.gguf", "smollm2.{0}.f16.gguf"])
def test_a_file_is_known_by_what_it_says(cache, name, named):
    """Converted as declared, it is that method's and no other's; of given ratios, also the name counts."""
    shop, toy = workshop(cache, Commands()), declared_grid.MODELS["smollm2"]
    path = shop.make(toy, METHODS[name], "F16")
    renamed = replace(describe(ModelFile.open(path)), name=named.format(name))
    assert [r.name for r in METHODS.values() if r.made(renamed)] == [name]
    assert recipe_of(replace(renamed, params={"min_ratio": 3.0})) is (METHODS["none"] if name == "none" else None)


def test_the_order_is_the_commands_own(cache, tmp_path):
    """The id that is looked for is the one that `ggufrope eval` writes."""
    (tmp_path / "nq-open-oracle.jsonl.gz").write_bytes(b"")
    (tmp_path / "war-and-peace.txt.gz").write_bytes(gzip.compress(b"It rains."))
    shop = workshop(cache, Commands(), tmp_path)
    for cell in cells([replace(piece, model="smollm2") for piece in (*GRID, *SMOKE)]):
        words = eval_words(cell, tmp_path / "a.gguf", shop, Settings(tmp_path / "out", threads=1))
        assert replace(order_of(words), threads=None) == _order(cell, tmp_path / "a.gguf", shop)
        assert words[-4:] == ["--threads", "1", "-o", str(tmp_path / "out")] or "--beyond-context" in words


def test_a_grid_goes_on_where_it_was(cache, tmp_path):
    few, said = list(cells(FEW)), []
    first, again = Commands(stop=2), Commands()
    with pytest.raises(KeyboardInterrupt):
        run_pieces(few, workshop(cache, first), Settings(tmp_path / "out"), said.append)
    assert first.evaluated == ["smollm2.none.f16.gguf", "smollm2.seq.f16.gguf"]
    assert said[0].startswith("0 of 3 cells measured; 3 cells left, about ")
    assert run_pieces(few, workshop(cache, again), Settings(tmp_path / "out"), said.append) == 0
    assert again.evaluated == ["smollm2.code.f16.gguf"]
    assert said[-1] == "nothing is left"
    results, torn = read_results(tmp_path / "out")
    assert [next(c.method.name for c in few if c.measured_by(r)) for r in results] == ["none", "seq", "code"]
    assert not torn


def test_lines_of_files_made_by_hand_are_taken_over(cache, tmp_path):
    """The same bytes under another name, elsewhere: the cell is the same."""
    few = list(cells([replace(FEW[0], methods=("none", "seq"))]))
    hand, shop = Commands(), workshop(cache, Commands())
    source = shop.make(*few[1].file)
    copied = tmp_path / "seq.gguf"
    copied.write_bytes(source.read_bytes())
    hand(eval_words(few[1], copied, shop, Settings(tmp_path / "out", threads=1)))
    commands = Commands()
    run_pieces(few, workshop(cache, commands), Settings(tmp_path / "out"), str)
    assert commands.evaluated == ["smollm2.none.f16.gguf"]


def test_lines_of_another_build_do_not_count(cache, tmp_path, monkeypatch):
    few, said, commands = list(cells(FEW))[:1], [], Commands()
    run_pieces(few, workshop(cache, Commands()), Settings(tmp_path / "out"), str)
    monkeypatch.setattr(grid_pieces, "runtime_facts", lambda **_: replace(RUNTIME, fingerprint="other"))
    run_pieces(few, workshop(cache, commands), Settings(tmp_path / "out"), said.append)
    assert "1 cell of these have lines of another file, version or build" in said[1]
    assert len(commands.evaluated) == 1


def test_what_was_measured_counts_when_its_file_is_gone(cache, tmp_path):
    few, again = list(cells(FEW)), Commands()
    run_pieces(few, workshop(cache, Commands()), Settings(tmp_path / "out"), str)
    for path in (cache / "smollm2" / "files").rglob("*.gguf"):
        path.unlink()
    assert run_pieces(few, workshop(cache, again), Settings(tmp_path / "out"), str) == 0
    assert again.said == []


def test_minutes_end_before_a_cell_that_would_take_longer(cache, tmp_path):
    few, said, commands = list(cells(FEW)), [], Commands()
    assert run_pieces(few, workshop(cache, commands), Settings(tmp_path / "out", minutes=1e-6), said.append) == 2
    assert len(commands.evaluated) == 1  # it makes progress, however short the time
    assert said[-2].startswith("1e-06 minutes are up: SmolLM2-135M-Instruct, niah at 512: ms-poe sequential, F16 would")
    assert said[-1].startswith("2 cells left, about ")


def test_what_is_left_is_estimated_from_what_was_measured(cache, tmp_path):
    few = list(cells(FEW))
    run_pieces(few[:1], workshop(cache, Commands()), Settings(tmp_path / "out"), str)
    (line,) = read_results(tmp_path / "out")[0]
    read = replace(line, seconds=100.0, tokens=replace(line.tokens, evaluated=few[1].tokens))
    assert seconds_of(few[1], [read]) == pytest.approx(100.0)
    assert seconds_of(few[1], [replace(read, seconds=300.0)]) == pytest.approx(300.0)
    assert seconds_of(few[1], []) > 0


def test_a_list_says_what_is_left(cache, tmp_path):
    few = list(cells(FEW))
    run_pieces(few[:1], workshop(cache, Commands()), Settings(tmp_path / "out"), str)
    lines = list(listing(few, tmp_path / "out"))
    assert lines[0] == "few: SmolLM2-135M-Instruct, niah at 512: none, F16: measured"
    assert lines[1].startswith("few: SmolLM2-135M-Instruct, niah at 512: ms-poe sequential, F16: about ")
    assert lines[3].startswith("--part few: about ")
    run_pieces(few, workshop(cache, Commands()), Settings(tmp_path / "out"), str)
    assert list(listing(few, tmp_path / "out"))[-1] == "--part few: nothing is left"


def test_data_is_left_out_in_words(cache, tmp_path):
    pieces = [*FEW, Piece("documents", "smollm2", "mdqa", (512,), ("none",), data="nq-open-oracle.jsonl.gz")]
    said = []
    run_pieces(list(cells(pieces)), workshop(cache, Commands()), Settings(tmp_path / "out"), said.append)
    assert said[0] == "left out without --data: 1 cell"


def test_a_data_directory_without_questions_is_said_before_any_file_is_made(cache, tmp_path):
    """The book alone serves for calibration and losses."""
    piece = Piece("documents", "smollm2", "mdqa", (512,), ("none",), depths=(0.0,), data="nq-open-oracle.jsonl.gz")
    commands, said = Commands(), []
    assert run_pieces(list(cells([piece])), workshop(cache, commands, tmp_path), Settings(tmp_path), said.append) == 0
    assert said[0] == f"{tmp_path} holds no nq-open-oracle.jsonl.gz, so these are left out: 1 cell"
    assert commands.said == []


def test_too_little_disk_is_said_before_the_start(cache, tmp_path, monkeypatch):
    commands = Commands()
    monkeypatch.setattr(disk_need.shutil, "disk_usage", lambda _: SimpleNamespace(free=200_000_500))
    with pytest.raises(OutputError, match="3 files of models need 200 MB, and 200 MB are free; nothing was written"):
        run_pieces(list(cells(FEW)), workshop(cache, commands), Settings(tmp_path / "out"), str)
    assert commands.said == []


def test_a_model_that_was_not_fetched(tmp_path, monkeypatch):
    toy = grid_model(monkeypatch, tmp_path)
    toy.path(tmp_path).unlink()
    with pytest.raises(InputError, match=r"Q4_1\.gguf: not there; `scripts/real-models fetch smollm2` fetches it"):
        run_pieces(list(cells(FEW)), workshop(tmp_path, Commands()), Settings(tmp_path / "out"), str)


def test_weights_come_from_the_written_out_file(cache):
    """F16 from the published one, other weights from F16; the published type itself is the published file."""
    toy, commands = declared_grid.MODELS["smollm2"], Commands()
    shop = workshop(cache, commands)
    assert shop.make(toy, METHODS["none"], "Q4_1") == toy.path(cache)
    shop.make(toy, METHODS["none"], "Q8_0")
    published, full = str(toy.path(cache)), str(cache / "smollm2" / "files" / "smollm2.none.f16.gguf")
    assert commands.said[0] == ["quantize", published, full, "F16", "--", "--allow-requantize"]
    assert commands.said[1][:2] == ["quantize", full]
    shop.make(toy, METHODS["code"], "F16")
    shop.make(toy, METHODS["rank"], "F16")
    assert [w[0] for w in commands.said[2:]] == ["calibrate", "convert", "calibrate", "convert"]


def test_another_text_gives_another_order(cache, tmp_path):
    """Files that were calibrated on the book do not take the place of those calibrated without it."""
    toy, commands = declared_grid.MODELS["smollm2"], Commands()
    (tmp_path / "war-and-peace.txt").write_text("It rains.")
    without, book = workshop(cache, commands), workshop(cache, commands, tmp_path)
    assert without.make(toy, METHODS["code"], "F16") != book.make(toy, METHODS["code"], "F16")
    texts = [words[words.index("--text") + 1] for words in commands.said if words[0] == "calibrate"]
    assert [Path(text).name for text in texts] == ["calibration.txt", "war-and-peace.txt"]
    assert without.make(toy, METHODS["seq"], "F16") == book.make(toy, METHODS["seq"], "F16")


def test_a_data_directory_without_the_book(cache, tmp_path):
    with pytest.raises(InputError, match=r"holds no war-and-peace\.txt or war-and-peace\.txt\.gz; omit --data"):
        workshop(cache, Commands(), tmp_path).text()
    (tmp_path / "war-and-peace.txt.gz").write_bytes(b"no gzip")
    with pytest.raises(InputError, match=r"cannot be unpacked .* get it again"):
        workshop(cache, Commands(), tmp_path).text()


def test_files_makes_each_file_once(cache, tmp_path, monkeypatch, capsys):
    """By the command, for what the grid declares and for every type of weights; a recipe has no hash."""
    made = Commands()
    monkeypatch.setattr(commands, "declared", lambda: list(cells(FEW)))
    monkeypatch.setattr(commands, "chosen", lambda _: [declared_grid.MODELS["smollm2"]])
    monkeypatch.setattr(commands, "cache_folder", lambda: cache)
    monkeypatch.setattr(commands, "run_command", made)
    assert commands._files(SimpleNamespace(names=[], data=None)) == 0
    said = [line.split(": ")[0] for line in capsys.readouterr().out.splitlines()]
    names = [Path(word).name for word in said if word.startswith(f"{cache}/")]
    assert len(names) == len(set(names))
    assert {"smollm2.none.f16.gguf", "smollm2.none.q8_0.gguf", "smollm2.seq.f16.gguf"} <= set(names)
    assert sum(words[0] == "quantize" for words in made.said) == 1 + len(REQUANTIZED)


def test_a_folder_of_files_that_cannot_be_made(cache):
    (cache / "smollm2" / "files").write_text("")
    with pytest.raises(OutputError, match=r"smollm2/files: cannot be made \(.*\); set XDG_CACHE_HOME"):
        workshop(cache, Commands()).make(declared_grid.MODELS["smollm2"], METHODS["none"], "F16")
