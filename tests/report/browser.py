"""A real browser without a window: what it makes of a page, as a picture, as a document and on paper."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def find() -> str:
    """The browser; skips the test where there is none."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is on the PATH")
    return found


def run(page: Path, *options: str, dark: bool = False) -> str:
    """What the browser prints for ``page``."""
    with tempfile.TemporaryDirectory() as profile:
        command = [
            find(), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
            "--no-first-run", "--disable-background-networking", "--force-color-profile=srgb",
            f"--user-data-dir={profile}", *(["--blink-settings=preferredColorScheme=0"] if dark else []),
            *options, page.as_uri(),
        ]  # fmt: skip
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=120, check=False, env={**os.environ, "TZ": "UTC"}
        )
    if done.returncode:
        pytest.fail(f"{command[0]}: exit code {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


def picture(page: Path, width: int, height: int = 2000, *, dark: bool = False) -> Path:
    """A screenshot."""
    out = page.with_name(f"{page.stem}-{width}{'-dark' * dark}.png")
    run(page, f"--window-size={width},{height}", f"--screenshot={out}", dark=dark)
    return out


def asked(page: Path, script: str, width: int, height: int = 1200) -> str:
    """What ``script`` (an expression) says in a copy of the page that allows scripts; the page itself has none."""
    text = page.read_text(encoding="utf-8")
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    answer = f"<script>document.title = String({script})</script></body>"
    copy = page.with_name(f"{page.stem}-asked.html")
    copy.write_text(text.replace("</body>", answer), encoding="utf-8")
    found = re.search(r"<title>(.*?)</title>", run(copy, f"--window-size={width},{height}", "--dump-dom"), re.S)
    assert found
    return found[1]


def paper(page: Path) -> bytes:
    """The page as a PDF."""
    out = page.with_suffix(".pdf")
    run(page, "--no-pdf-header-footer", f"--print-to-pdf={out}")
    return out.read_bytes()
