"""The facade: MAML against a plain loop with Adam, in float64; every algorithm it names, and the two functions beside it."""

from __future__ import annotations

import copy

import oracles
import pytest
import torch
from torch.func import functional_call

import mamlkit
from mamlkit.algorithms import ALGORITHMS


def system_for(problem, **keywords):
    keywords = {"inner_lr": problem.alpha, "outer_lr": 0.01, "inner_steps": 2, "loss": problem.loss} | keywords
    return mamlkit.ModelAgnosticMetaLearning(problem.module, **keywords)


@pytest.mark.parametrize("algorithm", ["maml", "fomaml"])
@pytest.mark.parametrize("name", oracles.PROBLEMS)
def test_three_steps_against_a_plain_loop_with_adam(name, algorithm):
    problem = oracles.problem(name)
    theta = [parameter.detach().clone().requires_grad_() for parameter in problem.module.parameters()]
    optimiser = torch.optim.Adam(theta, lr=0.01)
    system = system_for(problem, algorithm=algorithm)
    assert isinstance(system.meta_optimizer, torch.optim.Adam)
    for _ in range(3):
        loss, gradients = oracles.meta_gradient(
            problem.forward, problem.plain_loss, theta, problem.tasks, problem.alpha, 2
        )
        if algorithm == "fomaml":
            gradients = oracles.first_order_gradient(
                problem.forward, problem.plain_loss, theta, problem.tasks, problem.alpha, 2
            )
        for parameter, gradient in zip(theta, gradients, strict=True):
            parameter.grad = gradient
        returned = system.meta_train_step(*problem.tasks)
        assert type(returned) is float
        assert returned == pytest.approx(loss.item(), rel=1e-8)  # the loss before the step
        optimiser.step()
    assert oracles.relative_error(problem.module.parameters(), theta) < 1e-8


