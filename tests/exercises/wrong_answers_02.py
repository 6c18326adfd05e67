"""Typical wrong answers to the exercises of chapter 2: what stands in the stub's place, and what the check must say."""

from __future__ import annotations

INNER_LOOP = """
def inner_loop(theta, support_loss, steps, alpha):
    point = theta
    for _ in range({count}):
        (gradient,) = torch.autograd.grad(support_loss({where}), {where}, create_graph={graph})
        point = point {sign} {size} * gradient
    return {result}
"""
INNER_RIGHT = {"count": "steps", "where": "point", "graph": True, "sign": "-", "size": "alpha", "result": "point"}
INNER_IN_PLACE = """
def inner_loop(theta, support_loss, steps, alpha):
    for _ in range(steps):
        (gradient,) = torch.autograd.grad(support_loss(theta), theta)
        with torch.no_grad():
            theta -= alpha * gradient
    return theta
"""
INNER_PATH = """
def inner_loop(theta, support_loss, steps, alpha):
    path = [theta]
    for _ in range(steps):
        (gradient,) = torch.autograd.grad(support_loss(path[-1]), path[-1], create_graph=True)
        path.append(path[-1] - alpha * gradient)
    return path
"""
INNER_DETACHED = """
def inner_loop(theta, support_loss, steps, alpha):
    point = theta.detach().clone().requires_grad_()
    for _ in range(steps):
        (gradient,) = torch.autograd.grad(support_loss(point), point, create_graph=True)
        point = point - alpha * gradient
    return point
"""
INNER_GRAD = """
def inner_loop(theta, support_loss, steps, alpha):
    point = theta.detach().clone().requires_grad_()
    for _ in range(steps):
        support_loss(point).backward()
        with torch.no_grad():
            point -= alpha * point.grad
    return point
"""
INNER_THETA_GRAD = """
def inner_loop(theta, support_loss, steps, alpha):
    point = theta
    for _ in range(steps):
        support_loss(point).backward({graph})
        point = point - alpha * theta.grad
    return point
"""
OUTER = """
def outer_objective(theta, tasks, alpha):
    losses = []
    for sx, sy, qx, qy in zip(*tasks, strict=True):
        (gradient,) = torch.autograd.grad(line_loss(theta, {inner}), theta, create_graph={graph})
        {name} = theta {sign} alpha * gradient
        losses.append(line_loss({judged}, {outer}))
    return {result}
"""
OUTER_RIGHT = {
    "inner": "sx, sy",
    "graph": True,
    "name": "adapted",
    "sign": "-",
    "judged": "adapted",
    "outer": "qx, qy",
    "result": "torch.stack(losses).mean()",
}
OUTER_IN_PLACE = """
def outer_objective(theta, tasks, alpha):
    losses = []
    for sx, sy, qx, qy in zip(*tasks, strict=True):
        (gradient,) = torch.autograd.grad(line_loss(theta, sx, sy), theta)
        with torch.no_grad():
            theta -= alpha * gradient
        losses.append(line_loss(theta, qx, qy))
    return torch.stack(losses).mean()
"""
OUTER_SHARED = """
def outer_objective(theta, tasks, alpha):
    support = torch.stack([line_loss(theta, sx, sy) for sx, sy, _, _ in zip(*tasks)]).{how}()
    (gradient,) = torch.autograd.grad(support, theta, create_graph=True)
    adapted = theta - alpha * gradient
    return torch.stack([line_loss(adapted, qx, qy) for _, _, qx, qy in zip(*tasks)]).mean()
"""
OUTER_BOTH = OUTER.format(**OUTER_RIGHT).replace("qx, qy))", "qx, qy) + line_loss(adapted, sx, sy))")
OUTER_GRAD = """
def outer_objective(theta, tasks, alpha):
    losses = []
    for sx, sy, qx, qy in zip(*tasks):
        line_loss(theta, sx, sy).backward()
        losses.append(line_loss(theta - alpha * theta.grad, qx, qy))
    return torch.stack(losses).mean()
"""
QUERY = """
def query_losses(theta, support_loss, query_loss, steps, alpha):
    point, losses = theta, {first}
    for _ in range(steps):
        {before}
        (gradient,) = torch.autograd.grad({inner}(point), point, create_graph=True)
        point = point - alpha * gradient
        {after}
    return {result}
"""
QUERY_RIGHT = {
    "first": "[]",
    "before": "pass",
    "inner": "support_loss",
    "after": "losses.append(query_loss(point))",
    "result": "losses",
}
MEND = """
def train(theta, stream, steps, alpha, beta):
    {theta}
    optimiser = torch.optim.SGD([theta], lr=beta)
    for tasks in stream:
        {zero}
        point, losses = theta, []
        for sx, sy, qx, qy in zip(*tasks, strict=True):
            {start}
            for _ in range({steps}):
                loss = line_loss(point, sx, sy)
                (gradient,) = torch.autograd.grad(loss, point, create_graph={graph})
                point = {point}
            losses.append(line_loss(point, {graded}))
        torch.stack(losses).{mean}().backward()
        optimiser.step()
    return {result}
"""
MEND_RIGHT = {
    "theta": "theta = theta.detach().clone().requires_grad_()",
    "zero": "optimiser.zero_grad()",
    "start": "point = theta",
    "steps": "steps",
    "graph": True,
    "point": "point - alpha * gradient",
    "graded": "qx, qy",
    "mean": "mean",
    "result": "theta.detach()",
}


