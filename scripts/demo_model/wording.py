"""The demo model's language as a wording for ``ggufrope eval --task niah``; run by hand after a change of text.py.

    python scripts/demo_model/wording.py        # writes models/demo/wording.json

Needs the standard library only.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from demo_model.text import NAMES, THINGS, filler_sentences

FILE = Path(__file__).resolve().parent.parent.parent / "models" / "demo" / "wording.json"
_SENTENCES = 400  # more than stand in 2048 tokens, of 7 words or so each


def wording() -> str:
    """The file: what ``text.make_quiz`` writes, as templates. Every word is one token, and so is every answer."""
    value = {
        "about": "The demo model's language (scripts/demo_model/text.py), made by scripts/demo_model/wording.py.",
        "needle": "give {key} {value} .",
        "question": " ",
        "start": "so give {key}",
        "answer": " {value}",
        "separator": " ",
        "max_new": 1,
        "keys": list(NAMES),
        "values": [thing for thing in THINGS if not any(thing != t and t in thing for t in THINGS)],  # no clocks: locks
        "filler": filler_sentences(random.Random("wording"), _SENTENCES),
    }
    return json.dumps(value, indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(wording(), encoding="utf-8")
