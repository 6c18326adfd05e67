"""What a host of static files shows by itself: the page for a wrong address."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from test_pages import look
from widget_pages import QuietHandler, serve

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"
ADDRESS = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["html"]["baseurl"]
PREFIX = urlsplit(ADDRESS).path


class StaticHost(QuietHandler):
    """As GitHub Pages does: the book below a prefix, and 404.html for all that is not there."""

    def translate_path(self, path):
        return super().translate_path(path.removeprefix(PREFIX))

    def send_error(self, code, message=None, explain=None):
        body = (HTML / "404.html").read_bytes()
        self.send_response(code)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def host():
    with serve(HTML, StaticHost) as address:
        yield address + PREFIX.rstrip("/")


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_for_a_wrong_address_is_a_page_of_the_book(browser, host, width):
    assert look(browser, host, "404.html", width) == []


def test_a_wrong_address_leads_on(browser, host):
    page = browser.new_page()
    assert page.goto(f"{host}/book/old/name.html").status == 404
    assert page.locator(".bd-article h1").inner_text() == "There is no such page"
    page.locator(".bd-article input[name=q]").fill("reptile")
    page.keyboard.press("Enter")
    page.locator("#search-results li a", has_text="4. Dropping the Hessian").first.wait_for()
    page.go_back()
    page.locator(".bd-article a", has_text="3. The hard part").click()
    page.wait_for_url("**/book/03_a_gradient_of_gradients.html")
    page.close()
