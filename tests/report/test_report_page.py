"""The page and its Markdown: well-formed, self-contained, small, and the same numbers in both."""

from __future__ import annotations

import re

import pytest
import results_maker as made
from page_checks import Checked

from ggufrope.report import write_report
from ggufrope.report.heatmap import colour, ink, luminance
from ggufrope.report.svg import MARKERS, nice_ticks

HOSTILE = "<script>alert(1)</script>&amp;\"'`|</title></style><img src=x onerror=alert(2)>\x00\x1b[31m\u202e[a](https://b.c)**_~$@"


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The default grid on 15 files, with a second cache type: as large as they come."""
    folder = tmp_path_factory.mktemp("report")
    outputs = [folder / "report.html", folder / "report.md"]
    write_report([made.write(folder / "results", made.grid())], outputs, "Long-context evaluation")
    return [path.read_text(encoding="utf-8") for path in outputs]


def test_the_page_is_well_formed_and_needs_nothing_else(report):
    page = Checked(report[0])
    assert page.wrong == []
    assert "script" not in page.tags
    assert not re.search(r"https?:|url\(|@import|\bwww\.", report[0])
    assert "default-src 'none'" in report[0]


def test_the_page_is_small(report):
    assert len(report[0].encode()) < 1_000_000
    assert len(report[1].encode()) < 150_000


def test_every_part_is_there(report):
    page = Checked(report[0])
    assert page.links == {"answer", "maps", "curves", "differences", "cost", "numbers", "settings", "reading"}
    assert page.tags["svg"] > 20
    for part in re.findall(r"^## (.*)$", report[1], re.M):
        assert part in page.texts


def test_every_cell_of_a_map_has_its_number_interval_and_n(report):
    cells = re.findall(
        r'<td style="background:(#\w{6});color:(#\w{3})" title="([^"]*)">([^<]*|&[lg]t;[^<]*)</td>', report[0]
    )
    assert len(cells) == 15 * 9 * 3
    for _, _, title, text in cells:
        score, low, high = map(float, re.search(r": ([\d.]+), 95% interval ([\d.]+)–([\d.]+), n = 20$", title).groups())
        assert low <= score <= high
        assert abs(float(text.replace("&gt;", "").replace("&lt;", "")) - score) <= 0.005


def test_markdown_has_the_page_s_numbers_in_whole_tables(report):
    page, lines = Checked(report[0]), report[1].splitlines()
    for table in re.findall(r"(?:^\|.*\n)+", report[1], re.M):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1
    numbers = {n for line in lines if line.startswith("|") for n in re.findall(r"[+−]?\d\.\d{3}\b", line)}
    assert len(numbers) > 100
    assert numbers <= set(re.findall(r"[+−]?\d\.\d{3}\b", " ".join(page.texts)))


def test_the_same_results_give_the_same_page(tmp_path):
    lines = list(made.grid(n=4, tasks=("niah",)))
    for name, order in (("a", lines), ("b", lines[::-1])):
        write_report([made.write(tmp_path / name, order)], [tmp_path / f"{name}.html"], "t")
    assert (tmp_path / "a.html").read_text() == (tmp_path / "b.html").read_text()


def hostile_lines():
    """Everything in a line of results that is text, hostile."""
    params = {"factor": 4.0, HOSTILE[:15]: HOSTILE}
    for method in ("none", HOSTILE):
        file = made.facts(method, name=f"a/{HOSTILE}.gguf", architecture=HOSTILE, params=params, quantization=HOSTILE)
        rest = {
            "options": {HOSTILE: HOSTILE, "data": {"name": HOSTILE, "sha256": HOSTILE}}, "notes": [HOSTILE],
            "machine": {"cpu": HOSTILE, "cores": 1, "os": HOSTILE}, "ggufrope": HOSTILE, "finished": HOSTILE,
            "runtime": {"backend": HOSTILE, "fingerprint": HOSTILE, "threads": None, "flash_attn": True},
        }  # fmt: skip
        line = made.answers(file, 512, {0.5: [1.0, 0.0]}, task=HOSTILE, kv_type=HOSTILE, interval=HOSTILE, **rest)
        line["examples"][0]["output"] = HOSTILE
        yield line
        yield made.positions(file, 512, task=HOSTILE, unit=HOSTILE, baseline=file, **rest)


def test_nothing_in_results_becomes_markup(tmp_path):
    outputs = [tmp_path / "r.html", tmp_path / "r.md"]
    write_report([made.write(tmp_path / "results", hostile_lines())], outputs, HOSTILE)
    page = Checked(outputs[0].read_text(encoding="utf-8"))
    assert page.wrong == []
    assert not {"script", "img"} & set(page.tags)
    assert (
        page.tags["style"] == page.tags["title"] == 1 + 0 * len(page.texts) or page.tags["title"] > 1
    )  # svg has titles
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", "".join(page.texts) + "".join(page.titles))
    assert any("<script>alert(1)</script>" in text for text in page.texts)  # shown, as it is


def test_nothing_in_results_becomes_markdown(tmp_path):
    output = tmp_path / "r.md"
    write_report([made.write(tmp_path / "results", hostile_lines())], [output], HOSTILE)
    text = output.read_text(encoding="utf-8")
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", text)
    # titles that unfold are HTML; code shows what is in it; and what is escaped is no markup
    outside, titles = re.subn(r"^<details><summary>[^<>]*</summary>$", "", text, flags=re.M)
    outside = re.sub(r"\\[^\w\s]|(`+).*?(?<!`)\1(?!`)", "", outside)
    assert titles == text.count("<details") == 4
    assert set(re.findall(r"<[a-z/]+", outside)) <= {"</details", "<br"}
    assert not re.search(r"\]\(|://", outside)
    for table in re.findall(r"(?:^\|.*\n)+", text, re.M):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_colours_grow_lighter_evenly_and_carry_readable_numbers():
    """WCAG's 4.5 to 1 for the number; between neighbouring tenths a step that a grey print still shows."""
    light = [luminance(colour(i / 100)) for i in range(101)]
    assert light == sorted(light)
    assert len({colour(i / 100) for i in range(101)}) == 101
    lightness = [116 * y ** (1 / 3) - 16 if y > 0.008856 else 903.3 * y for y in light]  # CIE L*
    steps = [b - a for a, b in zip(lightness[::10], lightness[10::10], strict=False)]
    assert min(steps) > 5
    for i, y in enumerate(light):
        number = {"#000": 0.0, "#fff": 1.0}[ink(i / 100)]
        assert (max(y, number) + 0.05) / (min(y, number) + 0.05) >= 4.5


