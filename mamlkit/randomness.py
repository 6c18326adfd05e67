"""Random numbers that are the same again: from a seed of one's own, or as they were drawn before."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["Replay", "fixed_randomness"]


@contextlib.contextmanager
def fixed_randomness(seed: int | None, device: torch.device) -> Iterator[None]:
    """Draw from this seed inside, leave the global generators as they were; ``None`` changes nothing."""
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
