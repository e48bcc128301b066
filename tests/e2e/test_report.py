"""The report of a real run, in a real browser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator

from tests.support.browser import chromium, open_page
from tests.support.command import Finished, your_ai_command

FOLDED = "trial-3"
"""The first trial that is folded."""

A4_WIDTH = 720
"""Width in CSS pixels between the margins."""


@pytest.fixture
def report(ladder: Finished) -> Path:
    """The report in the run's folder."""
    return ladder.folder / "run/report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


def test_a_run_prints_the_path_of_its_report(ladder: Finished, report: Path) -> None:
    assert f"Report written to {report}\n" in ladder.stdout
    assert report.is_file()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1440])
def test_page_is_drawn_without_errors(
    browser: Browser, report: Path, width: int, scheme: Literal["light", "dark"]
) -> None:
    opened = open_page(browser, report, width=width, scheme=scheme)
    assert opened.errors == []
    page = opened.page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for chart in (
        "ladder",
        "search-0-capacity",
        "search-0-speed",
        "trial-0-memory",
        "trial-0-footprint",
    ):
        drawn = page.locator(f"[data-chart={chart}] svg")
        assert drawn_width(drawn) <= width
        assert drawn.locator("[aria-label]").count() > 0


def drawn_width(element: Locator) -> float:
    box = element.bounding_box()
    assert box is not None  # it is drawn
    return box["width"]


def test_charts_show_the_results(browser: Browser, ladder: Finished, report: Path) -> None:
    page = open_page(browser, report).page
    small, large = ladder.document["results"]
    assert (small["outcome"], large["outcome"]) == ("pass", "over-budget")
    bars = page.locator("[data-chart=ladder] [aria-roledescription=bar]")
    names = [bar.get_attribute("aria-label") or "" for bar in bars.all()]
    assert [re.sub(r" [\d.]+ MB$", "", text) for text in names] == [
        f"small ({small['params']}): peak memory",
        f"large ({large['params']}): memory reached or needed (did not pass)",
        f"small ({small['params']}): needed memory",
    ]
    peak, _, needed = map(drawn_width, bars.all())
    expected = small["needed_memory_bytes"] / small["peak_memory_bytes"]
    assert needed / peak == pytest.approx(expected, rel=0.05)
    tried = small["optimal_config"]["all_results"]
    points = page.locator("[data-chart=search-0-capacity] [aria-roledescription=point]")
    assert points.count() == len(tried)
    fast = page.locator("[data-chart=search-0-speed] [aria-roledescription=point]")
    assert fast.count() == sum(trial["success"] for trial in tried)


def test_footprint_is_below_the_memory_on_the_same_time_axis(
    browser: Browser, report: Path
) -> None:
    page = open_page(browser, report).page
    memory, footprint = (
        page.locator(f"[data-chart=trial-0-{name}] .background").first.bounding_box()
        for name in ("memory", "footprint")
    )
    assert memory
    assert footprint
    assert footprint["y"] >= memory["y"] + memory["height"]
    assert footprint["height"] < memory["height"]
    assert footprint["x"] == pytest.approx(memory["x"], abs=1)
    assert footprint["width"] == pytest.approx(memory["width"], abs=4)


def test_colors_follow_the_color_scheme(browser: Browser, report: Path) -> None:
    def colors(scheme: Literal["light", "dark"]) -> list[str]:
        page = open_page(browser, report, scheme=scheme).page
        found: list[str] = page.evaluate(
            """() => ["body", "[data-chart=ladder] text", "[data-chart=ladder] .mark-rect path"]
            .map((what) => getComputedStyle(document.querySelector(what)))
            .map((style) => style.backgroundColor + style.fill)"""
        )
        return found

    light, dark = colors("light"), colors("dark")
    assert all(one != other for one, other in zip(light, dark, strict=True))


def test_print_is_light_and_fits_the_paper(
    browser: Browser, ladder: Finished, tmp_path: Path
) -> None:
    name = "mlx-community/Meta-Llama-3.1-70B-Instruct-4bit"
    (tmp_path / "results.json").write_bytes(changed(ladder, preset=name))
    your_ai_command(tmp_path, "report", "results.json", "--html", "out.html")
    page = open_page(browser, tmp_path / "out.html", scheme="dark").page
    page.emulate_media(media="print", color_scheme="dark")
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == "rgb(255, 255, 255)"
    # Printing does not resize the window, which would let Vega draw the charts anew.
    widths = page.evaluate(
        f"""() => {{
            document.body.style.width = "{A4_WIDTH}px";
            const all = document.querySelectorAll("svg, table");
            return [...all].map((one) => one.getBoundingClientRect().width);
        }}"""
    )
    assert max(widths) <= A4_WIDTH


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1440])
def test_page_is_accessible(
    browser: Browser, report: Path, width: int, scheme: Literal["light", "dark"]
) -> None:
    """axe-core checks labels, contrast, structure and keyboard use (WCAG 2 and best practices)."""
    page = open_page(browser, report, width=width, scheme=scheme, bypass_csp=True).page
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_a_trial_opens_and_closes_by_keyboard(browser: Browser, report: Path) -> None:
    page = open_page(browser, report).page
    page.locator(f"tbody a[href='#{FOLDED}']").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(f"#{FOLDED}[open]")
    page.locator(f"#{FOLDED} summary").focus()
    page.keyboard.press("Space")
    page.wait_for_selector(f"#{FOLDED}:not([open])")


