"""What a host of static files shows by itself: the page for a wrong address, and what a link to the book says of it."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit
from xml.etree import ElementTree

import pytest
import yaml
from bs4 import BeautifulSoup
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


def described(path):
    """What a page says of itself to others, by name."""
    soup = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
    return {node.get("property") or node.get("name"): node["content"] for node in soup.select("meta[content]")}


@pytest.mark.parametrize("name", ["index.html", "book/index.html", "book/03_a_gradient_of_gradients.html"])
def test_a_link_to_a_page_can_be_shown_with_a_picture(name):
    said = described(HTML / name)
    assert said["twitter:card"] == "summary_large_image" and len(said["og:description"]) > 100
    assert said["og:title"] and said["og:url"].startswith(ADDRESS) and len(said["og:image:alt"]) > 20
    icon = BeautifulSoup((HTML / name).read_text(encoding="utf-8"), "html.parser").select_one("link[rel=icon]")
    assert (HTML / name).parent.joinpath(icon["href"]).is_file(), "without it a browser asks for one that is not there"
    assert said["og:image"].startswith(ADDRESS) and (HTML / said["og:image"].removeprefix(ADDRESS)).is_file()


def test_the_site_map_lists_the_pages_with_dates():
    space = {"": "http://www.sitemaps.org/schemas/sitemap/0.9"}
    entries = ElementTree.parse(HTML / "sitemap.xml").findall("url", space)
    pages = {entry.findtext("loc", namespaces=space).removeprefix(ADDRESS) for entry in entries}
    assert pages == {str(path.relative_to(HTML)) for path in (HTML / "book").rglob("*.html")}
    dates = [entry.findtext("lastmod", namespaces=space) for entry in entries]
    if not any(dates):
        pytest.skip("not a git checkout, or a shallow one: there are no dates")
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]{8}Z", date) for date in dates if date)


def test_no_button_starts_what_is_not_there():
    """Binder would need an environment file; Colab installs what a notebook needs in its first cell."""
    page = (HTML / "book" / "01_why_learn_to_learn.html").read_text(encoding="utf-8")
    assert "mybinder.org" not in page and "colab.research.google.com" in page
