"""Typical wrong answers to the exercises of chapter 7: what stands in the stub's place, and what the check must say."""

from __future__ import annotations

WEIGHTS = """
def annealed_weights(K, epoch, epochs):
    if {over}:
        return [0.0] * (K - 1) + [1.0]
    early = {early}
    last = {last}
    return {result}
"""
FLIP = """
def flip_epoch(losses_a, losses_b, epochs):
    K = len(losses_a)
    for epoch in range(epochs + 1):
        weights = {weights}
        if {prefers}:
            return {result}
"""
LOSS = """
def meta_loss(losses, outer_step, steps_per_epoch, epochs):
    K = len(losses) - 1
    weights = mamlkit.AnnealedMultiStep(epochs).weights(K, {epoch})
    return {result}
"""
GRADIENT = """
def multi_step_gradient(support_loss, query_loss, theta, alpha, weights):
    grad, K = torch.func.grad, len(weights)
    path = [theta]
    for _ in range(K):
        path.append(path[-1] - alpha * grad(support_loss)(path[-1]))
    adjoint = torch.zeros_like(theta)
    for k in range(K, 0, -1):
        {join}
        {back}
    return {result}
"""
SPREAD = """
def spreads(maml, other):
    return {result}
"""
OVER = "epoch >= epochs"
EARLY = "max(1 / K - epoch / (K * epochs), 0.03 / K)"
LAST = "min(1 / K + epoch * (K - 1) / (K * epochs), 1 - (K - 1) * 0.03 / K)"
ROW = "[early] * (K - 1) + [last]"
ANNEALED = "mamlkit.AnnealedMultiStep(epochs).weights(K, epoch)"
B_WINS = "weights @ losses_b < weights @ losses_a"
EPOCH = "outer_step // steps_per_epoch"
JOIN = "adjoint = adjoint + weights[k - 1] * grad(query_loss)(path[k])"
BACK = "adjoint = adjoint - alpha * torch.autograd.functional.hvp(support_loss, path[k - 1], adjoint)[1]"

