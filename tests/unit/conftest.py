"""What every unit test shares: one thread, hypothesis without clock or files, and a look at torch's global generator."""

from __future__ import annotations

from pathlib import Path

import hypothesis
import matplotlib
import nbformat
import pytest
import torch

matplotlib.use("Agg")
torch.set_num_threads(1)
# No deadline: the first call of a shape compiles kernels. No database: a test run leaves nothing behind.
hypothesis.settings.register_profile("mamlkit", deadline=None, database=None, derandomize=True, max_examples=20)
hypothesis.settings.load_profile("mamlkit")


@pytest.fixture
def same_rng():
    """Fails the test if it has moved torch's global random state."""
    before = torch.random.get_rng_state()
    yield
    assert torch.equal(torch.random.get_rng_state(), before), "the global random state has moved"


BOOK = Path(__file__).parents[2] / "book"
IMPORTS = """
import math
from itertools import product
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F
import mamlkit


def seeded(seed):
    return torch.Generator().manual_seed(seed)
"""


@pytest.fixture
def run_cells():
    """A function that runs cells of a chapter, by their names, in float64 as there; it gives what they define."""

    def run(notebook, *wanted):
        cells = {cell.id: cell.source for cell in nbformat.read(BOOK / notebook, as_version=4).cells}
        names = {}
        exec(IMPORTS, names)
        for cell in wanted:
            exec(cells[cell], names)
        return names

    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield run
    torch.set_default_dtype(default)
