"""Headless Chromium, if it is installed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

_FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
_IS_DRAWN = """() => [...document.querySelectorAll("[data-chart]")]
    .filter((place) => !place.closest("details:not([open])"))
    .every((place) => place.dataset.drawn === "done" && place.querySelector("svg"))"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the installed Chromium or Chrome; skip the test if there is none."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("needs Chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(_FLAGS))
        yield browser
        browser.close()


@dataclass
class Opened:
    """A page, and its console messages, exceptions, dialogs and network requests."""

    page: Page
    errors: list[str] = field(default_factory=list)


def open_page(
    browser: Browser,
    file: Path,
    *,
    width: int = 1280,
    scheme: Literal["light", "dark"] = "light",
    hash_: str = "",
    bypass_csp: bool = False,
) -> Opened:
    """Open a file, and wait until its charts are drawn, except those of folded trials."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=bypass_csp
    )
    page = context.new_page()
    opened = Opened(page)
    page.on("console", lambda message: opened.errors.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: opened.errors.append(f"error: {error}"))
    page.on("dialog", lambda dialog: opened.errors.append(f"dialog: {dialog.message}"))
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith(("file:", "data:"))
            else opened.errors.append(f"request: {request.url}")
        ),
    )
    page.goto(f"{file.as_uri()}{hash_}")
    page.wait_for_function(_IS_DRAWN, timeout=30_000)
    return opened
