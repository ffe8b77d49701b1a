"""The page in a real browser: it fits, its colours say what its numbers say, it prints, it fetches nothing."""

from __future__ import annotations

import http.server
import json
import re
import threading

import browser
import pytest
import results_maker as made

from ggufrope.report import write_report

#: Places of the maps' cells and what is written there.
CELLS = """JSON.stringify([...document.querySelectorAll('.map td')].map(cell => {
    const box = cell.getBoundingClientRect(), style = getComputedStyle(cell);
    return [box.left + scrollX, box.top + scrollY, box.width, box.height, cell.title, style.backgroundColor];
}))"""
#: Elements that stick out to the right without a scroll container of their own around them.
STICKING_OUT = """[...document.body.querySelectorAll('*')].filter(one => !one.closest('.scroll, .unseen')
    && one.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5)
    .map(one => one.tagName + '.' + one.className).join(' ')"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    browser.find()
    folder = tmp_path_factory.mktemp("browser")
    long = made.facts("yarn", "Q4_K_M", name=f"{'a-very-long-name-' * 12}.gguf")
    lines = [*made.grid(kv_types=("f16", "q4_0")), made.answers(long, 4096, {0.5: [1.0, 0.0]}, task="passkey")]
    write_report([made.write(folder / "results", lines)], [folder / "report.html"], "Long-context evaluation")
    return folder / "report.html"


@pytest.mark.parametrize("width", [1280, 420])
def test_nothing_sticks_out_beyond_the_window(page, width):
    script = f"(document.documentElement.scrollWidth <= innerWidth) + ' ' + {STICKING_OUT}"
    assert browser.asked(page, script, width).strip() == "true"


def test_tables_that_are_wider_than_a_phone_can_be_scrolled(page):
    script = "[...document.querySelectorAll('.scroll')].filter(b => b.scrollWidth > b.clientWidth).length"
    assert int(browser.asked(page, script, 420)) > 3


def score(title):
    return float(re.search(r": ([\d.]+), 95%", title)[1])


def test_cells_are_the_lighter_the_higher_their_score(page):
    """By the pixels of a screenshot, in the corner of each cell, where no digit stands."""
    image_module = pytest.importorskip("PIL.Image")
    width, height = 1280, 9000
    cells = json.loads(browser.asked(page, CELLS, width, height))
    with image_module.open(browser.picture(page, width, height)) as image:
        grey, found = image.convert("L"), {}
        for left, top, _, tall, title, _ in cells:
            if top + tall < height:
                found.setdefault(score(title), []).append(grey.getpixel((round(left) + 4, round(top) + 4)))
    assert len(found) > 10
    assert sum(map(len, found.values())) > 200
    assert max(max(v) - min(v) for v in found.values()) <= 2  # the same score, the same grey
    greys = [found[s][0] for s in sorted(found)]
    assert greys == sorted(greys)
    assert greys[0] < 60
    assert greys[-1] > 220


def test_numbers_in_cells_are_readable(page):
    """WCAG's contrast of the computed colours, by the browser's own numbers."""
    script = """JSON.stringify([...document.querySelectorAll('.map td')].map(cell => {
        const style = getComputedStyle(cell); return [style.color, style.backgroundColor]; }))"""
    pairs = json.loads(browser.asked(page, script, 1280))
    assert len(pairs) == 2 * 15 * 9 * 3 + 1
    assert min(contrast(*pair) for pair in pairs) >= 4.5


@pytest.mark.parametrize("dark", [False, True])
def test_text_is_readable_in_light_and_dark(page, dark):
    image_module = pytest.importorskip("PIL.Image")
    with image_module.open(browser.picture(page, 1280, 1400, dark=dark)) as image:
        ground = image.convert("RGB").getpixel((5, 700))
        greys = image.convert("L").histogram()
    assert (sum(ground) < 150) == dark
    darkest, lightest = (
        next(i for i, n in enumerate(greys) if n > 20),
        255 - next(i for i, n in enumerate(greys[::-1]) if n > 20),
    )
    assert lightest - darkest > 200


def test_lines_of_charts_stand_out_from_their_ground(page):
    script = """JSON.stringify([...new Set([...document.querySelectorAll('.line')].map(line =>
        getComputedStyle(line).stroke))])"""
    strokes = json.loads(browser.asked(page, script, 1280))
    assert len(strokes) == 6  # five methods, and one that is two files
    assert min(contrast(stroke, "rgb(255, 255, 255)") for stroke in strokes) >= 4.5


def test_it_prints(page):
    """Some pages of A4, with text, and no page that is nearly all of the table of all numbers."""
    pdf = browser.paper(page)
    assert pdf.startswith(b"%PDF")
    assert 5 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 30


def test_nothing_is_fetched(page):
    """From a server on this machine: it sees one request for the page, and at most the one for its icon."""
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.path)
            data = page.read_bytes() if self.path == "/report.html" else b""
            self.send_response(200 if data else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    class Address:
        def as_uri(self):
            return f"http://127.0.0.1:{server.server_port}/report.html"

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        dumped = browser.run(Address(), "--dump-dom")
        server.shutdown()
    assert "How to read this page" in dumped
    assert set(seen) - {"/favicon.ico"} == {"/report.html"}


def contrast(a, b):
    """WCAG 2's ratio of two colours as a browser writes them."""
    lights = []
    for colour in (a, b):
        parts = [int(v) / 255 for v in re.findall(r"\d+", colour)[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        lights.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(lights) + 0.05) / (min(lights) + 0.05)
