"""iMAML's gradient against a dense solve, against unrolled gradients in the limit, and against differences of the solution."""

from __future__ import annotations

import oracles
import pytest
import torch
from torch.nn import functional as F

import mamlkit
from mamlkit.directions import Momentum, Proximal
from mamlkit.implicit import conjugate_gradients

STRENGTH, RATE = 1.5, 0.1  # convex enough near theta for one solution
ENGINES = ["task_by_task", "all_at_once"]


def made(problem, steps=250, **keywords):
    keywords = {"regularisation": STRENGTH, "conjugate_gradient_steps": 100} | keywords
    return mamlkit.imaml(problem.module, loss=problem.loss, inner_steps=steps, inner_lr=RATE, **keywords)


def solved(problem, theta, x, y, fixed=(), steps=250):
    """phi*, written out: gradient descent on support loss and proximal term; what is fixed stays."""
    phi = [w.detach().clone() for w in theta]
    for _ in range(steps):
        here = [w.requires_grad_() for w in phi]
        near = sum(((w - start.detach()) ** 2).sum() for w, start in zip(here, theta, strict=True))
        loss = problem.plain_loss(problem.forward(here, x), y) + STRENGTH / 2 * near
        gradients = torch.autograd.grad(loss, here)
        phi = [
            w.detach() if i in fixed else (w - RATE * g).detach()
            for i, (w, g) in enumerate(zip(here, gradients, strict=True))
        ]
    return phi


def dense_gradient(problem, theta):
    """(I + H / lambda)^-1 g with the Hessian as a matrix, the mean over tasks."""
    shapes = [w.shape for w in theta]
    total = torch.zeros(sum(w.numel() for w in theta), dtype=torch.float64)

    def parts(vector):
        pieces = vector.split([shape.numel() for shape in shapes])
        return [piece.view(shape) for piece, shape in zip(pieces, shapes, strict=True)]

    for support_x, support_y, query_x, query_y in zip(*problem.tasks, strict=True):
        phi = torch.cat([w.flatten() for w in solved(problem, theta, support_x, support_y)])

        def support_loss(vector, x=support_x, y=support_y):
            return problem.plain_loss(problem.forward(parts(vector), x), y)

        def query_loss(vector, x=query_x, y=query_y):
            return problem.plain_loss(problem.forward(parts(vector), x), y)

        hessian = torch.autograd.functional.hessian(support_loss, phi)
        g = torch.autograd.functional.jacobian(query_loss, phi)
        total += torch.linalg.solve(torch.eye(len(phi), dtype=torch.float64) + hessian / STRENGTH, g)
    return parts(total / len(problem.tasks[0]))


@pytest.mark.parametrize("engine", ENGINES)
def test_against_a_dense_solve(engine):
    problem = oracles.problem("tanh-mse")
    theta = [w.detach().clone() for w in problem.module.parameters()]
    expected = dense_gradient(problem, theta)
    loss = made(problem, engine=engine).meta_backward(mamlkit.TaskBatch(*problem.tasks))
    assert oracles.relative_error(oracles.gradients_of(problem.module), expected) < 1e-8
    queries = [
        problem.plain_loss(problem.forward(solved(problem, theta, x, y), query_x), query_y).item()
        for x, y, query_x, query_y in zip(*problem.tasks, strict=True)
    ]
    assert loss.item() == pytest.approx(sum(queries) / len(queries), rel=1e-10)


def test_the_unrolled_gradient_comes_to_it():
    """Reverse mode through ever more steps of the same inner problem: the error falls geometrically."""
    problem = oracles.problem("tanh-mse")
    batch = mamlkit.TaskBatch(*problem.tasks)
    made(problem).meta_backward(batch)
    implicit = oracles.gradients_of(problem.module)
    errors = []
    for steps in (10, 40, 160):
        problem.module.zero_grad()
        unrolled = mamlkit.maml(
            problem.module, loss=problem.loss, inner_steps=steps, inner_lr=RATE, direction=Proximal(STRENGTH)
        )
        unrolled.meta_backward(batch)
        errors.append(oracles.relative_error(oracles.gradients_of(problem.module), implicit))
    assert errors[0] > 100 * errors[1] > 10_000 * errors[2] and errors[2] < 1e-6


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_not_adapted_is_learned_through_the_solution(engine):
    """The first layer stays in the inner loop; its gradient is that of differences of the solved problem."""
    problem = oracles.problem("tanh-mse")
    names = [name for name, _ in problem.module.named_parameters()]
    fixed = {0, 1}
    learner = made(problem, engine=engine, adapted=[name for i, name in enumerate(names) if i not in fixed])
    learner.meta_backward(mamlkit.TaskBatch(*problem.tasks))
    found, theta = oracles.gradients_of(problem.module), [w.detach().clone() for w in problem.module.parameters()]
    generator = torch.Generator().manual_seed(2)
    along = [torch.randn(w.shape, generator=generator, dtype=torch.float64) for w in theta]
    ends = []
    for sign in (1, -1):
        start = [w + sign * 1e-5 * d for w, d in zip(theta, along, strict=True)]
        losses = [
            problem.plain_loss(problem.forward(solved(problem, start, x, y, fixed), query_x), query_y)
            for x, y, query_x, query_y in zip(*problem.tasks, strict=True)
        ]
        ends.append(sum(losses).item() / len(losses))
    slope = sum((g * d).sum().item() for g, d in zip(found, along, strict=True))
    assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(slope, rel=1e-6)


