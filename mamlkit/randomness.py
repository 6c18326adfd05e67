"""Random numbers that are the same again: seeds, who draws from which, and numbers as they were drawn before.

What is drawn, and what it follows from:

* the tasks of training: ``TrainingOptions.seed``, or the seed of a ``TaskStream``, and the number of the meta-batch, put
  together by ``stream_seed``;
* the tasks of validation (``fit``) and test (``python -m mamlkit evaluate``): ``VALIDATION_SEED`` and ``TEST_SEED``, whatever
  the seed of the run;
* dropout masks: ``Learner.seed``, the number of the meta-step, and the number of the task;
* initial weights: the seed given to ``mlp`` or ``conv4``; without one, torch's global generator;
* the split of classes: the seed given to ``omniglot``, ``image_folder`` or ``image_arrays``.

On the command line ``--seed`` is that of training tasks, dropout masks and initial weights.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["TEST_SEED", "VALIDATION_SEED", "Replay", "fixed_randomness", "stream_seed"]

#: The same validation tasks in every run.
VALIDATION_SEED = 1_000_003
#: The same test tasks in every run.
TEST_SEED = 2_000_003


def stream_seed(seed: int, number: int) -> int:
    """One seed for each pair (seed of the stream, number of the batch): far apart even for neighbours.

    Multiplying by a large odd constant and folding the high half down is the finaliser of SplitMix64 (Steele et al., 2014).
    """
    mask = (1 << 64) - 1
    mixed = (seed * 0x9E3779B97F4A7C15 + number * 0xD1B54A32D192ED03 + 0x632BE59BD9B4E019) & mask
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & mask
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & mask
    return (mixed ^ (mixed >> 31)) >> 1  # torch takes seeds below 2**63 without sign trouble


@contextlib.contextmanager
def fixed_randomness(seed: int | None, device: torch.device) -> Iterator[None]:
    """Inside, draw from this seed; afterwards the global generators are as before. ``None`` changes nothing."""
    if seed is None:
        yield
        return
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng([device] if on_gpu else []):
        torch.random.default_generator.manual_seed(seed)  # torch.manual_seed would seed every other device as well
        if on_gpu:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


class Replay:
    """The state of the generators of random numbers as it is now, to compute something a second time.

    Inside ``with replay:`` the same numbers are drawn again, and buffers that a model writes are left alone.
    """

    running = False

    def __init__(self, device: torch.device) -> None:
        self.device, self.states = device, _random_states(device)

    def __enter__(self) -> None:
        self.after, Replay.running = _random_states(self.device), True
        _set_random_states(self.device, self.states)

    def __exit__(self, *exception: object) -> None:
        Replay.running = False
        _set_random_states(self.device, self.after)


def _random_states(device: torch.device) -> list[Tensor]:
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def _set_random_states(device: torch.device, states: list[Tensor]) -> None:
    torch.set_rng_state(states[0])
    if len(states) > 1:
        torch.cuda.set_rng_state(states[1], device)