def test_colours_stay_apart_for_the_colour_blind():
    """Red and green deficiency leave blue against yellow: their difference grows with the score, too."""
    assert [b - (r + g) / 2 for r, g, b in map(colour, (0.0, 0.5, 1.0))] == sorted(
        (b - (r + g) / 2 for r, g, b in map(colour, (0.0, 0.5, 1.0))), reverse=True
    )


def test_lines_differ_without_their_colours(report):
    """The legend's samples: no two methods have the same marker and dashes."""
    keys = re.findall(r'<ul class="key">(.*?)</ul>', report[0])
    for key in keys:
        samples = re.findall(
            r'<path d="M1 7H41" class="line"(?: stroke-dasharray="([^"]*)")?></path><path d="([^"]*)"', key
        )
        assert len(samples) == len(set(samples)) == 5
    assert len(set(MARKERS)) == len(MARKERS)


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (1.72, 2.23, ["1.8", "2.0", "2.2"]),
        (0.0, 10.0, ["0", "2", "4", "6", "8", "10"]),
        (-0.04, 0.06, ["−0.04", "−0.02", "0.00", "0.02", "0.04", "0.06"]),
        (0.0, 1.1, ["0.00", "0.25", "0.50", "0.75", "1.00"]),
    ],
)
def test_ticks_are_round(low, high, labels):
    assert [label for _, label in nice_ticks(low, high)] == labels
