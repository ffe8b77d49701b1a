"""Reading what AddressSanitizer, LeakSanitizer and UndefinedBehaviorSanitizer wrote."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

_UNDEFINED = re.compile(r"(\S+?:\d+)(?::\d+)?: runtime error: (.*)$", re.MULTILINE)
_ADDRESS = re.compile(r"ERROR: AddressSanitizer:? (.*?)(?: on (?:unknown )?address.*| \(pc.*)?$", re.MULTILINE)
_LEAK = re.compile(r"^(Direct|Indirect) leak of (\d+) byte.*?(?=^\S|\Z)", re.MULTILINE | re.DOTALL)
_FRAME = re.compile(r"^ +#\d+ 0x[0-9a-f]+ +in (.*?) (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Report:
    """One finding; two are equal when they are about the same place.

    Attributes:
        where: File and line of the source, as far as they are known.
        what: What is wrong there.
        text: All that was said.
    """

    where: str
    what: str
    text: str = field(compare=False)


def read(folder: Path) -> list[Report]:
    """Everything in the reports of ``folder``, each place once."""
    return list(dict.fromkeys(report for path in sorted(folder.glob("report.*")) for report in _parse(path)))


def undefined(text: str) -> str:
    """The lines of ``text`` that report undefined behaviour."""
    return "".join(m[0] + "\n" for m in _UNDEFINED.finditer(text))


def _parse(path: Path) -> list[Report]:
    text = path.read_text(errors="replace")
    found = [
        Report(_short(m[1]), _general(m[2]), text[m.start() : m.start() + 1500]) for m in _UNDEFINED.finditer(text)
    ]
    found += [Report(_place(text[m.start() :]), m[1].strip(), text[m.start() :]) for m in _ADDRESS.finditer(text)]
    found += [Report(_place(m[0]), "leak", m[0]) for m in _LEAK.finditer(text) if m[1] == "Direct"]
    return found or ([Report(path.name, "not understood", text)] if text.strip() else [])


def _place(text: str) -> str:
    """The first frame that lies in llama.cpp's sources."""
    frames = _FRAME.findall(text)
    ours = [f"{_short(where)} {name.split('(')[0]}" for name, where in frames if "/source/" in where]
    return ours[0] if ours else (frames[0][0] if frames else "unknown")


def _short(path: str) -> str:
    return path.rsplit("/source/", 1)[-1]


def _general(message: str) -> str:
    """A message without its addresses and values, so that one place is one finding."""
    return re.sub(r"0x[0-9a-f]+|-?\d+(\.\d+)?(e[+-]?\d+)?", "N", message)
