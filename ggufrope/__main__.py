"""``python -m ggufrope``."""

from __future__ import annotations

from ggufrope.cli import main

raise SystemExit(main())
