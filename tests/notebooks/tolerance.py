"""Plugin for nbval: how a stored output is compared with the one just computed.

Words and integers must be the same. Numbers with a decimal point or an exponent may differ by RELATIVE, or by ABSOLUTE
where both are next to nothing, since another processor or thread count adds in another order. Object addresses are
left out, and so is the padding that a number of another width causes.
"""

from __future__ import annotations

import math
import re

import pytest
from nbval.kernel import RunningKernel
from nbval.plugin import IPyNbCell

RELATIVE = 1e-3
ABSOLUTE = 1e-6

ADDRESS = re.compile(r"\b0x[0-9a-f]+\b")
# A decimal is not part of a name or of a version such as 2.13.0.
DECIMAL = re.compile(r"(?<![\w.])[-+]?(?:\d+\.\d*|\.\d+|\d+(?=[eE]))(?:[eE][-+]?\d+)?(?![\w]|\.\d)")


def same(stored: str, computed: str) -> bool:
    """Whether two outputs say the same."""
    words = [re.sub(r"[ \t]+", " ", DECIMAL.sub(" <number> ", ADDRESS.sub("0x0", text))) for text in (stored, computed)]
    if words[0] != words[1]:
        return False
    pairs = zip(DECIMAL.findall(stored), DECIMAL.findall(computed), strict=True)
    return all(math.isclose(float(a), float(b), rel_tol=RELATIVE, abs_tol=ABSOLUTE) for a, b in pairs)


class Output(str):
    """A text whose equality is `same`."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and same(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other


@pytest.hookimpl
def pytest_configure(config: pytest.Config) -> None:
    """Put the comparison into nbval, and let the kernel keep a history: without it a trailing `;` silences nothing."""
    sanitize = IPyNbCell.sanitize
    IPyNbCell.sanitize = lambda cell, text: Output(sanitize(cell, text)) if isinstance(text, str) else text

    def execute(kernel: RunningKernel, source: str, allow_stdin: bool | None = None) -> str:
        return kernel.kc.execute(source, allow_stdin=allow_stdin, stop_on_error=False, store_history=True)

    RunningKernel.execute_cell_input = execute
