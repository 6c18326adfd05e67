"""Typical wrong answers to the exercises of chapter 6: what stands in the stub's place, and what the check must say."""

from __future__ import annotations

SEEN = """
def seen(losses):
    return {maml}, {equal}
"""
KINDS = """
def kinds(losses):
    start, last, lowest = losses[0], losses[-1], losses.cummin(0).values
    rise = ({rise}).amax(0)
    overshoots = ~(rise <= {allowed})
    slow = {slow}
    return {result}
"""
COMPARE = """
def compare(a, b):
    d = {difference}
    return d.mean(), {width}
"""
RATE = """
def largest_rate(f, theta):
    H = torch.func.hessian(f)(theta)
    h = torch.linalg.eigvalsh(H)
    return {result}
"""
RISE, TENTH, HALF = "losses[1:] - lowest[:-1]", "0.1 * start", "last > 0.5 * start"
CODE = "torch.where(overshoots, 1, torch.where(slow, 2, 0))"
PAIRED, WIDTH = "(a - b).mean(1)", "2.776 * d.std() / 5 ** 0.5"


def kinds(rise: str = RISE, allowed: str = TENTH, slow: str = HALF, result: str = CODE) -> str:
    return KINDS.format(rise=rise, allowed=allowed, slow=slow, result=result)