def inner(**changes):
    return INNER_LOOP.format(**INNER_RIGHT | changes)


def outer(**changes):
    return OUTER.format(**OUTER_RIGHT | changes)


def query(**changes):
    return QUERY.format(**QUERY_RIGHT | changes)


def mend(**changes):
    return MEND.format(**MEND_RIGHT | changes)


WRONG = {
    "ex-inner-loop": [
        (inner(graph=False), "Use create_graph=True"),
        (inner(where="theta"), "Every gradient is taken at theta"),
        (inner(sign="+"), "uphill"),
        (inner(size="1.0"), "step size alpha is missing"),
        (inner(count="1"), "Only one step is taken"),
        (inner(count="steps + 1"), "One step too many"),
        (inner(result="theta"), "have not moved"),
        (inner(result="gradient"), "That is the gradient"),
        (inner(result="point.detach()"), "cannot be differentiated"),
        (inner(result="point.tolist()"), "cannot be differentiated"),
        (inner(result="support_loss(point)"), "A vector of 2 entries was expected"),
        (inner(result="no_such_name"), "NameError"),
        (INNER_IN_PLACE, "theta itself has moved"),
        (INNER_PATH, "along the whole way"),
        (INNER_DETACHED, "cannot be differentiated"),
        (INNER_GRAD, "The gradients pile up: backward()"),
        (INNER_THETA_GRAD.format(graph=""), "The gradients pile up: backward()"),
        (INNER_THETA_GRAD.format(graph="create_graph=True"), "theta.grad piles up"),
    ],
    "ex-outer-objective": [
        (outer(result="torch.stack(losses).sum()"), "sum over tasks"),
        (outer(result="sum(losses)"), "sum over tasks"),
        (outer(outer="sx, sy"), "support loss after adaptation"),
        (outer(outer="sx, sy", result="sum(losses)"), "sum of the support losses"),
        (outer(inner="qx, qy"), "The inner step used the query set"),
        (outer(inner="qx, qy", outer="sx, sy"), "The sets are exchanged"),
        (OUTER_BOTH, "the support loss added to the query loss"),
        (outer(judged="theta"), "were not adapted"),
        (outer(sign="+"), "uphill"),
        (outer(name="theta", judged="theta"), "Later tasks start from parameters"),
        (outer(graph=False), "first-order"),
        (outer(result="torch.stack(losses).mean().item()"), "cannot be differentiated"),
        (outer(result="torch.stack(losses)"), "A number was expected"),
        (outer(result="losses"), "A number was expected"),
        (outer(result="losses[-1]"), "Only the last task counts"),
        (outer(result="losses[0]"), "In one test"),
        (OUTER_IN_PLACE, "theta itself has moved"),
        (OUTER_SHARED.format(how="mean"), "along the mean of their support gradients"),
        (OUTER_SHARED.format(how="sum"), "along the sum of their support gradients"),
        (OUTER_GRAD, "pile up in .grad"),
    ],
    "ex-query-losses": [
        (query(after="losses.append(support_loss(point))"), "support losses"),
        (query(before="losses.append(query_loss(point))", after="pass"), "before its step"),
        (query(first="[query_loss(theta)]"), "before any step"),
        (query(result="losses[-1]"), "after the last step alone"),
        (query(result="sum(losses) / steps"), "mean of the losses"),
        (query(inner="query_loss"), "the learner sees the answers"),
        (query(result="losses[::-1]"), "reverse order"),
        (
            query(before="start = theta").replace("(point), point,", "(start), start,"),
            "Every gradient is taken at theta",
        ),
        (query(result="losses[:-1]"), "A vector of 4 entries was expected"),
        (query(result="[2 * loss for loss in losses]"), "The loss after step 1 should be"),
        (query(result="'losses'"), "A vector of 4 entries was expected"),
    ],
    "ex-wrong-lines": [
        ('wrong_lines = {"A": 2, "B": 4, "C": 2}', "In box A line 2 is as it should be"),
        ('wrong_lines = {"A": 3, "B": 5, "C": 2}', "In box B line 5 is as it should be"),
        ('wrong_lines = {"A": 3, "B": 4, "C": 3}', "In box C line 3 is as it should be"),
        ('wrong_lines = {"A": 3, "B": None, "C": None}', "Box B has no answer yet"),
        ('wrong_lines = {"A": 7, "B": 4, "C": 2}', "Box A has lines 1 to 5"),
        ("wrong_lines = [3, 4, 2]", "Expected a dict"),
    ],
    "ex-episode": [
        ('images = {"support": 1, "query": 75, "forward": 400}', "a task has 5 classes"),
        ('images = {"support": 20, "query": 75, "forward": 400}', "one task is asked for"),
        ('images = {"support": 5, "query": 15, "forward": 400}', "15 is the number per class"),
        ('images = {"support": 5, "query": 75, "forward": 320}', "once for each of the 5 inner steps"),
        ('images = {"support": 5, "query": 75, "forward": 100}', "both sets of all 4 tasks"),
        ('images = {"support": 5, "query": 75, "forward": 1600}', "once only, after the last step"),
        ('images = {"support": 5, "query": 75, "forward": 420}', "not needed after the last step"),
        ('images = {"support": 5, "query": 75, "forward": 399}', "Count again"),
        ('images = {"support": 5, "query": None, "forward": None}', "has no answer yet"),
    ],
    "ex-mend": [
        (mend(zero="pass"), "One mistake is left. Gradients of earlier outer steps"),
        (mend(start="pass"), "One mistake is left. A task starts from parameters"),
        (mend(graph=False), "One mistake is left. The inner gradient counts as a constant"),
        (mend(zero="pass", graph=False), "2 mistakes are left"),
        (mend(start="pass", graph=False), "2 mistakes are left"),
        (mend(start="pass", zero="pass"), "2 mistakes are left"),
        (
            mend(zero="pass").replace("optimiser.step()", "optimiser.step()\n        point = theta"),
            "One mistake is left",
        ),
        (mend(mean="sum"), "the losses are summed now"),
        (mend(steps="1"), "only one inner step"),
        (mend().replace("SGD", "Adam"), "the outer optimiser is Adam now"),
        (mend(graded="sx, sy"), "the loss of a task is now its support loss"),
        (mend(result="losses"), "Expected the trained theta"),
        (mend(theta="given, theta = theta, theta.clone().requires_grad_()", result="given"), "nothing was trained"),
        (mend(theta="theta.requires_grad_()"), "has moved"),
        (mend(point="(point - alpha * gradient).detach()"), "Your code raised RuntimeError"),
        (mend(point="point + alpha * gradient"), "After three outer steps"),
    ],
}

