"""Tasks of unequal sizes in one meta-batch: each weighs the same, in training and evaluation, as in a loop over tasks alone."""

from __future__ import annotations

import copy
import itertools
import pickle

import plain_loop
import pytest
import torch
from engine_names import ENGINES
from torch import nn
from torch.nn import functional as F

import mamlkit
from mamlkit import TaskBatch, TaskList

SIZES = [(1, 5, 6), (2, 3, 4), (1, 1, 9), (3, 5, 6)]  # tasks, support, query


def batches():
    return [TaskBatch(*plain_loop.tasks(count, s, q, seed=seed)) for seed, (count, s, q) in enumerate(SIZES)]


def model(*more):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 5), *more, nn.Tanh(), nn.Linear(5, 3)).double()


def singles(tasks):
    """Each task in a batch of its own."""
    return [batch.select(slice(i, i + 1)) for batch in tasks for i in range(batch.num_tasks)]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_meta_gradient_against_a_plain_loop(engine):
    learner = mamlkit.maml(model(), loss=F.mse_loss, inner_steps=2, inner_lr=0.1, engine=engine)
    loss = learner.meta_backward(batches())
    parts = [plain_loop.maml(learner.model, task, F.mse_loss) for task in singles(batches())]
    assert loss.item() == pytest.approx(sum(part[0] for part in parts) / 7, rel=1e-12)
    mean = {name: sum(part[1][name] for part in parts) / 7 for name in parts[0][1]}
    assert plain_loop.off(mean, learner.model) < 1e-10
    assert learner.meta_steps == 1


@pytest.mark.parametrize("name", ["fomaml", "reptile", "anil", "meta_sgd", "maml_plus_plus"])
def test_every_algorithm_takes_the_mean_over_tasks(name):
    def make():
        more = [nn.BatchNorm1d(5)] if name == "maml_plus_plus" else []
        switches = {"per_step_statistics": True} if more else {}
        return getattr(mamlkit, name)(model(*more), loss=F.mse_loss, inner_steps=2, inner_lr=0.1, **switches)

    tasks = [batch for batch in batches() if batch.support_x.shape[1] > 1]
    learner, alone = make(), make()
    loss = learner.meta_backward(tasks)
    losses = [alone.meta_backward(task).item() for task in singles(tasks)]  # gradients add up
    assert loss.item() == pytest.approx(sum(losses) / 6, rel=1e-12)
    for key, value in learner.meta_parameters().items():
        assert (value.grad is None) == (alone.meta_parameters()[key].grad is None)
        if value.grad is not None:
            assert torch.allclose(value.grad, alone.meta_parameters()[key].grad / 6, rtol=1e-9, atol=1e-12), key
    for key, value in learner.named_buffers():
        assert torch.allclose(value.double(), dict(alone.named_buffers())[key].double()), key


