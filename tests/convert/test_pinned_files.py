"""Files converted before are the files converted now: hashes of what the version of 2026-11-29 wrote."""

from __future__ import annotations

import hashlib
import json

import gguf_builder as gb
import pytest

from ggufrope.cli import main

LISTS = "--short-factor short.json --long-factor long.json --factor 4"
PINNED = {
    "none": "0930656032da7bd41137ae6b04001db9",
    "linear --factor 4": "b06b1a7ad3687fdb30a45187b36424c4",
    "ntk --factor 4": "23c574cbc12887d6a969fbf704002c0c",
    "dynamic-ntk --factor 4": "9ef4341ab84e1ac4c6bcd585bfc80c71",
    "yarn --factor 4": "f8f0c291f03552cac7fbab1d29fe14f3",
    "yarn --factor 4 --dynamic": "42f4c442dcceddaef2e3c5c89339d970",
    "yarn --context 200": "48fb24137f623f654584cbf3428eaa54",
    "yarn --factor 4 --no-truncate --beta-fast 5": "b301d7250ad4d0dbf752d3fb39ad5573",
    "llama3 --factor 8": "0828a783ba908f270a8be0e965f119f2",
    f"longrope {LISTS}": "2ed60d591a3ae7a201564534723631d1",
    "clex --clex-from clex.json": "a17cceff4b4260f47d5eb838c719c033",
    "ms-poe --from-wavelength 0": "3c4f12f7890cf04edfbe686424f388fe",
    "ms-poe --head-order per-prompt": "2390909656feef5e33a4bdc9f7540287",
    "ms-poe --head-order random:7 --first-layer 0 --from-wavelength 0": "ed639e1ed817a6adfec5c2a57e03441c",
    "ms-poe+yarn --factor 4 --from-wavelength 0": "f232cf6e674836c168ff23d3bd1b1a86",
    "ms-poe+dynamic-ntk --factor 4 --granularity 2 --from-wavelength 0": "a3df068870d1a82832cf7ec656bfdc72",
    f"ms-poe+longrope {LISTS} --from-wavelength 0": "7fc25ef87277b23d22d2f87ace2b3b94",
    "ms-poe+clex --clex-from clex.json --log-scale --from-wavelength 0": "edc99bdd266922d0ea8e9de73c9d8172",
    "ms-poe+llama3 --factor 8 --require-patched --from-wavelength 0": "7ea8a45bb9e9d349bef4d8124f0a896a",
}


@pytest.mark.parametrize("words", PINNED)
def test_a_conversion_writes_the_same_bytes(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.gguf").write_bytes(gb.tiny_llama())
    (tmp_path / "short.json").write_text(json.dumps([1.0, 1.1, 1.2, 1.3]))
    (tmp_path / "long.json").write_text(json.dumps([1.0, 2.0, 3.0, 4.0]))
    table = {"context": 64, "frequencies": [[1.0, 0.1, 0.01, 0.001], [0.9, 0.08, 0.007, 0.0005]]}
    (tmp_path / "clex.json").write_text(json.dumps(table))
    assert main(["convert", "tiny.gguf", "-o", "out.gguf", "--method", *words.split()]) == 0
    assert hashlib.sha256((tmp_path / "out.gguf").read_bytes()).hexdigest()[:32] == PINNED[words]