def test_trials_beyond_the_third_are_folded(browser: Browser, report: Path) -> None:
    """Their charts are not drawn, because a run may have hundreds of trials."""
    page = open_page(browser, report).page
    assert page.locator("details[open]").evaluate_all("all => all.map((one) => one.id)") == [
        "trial-0",
        "trial-1",
        "trial-2",
    ]
    assert page.locator("details").count() > 3
    assert page.locator("details:not([open]) svg").count() == 0


def test_a_link_in_the_table_opens_a_folded_trial(browser: Browser, report: Path) -> None:
    page = open_page(browser, report).page
    link = page.locator(f"tbody a[href='#{FOLDED}']")
    link.click()
    for name in ("memory", "footprint"):
        chart = page.wait_for_selector(f"#{FOLDED}[open] [data-chart={FOLDED}-{name}] svg")
        box = chart.bounding_box() if chart else None
        assert box is not None
        assert box["width"] > 500
    page.locator(f"#{FOLDED} summary").click()
    link.click()  # the address already ends with #trial-3
    page.wait_for_selector(f"#{FOLDED}[open]")


def test_an_address_with_a_trial_opens_and_shows_it(browser: Browser, report: Path) -> None:
    page = open_page(browser, report, hash_=f"#{FOLDED}").page
    page.wait_for_selector(f"#{FOLDED}[open] svg")
    top, below = page.evaluate(
        f"""() => [
            document.getElementById("{FOLDED}").getBoundingClientRect().top,
            document.documentElement.scrollHeight - innerHeight - scrollY,
        ]"""
    )
    assert top == pytest.approx(0, abs=1) or below < 1


def changed(ladder: Finished, **fields: Any) -> bytes:
    """Return the results as JSON, with ``fields`` of the first entry changed."""
    document = ladder.document
    document["results"][0].update(fields)
    return json.dumps(document).encode()


HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7 * 7 }}"


def test_html_in_names_is_shown_as_text(browser: Browser, ladder: Finished, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_bytes(
        changed(ladder, preset=HOSTILE, evidence=HOSTILE, log_excerpt=[HOSTILE], error=HOSTILE)
    )
    done = your_ai_command(tmp_path, "report", "results.json", "--html", "out.html")
    assert (done.code, done.stdout) == (0, "Report written to out.html\n")
    opened = open_page(browser, tmp_path / "out.html")
    assert opened.errors == []
    assert HOSTILE in opened.page.locator("tbody th").first.inner_text()
    assert opened.page.locator("img").count() == 0


def test_a_run_of_a_thousand_trials_is_drawn(
    browser: Browser, ladder: Finished, tmp_path: Path
) -> None:
    document = ladder.document
    document["results"] = document["results"][:1] * 1000
    for number, entry in enumerate(document["results"]):
        document["results"][number] = {**entry, "preset": f"m{number}", "optimal_config": None}
    (tmp_path / "results.json").write_text(json.dumps(document))
    done = your_ai_command(tmp_path, "report", "results.json", "--html", "out.html")
    assert done.code == 0, done.stderr
    opened = open_page(browser, tmp_path / "out.html")
    assert opened.errors == []
    assert opened.page.locator("[data-chart=ladder] [aria-roledescription=bar]").count() == 2000
    assert opened.page.locator("details").count() == 1000


def test_report_prints_a_table(ladder: Finished, tmp_path: Path) -> None:
    done = your_ai_command(tmp_path, "report", ladder.folder / "run/results.json")
    assert done.code == 0, done.stderr
    assert re.search(
        r"^small +\S+ +batch 2, rank 4, layers 2, length \d+, \S+ +Pass +\d", done.stdout, re.M
    )
    assert re.search(
        r"^large +\S+ +batch 2, rank 4, layers 2, length \d+, \S+ +Over budget +– ",
        done.stdout,
        re.M,
    )
    assert "Recommended: small (largest model that fits)\n" in done.stdout


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            None,
            "Error: Cannot read results.json: No such file or directory. "
            "`your_ai runs` lists saved runs.\n",
        ),
        (
            b"{}",
            "Error: results.json is not a results file of `your_ai benchmark`, `optimize` or "
            "`ceiling`: "
            "Object missing required field `results`.\n",
        ),
        (
            b'{"results": [{}]}',
            "Error: results.json is not a results file of `your_ai benchmark`, `optimize` or "
            "`ceiling`: "
            "Object missing required field `preset` - at `$.results[0]`.\n",
        ),
    ],
)
def test_invalid_results_file(content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "results.json").write_bytes(content)
    done = your_ai_command(tmp_path, "report", "results.json", "--html", "out.html")
    assert (done.code, done.stdout, done.stderr) == (2, "", message)
    assert not (tmp_path / "out.html").exists()


def test_report_cannot_be_written(ladder: Finished, tmp_path: Path) -> None:
    results = ladder.folder / "run/results.json"
    done = your_ai_command(tmp_path, "report", results, "--html", "gone/out.html")
    assert done.code == 2
    assert done.stderr.startswith("Error: Cannot write gone/out.html: its folder does not exist")
