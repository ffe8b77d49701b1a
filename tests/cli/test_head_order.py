"""``--head-order per-prompt``: what is written into a file, and what upstream's programs are told."""

from __future__ import annotations

import json
from pathlib import Path

import gguf_builder as gb
import pytest

from ggufrope.cli import main
from ggufrope.errors import NotHonouredError
from ggufrope.gguf import read_header
from ggufrope.modelfile.decoded import decode
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.modelfile.original import Source
from ggufrope.runtime import programs
from ggufrope.validate.claim import claim_of


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("plain.gguf").write_bytes(gb.tiny_llama())
    return tmp_path


def converted(*options):
    assert main(["convert", "plain.gguf", "-o", "out.gguf", "--overwrite", "-m", "ms-poe", *options]) == 0
    return decode(Source(read_header(Path("out.gguf"))))


@pytest.mark.parametrize("order", ["per-prompt", "per-prompt-rank"])
def test_the_file_says_who_hands_ratios_out(folder, capsys, order):
    found = converted("--head-order", order)
    assert found.head_order == order
    assert found.table.head_ratios == ((1.0, 1.0), (1.0, 1.0), pytest.approx((1.2, 1.5)))
    assert "uncalibrated" not in capsys.readouterr().out
    with pytest.raises(NotHonouredError, match="orders that are in the file: convert it with --calibrate TEXT"):
        claim_of(ModelFile.open("out.gguf"))
    assert main(["inspect", "out.gguf", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["params"]["head_order"] == order


def test_given_ratios_can_be_handed_out_anew(folder):
    (folder / "given.json").write_text(json.dumps({"ratios": [[1, 1], [1.5, 1.3], [1.2, 1.5]]}))
    found = converted("--head-ratios", "given.json", "--head-order", "per-prompt")
    assert found.head_order == "per-prompt"
    assert found.table.head_ratios[1] == pytest.approx((1.5, 1.3))


def test_other_orders_are_static(folder):
    assert converted().head_order == converted("--head-order", "reverse").head_order == "static"


def test_programs_are_told(folder, monkeypatch):
    class Runtime:
        def program(self, name):
            return Path(name)

    monkeypatch.setattr(programs, "runtime_for", lambda *_: Runtime())
    converted("--head-order", "per-prompt")
    model = Path("out.gguf")
    assert programs.command_line("run", ModelFile.open(model))[3:] == ["-no-cnv"]
    assert programs.command_line("serve", ModelFile.open(model), ["--port", "1"])[3:] == ["-np", "1", "--port", "1"]
    static = programs.command_line("serve", ModelFile.open(model), head_order="static")[3:]
    assert static == ["--override-kv", "ggufrope.head_order=str:static"]
    converted("--from-wavelength", "0")
    told = ["-np", "1", "--override-kv", "ggufrope.head_order=str:per-prompt"]
    assert programs.command_line("serve", ModelFile.open(model), head_order="per-prompt")[3:] == told
