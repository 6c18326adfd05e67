"""Chromium, once for all tests, and the finished book."""

from __future__ import annotations

import os
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from widget_pages import build_page, open_page, serve

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"
find_chromium = runpy.run_path(str(ROOT / "book" / "_ext" / "chromium.py"))["find_chromium"]
# Without these Chromium asks its maker's servers for updates, which is not what is tested.
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
QUIET += ["--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The browser; without one the tests are skipped, unless MAMLKIT_REQUIRE_BROWSER=1."""
    executable = find_chromium()
    if executable is None:
        reason = "no Chromium or Chrome was found; install one, or name it in CHROMIUM"
        if os.environ.get("MAMLKIT_REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def site() -> Iterator[str]:
    """The address of the finished book on this machine."""
    with serve(HTML) as address:
        yield address


@pytest.fixture(scope="module")
def book(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The addresses of a page with the code cells that the test module lists as ``CELLS``."""
    with build_page(tmp_path_factory.mktemp("book"), request.module.CELLS) as urls:
        yield urls


@pytest.fixture
def page(book: dict[str, str], browser: Browser) -> Iterator[Page]:
    """That page, open over http."""
    with open_page(browser, book["http"]) as page:
        yield page