WRONG = {
    "ex-weights": [
        (
            WEIGHTS.format(
                over=OVER,
                early="1 / K - epoch / (K * epochs)",
                last="1 / K + epoch * (K - 1) / (K * epochs)",
                result=ROW,
            ),
            "The floor is missing: before",
        ),
        (
            WEIGHTS.format(
                over=OVER,
                early="max(1 / K - epoch / (K * epochs), 0.03)",
                last="min(1 / K + epoch * (K - 1) / (K * epochs), 1 - (K - 1) * 0.03)",
                result=ROW,
            ),
            "0.03/K for each early step, not 0.03",
        ),
        (
            WEIGHTS.format(over=OVER, early=EARLY, last="1 / K + epoch * (K - 1) / (K * epochs)", result=ROW),
            "the sum is above 1",
        ),
        (WEIGHTS.format(over="False", early=EARLY, last=LAST, result=ROW), "here the early ones keep their floor"),
        (WEIGHTS.format(over="epoch > epochs", early=EARLY, last=LAST, result=ROW), "Epoch E itself is one too many"),
        (
            WEIGHTS.format(over="K == 1", early=EARLY, last=LAST, result="[1 / K] * K"),
            "the plain mean",
        ),
        (WEIGHTS.format(over="True", early="0", last="0", result="0"), "the last step alone"),
        (
            "def annealed_weights(K, epoch, epochs):\n"
            "    return mamlkit.AnnealedMultiStep(epochs).weights(K, epoch).flip(0)",
            "in the wrong order",
        ),
        (
            WEIGHTS.format(
                over=OVER,
                early="max(1 / K - epoch / epochs, 0.03 / K)",
                last="min(1 - (K - 1) * (1 / K - epoch / epochs), 1 - (K - 1) * 0.03 / K)",
                result=ROW,
            ),
            "here it falls by 1/E",
        ),
        (WEIGHTS.format(over=OVER, early=EARLY, last="1 / K", result=ROW), "does not grow"),
        (
            "def annealed_weights(K, epoch, epochs):\n"
            "    return K * mamlkit.AnnealedMultiStep(epochs).weights(K, epoch)",
            "sum to K",
        ),
        (
            "def annealed_weights(K, epoch, epochs):\n"
            "    return mamlkit.AnnealedMultiStep(epochs).weights(K, epoch + 1)",
            "counted from 0",
        ),
        (WEIGHTS.format(over=OVER, early=EARLY, last=LAST, result="[early, last]"), "was expected"),
    ],
    "ex-flip": [
        (FLIP.format(weights=ANNEALED, prefers=B_WINS, result="epoch - 1"), "the last epoch in which A"),
        (FLIP.format(weights=ANNEALED, prefers=B_WINS, result="epoch + 1"), "one too many"),
        (FLIP.format(weights=ANNEALED, prefers=B_WINS, result="epochs"), "This is E"),
        (
            FLIP.format(
                weights="torch.tensor([(1 - epoch / epochs) / K] * K).double()\n        weights[-1] += epoch / epochs",
                prefers=B_WINS,
                result="epoch",
            ),
            "leaves out the floor",
        ),
        (
            FLIP.format(weights=ANNEALED, prefers="weights @ losses_a < weights @ losses_b", result="epoch"),
            "first epoch in which A is preferred",
        ),
        (
            "def flip_epoch(losses_a, losses_b, epochs):\n"
            "    lower = (losses_b < losses_a).tolist()\n"
            "    return next(k + 1 for k in range(len(lower)) if all(lower[k:]))",
            "the step, not the epoch",
        ),
        (
            "def flip_epoch(losses_a, losses_b, epochs):\n"
            "    gap = (losses_a.mean() - losses_b.mean()).item()\n"
            "    end = (losses_a[-1] - losses_b[-1]).item()\n"
            "    return epochs * gap / (gap - end)",
            "where the two lines cross",
        ),
        (
            FLIP.replace("range(epochs + 1)", "range(epochs)").format(weights=ANNEALED, prefers=B_WINS, result="epoch"),
            "no epoch was returned: in epoch E at the latest",
        ),
    ],
    "ex-loss": [
        (LOSS.format(epoch=EPOCH, result="(weights @ losses[1:]).sum()"), "the sum over the tasks"),
        (LOSS.format(epoch=EPOCH, result="(weights[:, None] * losses[1:]).mean()"), "divided by K"),
        (LOSS.format(epoch=EPOCH, result="losses[1:].sum()"), "without weights"),
        (LOSS.format(epoch="outer_step", result="(weights @ losses[1:]).mean()"), "Outer steps are counted"),
        (
            LOSS.format(epoch="-(-outer_step // steps_per_epoch)", result="(weights @ losses[1:]).mean()"),
            "The epoch is rounded up",
        ),
        (LOSS.format(epoch=EPOCH, result="(weights @ losses[:-1]).mean()"), "one step off"),
        (LOSS.format(epoch=EPOCH, result="(weights.flip(0) @ losses[1:]).mean()"), "wrong order"),
        (LOSS.format(epoch=EPOCH, result="losses[1:].mean()"), "the plain mean"),
        (LOSS.format(epoch=EPOCH, result="losses.mean()"), "the one before adaptation included"),
        (LOSS.format(epoch=EPOCH, result="losses[-1].mean()"), "Only the last step counts"),
        (LOSS.format(epoch=f"{EPOCH} + 1", result="(weights @ losses[1:]).mean()"), "counted from 0"),
        (LOSS.format(epoch=EPOCH, result="weights @ losses[1:]"), "one number per task"),
        (
            LOSS.replace("len(losses) - 1", "len(losses)").format(epoch=EPOCH, result="(weights @ losses).mean()"),
            "The loss before adaptation is in it",
        ),
        (LOSS.format(epoch="outer_step / steps_per_epoch", result="(weights @ losses[1:]).mean()"), "raised"),
        (LOSS.format(epoch=EPOCH, result="(weights @ losses[1:]).mean().item()"), "no tensor with a graph"),
        (LOSS.format(epoch=EPOCH, result="(weights @ losses[1:]).mean().detach()"), "no tensor with a graph"),
    ],
    "ex-gradient": [
        (
            GRADIENT.format(join=JOIN.replace("weights[k - 1] * ", ""), back=BACK, result="adjoint"),
            "weights are missing",
        ),
        (GRADIENT.format(join=JOIN.replace("weights[k - 1]", "1 / K"), back=BACK, result="adjoint"), "plain mean"),
        (
            GRADIENT.format(join=f"if k == K: {JOIN.replace('weights[k - 1] * ', '')}", back=BACK, result="adjoint"),
            "MAML's gradient",
        ),
        (GRADIENT.format(join=f"if k == K: {JOIN}", back=BACK, result="adjoint"), "with its weight"),
        (GRADIENT.format(join=JOIN, back="pass", result="adjoint"), "There are no factors"),
        (GRADIENT.format(join=BACK, back=JOIN, result="adjoint"), "joins before the factor"),
        (
            GRADIENT.format(join="pass", back="pass", result="meta_all(support_loss, query_loss, path, alpha, weights)")
            + "\n\ndef meta_all(support_loss, query_loss, path, alpha, weights):\n"
            "    hvp = torch.autograd.functional.hvp\n"
            "    total = sum(w * torch.func.grad(query_loss)(p) for w, p in zip(weights, path[1:]))\n"
            "    for p in reversed(path[:-1]):\n"
            "        total = total - alpha * hvp(support_loss, p, total)[1]\n"
            "    return total",
            "Every term goes through all K factors",
        ),
        (
            GRADIENT.format(
                join="if k < K: adjoint = adjoint + weights[k - 1] * grad(query_loss)(path[k])",
                back=BACK,
                result="adjoint",
            ),
            "last step's term is missing",
        ),
        (
            GRADIENT.format(
                join=JOIN,
                back=f"if k > 1: {BACK}",
                result="adjoint",
            ),
            "at theta^(0), is missing",
        ),
        (GRADIENT.format(join=JOIN.replace("path[k]", "path[K]"), back=BACK, result="adjoint"), "taken at theta^(K)"),
        (
            GRADIENT.format(join=JOIN.replace("path[k]", "theta"), back=BACK, result="adjoint"),
            "Every query gradient is taken at theta;",
        ),
        (GRADIENT.format(join=JOIN.replace("k - 1", "K - k"), back=BACK, result="adjoint"), "wrong order"),
        (GRADIENT.format(join=JOIN, back=BACK.replace("path[k - 1]", "theta"), result="adjoint"), "Every Hessian"),
        (GRADIENT.format(join=JOIN.replace("query_loss", "support_loss"), back=BACK, result="adjoint"), "support loss"),
        (
            GRADIENT.format(join=JOIN, back=BACK.replace("path[k - 1]", "path[k]"), result="adjoint"),
            "where its step ends",
        ),
        (
            GRADIENT.format(join=JOIN, back=BACK.replace("path[k - 1]", "path[K]"), result="adjoint"),
            "where no step starts",
        ),
        (
            GRADIENT.format(join=JOIN.replace("path[k]", "path[k - 1]"), back=BACK, result="adjoint"),
            "Each query gradient is taken where the step starts",
        ),
        (
            "def multi_step_gradient(support_loss, query_loss, theta, alpha, weights):\n"
            "    point, total = theta, 0\n"
            "    for k, w in enumerate(weights, 1):\n"
            "        point = point - alpha * torch.func.grad(support_loss)(point)\n"
            "        term = w * torch.func.grad(query_loss)(point)\n"
            "        for _ in range(k):\n"
            "            term = term - alpha * torch.autograd.functional.hvp(support_loss, point, term)[1]\n"
            "        total = total + term\n"
            "    return total",
            "Each term has its Hessians at theta^(k), where",
        ),
        (GRADIENT.format(join=JOIN, back=BACK, result="-adjoint"), "sign is wrong"),
    ],
}

