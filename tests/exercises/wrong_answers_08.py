"""Typical wrong answers to the exercises of chapter 8: what stands in the stub's place, and what the check must say."""

from __future__ import annotations

SHARED = """
def best_shared(h, d):
    return {result}
"""
BY_ALPHA = """
def by_alpha(support_loss, query_loss, path, alpha):
    grad, hvp = torch.func.grad, torch.autograd.functional.hvp
    adjoint = grad(query_loss)(path[-1])
    rows = []
    for k in reversed(range(len(alpha))):
        {first}
        rows.append({row})
        {second}
    return {result}
"""
MAKE = """
def make_step_sizes(parameters, rate, K):
    return {result}
"""
LEARN = """
def learn(train_tasks, test_task, theta, rate, K, beta, outer_steps):
    theta = theta.clone().requires_grad_()
    alpha = torch.full((K,), rate, dtype=theta.dtype, requires_grad=True)
    optimiser = torch.optim.{optimiser}({trained}, lr=beta)
    for _ in range(outer_steps):
        losses = []
        for support_loss, query_loss in train_tasks:
            point = theta
            for k in range(K):
                (g,) = torch.autograd.grad(support_loss(point), point, create_graph={graph})
                point = point - {used} * g
            losses.append(query_loss(point))
        optimiser.zero_grad()
        torch.stack(losses).{reduce}().backward()
        optimiser.step()
        {bound}
    support_loss, query_loss = test_task
    point = theta
    for k in range(K):
        (g,) = torch.autograd.grad({tested}(point), point)
        point = (point - {at_test} * g).detach().requires_grad_()
    return {result}
"""
BACK = "adjoint = adjoint - hvp(support_loss, path[k], alpha[k] * adjoint)[1]"
ROW, STACKED, BOTH = "-grad(support_loss)(path[k]) * adjoint", "torch.stack(rows[::-1])", "[theta, alpha]"
RIGHT_LEARN = {
    "optimiser": "SGD", "trained": BOTH, "graph": "True", "used": "alpha[k]", "reduce": "mean", "tested": "support_loss",
    "at_test": "alpha[k]", "bound": "pass", "result": "alpha, query_loss(point)",
}  # fmt: skip


def by_alpha(first: str = "pass", row: str = ROW, second: str = BACK, result: str = STACKED) -> str:
    return BY_ALPHA.format(first=first, row=row, second=second, result=result)


def learn(**changes: str) -> str:
    return LEARN.format(**{**RIGHT_LEARN, **changes})


