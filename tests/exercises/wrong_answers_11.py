"""Typical wrong answers to the exercises of chapter 11: what stands in the stub's place, and what the check must say."""

from __future__ import annotations

CHANCE = """
def chance(c):
    return {result}
"""
DIFFERENCE = """
def difference(a, b):
    x = torch.tensor(a["{key}"], dtype=torch.float64)
    y = torch.tensor(b["{key}"], dtype=torch.float64)
    d = {d}
    return d.mean(), {width}
"""
SPREAD = """
def spread_ratio(a, b):
    return {result}
"""
SECONDS = """
def run_seconds(maml_step, early, late, epochs, annealing_epochs, steps_per_epoch):
    on = {on}
    return {result}
"""
LOOP = """
def outer_loop(learner, stream, epochs, steps_per_epoch):
    optimiser = torch.optim.Adam({trained}, lr=0.01)
    steps = epochs * steps_per_epoch
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps, 1e-5)
    for step, tasks in zip(range(steps), stream):
        {before}
        {zero}
        learner.meta_backward(tasks)
        {after}
        optimiser.step()
        {schedule}
    return learner
"""
WIDTH = "1.96 * d.std() / len(d) ** 0.5"
ON, TIME = (
    "min(annealing_epochs, epochs)",
    "maml_step * steps_per_epoch * (on * early + (epochs - on) * late)",
)
EPOCH = "learner.epoch = step // steps_per_epoch"
NETWORK = "*learner.model.parameters()"


def difference(key: str = "per_task_final_accuracies", d: str = "x - y", width: str = WIDTH) -> str:
    return DIFFERENCE.format(key=key, d=d, width=width)


def loop(**changed: str) -> str:
    parts = {
        "trained": "learner.parameters()",
        "before": EPOCH,
        "zero": "optimiser.zero_grad()",
        "after": "pass",
        "schedule": "schedule.step()",
    }
    return LOOP.format(**(parts | changed))


WRONG = {
    "ex-chance": [
        (CHANCE.format(result="1 / (1 + c**2)"), "This counts one direction"),
        (CHANCE.format(result="2 / (1 + c)"), "c is a ratio of standard deviations; the exponentials"),
        (CHANCE.format(result="1 / (1 + c)"), "c is a ratio of standard deviations, and either"),
        (CHANCE.format(result="(c**2 - 1) / (c**2 + 1)"), "less than c times apart"),
        (
            CHANCE.format(result="2 * torch.exp(torch.tensor(-(c**2)))"),
            "The other variance is random, too: average over it.",
        ),
        (CHANCE.format(result="torch.exp(torch.tensor(-(c**2)))"), "And either of the two"),
        (CHANCE.format(result="200 / (1 + c**2)"), "This is per cent"),
        (CHANCE.format(result="2 / (1 + c**2) + 0.003"), "as a simulation would"),
        (CHANCE.format(result="0.9"), "0.9000 at c = 1.5 is not the chance"),
    ],
    "ex-difference": [
        (difference(width="1.96 * (x.var() / len(x) + y.var() / len(y)) ** 0.5"), "task by task"),
        (difference(width="a['test_ci95'] + b['test_ci95']"), "half widths are added"),
        (difference(d="y - x"), "sign is wrong"),
        (difference(width="d.std() / len(d) ** 0.5"), "standard error"),
        (difference(width="1.96 * d.std()"), "not divided by the root"),
        (difference(width="1.96 * d.std() / len(d)"), "divide by its root"),
        (difference(width="2 * " + WIDTH), "whole width"),
        (difference(width="a['test_ci95']"), "of a alone"),
        (difference(d="100 * (x - y)"), "per cent"),
        (difference(key="per_task_final_losses"), "These are the losses"),
        (difference(width="1.96 * d.std(correction=0) / len(d) ** 0.5"), "divides by one less"),
        ("def difference(a, b):\n    return a['test_accuracy'] - b['test_accuracy']", "A vector of 2 entries"),
    ],
    "ex-spread": [
        (SPREAD.format(result="a[1:].mean(0).std() / b[-1].std()"), "Averages over the steps of a"),
        (SPREAD.format(result="a.mean(0).std() / b[-1].std()"), "Averages over the trajectory of a"),
        (SPREAD.format(result="a[1:].mean(0).std() / b[1:].mean(0).std()"), "averages over the steps;"),
        (SPREAD.format(result="b[-1].std() / a[-1].std()"), "upside down"),
        (SPREAD.format(result="a[-1].var() / b[-1].var()"), "variances"),
        (SPREAD.format(result="a.std() / b.std()"), "pooled"),
        (SPREAD.format(result="a[0].std() / b[0].std()"), "before adaptation"),
        (SPREAD.format(result="a[-1].mean() / b[-1].mean()"), "ratio of the means"),
        (SPREAD.format(result="a.mean(1).std() / b.mean(1).std()"), "K + 1 means, over steps"),
        (SPREAD.format(result="a[1:].mean(1).std() / b[1:].mean(1).std()"), "K means, over steps"),
        (SPREAD.format(result="a.mean() / b.mean()"), "of all steps"),
        (SPREAD.format(result="a[-1].std()"), "of a alone"),
        (
            SPREAD.format(result="(a[-1].std() / a[-1].mean()) / (b[-1].std() / b[-1].mean())"),
            "These spreads are relative",
        ),
        (SPREAD.format(result="(a[-1] / a[0]).std() / (b[-1] / b[0]).std()"), "what is left of the start's loss"),
    ],
    "ex-seconds": [
        (SECONDS.format(on="annealing_epochs", result=TIME), "Where annealing outlasts the run"),
        (SECONDS.format(on=ON, result="maml_step * steps_per_epoch * epochs * early"), "at the early price"),
        (SECONDS.format(on=ON, result="maml_step * steps_per_epoch * epochs * late"), "at the late price"),
        (
            SECONDS.format(on=ON, result="maml_step * steps_per_epoch * (on * early + epochs - on)"),
            "at MAML's price",
        ),
        (
            SECONDS.format(
                on="min(annealing_epochs, epochs * steps_per_epoch)",
                result="maml_step * (on * early + (epochs * steps_per_epoch - on) * late)",
            ),
            "counted in outer steps",
        ),
        (
            SECONDS.format(on=ON, result=TIME.replace("on * early", "on * (early + late) / 2")),
            "The price does not fall with the weights",
        ),
        (
            SECONDS.format(
                on="min(1, annealing_epochs / epochs)",
                result="maml_step * steps_per_epoch * epochs * (on / 2 * early + (1 - on / 2) * late)",
            ),
            "The price does not fall with the weights",
        ),
        (SECONDS.format(on=ON, result="maml_step * (on * early + (epochs - on) * late)"), "steps of an epoch"),
        (
            SECONDS.format(on="annealing_epochs", result="maml_step * (on * early + (epochs - on) * late)"),
            "missing; and where annealing outlasts",
        ),
        (
            SECONDS.format(on="annealing_epochs", result="maml_step * (on * early + max(epochs - on, 0) * late)"),
            "missing; and late epochs fall below zero",
        ),
        (SECONDS.format(on=ON, result="(on * early + (epochs - on) * late) / epochs"), "the multiple"),
        (
            SECONDS.format(on=ON, result="maml_step * steps_per_epoch * (on * late + (epochs - on) * early)"),
            "the wrong way round",
        ),
    ],
    "ex-loop": [
        (loop(trained=f"[{NETWORK}, *learner.step_sizes.parameters()]"), "does not know the rows of batch norm"),
        (loop(trained=f"[{NETWORK}, *learner.batch_norm.parameters()]"), "does not know the step sizes"),
        (loop(trained="learner.model.parameters()", before="pass"), "Both faults"),
        (loop(before="pass"), "stands still at 0"),
        (loop(trained="learner.model.parameters()"), "the network's weights alone"),
        (loop(before="learner.epoch = step"), "counted in outer steps; it is"),
        (loop(before="pass", after=EPOCH), "set after the meta-gradient"),
        (loop(before="learner.epoch = step // steps_per_epoch + 1"), "counted from 1"),
        (loop(zero="pass"), "pile up"),
        (loop(schedule="pass"), "no longer moves"),
        (loop(schedule="(step + 1) % steps_per_epoch or schedule.step()"), "moves once an epoch"),
        ("def outer_loop(learner, stream, epochs, steps_per_epoch):\n    return learner", "Nothing was trained"),
        ("def outer_loop(learner, stream, epochs, steps_per_epoch):\n    learner.fit(stream)", "AttributeError"),
    ],
}