# Right answers in other styles: with arrays, as lists, in float32, by autograd.
RIGHT = {
    "ex-weights": [
        WEIGHTS.format(over=OVER, early=EARLY, last=LAST, result="torch.tensor([[*[early] * (K - 1), last]])"),
        """
def annealed_weights(K, epoch, epochs):
    import numpy as np

    early = 0 if epoch >= epochs else max((1 - epoch / epochs) / K, 0.03 / K)
    w = np.full(K, early, dtype=np.float32)
    w[-1] = 1 - (K - 1) * early
    return w
""",
    ],
    "ex-flip": [
        FLIP.format(weights=ANNEALED, prefers=B_WINS, result="torch.tensor(epoch)"),
        """
def flip_epoch(losses_a, losses_b, epochs):
    e = 0
    while True:
        w = mamlkit.AnnealedMultiStep(epochs).weights(len(losses_a), e)
        if (w * losses_a).sum() > (w * losses_b).sum():
            return float(e)
        e += 1
""",
    ],
    "ex-loss": [
        LOSS.format(epoch=EPOCH, result="(weights @ losses.mean(1)[1:]).float()"),
        LOSS.format(epoch=EPOCH, result="[sum(w * row.mean() for w, row in zip(weights, losses[1:]))]"),
    ],
    "ex-gradient": [
        """
def multi_step_gradient(support_loss, query_loss, theta, alpha, weights):
    theta = theta.clone().requires_grad_()
    point, total = theta, 0
    for weight in weights:
        (g,) = torch.autograd.grad(support_loss(point), point, create_graph=True)
        point = point - alpha * g
        total = total + weight * query_loss(point)
    return torch.autograd.grad(total, theta)[0].float()
""",
        """
def multi_step_gradient(support_loss, query_loss, theta, alpha, weights):
    def objective(theta):
        losses = []
        for _ in weights:
            theta = theta - alpha * torch.func.grad(support_loss)(theta)
            losses.append(query_loss(theta))
        return weights @ torch.stack(losses)

    return torch.func.grad(objective)(theta).tolist()
""",
    ],
}

