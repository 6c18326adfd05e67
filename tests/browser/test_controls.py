"""A plain control in the place of one that needs a kernel: one line says so, and a live figure beside it works."""

import pytest
from widget_pages import axe_violations, build_page, open_page

CONTROL = """
from ipywidgets import interact_manual


@interact_manual.options(manual_name="Train")(K=[1, 2, 5], alpha=[0.01, 0.02])
def retrain(K, alpha):
    print(K, alpha)
"""
FIGURE = "from mamlkit.widgets import Curvature\n\nCurvature()"
NOTICE = "This control needs a kernel: run the notebook."


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    with build_page(tmp_path_factory.mktemp("control"), [CONTROL, FIGURE]) as urls:
        yield urls


@pytest.mark.parametrize("address", ["http", "file"])
def test_one_notice_for_the_whole_control(book, browser, address):
    with open_page(browser, book[address]) as page:
        assert page.locator(".needs-kernel").all_inner_texts() == [NOTICE]
        assert page.locator(".mk-curvature svg.mk-plot").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_notice_is_one_readable_line_on_a_phone(book, browser, scheme):
    with open_page(browser, book["http"], width=390, color_scheme=scheme) as page:
        notice = page.locator(".needs-kernel")
        lines = notice.evaluate("""node => {
            const range = document.createRange();
            range.selectNodeContents(node);
            return range.getClientRects().length;
        }""")
        assert lines == 1 and notice.bounding_box()["height"] < 40
        assert not axe_violations(page, ".needs-kernel")