WRONG = {
    "ex-shared": [
        (SHARED.format(result="1 / h"), "here all share one"),
        (SHARED.format(result="1 / h.max()"), "steepest coordinate alone"),
        (SHARED.format(result="(1 / h).mean()"), "mean of the inverse curvatures"),
        (SHARED.format(result="1 / h.mean()"), "the start matters"),
        (SHARED.format(result="(h**2).sum() / (h**3).sum()"), "start has not entered"),
        (SHARED.format(result="(h**3 * d**2).sum() / (h**2 * d**2).sum()"), "upside down"),
        (SHARED.format(result="(h * d**2).sum() / (h**2 * d**2).sum()"), "one factor h too few"),
        (SHARED.format(result="2 * (h**2 * d**2).sum() / (h**3 * d**2).sum()"), "twice the best step"),
        (SHARED.format(result="(h**2 * d).sum() / (h**3 * d).sum()"), "without its sign"),
        (SHARED.format(result="2 / (h.max() + h.min())"), "makes the worst coordinate"),
        (SHARED.format(result="h * d"), "A number was expected"),
    ],
    "ex-by-alpha": [
        (by_alpha(row="grad(support_loss)(path[k]) * adjoint"), "sign is wrong"),
        (by_alpha(first=BACK, second="pass"), "here it is lambda_k"),
        (by_alpha(second="pass"), "Every step has the query gradient"),
        (by_alpha(second="adjoint = adjoint - alpha[k] * hvp(support_loss, path[k], adjoint)[1]"), "wrong side"),
        (by_alpha(second="adjoint = adjoint - hvp(support_loss, path[k], adjoint)[1]"), "missing on the way back"),
        (by_alpha(second=BACK.replace("alpha[k]", "alpha[0]")), "rates of the first step"),
        (by_alpha(second=BACK.replace("path[k]", "path[0]")), "Every Hessian is taken at theta"),
        (by_alpha(second=BACK.replace("path[k]", "path[k + 1]")), "where its step ends; it belongs"),
        (by_alpha(row="-grad(support_loss)(path[k + 1]) * adjoint"), "support gradient is taken where the step ends"),
        (by_alpha(result="torch.stack(rows)"), "wrong order"),
        (by_alpha(row="-alpha[k] * grad(support_loss)(path[k]) * adjoint"), "a factor alpha too many"),
        (by_alpha(result="torch.stack(rows[::-1]).sum(1)"), "The entries are added up"),
        (by_alpha(row=f"({ROW}).sum().expand(3)"), "Each row has the sum over its entries"),
        (by_alpha(result="torch.stack(rows).sum()"), "Everything is added up"),
    ],
    "ex-make": [
        (
            MAKE.format(result="{n: torch.tensor(rate, requires_grad=True) for n in parameters}"),
            "one rate for all steps",
        ),
        (
            MAKE.format(result="{n: torch.full_like(p, rate).requires_grad_() for n, p in parameters.items()}"),
            "as in Meta-SGD",
        ),
        (
            MAKE.format(result="{n: torch.full((1,), rate).expand(K).requires_grad_() for n in parameters}"),
            "share one cell of memory",
        ),
        (MAKE.format(result="{n: torch.full((K,), rate) for n in parameters}"), "requires_grad is False"),
        (MAKE.format(result="{n: rate * torch.ones(K, requires_grad=True) for n in parameters}"), "no leaf tensor"),
        (MAKE.format(result="dict.fromkeys(parameters, torch.full((K,), rate, requires_grad=True))"), "share one"),
        (MAKE.format(result="{n: torch.zeros(K, requires_grad=True) for n in parameters}"), "every rate is to start"),
        (MAKE.format(result="{n: [rate] * K for n in parameters}"), "cannot train it"),
        (MAKE.format(result="[torch.full((K,), rate, requires_grad=True) for n in parameters]"), "A dict from"),
        (
            MAKE.format(result="{n: torch.full((K + 1,), rate, requires_grad=True) for n in parameters}"),
            "one rate per step",
        ),
        (MAKE.format(result="{'alpha': torch.full((K,), rate, requires_grad=True)}"), "The names are to be"),
    ],
    "ex-learn": [
        (learn(trained="[theta]", used="alpha[k].item()", at_test="rate"), "have not moved: either"),
        (learn(used="alpha[k].item()", at_test="rate"), "have not moved: either"),
        (learn(used="alpha[k].detach()"), "have not moved: either"),
        (learn(trained="[theta]"), "the optimiser does not have them"),
        (learn(trained="[theta]", at_test="rate"), "the optimiser does not have them"),
        (learn(at_test="rate"), "thrown away at test"),
        (learn(used="alpha[k].clamp(min=0)"), "is there a bound"),
        (learn(bound="alpha.data.clamp_(min=0)"), "is there a bound"),
        (learn(bound="alpha.data.clamp_(min=1e-4)"), "is there a bound"),
        (learn(bound="alpha.data.clamp_(max=1)"), "is there a bound"),
        (learn(bound="alpha.data.clamp_(0, 1)"), "is there a bound"),
        (learn(at_test="alpha[k].clamp(min=0)"), "the test loss is not"),
        (learn(graph="False"), "The rates differ"),
        (learn(reduce="sum"), "The rates differ"),
        (learn(optimiser="Adam"), "The rates differ"),
        (learn(tested="query_loss"), "the test loss is not"),
        (learn(at_test="alpha[0]"), "the test loss is not"),
        (learn(result="alpha"), "Return two things"),
    ],
}