def test_lists_of_tensors_are_the_same_as_tensors():
    stacked, listed = oracles.problem("mlp-cross-entropy"), oracles.problem("mlp-cross-entropy")
    one, other = system_for(stacked), system_for(listed)
    for _ in range(2):
        losses = [one.meta_train_step(*stacked.tasks), other.meta_train_step(*(list(part) for part in listed.tasks))]
        assert losses[0] == losses[1]
    pairs = zip(stacked.module.parameters(), listed.module.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_the_explainers_call_works_word_for_word():
    """Positional learning rates, cross-entropy, labels as class numbers: no keyword but those of the first example."""
    problem = oracles.problem("mlp-cross-entropy")
    system = mamlkit.ModelAgnosticMetaLearning(problem.module, inner_lr=0.01, outer_lr=0.001, inner_steps=5)
    support_data, support_labels, query_data, query_labels = problem.tasks
    losses = [system.meta_train_step(support_data, support_labels, query_data, query_labels) for _ in range(20)]
    assert all(isinstance(loss, float) for loss in losses) and losses[-1] < losses[0]


@pytest.mark.parametrize("name", oracles.PROBLEMS)
def test_inner_update_and_forward_with_weights(name):
    problem = oracles.problem(name)
    system = system_for(problem, inner_steps=3)
    x, y, query_x, _ = (part[0] for part in problem.tasks)
    with oracles.unchanged(problem.module):
        weights = system.inner_update(x, y)
        outputs = system.forward_with_weights(query_x, weights)
    theta = [parameter.detach().clone().requires_grad_() for parameter in problem.module.parameters()]
    truth = oracles.plain_inner_loop(problem.forward, problem.plain_loss, theta, x, y, problem.alpha, 3, False)[-1]
    assert list(weights) == [key for key, _ in problem.module.named_parameters()]
    assert oracles.relative_error(weights.values(), truth) < 1e-10
    assert oracles.relative_error([outputs], [problem.forward(truth, query_x)]) < 1e-10
    if name != "conv-batchnorm":
        assert torch.equal(outputs, functional_call(problem.module, dict(weights), (query_x,)))


def test_gradients_do_not_pile_up_from_step_to_step():
    problem, fresh = oracles.problem("mlp-mse"), oracles.problem("mlp-mse")
    system = system_for(problem)
    for parameter in problem.module.parameters():
        parameter.grad = torch.full_like(parameter, 1e6)  # left over from something else
    system.meta_train_step(*problem.tasks)
    system_for(fresh).meta_train_step(*fresh.tasks)
    assert oracles.relative_error(problem.module.parameters(), list(fresh.module.parameters())) < 1e-12


LEARNERS = {"plus_plus" if name == "maml++" else name: make for name, make in ALGORITHMS.items()}


def system_named(problem, algorithm="maml", **keywords):
    keywords = {"inner_lr": 0.1, "outer_lr": 0.01, "inner_steps": 2, "loss": problem.loss} | keywords
    chosen = {"plus_plus": True} if algorithm == "plus_plus" else {"algorithm": algorithm}
    return mamlkit.ModelAgnosticMetaLearning(problem.module, **keywords, **chosen)


def test_the_explainers_call_of_maml_plus_plus_works_word_for_word(same_rng):
    problem = oracles.problem("conv-batchnorm")
    model = problem.module
    maml = mamlkit.ModelAgnosticMetaLearning(model, inner_lr=0.01, outer_lr=0.001, inner_steps=5, plus_plus=True)
    support_data, support_labels, query_data, query_labels = problem.tasks
    losses = [maml.meta_train_step(support_data, support_labels, query_data, query_labels) for _ in range(10)]
    assert all(type(loss) is float for loss in losses) and losses[-1] < losses[0]


@pytest.mark.parametrize("algorithm", LEARNERS)
def test_it_trains_what_the_function_of_that_name_makes(algorithm):
    facade, plain = oracles.problem("conv-batchnorm"), oracles.problem("conv-batchnorm")
    system = system_named(facade, algorithm)
    learner = LEARNERS[algorithm](plain.module, loss=plain.loss, inner_steps=2, inner_lr=0.1)
    optimiser = torch.optim.Adam(learner.meta_parameters().values(), lr=0.01)
    for _ in range(2):
        optimiser.zero_grad()
        loss = learner.meta_backward(mamlkit.TaskBatch(*plain.tasks)).item()
        optimiser.step()
        assert system.meta_train_step(*facade.tasks) == loss
    for name, value in learner.state_dict().items():
        assert torch.equal(system.learner.state_dict()[name], value)


@pytest.mark.parametrize("algorithm", ["meta-sgd", "plus_plus"])
def test_alpha_is_among_the_optimisers_parameters(algorithm):
    problem = oracles.problem("mlp-mse")
    system = system_named(problem, algorithm)
    trained = {id(parameter) for group in system.meta_optimizer.param_groups for parameter in group["params"]}
    assert list(system.alpha) == [name for name, _ in problem.module.named_parameters()]
    assert all(id(rate) in trained for rate in system.alpha.values())
    before = {name: rate.detach().clone() for name, rate in system.alpha.items()}
    system.meta_train_step(*problem.tasks)
    assert all(not torch.equal(rate, before[name]) for name, rate in system.alpha.items())


@pytest.mark.parametrize("algorithm", ["maml", "fomaml", "reptile"])
def test_alpha_of_the_others_is_the_fixed_rate(algorithm):
    problem = oracles.problem("mlp-mse")
    system = system_named(problem, algorithm)
    assert system.alpha == dict.fromkeys((name for name, _ in problem.module.named_parameters()), 0.1)


@pytest.mark.parametrize("algorithm", ["nonsense", "Maml", "", "maml++"])
def test_another_algorithm_is_refused(algorithm):
    with pytest.raises(ValueError, match=r"^expected algorithm to be one of 'maml', 'fomaml', 'reptile'.*, got "):
        system_named(oracles.problem("mlp-mse"), algorithm)
    with pytest.raises(ValueError, match="expected algorithm='maml' with plus_plus=True, got 'reptile'"):
        system_named(oracles.problem("mlp-mse"), "reptile", plus_plus=True)


def test_switches_reach_the_learner():
    problem = oracles.problem("conv-batchnorm")
    system = system_named(problem, "plus_plus", step_sizes="tensor", per_step_statistics=True, multi_step_loss=None)
    assert system.learner.step_sizes.per == "tensor" and not system.learner.is_transductive
    assert isinstance(system.learner.outer_loss, mamlkit.FinalStep)
    assert list(system_named(problem, "anil", adapted=["9.bias"]).alpha) == ["9.bias"]


def test_the_adapted_parameters_are_independent_of_the_model():
    problem = oracles.problem("mlp-mse")
    for algorithm in LEARNERS:
        system = system_named(problem, algorithm)
        weights = system.inner_update(problem.tasks[0][0], problem.tasks[1][0])
        assert type(weights) is dict and not any(value.requires_grad for value in weights.values())
        before = copy.deepcopy(weights)
        system.meta_train_step(*problem.tasks)
        assert all(torch.equal(value, before[name]) for name, value in weights.items())


def test_train_maml_counts_epochs_over_all_calls():
    problem = oracles.problem("mlp-mse")
    tasks = mamlkit.TaskBatch(*problem.tasks)
    once, twice = (system_named(oracles.problem("mlp-mse"), "plus_plus", annealing_epochs=3) for _ in range(2))
    whole = mamlkit.train_maml(once, [tasks] * 8, 8, steps_per_epoch=2)
    parts = [loss for _ in range(2) for loss in mamlkit.train_maml(twice, [tasks] * 4, 4, steps_per_epoch=2)]
    assert whole == parts and len(set(whole)) == 8
    assert once.learner.epoch == twice.learner.epoch == 3
    with pytest.raises(ValueError, match="expected 3 meta-batches, got 2"):
        mamlkit.train_maml(once, [tasks] * 2, 3)


def test_train_and_evaluate(same_rng):
    """A short run on drawings that noise hides: clearly better than at the initialisation, and the gain is what it says."""
    generator = torch.Generator().manual_seed(0)
    prototypes = torch.rand((30, 1, 1, 16, 16), generator=generator)
    noise = torch.rand((30, 12, 1, 16, 16), generator=generator)
    images = (255 * (0.55 * prototypes + 0.45 * noise)).to(torch.uint8)
    tasks = mamlkit.ImageTasks(images, ways=3, shots=1, queries=3)
    model = mamlkit.conv4(3, image_size=16, filters=6, seed=0)
    system = mamlkit.ModelAgnosticMetaLearning(model, inner_lr=0.1, outer_lr=0.01, inner_steps=2, plus_plus=True)
    held_out = tasks.sample(40, torch.Generator().manual_seed(99))
    before = mamlkit.evaluate_maml(system, held_out)
    losses = mamlkit.train_maml(system, mamlkit.TaskStream(tasks, 4, seed=1), 20, steps_per_epoch=5)
    after = mamlkit.evaluate_maml(system, held_out)
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert after.accuracy().mean > before.accuracy().mean + 0.1
    assert after.gain.mean == pytest.approx(after.accuracy().mean - after.accuracy(0).mean)
    assert after.share_above(0.5) >= after.share_above(0.8)
