"""A run that ends in the middle of an outer step, as when someone pulls the plug."""

from __future__ import annotations

import pytest

import mamlkit


class PulledPlug(Exception):
    pass


def cut_off(monkeypatch, folder, learner, tasks, at=7, **keywords):
    """``fit``, until the outer step after ``at`` of them."""
    step = mamlkit.Learner.meta_backward

    def fails(self, *args, **more):
        if self.meta_steps == at:
            raise PulledPlug
        return step(self, *args, **more)

    with monkeypatch.context() as patch, pytest.raises(PulledPlug):
        patch.setattr(mamlkit.Learner, "meta_backward", fails)
        mamlkit.fit(learner, tasks, folder=folder, **keywords)
