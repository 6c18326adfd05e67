"""The browser of the system, for the tests and for the PDF."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]


def find_chromium() -> str | None:
    """The browser of the system: CHROMIUM, or the first that is found by name."""
    macos = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
    found = [os.environ.get("CHROMIUM"), *map(shutil.which, NAMES), macos if Path(macos).exists() else None]
    return next(filter(None, found), None)
