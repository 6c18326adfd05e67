"""Meta-learners: a model, its step sizes, an outer loss and an order of derivative, put together.

A learner is one class, ``Learner``; the algorithms are functions that choose its parts. Its meta-parameters are ordinary
``nn.Parameter``s, so that any ``torch.optim`` optimiser drives the outer loop:

    learner = maml(mlp(), loss=F.mse_loss, inner_steps=1, inner_lr=0.01)
    optimiser = torch.optim.Adam(learner.parameters(), lr=1e-3)
    for tasks in TaskStream(Sinusoids(), meta_batch=25):
        optimiser.zero_grad()
        loss = learner.meta_backward(tasks)  # fills .grad, as loss.backward() would
        optimiser.step()
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from mamlkit.inner_loop import InnerLoop, Loss, Order, Parameters, forward_of, parameters_of
from mamlkit.meta_gradient import choose_engine
from mamlkit.outer_loss import FinalStep, OuterLoss
from mamlkit.step_sizes import FixedStepSize, StepSizes
from mamlkit.tasks import TaskBatch
from mamlkit.validation import expect_at_least, expect_model, expect_points, expect_same_tasks

__all__ = ["Learner", "fomaml", "maml"]


class Learner(nn.Module):
    """A meta-learner by gradient descent, composed of parts.

    Args:
        model: any module; its parameters are the initialisation theta that is meta-learned.
        loss: of outputs and targets, averaged over points; used on support and query alike.
        inner_steps: K, at least 1.
        step_sizes: which parameters the inner loop moves, and how far.
        outer_loss: how the query losses along the inner loop are weighed.
        order: 2 for the full meta-gradient, 1 for the first-order approximation.
        engine: ``"auto"``, or a name in ``mamlkit.meta_gradient.ENGINES``.

    Raises:
        TypeError, ValueError: naming what was expected and what came.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        loss: Loss,
        inner_steps: int,
        step_sizes: StepSizes,
        outer_loss: OuterLoss,
        order: Order = 2,
        engine: str = "auto",
    ) -> None:
        super().__init__()
        self.model = expect_model(model)
        self.inner_steps = expect_at_least("inner_steps", inner_steps, 1)
        if order not in (1, 2):
            raise ValueError(f"expected order 1 or 2, got {order!r}")
        self.loss, self.step_sizes, self.outer_loss, self.order = loss, step_sizes, outer_loss, order
        self.engine = choose_engine(engine, model)
        self.epoch = 0  # what annealed parts look at; training moves it on

    def inner_loop(self, *, steps: int | None = None, order: Order | None = None) -> InnerLoop:
        """How this learner adapts a task; more steps than in training are allowed."""
        steps = self.inner_steps if steps is None else expect_at_least("steps", steps, 1)
        return InnerLoop(
            forward_of(self.model), self.loss, self.step_sizes, steps, self.order if order is None else order
        )

    def initialisation(self) -> Parameters:
        """theta, by name."""
        return parameters_of(self.model)

    def meta_backward(self, tasks: TaskBatch) -> Tensor:
        """Add the meta-gradient of these tasks to ``.grad`` of every meta-parameter, as ``loss.backward()`` would.

        Args:
            tasks: the meta-batch; see ``TaskBatch`` for its shapes.

        Returns:
            The meta-loss ``()``: the mean over tasks of the weighted query losses (Finn et al., 2017, equation 2).

        Raises:
            TypeError, ValueError: if the tensors of the batch do not fit each other.
        """
        expect_same_tasks(*tasks)
        meta_parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
        weights = self.outer_loss.weights(self.inner_steps, self.epoch)
        loss, gradients = self.engine(self.inner_loop(), self.initialisation(), tasks, weights, meta_parameters)
        for parameter, gradient in zip(meta_parameters, gradients, strict=True):
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
        return loss

    def adapt(self, support_x: Tensor, support_y: Tensor, steps: int | None = None) -> list[Parameters]:
        """Adapt to one new task, keeping no gradients: the parameters after 0, 1, ..., steps steps.

        Args:
            support_x: ``(support, *input)``.
            support_y: ``(support, *output)``, or class numbers ``(support,)``.
            steps: K in training when not given.
        """
        expect_points("support", support_x, support_y)
        return self.inner_loop(steps=steps, order=0).trajectory(self.initialisation(), support_x, support_y)

    def predict(self, x: Tensor, parameters: Parameters | None = None, step: int | None = None) -> Tensor:
        """Outputs for inputs ``(points, *input)`` with adapted parameters (the initialisation when none are given)."""
        start = self.initialisation() if parameters is None else parameters
        return forward_of(self.model)(start, x, self.inner_steps if step is None else step)


def maml(
    model: nn.Module,
    *,
    inner_steps: int = 5,
    inner_lr: float = 0.01,
    loss: Loss = F.cross_entropy,
    engine: str = "auto",
) -> Learner:
    """MAML with the full second-order meta-gradient: Finn et al., 2017, arXiv:1703.03400, algorithms 1 and 2."""
    return _with_fixed_rate(model, inner_steps, inner_lr, loss, engine, order=2)


def fomaml(
    model: nn.Module,
    *,
    inner_steps: int = 5,
    inner_lr: float = 0.01,
    loss: Loss = F.cross_entropy,
    engine: str = "auto",
) -> Learner:
    """First-order MAML, which drops the Hessian: Finn et al., 2017, section 5.2; Nichol et al., 2018, arXiv:1803.02999."""
    return _with_fixed_rate(model, inner_steps, inner_lr, loss, engine, order=1)


def _with_fixed_rate(
    model: nn.Module, inner_steps: int, inner_lr: float, loss: Loss, engine: str, order: Order
) -> Learner:
    expect_model(model)
    return Learner(
        model,
        loss=loss,
        inner_steps=inner_steps,
        step_sizes=FixedStepSize(parameters_of(model), inner_lr),
        outer_loss=FinalStep(),
        order=order,
        engine=engine,
    )
