"""The report of a real run, in a real browser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from tests.support.browser import chromium, open_page
from tests.support.command import Finished, your_ai_command


@pytest.fixture
def report(ladder: Finished) -> Path:
    """The one that the run left behind."""
    return ladder.folder / "run/report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


def test_a_run_says_where_its_report_is(ladder: Finished, report: Path) -> None:
    assert f"Report written to {report}\n" in ladder.stdout
    assert report.is_file()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1440])
def test_it_loads_and_draws_without_a_complaint(
    browser: Browser, report: Path, width: int, scheme: Literal["light", "dark"]
) -> None:
    opened = open_page(browser, report, width=width, scheme=scheme)
    assert opened.complaints == []
    page = opened.page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for chart in ("ladder", "search-0-capacity", "search-0-speed"):
        drawn = page.locator(f"[data-chart={chart}] svg")
        assert drawn.bounding_box()["width"] <= width  # type: ignore[index]  # it is there
        assert drawn.locator("[aria-label]").count() > 0


def test_the_charts_show_the_results(browser: Browser, ladder: Finished, report: Path) -> None:
    page = open_page(browser, report).page
    small, large = ladder.document["results"]
    assert (small["outcome"], large["outcome"]) == ("pass", "over-budget")
    bars = page.locator("[data-chart=ladder] [aria-roledescription=bar]")
    said = [bar.get_attribute("aria-label") or "" for bar in bars.all()]
    assert [re.sub(r" [\d.]+ MB$", "", text) for text in said] == [
        f"small ({small['params']}): peak memory",
        f"small ({small['params']}): needed memory",
        f"large ({large['params']}): reached, then failed",
    ]
    widths = [bar.bounding_box()["width"] for bar in bars.all()]  # type: ignore[index]  # it is there
    sizes = [small["peak_memory_bytes"], small["needed_memory_bytes"]]
    assert widths[1] / widths[0] == pytest.approx(sizes[1] / sizes[0], rel=0.05)
    tried = small["optimal_config"]["all_results"]
    points = page.locator("[data-chart=search-0-capacity] [aria-roledescription=point]")
    assert points.count() == len(tried)
    fast = page.locator("[data-chart=search-0-speed] [aria-roledescription=point]")
    assert fast.count() == sum(trial["success"] for trial in tried)


def test_colours_follow_the_reader(browser: Browser, report: Path) -> None:
    def colours(scheme: Literal["light", "dark"]) -> list[str]:
        page = open_page(browser, report, scheme=scheme).page
        found: list[str] = page.evaluate(
            """() => ["body", "[data-chart=ladder] text", "[data-chart=ladder] .mark-rect path"]
            .map((what) => getComputedStyle(document.querySelector(what)))
            .map((style) => style.backgroundColor + style.fill)"""
        )
        return found

    light, dark = colours("light"), colours("dark")
    assert all(one != other for one, other in zip(light, dark, strict=True))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1440])
def test_nothing_keeps_anyone_out(
    browser: Browser, report: Path, width: int, scheme: Literal["light", "dark"]
) -> None:
    """Labels, contrast, structure and keyboard, as axe-core checks them (WCAG 2 and more)."""
    page = open_page(browser, report, width=width, scheme=scheme, bypass_csp=True).page
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_a_link_in_the_table_opens_its_trial_by_keyboard(browser: Browser, report: Path) -> None:
    page = open_page(browser, report).page
    page.evaluate("document.querySelectorAll('details').forEach((d) => (d.open = false))")
    page.locator("tbody a").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#trial-0[open]")
    page.locator("#trial-0 summary").focus()
    page.keyboard.press("Space")
    page.wait_for_selector("#trial-0:not([open])")


def test_a_trials_chart_is_drawn_when_it_is_opened(
    browser: Browser, report: Path, tmp_path: Path
) -> None:
    """Of a long night's many trials none is drawn before."""
    copy = tmp_path / "report.html"
    copy.write_text(re.sub(r'(<details id="trial-\d+") open', r"\1", report.read_text()))
    page = open_page(browser, copy).page
    assert page.locator("details svg").count() == 0
    page.locator("#trial-1 summary").click()
    page.wait_for_selector("#trial-1 svg")
    box = page.locator("#trial-1 svg").bounding_box()
    assert box is not None
    assert box["width"] > 500


def changed(ladder: Finished, **fields: Any) -> bytes:
    """The run's results with its first model's entry changed."""
    document = ladder.document
    document["results"][0].update(fields)
    return json.dumps(document).encode()


HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7 * 7 }}"


def test_a_hostile_name_stays_text(browser: Browser, ladder: Finished, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_bytes(
        changed(ladder, preset=HOSTILE, evidence=HOSTILE, log_excerpt=[HOSTILE], error=HOSTILE)
    )
    done = your_ai_command(tmp_path, "report", "results.json", "--html", "out.html")
    assert (done.code, done.stdout) == (0, "Report written to out.html\n")
    opened = open_page(browser, tmp_path / "out.html")
    assert opened.complaints == []
    assert HOSTILE in opened.page.locator("tbody th").first.inner_text()
    assert opened.page.locator("img").count() == 0


def test_a_night_of_a_thousand_trials_opens(
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
    assert opened.complaints == []
    assert opened.page.locator("[data-chart=ladder] [aria-roledescription=bar]").count() == 2000
    assert opened.page.locator("details").count() == 1000


def test_at_the_terminal(ladder: Finished, tmp_path: Path) -> None:
    done = your_ai_command(tmp_path, "report", ladder.folder / "run/results.json")
    assert done.code == 0, done.stderr
    assert re.search(r"^small +\S+ +batch 2, rank 4, layers 2 +Pass +\d", done.stdout, re.M)
    assert re.search(r"^large +\S+ +batch 2, rank 4, layers 2 +Over budget +– ", done.stdout, re.M)
    assert "Recommended: small (largest model that fits)\n" in done.stdout


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            None,
            "Error: Cannot read results.json: No such file or directory; "
            "`your_ai runs` lists the runs with results.\n",
        ),
        (
            b"{}",
            "Error: results.json is not a results file of `your_ai benchmark` or `optimize`: "
            "missing 'results'.\n",
        ),
        (
            b'{"results": [{}]}',
            "Error: results.json is not a results file of `your_ai benchmark` or `optimize`: "
            "Object missing required field `preset` - at `$.results[0]`.\n",
        ),
    ],
)
def test_what_is_no_results_file(content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "results.json").write_bytes(content)
    done = your_ai_command(tmp_path, "report", "results.json", "--html", "out.html")
    assert (done.code, done.stdout, done.stderr) == (2, "", message)
    assert not (tmp_path / "out.html").exists()


def test_a_report_that_cannot_be_written(ladder: Finished, tmp_path: Path) -> None:
    results = ladder.folder / "run/results.json"
    done = your_ai_command(tmp_path, "report", results, "--html", "gone/out.html")
    assert done.code == 2
    assert done.stderr.startswith("Error: Cannot write gone/out.html: No such file or directory")