WRONG = {
    "ex-seen": [
        (SEEN.format(maml="losses[-1]", equal="losses.mean()"), "The start is in the mean"),
        (SEEN.format(maml="losses[-1]", equal="losses[1:].sum()"), "the sum over the steps"),
        (SEEN.format(maml="losses[-1]", equal="losses[:-1].mean()"), "The last step is missing"),
        (SEEN.format(maml="losses[-1]", equal="losses[1:].sum() / len(losses)"), "divided by K + 1"),
        (SEEN.format(maml="losses.min()", equal="losses[1:].mean()"), "not the smallest"),
        (SEEN.format(maml="losses[1]", equal="losses[1:].mean()"), "not the one after the first"),
        (SEEN.format(maml="losses[1:].mean()", equal="losses[-1]"), "the other way round"),
        (SEEN.format(maml="losses[min(5, len(losses) - 1)]", equal="losses[1:].mean()"), "is right, and this gives"),
        ("def seen(losses):\n    return losses[-1]", "A vector of 2 entries was expected"),
    ],
    "ex-kinds": [
        (kinds(rise="losses[1:] - start"), "measured from the start"),
        (kinds(rise="losses[1:] - losses[:-1]"), "of a single step"),
        (
            kinds(result="torch.where((losses[1:] - losses[:-1] > 0.1 * start).any(0), 1, torch.where(slow, 2, 0))"),
            "of a single step; compare with the lowest loss so far. And nan",
        ),
        (
            kinds(result="torch.where((losses[1:] > 1.1 * start).any(0), 1, torch.where(slow, 2, 0))"),
            "measured from the start; it is measured from the lowest loss so far. And nan",
        ),
        (
            kinds(allowed="0.2 * start"),
            "The losses 2, 0.5, 0.59, 0.68, 0.77 are of kind 1 (after step 4 the loss is 0.77, the lowest before it 0.5, and a "
            "tenth of the start 0.2); this gives 0.",
        ),
        (kinds(rise="losses[1:] - lowest[-1]"), "lowest loss of the whole path"),
        (kinds(slow="last > 0.4 * start"), "are of kind 0 (no loss stands more than"),
        (kinds(rise="losses[1:] - 1.1 * lowest[:-1]", allowed="0"), "A tenth of the lowest"),
        (kinds(result="torch.where(slow, 2, torch.where(overshoots, 1, 0))"), "Slow comes before overshooting"),
        (kinds(slow="lowest[-1] > 0.5 * start"), "judged by the lowest loss"),
        (kinds(slow="last < 0.5 * start"), "the wrong way round"),
        (kinds(allowed="0"), "Any rise counts"),
        (kinds(result="torch.where(rise > 0.1 * start, 1, torch.where(slow, 2, 0))"), "a loss that is no number"),
        (
            kinds(result="torch.where((losses[1:] - lowest[:-1] > 0.1 * start).any(0), 1, torch.where(slow, 2, 0))"),
            "A loss that is no number",
        ),
        (kinds(result="overshoots.long()"), "No task is slow"),
        (kinds(result="losses"), "A vector of"),
        (kinds(rise="losses[2:] - losses[1:].cummin(0).values[:-1]"), "The start is left out"),
        (kinds(allowed="0.1"), "A rise of 0.1 is allowed"),
        (kinds(slow="last >= 0.5 * start"), "10, 4, 5, 4.5, 5 are of kind 0"),
        (
            kinds(result="torch.where((rise >= 0.1 * start) | overshoots, 1, torch.where(slow, 2, 0))"),
            "10, 4, 5, 4.5, 5 are of kind 0",
        ),
    ],
    "ex-compare": [
        (COMPARE.format(difference=PAIRED, width="1.96 * d.std() / 5 ** 0.5"), "1.96 is for many values"),
        (COMPARE.format(difference="(a - b).flatten()", width="1.96 * d.std() / len(d) ** 0.5"), "over all tasks"),
        (
            COMPARE.format(difference=PAIRED, width="2.776 * (a.mean(1).var() / 5 + b.mean(1).var() / 5) ** 0.5"),
            "treated as unrelated",
        ),
        (COMPARE.format(difference=PAIRED, width="2.776 * d.std(correction=0) / 5 ** 0.5"), "population's"),
        (COMPARE.format(difference=PAIRED, width="2.776 * d.std()"), "not divided by the root"),
        (COMPARE.format(difference=PAIRED, width="d.std() / 5 ** 0.5"), "standard error"),
        (COMPARE.format(difference="(b - a).mean(1)", width=WIDTH), "a minus b"),
        (COMPARE.format(difference=PAIRED, width="2 * " + WIDTH), "whole width"),
        (COMPARE.format(difference="(a - b).mean(0)", width="1.96 * d.std() / 40 ** 0.5"), "average over tasks first"),
        (COMPARE.format(difference="(a - b).mean(0)", width=WIDTH), "The wrong axis is averaged: a row"),
        (
            COMPARE.format(difference="(a - b).mean(0)", width="2.776 * d.std() / len(d) ** 0.5"),
            "a number for each task",
        ),
        (COMPARE.format(difference="(a - b).mean(0)", width="1.96 * d.std() / 5 ** 0.5"), "axis is averaged, and 1.96"),
        ("def compare(a, b):\n    return mamlkit.interval((a - b).mean(1))", "1.96 is for many values"),
    ],
    "ex-rate": [
        (RATE.format(result="1 / h[-1]"), "up to twice that"),
        (RATE.format(result="h[-1]"), "the largest curvature h itself"),
        (RATE.format(result="2 / h[0]"), "smallest curvature"),
        (RATE.format(result="2 / h.abs().max()"), "largest in size"),
        (
            """
def largest_rate(f, theta):
    v = torch.ones_like(theta)
    for _ in range(2000):
        v = torch.autograd.functional.hvp(f, theta, v)[1]
        h = v.norm()
        v = v / h
    return 2 / h.float()
""",
            "largest in size",
        ),
        (RATE.format(result="2 / h[h.abs().argmax()]"), "as power iteration finds it"),
        (RATE.format(result="2 / H.trace()"), "the trace"),
        (RATE.format(result="2 / H.diagonal().max()"), "Only the diagonal"),
        (RATE.format(result="2 / H.norm()"), "norm of the whole matrix"),
        (RATE.format(result="2 / H"), "A number was expected"),
    ],
}

