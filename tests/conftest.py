"""How tests are handed to two workers: the longest first, and what shares something that takes long to make to one of them."""

from __future__ import annotations

import re

import pytest

# A page that jupyter-book builds for the tests of a file, a server of JupyterLab, the parsed pages of the book.
TOGETHER = re.compile(r"tests/browser/test_(?:widgets_\w+|controls|jupyterlab)\.py|.*::test_links_and_pictures")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name != "test_run.py")  # whole notebooks: none may be left for the end


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With `--dist loadscope` a worker gets the next test, or the next tests that belong together, when it is free.

    Those that belong together come first. (xdist's own groups, of `--dist loadgroup`, are not seen under pytest 9.2.)
    """
    if config.getvalue("dist") != "loadscope":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class OneByOne(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            together = TOGETHER.match(nodeid)
            return together.group() if together else nodeid

    return OneByOne(config, log)