# Right answers in other styles: defaults left out or written down, with NumPy, nested loops, fit's own order of lines.
RIGHT = {
    "ex-chance": [
        CHANCE.format(result="1 - (c * c - 1) / (c * c + 1)"),
        CHANCE.format(result="torch.tensor(2.0) / (torch.tensor(c).square() + 1)"),
    ],
    "ex-difference": [
        """
def difference(a, b):
    import numpy as np

    d = np.subtract(a["per_task_final_accuracies"], b["per_task_final_accuracies"])
    return d.mean(), 1.96 * d.std(ddof=1) / np.sqrt(d.size)
""",
        """
def difference(a, b):
    key = "per_task_final_accuracies"
    found = mamlkit.interval(torch.tensor(a[key]) - torch.tensor(b[key]))
    return [found.mean, found.half_width]
""",
        """
def difference(a, b):
    key = "per_task_final_accuracies"
    return mamlkit.interval(torch.tensor(a[key]) - torch.tensor(b[key]))
""",
    ],
    "ex-spread": [
        SPREAD.format(result="(a[-1].std() / b[-1].std()).float()"),
        SPREAD.format(result="(a[-1].var() / b[-1].var()).sqrt().item()"),
        SPREAD.format(result="a[-1].std(correction=0) / b[-1].std(correction=0)"),
    ],
    "ex-seconds": [
        """
def run_seconds(maml_step, early, late, epochs, annealing_epochs, steps_per_epoch):
    total = 0
    for step in range(epochs * steps_per_epoch):
        total += maml_step * (early if step // steps_per_epoch < annealing_epochs else late)
    return total
""",
    ],
    "ex-loop": [
        """
def outer_loop(learner, stream, epochs, steps_per_epoch):
    optimiser = torch.optim.Adam(learner.meta_parameters().values(), lr=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * steps_per_epoch, 1e-5)
    for learner.epoch in range(epochs):
        for _ in range(steps_per_epoch):
            learner.meta_backward(next(stream))
            optimiser.step()
            schedule.step()
            optimiser.zero_grad()
""",
    ],
}