def test_without_conjugate_gradients_it_is_first_order():
    """v = g / lambda: the query gradient at the solution, as FOMAML has it with the same inner loop."""
    gradients = []
    for algorithm in ("imaml", "fomaml"):
        problem = oracles.problem("conv-batchnorm")
        if algorithm == "imaml":
            learner = made(problem, steps=5, conjugate_gradient_steps=0)
        else:
            learner = mamlkit.fomaml(
                problem.module, loss=problem.loss, inner_steps=5, inner_lr=RATE, direction=Proximal(STRENGTH)
            )
        learner.meta_backward(mamlkit.TaskBatch(*problem.tasks))
        gradients.append(oracles.gradients_of(problem.module))
    assert oracles.relative_error(*gradients) < 1e-10


def test_the_path_does_not_matter():
    """Momentum leads to the same solution, and so to the same gradient."""
    gradients = []
    for direction in (None, Momentum(0.5)):
        problem = oracles.problem("tanh-mse")
        made(problem, direction=direction).meta_backward(mamlkit.TaskBatch(*problem.tasks))
        gradients.append(oracles.gradients_of(problem.module))
    assert oracles.relative_error(*gradients) < 1e-8


def test_the_proximal_term_by_hand():
    problem = oracles.problem("tanh-mse")
    learner = mamlkit.maml(
        problem.module, loss=problem.loss, inner_steps=3, inner_lr=RATE, direction=Proximal(STRENGTH)
    )
    x, y = problem.tasks[0][0], problem.tasks[1][0]
    theta = list(problem.module.parameters())
    found = list(learner.adapt(x, y)[-1].values())
    assert oracles.relative_error(found, solved(problem, theta, x, y, steps=3)) < 1e-12


def test_conjugate_gradients_against_a_solve():
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(3, 6, 6, generator=generator, dtype=torch.float64)
    matrices = root @ root.mT + torch.eye(6, dtype=torch.float64)
    right = torch.randn(3, 6, generator=generator, dtype=torch.float64)
    expected = torch.linalg.solve(matrices, right)

    def product(rows):
        return (matrices @ rows[..., None])[..., 0]

    for start in (None, right / 2):
        found = conjugate_gradients(product, right, 6, start)
        assert torch.allclose(found, expected, rtol=1e-9, atol=1e-12)
        assert torch.allclose(conjugate_gradients(product, right, 60, start), expected, rtol=1e-9, atol=1e-12)
    assert torch.equal(conjugate_gradients(product, 0 * right, 3), 0 * right)


def test_conjugate_gradients_stop_where_the_matrix_is_not_positive():
    """A row that meets such a direction stays where it was; its neighbour goes on."""
    diagonals = torch.tensor([[1.0, 2.0], [-1.0, -1.0]], dtype=torch.float64)
    right = torch.tensor([[3.0, 4.0], [1.0, 1.0]], dtype=torch.float64)
    found = conjugate_gradients(lambda rows: diagonals * rows, right, 5, right / 2)
    assert torch.allclose(found[0], torch.tensor([3.0, 2.0], dtype=torch.float64))
    assert torch.equal(found[1], right[1] / 2)


def test_memory_does_not_grow_with_the_steps():
    from mamlkit.checking._memory import memory_of

    peaks = []
    for steps in (5, 50):
        problem = oracles.problem("tanh-mse")
        learner, batch = made(problem, steps, conjugate_gradient_steps=3), mamlkit.TaskBatch(*problem.tasks)
        learner.meta_backward(batch)
        problem.module.zero_grad()
        peaks.append(memory_of(lambda learner=learner, batch=batch: learner.meta_backward(batch)).peak)
    numbers = sum(w.numel() for w in problem.module.parameters())
    # the points of the path stay, one number a parameter, step and task; graphs do not
    assert peaks[1] - peaks[0] <= 1.1 * 45 * numbers * 3


def test_a_network_for_images_takes_part():
    """conv4's own engines know plain descent only; the learner gives way to the general one."""
    learner = mamlkit.imaml(mamlkit.conv4(5, filters=4, seed=0), inner_steps=3, inner_lr=0.1)
    tasks = mamlkit.glyphs(queries=2).sample(2, torch.Generator().manual_seed(0))
    assert learner.meta_backward(tasks).isfinite()
    assert all(p.grad.isfinite().all() for p in learner.parameters())


def test_what_a_resumed_run_compares():
    facts = mamlkit.imaml(mamlkit.mlp(), loss=F.mse_loss, regularisation=3.0).describe()
    assert facts["conjugate_gradient_steps"] == 5 and facts["direction"] == ["Proximal(strength=3.0)"]