# Right answers in other styles: with numpy, by loops, in float32, as lists.
RIGHT = {
    "ex-seen": [
        SEEN.format(maml="losses[-1].item()", equal="sum(losses[1:].tolist()) / (len(losses) - 1)"),
        """
def seen(losses):
    import mamlkit

    steps = len(losses) - 1
    weights = torch.stack([mamlkit.FinalStep().weights(steps), mamlkit.MultiStep().weights(steps)])
    return (weights @ losses[1:].double()).float()
""",
    ],
    "ex-kinds": [
        """
def kinds(losses):
    found = []
    for column in losses.T.tolist():
        lowest, kind = column[0], 0
        for value in column[1:]:
            if not value - lowest <= 0.1 * column[0]:
                kind = 1
            lowest = min(lowest, value)
        if kind == 0 and column[-1] > 0.5 * column[0]:
            kind = 2
        found.append(kind)
    return found
""",
        kinds(result=f"({CODE}).float()"),
    ],
    "ex-compare": [
        """
def compare(a, b):
    import numpy as np

    d = a.numpy().mean(1) - b.numpy().mean(1)
    return [d.mean(), 2.776 * d.std(ddof=1) / np.sqrt(5)]
""",
        COMPARE.format(difference=PAIRED, width="2.776446 * d.std() / 5 ** 0.5"),
    ],
    "ex-rate": [
        """
def largest_rate(f, theta):
    basis = torch.eye(len(theta), dtype=theta.dtype)
    H = torch.stack([torch.autograd.functional.hvp(f, theta, v)[1] for v in basis])
    return 2 / torch.linalg.eigh(H).eigenvalues.max().float()
""",
        RATE.format(result="min(2 / x for x in h.tolist() if x > 0)"),
    ],
}

GUARD = """
def careful(f, theta, alpha, K):
    path, rate = [theta], alpha
    for _ in range(K):
        here = path[-1]
        {begin}
        g = torch.func.grad(f)(here)
        {loop} not f(here - rate * g) <= f({against}):
            rate = rate / 2
        path.append(here - rate * g)
    return {result}
"""
RIGHT_GUARD = {"begin": "rate = alpha", "loop": "while", "against": "here", "result": "torch.stack(path)"}


def guard(**changes: str) -> str:
    return GUARD.format(**{**RIGHT_GUARD, **changes})


WRONG["ex-guard"] = [
    (guard(loop="while False and"), "plain gradient descent"),
    (guard(begin="pass"), "every step begins with alpha"),
    (guard(loop="if"), "halved once at most"),
    (guard(against="theta"), "compared with the loss at theta"),
    (GUARD.replace("not f(here - rate * g) <=", "f(here - rate * g) >").format(**RIGHT_GUARD), "comparison with nan"),
    (guard(result="path[-1]"), "the last point alone"),
    (GUARD.replace("not f(here - rate * g) <=", "not f(here - rate * g) <").format(**RIGHT_GUARD), "At a minimum"),
    (
        """
def careful(f, theta, alpha, K):
    path = [theta]
    for _ in range(K):
        here, rate = path[-1], alpha
        new = here - rate * torch.func.grad(f)(here)
        while not f(new) <= f(here):
            new = new - rate * torch.func.grad(f)(here)
        path.append(new)
    return torch.stack(path)
""",
        "Does each try begin where the step begins",
    ),
    (
        """
def careful(f, theta, alpha, K):
    path = [theta]
    for _ in range(K):
        here, rate = path[-1], alpha
        g = torch.func.grad(f)(here)
        for _ in range(10):
            if f(here - rate * g) <= f(here):
                break
            rate = rate / 2
        path.append(here - rate * g)
    return torch.stack(path)
""",
        "needs 20 halvings",
    ),
    (guard(result="torch.stack(path[1:])"), "The start is missing"),
    (
        """
def careful(f, theta, alpha, K):
    path = [theta]
    for _ in range(K):
        here, rate = path[-1], alpha
        g = torch.func.grad(f)(here)
        new = here - rate * g
        while f(new) > f(here):
            rate = rate / 2
            new = new - rate * g
            if rate < 1e-17:
                break
        path.append(new)
    return torch.stack(path)
""",
        "is not taken back",
    ),
    (
        """
def careful(f, theta, alpha, K):
    path = [theta]
    for _ in range(K):
        new = path[-1] - alpha * torch.func.grad(f)(path[-1])
        path.append(new if f(new) <= f(path[-1]) else path[-1])
    return torch.stack(path)
""",
        "is left out",
    ),
]
RIGHT["ex-guard"] = [
    """
def careful(f, theta, alpha, K):
    point, points = theta.clone().requires_grad_(), [theta.tolist()]
    for _ in range(K):
        value = f(point)
        (g,) = torch.autograd.grad(value, point)
        new = next(new for n in range(60) if f(new := point - alpha / 2**n * g) <= value)
        point = new.detach().requires_grad_()
        points.append(point.tolist())
    return points
""",
]