# Right answers in other styles: with torch.func, as a list, as a dict, as arrays, with an axis too many.
RIGHT = {
    "ex-inner-loop": [
        """
def inner_loop(theta, support_loss, steps, alpha):
    for _ in range(steps):
        theta = theta - alpha * torch.func.grad(support_loss)(theta)
    return theta
""",
        inner(result="point[None]"),
        inner(result="list(point)"),
        inner(result="(point,)"),
    ],
    "ex-outer-objective": [
        """
def outer_objective(theta, tasks, alpha):
    def query_loss(sx, sy, qx, qy):
        support = lambda theta: line_loss(theta, sx, sy)
        return line_loss(theta - alpha * torch.func.grad(support)(theta), qx, qy)

    return torch.func.vmap(query_loss)(*tasks).mean()
""",
        outer(result="sum(losses)[None] / tasks.num_tasks"),
    ],
    "ex-query-losses": [
        query(result="torch.stack(losses)"),
        query(result="torch.stack(losses).detach().float().numpy()"),
        query(result="dict(enumerate(losses, 1))"),
        query(result="[loss[None] for loss in losses]"),
    ],
    "ex-wrong-lines": ['wrong_lines = {"A": "line 3", "B": "4", "C": 2.0}'],
    "ex-episode": ['images = {"support": torch.tensor(5), "query": 75.0, "forward": [400]}'],
    "ex-mend": [
        mend(),
        mend(zero="theta.grad = None"),
        mend(result="theta.tolist()"),
        mend(zero="pass").replace("optimiser.step()", "optimiser.step()\n        optimiser.zero_grad()"),
        mend(start="point = theta.clone()"),
    ],
}