def test_one_batch_in_a_list_is_that_batch_and_masks_follow_the_number_of_the_task():
    results = []
    whole = TaskBatch(*plain_loop.tasks(4))
    for tasks in (whole, [whole], TaskList([whole.select(slice(0, 1)), whole.select(slice(1, 4))])):
        learner = mamlkit.maml(model(nn.Dropout(0.5)), loss=F.mse_loss, inner_steps=2)
        loss = learner.meta_backward(tasks)
        results.append([loss, *(p.grad for p in learner.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(results[0], results[1], strict=True))
    assert all(torch.allclose(a, b, rtol=1e-12) for a, b in zip(results[0], results[2], strict=True))


def test_evaluation_task_by_task():
    learner = mamlkit.maml(model(), inner_steps=2, inner_lr=0.1)
    tasks = [b._replace(support_y=b.support_y.argmax(2), query_y=b.query_y.argmax(2)) for b in batches()]
    result = mamlkit.evaluate(learner, tasks, chunk=2, metric=lambda out, y: len(y))
    alone = [mamlkit.evaluate(learner, task) for task in singles(tasks)]
    assert torch.allclose(result.losses, torch.cat([one.losses for one in alone], 1), rtol=1e-12)
    assert torch.equal(result.accuracies, torch.cat([one.accuracies for one in alone], 1))
    assert result.scores[0].tolist() == [6, 4, 4, 9, 6, 6, 6] and result.loss().tasks == 7
    expected = [accuracy(learner, task) for task in singles(tasks)]
    assert result.accuracies[-1].tolist() == expected


def accuracy(learner, task):
    """Two steps of plain gradient descent, and the share of right answers."""
    net, (support_x, support_y, query_x, query_y) = copy.deepcopy(learner.model), (part[0] for part in task)
    for _ in range(2):
        slopes = torch.autograd.grad(F.cross_entropy(net(support_x), support_y), list(net.parameters()))
        with torch.no_grad():
            for p, slope in zip(net.parameters(), slopes, strict=True):
                p -= 0.1 * slope
    return (net(query_x).argmax(1) == query_y).double().mean().item()


class Unequal:
    """Every task has one point more than the one before."""

    def sample(self, num_tasks, generator):
        sizes = torch.randint(2, 6, (num_tasks,), generator=generator).tolist()
        return [mamlkit.Sinusoids(size, size + 1).sample(1, generator) for size in sizes]


def test_fit_with_unequal_tasks_against_a_loop_written_out(tmp_path):
    options = mamlkit.TrainingOptions(
        epochs=2, steps_per_epoch=3, meta_batch=3, cosine=False, validation_tasks=5, checkpoint_every=2
    )

    def make():
        return mamlkit.maml(mamlkit.mlp((1, 5, 1), seed=0), loss=F.mse_loss, inner_steps=2)

    learner, plain = make(), make()
    history = mamlkit.fit(learner, Unequal(), options=options, validation=Unequal(), folder=tmp_path)
    optimiser, stream = torch.optim.Adam(plain.parameters(), lr=1e-3), mamlkit.TaskStream(Unequal(), 3)
    for step in range(6):
        optimiser.zero_grad()
        for task in singles(stream.batch(step)):
            plain.meta_backward(task)
        for p in plain.parameters():
            p.grad /= 3
        optimiser.step()
    for one, other in zip(learner.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)
    assert history.rows[-1]["validation_loss"] is not None
    again = mamlkit.fit(make(), Unequal(), options=options, validation=Unequal(), folder=tmp_path, resume=True)
    assert again.rows == history.rows


def test_the_facade_takes_lists():
    system, other = (
        mamlkit.ModelAgnosticMetaLearning(model(), inner_lr=0.1, inner_steps=2, loss=F.mse_loss) for _ in "ab"
    )
    tasks = singles(batches())
    loss = system.meta_train_step(*([part[0] for part in column] for column in zip(*tasks, strict=True)))
    expected = [plain_loop.maml(other.learner.model, task, F.mse_loss)[0] for task in tasks]
    assert loss == pytest.approx(sum(expected) / 7, rel=1e-12)
    assert mamlkit.train_maml(other, [batches()], 1) == [pytest.approx(loss, rel=1e-12)]
    assert mamlkit.evaluate_maml(other, batches()).loss().tasks == 7


def test_lists_of_tasks():
    tasks = TaskList(batches())
    assert tasks.num_tasks == 7 and tasks.select(slice(2, 5)).num_tasks == 3
    assert [part.num_tasks for part in tasks.select(slice(2, 5))] == [1, 1, 1]
    assert [part.num_tasks for part in tasks.select(slice(0, 7, 2))] == [1, 1, 2]
    assert torch.equal(tasks.select(slice(2, 3))[0].query_x, tasks[1].query_x[1:])
    assert all(
        torch.equal(a, b) for a, b in zip(itertools.chain(*tasks), itertools.chain(*tasks.to("cpu")), strict=True)
    )
    again = pickle.loads(pickle.dumps(tasks))
    assert isinstance(again, TaskList) and again.num_tasks == 7
    found = TaskList.of(*([part[0] for part in column] for column in zip(*singles(tasks), strict=True)))
    assert [part.num_tasks for part in found] == [1, 2, 1, 3]  # neighbours of one shape


def test_processes_share_unequal_tasks():
    whole = mamlkit.TaskStream(Unequal(), 4).batch(3)
    shares = [mamlkit.TaskStream(Unequal(), 4, rank=rank, world_size=2).batch(3) for rank in (0, 1)]
    assert [share.num_tasks for share in shares] == [2, 2]
    parts = [tensor for share in shares for batch in share for tensor in batch]
    assert all(torch.equal(a, b) for a, b in zip(parts, itertools.chain(*whole), strict=True))


def test_prefetched_lists():
    stream = mamlkit.TaskStream(Unequal(), 3)
    first = next(iter(mamlkit.prefetched(stream)))
    assert isinstance(first, TaskList) and first.num_tasks == 3
    assert torch.equal(first[0].query_x, stream.batch(0)[0].query_x)