LOOP = """
def train(tasks, theta, alpha, K, E, epoch_length, outer_steps, beta):
    theta = theta.clone().requires_grad_()
    annealed = mamlkit.AnnealedMultiStep(E)
    sgd = torch.optim.SGD([theta], lr=beta)
    for step in range(outer_steps):
        weights = annealed.weights(K, {epoch})
        losses = []
        for support_loss, query_loss in tasks:
            w, total = theta, 0.0
            for k in range(K):
                {first}
                (g,) = torch.autograd.grad(support_loss(w), w, {graph}=True)
                w = w - alpha * g
                {then}
            losses.append(total)
        sgd.zero_grad()
        torch.stack(losses).{reduce}().backward()
        sgd.step()
    return {result}
"""
GRADED = "total = total + weights[k] * query_loss(w)"
RIGHT_LOOP = {
    "epoch": "step // epoch_length", "first": "pass", "then": GRADED, "graph": "create_graph", "reduce": "mean",
    "result": "theta",
}  # fmt: skip


def loop(**changes: str) -> str:
    return LOOP.format(**{**RIGHT_LOOP, **changes})


BEFORE, FIRST_ORDER = {"first": GRADED, "then": "pass"}, {"graph": "retain_graph"}
WRONG["ex-loop"] = [
    (loop(epoch="step", **BEFORE, **FIRST_ORDER), "All three mistakes are left"),
    (loop(epoch="step"), "One mistake is left: the weights are those of the outer step"),
    (loop(**BEFORE), "One mistake is left: the first weight belongs"),
    (loop(**FIRST_ORDER), "One mistake is left: the inner gradient has no graph"),
    (loop(epoch="step", **BEFORE), "Two mistakes are left: the weights"),
    (loop(**BEFORE, **FIRST_ORDER), "Two mistakes are left: the first weight"),
    (loop(reduce="sum"), "takes their mean"),
    (loop(epoch="0"), "The weights never change"),
    (loop(result="theta * 0 + 1"), "is right, and this gives"),
]
RIGHT["ex-loop"] = [
    loop(result="theta.detach().numpy()"),
    """
def train(tasks, theta, alpha, K, E, epoch_length, outer_steps, beta):
    def graded(theta, weights):
        total = 0
        for support_loss, query_loss in tasks:
            w = theta
            for weight in weights:
                w = w - alpha * torch.func.grad(support_loss)(w)
                total = total + weight * query_loss(w) / len(tasks)
        return total

    for step in range(outer_steps):
        weights = mamlkit.AnnealedMultiStep(E).weights(K, step // epoch_length).tolist()
        theta = theta - beta * torch.func.grad(graded)(theta, weights)
    return theta.tolist()
""",
]
