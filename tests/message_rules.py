"""What every message of an error has to say: which file or argument it is about, what was found, and what to do."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["FOR_PROGRAMMERS", "REMEDY", "flaws"]

#: Modules whose errors say that a call makes no sense, to whoever wrote the call: no file or option leads there. What
#: does reach the command line is read there all the same.
FOR_PROGRAMMERS = {
    "rope/table.py",
    *(f"reference/{name}.py" for name in ("decode", "head_ratios", "head_scores", "rows", "spec")),
}

#: A clause that says what to do, or what would be accepted.
REMEDY = re.compile(
    r"; \S|`[^`]+`|\bpip install\b|\bdid you mean\b|\(--debug shows where\)"
    r"|\b(add|allow|ask|build|change|choose|convert|create|delete|download|expected|give|install|it is one of)\b"
    r"|\b(leave out|must|name|need|needed|needs|nothing (is|was) (lost|written|changed|to)|raise|remove|run|set)\b"
    r"|\b(takes|try|unset|use|wait)\b"
)
#: Names that a person never gave: of files that a command makes for itself, and removes.
PRIVATE = re.compile(r"weights\.gguf|\.ggufrope-tmp|/\.[^/\s]+-\w{8}/")


def flaws(message: str, arguments: Sequence[str] | None = None) -> list[str]:
    """What is wrong with a message, in words; empty if nothing is.

    Args:
        message: as it is shown, without ``ggufrope: ``.
        arguments: of the command, if it came that far: then one of them has to stand in the message.
    """
    found = []
    if not REMEDY.search(message):
        found.append("no remedy: say what to do, or what would be accepted")
    if arguments is not None:
        if private := PRIVATE.search(message):
            found.append(f"{private[0]} is a name that nobody gave")
        if not _names(message, arguments):
            found.append("names no file and no argument that was given")
    return found


def _names(message: str, arguments: Sequence[str]) -> bool:
    if re.search(r"(^|[\s(])--?[a-zA-Z][\w-]*", message) or "GGUFROPE_" in message:  # an option, given or missing
        return True
    if re.match(r"no [A-Z]+ given", message):  # a missing argument, as the help names it
        return True
    given = [part for argument in arguments[1:] for part in re.split("[=,]", argument)]
    shards = [re.sub(r"-\d{5}-of-\d{5}\.gguf$", "", part) for part in given]
    return any(message.startswith(part) or (len(part) > 1 and part in message) for part in (*given, *shards) if part)