# Right answers in other styles: by autograd, as an array or a list, in float32, as parameters of a module.
RIGHT = {
    "ex-shared": [
        SHARED.format(result="float((h * d) @ (h * d) / ((h * d) @ (h * (h * d))))"),
        """
def best_shared(h, d):
    import numpy as np

    g = h.numpy() * d.numpy()
    return np.float32(g @ g / (g * h.numpy() * g).sum())
""",
    ],
    "ex-by-alpha": [
        by_alpha(result="[row.tolist() for row in rows[::-1]]"),
        """
def by_alpha(support_loss, query_loss, path, alpha):
    alpha = alpha.clone().requires_grad_()
    point = path[0].clone().requires_grad_()
    for rates in alpha:
        (g,) = torch.autograd.grad(support_loss(point), point, create_graph=True)
        point = point - rates * g
    return torch.autograd.grad(query_loss(point), alpha)[0].float()
""",
    ],
    "ex-make": [
        """
def make_step_sizes(parameters, rate, K):
    start = {name: p.new_full((K,), rate) for name, p in parameters.items()}
    return {name: torch.nn.Parameter(value) for name, value in start.items()}
""",
        MAKE.format(result="{n: torch.tensor([rate] * K, requires_grad=True) for n in parameters}"),
    ],
    "ex-learn": [
        learn(result="[alpha.detach().numpy(), query_loss(point).item()]"),
        """
def learn(train_tasks, test_task, theta, rate, K, beta, outer_steps):
    theta, alpha = theta.clone(), theta.new_full((K,), rate)

    def after(theta, alpha, task):
        support_loss, query_loss = task
        for k in range(K):
            theta = theta - alpha[k] * torch.func.grad(support_loss)(theta)
        return query_loss(theta)

    def meta_loss(theta, alpha):
        return sum(after(theta, alpha, task) for task in train_tasks) / len(train_tasks)

    for _ in range(outer_steps):
        g, slope = torch.func.grad(meta_loss, argnums=(0, 1))(theta, alpha)
        theta, alpha = theta - beta * g, alpha - beta * slope
    return alpha, after(theta, alpha, test_task)
""",
    ],
}

BEAT = """
def learn_rates(tasks, theta, rate):
    alpha = {start}.requires_grad_()
    optimiser = torch.optim.{optimiser}([alpha], lr={lr})
    for _ in range({steps}):
        losses = [query(theta - alpha * torch.func.grad(support)(theta)) for support, query in tasks]
        optimiser.zero_grad()
        torch.stack(losses).mean().backward()
        optimiser.step()
    return {result}
"""
RIGHT_BEAT = {
    "start": "torch.full_like(theta, rate)", "optimiser": "Adam", "lr": "0.03", "steps": "300", "result": "alpha",
}  # fmt: skip


def beat(**changes: str) -> str:
    return BEAT.format(**{**RIGHT_BEAT, **changes})


WRONG["ex-beat"] = [
    (beat(steps="0"), "still at their start"),
    (beat(start="torch.tensor(rate, dtype=theta.dtype)", result="alpha.expand(3)"), "All rates are equal"),
    (beat(start="torch.tensor(rate, dtype=theta.dtype)"), "One rate for each of the 3 entries"),
    (beat(optimiser="SGD", lr="0.001", steps="100"), "along entry 0, whose rate is too small"),
    (beat(optimiser="SGD", lr="10", steps="400"), "no finite number"),
    (beat(optimiser="SGD", lr="0.01", steps="300", start="torch.full_like(theta, 1)"), "more than 100 times the loss"),
    (beat(steps="30"), "along entry 0, whose rate is too small"),
    (beat(result="1 + 0 * alpha + torch.arange(3) / 10"), "makes things worse"),
    (beat(result="[alpha]* 2"), "One rate for each"),
]
RIGHT["ex-beat"] = [
    beat(result="alpha.detach().float().numpy()"),
    """
def learn_rates(tasks, theta, rate):
    support = tasks[0][0]
    return [1 / support_h for support_h in torch.func.hessian(support)(theta).diagonal().tolist()]
""",
]
