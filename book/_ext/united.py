"""One file in place of many, named after what is in it: a browser that has an older one asks again."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def write(static: Path, text: str, suffix: str) -> str:
    """Write the text to ``static`` as ``book.<12 hexadecimal digits>.<suffix>``; its name is returned."""
    name = f"book.{hashlib.sha256(text.encode()).hexdigest()[:12]}.{suffix}"
    (static / name).write_text(text, encoding="utf-8")
    return name


def address(page: Path, static: Path, name: str) -> str:
    """The file as this page asks for it."""
    return f"{os.path.relpath(static, page.parent).replace(os.sep, '/')}/{name}"
