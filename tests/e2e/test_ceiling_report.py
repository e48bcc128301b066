"""The report of a real map of the longest sequences, in a real browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from tests.support.browser import chromium, open_page
from tests.support.command import Finished, your_ai_command
from your_ai.planning.distribution import distribution

CHARTS = {True: "ceiling-0-with", False: "ceiling-0-without"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def report(ceiling: Finished) -> Path:
    return ceiling.folder / "run/report.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 900, 1400])
def test_map_is_drawn_accessible_and_fits(
    browser: Browser, report: Path, width: int, scheme: Literal["light", "dark"]
) -> None:
    opened = open_page(browser, report, width=width, scheme=scheme, bypass_csp=True)
    assert opened.errors == []
    page = opened.page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for name in CHARTS.values():
        box = page.locator(f"[data-chart={name}] svg").bounding_box()
        assert box is not None
        assert box["width"] <= width
    found = Axe().run(page, options={"resultTypes": ["violations"]})
    assert found.violations_count == 0, found.generate_report()


def test_marks_and_table_show_the_trials(browser: Browser, ceiling: Finished, report: Path) -> None:
    page = open_page(browser, report).page
    found = ceiling.only["ceiling"]
    for kind, name in CHARTS.items():
        trials = [t for t in found["all_results"] if t["config"]["grad_checkpoint"] is kind]
        marks = page.locator(f"[data-chart={name}] [aria-roledescription=point]")
        texts = sorted(mark.get_attribute("aria-label") or "" for mark in marks.all())
        places = [(t["config"]["batch_size"], t["config"]["seq_length"]) for t in trials]
        starts = sorted(f"batch {batch}, length {length}:" for batch, length in places)
        assert len(texts) == len(starts)
        assert all(map(str.startswith, texts, starts))
        longest = [c["longest"] for c in found["columns"] if c["grad_checkpoint"] is kind]
        for length in filter(None, longest):
            assert page.locator(f"[data-chart={name}] text", has_text=f"{length}").count() > 0
    cells = page.locator("table.map tbody tr").first.locator("td").all_inner_texts()
    assert len(cells) == 6
    assert page.locator("table.map tbody tr").count() == 3


def test_labels_do_not_hide_tooltips(browser: Browser, report: Path) -> None:
    """A label is on an area, and can be on a trial's mark."""
    page = open_page(browser, report).page
    labels = page.locator("[data-chart^=ceiling-0] .role-mark.mark-text text")
    assert labels.count() > 0
    for label in labels.all():
        below = label.evaluate(
            """(label) => {
                label.scrollIntoView({ block: "center" });
                const box = label.getBoundingClientRect();
                const at = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
                return at.getAttribute("aria-roledescription");
            }"""
        )
        assert below in ("rect mark", "point")


def test_lengths_of_the_data_are_labeled(
    browser: Browser, ceiling: Finished, tmp_path: Path
) -> None:
    document = ceiling.document
    document["results"][0]["data_lengths"] = asdict(distribution([20] * 19 + [300], 256))
    (tmp_path / "results.json").write_text(json.dumps(document))
    done = your_ai_command(tmp_path, "report", "results.json", "--html", "out.html")
    assert done.code == 0, done.stderr
    opened = open_page(browser, tmp_path / "out.html", width=400)
    assert opened.errors == []
    for name in CHARTS.values():
        chart = opened.page.locator(f"[data-chart={name}]")
        frame = chart.bounding_box()
        for label in ("300", "20"):
            box = chart.locator("tspan", has_text=label).last.bounding_box()
            assert frame
            assert box
            assert box["x"] + box["width"] <= frame["x"] + frame["width"] + 1
