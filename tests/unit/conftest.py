"""What every unit test shares: one thread, hypothesis without clock or files, and a look at torch's global generator."""

from __future__ import annotations

import hypothesis
import matplotlib
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
