"""Examples in docstrings, as code that a test can run."""

from __future__ import annotations

import inspect
import re
import textwrap


def example(documented):
    """The indented block of a docstring that holds code: the one with an assignment or a ``def``."""
    blocks = re.findall(r"\n\n((?:    .*\n|\n)+)", inspect.getdoc(documented) + "\n")
    (code,) = (block for block in blocks if re.search(r"^    (def |\w[\w.]* = )", block, re.MULTILINE))
    return textwrap.dedent(code)
