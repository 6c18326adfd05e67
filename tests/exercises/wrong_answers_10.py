"""Typical wrong answers to the exercises of chapter 10: what stands in the stub's place, and what the check must say."""

from __future__ import annotations

COSINE = """
def cosine(step, steps, hold, first, last):
    whole, number = steps, step
    step, steps = max(0, step - hold), steps - hold
    return {}
"""
SWITCH = """
def first_order_steps(budget, second_order_steps, first_time, second_time):
    rest = budget - second_order_steps * second_time
    return {}
"""
DISTANCE = "def start_rate(rate, steps, last):\n    return {}"
COMPARE = """
def compare(one, other):
    a, b = {rates}
    apart = {apart}
    half = {half}
    ends = (0, len(one) - 1)
    return apart.mean(), half, {inside}
"""
FAIR = {
    "rates": "one.mean(1).argmin(), other.mean(1).argmin()",
    "apart": "other[b] - one[a]",
    "half": "2.365 * apart.std() / len(apart) ** 0.5",
    "inside": "a not in ends and b not in ends",
}


def compare(**changes: str) -> str:
    return COMPARE.format(**{**FAIR, **changes})


SWING = "math.cos(math.pi * step / steps)"

WRONG = {
    "ex-cosine": [
        (
            COSINE.format("last + 0.5 * (first - last) * (1 + math.cos(math.pi * step / whole))"),
            "stretched over all steps",
        ),
        (COSINE.format("last + 0.5 * (first - last) * (1 + math.cos(math.pi * number / whole))"), "Nothing is held"),
        (
            COSINE.format(
                "last + 0.5 * (first - last) * (1 + math.cos(math.pi * number / whole)) if number >= hold else first"
            ),
            "The rate jumps",
        ),
        (
            COSINE.format("last + 0.5 * (first - last) * (1 + math.cos(math.pi * (number - hold) / steps))"),
            "runs backwards",
        ),
        (COSINE.format(f"last + 0.5 * (first - last) * (1 - {SWING})"), "The rate rises"),
        (COSINE.format(f"last + 0.5 * (first - last) * {SWING}"), "1 + is missing"),
        (COSINE.format(f"last + (first - last) * (1 + {SWING})"), "one half is missing"),
        (COSINE.format("last + 0.5 * (first - last) * (1 + math.cos(step / steps))"), "pi is missing"),
        (COSINE.format("last + 0.5 * (first - last) * (1 + math.cos(2 * math.pi * step / steps))"), "a whole turn"),
        (
            COSINE.format("last + 0.5 * (first - last) * (1 + math.cos(math.pi / 2 * step / steps))"),
            "quarter of a turn",
        ),
        (
            COSINE.format("last + (first - last) * math.cos(math.pi / 2 * step / steps)"),
            "quarter of a turn, steepest at the end",
        ),
        (COSINE.format("first * 0.99**step"), "In one test, with the inputs 37, 107, 7, 0.001, 1e-05,"),
        (COSINE.format("first + (last - first) * step / steps"), "a straight line"),
        (COSINE.format(f"0.5 * first * (1 + {SWING})"), "This ends at 0"),
        (COSINE.format(f"last + 0.5 * first * (1 + {SWING})"), "the swing is first - last"),
        (COSINE.format(f"0.5 * (first - last) * (1 + {SWING})"), "last rate is not added"),
        (COSINE.format(f"first + 0.5 * (last - first) * (1 + {SWING})"), "The rate rises"),
        (COSINE.format("last + 0.5 * (first - last) * (1 + math.cos(180 * step / steps))"), "radians"),
        (COSINE.format("last + 0.5 * (first - last) * (1 + math.cos(math.pi * (step + 1) / steps))"), "one step ahead"),
        (COSINE.format("last + 0.5 * (first - last) * (1 + math.cos(math.pi * step / (steps - 1)))"), "steps - 1"),
        (
            COSINE.format("last + 0.5 * (first - last) * (1 + math.cos(math.pi * max(0, step - 1) / steps))"),
            "one step late",
        ),
        (COSINE.format(f"0.5 * (1 + {SWING})"), "share of the way"),
        (COSINE.format("'cosine'"), "A number was expected"),
    ],
    "ex-switch": [
        (SWITCH.format("rest / first_time"), "round down"),
        (SWITCH.format("round(rest / first_time)"), "round() goes to the nearest"),
        (SWITCH.format("math.ceil(rest / first_time)"), "one too many"),
        (SWITCH.format("budget // first_time"), "are not paid for"),
        (SWITCH.format("int((budget - second_order_steps * first_time) // second_time)"), "changed places"),
        (SWITCH.format("rest // second_time"), "divide it by their time"),
        (SWITCH.format("(budget - second_order_steps * first_time) // first_time"), "cost second_time each"),
        (SWITCH.format("int(rest // first_time) + second_order_steps"), "of the run"),
        (SWITCH.format("rest"), "This is the time that is left, in seconds"),
        (SWITCH.format("int(rest)"), "in whole seconds"),
        (SWITCH.format("int(rest * first_time)"), "divide by it"),
        (SWITCH.format("int(rest // first_time)"), "the answer is 0, not below"),
    ],
    "ex-compare": [
        (compare(apart="one[a] - other[b]"), "The sign is turned"),
        (compare(rates="[one.mean(1).argmin()] * 2"), "best rate of one, and only its place"),
        (compare(rates="[other.mean(1).argmin()] * 2"), "best rate of other, and only its place"),
        (compare(apart="other[a] - one[a]"), "best rate of one: that measures the rate"),
        (compare(apart="other[b] - one[b]"), "best rate of other: that measures the rate"),
        (compare(apart="other.amin(0) - one.amin(0)"), "Each seed has picked"),
        (compare(apart="other[other.amin(1).argmin()] - one[one.amin(1).argmin()]"), "luckiest single run"),
        (compare(apart="other[other.mean(1).argmax()] - one[one.mean(1).argmax()]"), "not the highest"),
        (compare(apart="other.mean(0) - one.mean(0)"), "The rates are averaged"),
        (compare(half="2.365 * ((other[b].var() + one[a].var()) / 8) ** 0.5"), "The seeds are paired"),
        (compare(half="2.365 * apart.std()"), "standard deviation of a seed"),
        (compare(half="2.365 * apart.std() / 8"), "not by the number"),
        (compare(half="apart.std() / 8**0.5"), "2.365 is missing"),
        (compare(half="1.96 * apart.std() / 8**0.5"), "1.96 is for many"),
        (compare(half="2.365 * apart.std(correction=0) / 8**0.5"), "n - 1"),
        (compare(inside="a in ends or b in ends"), "The verdict is turned"),
        (compare(inside="a not in ends"), "best rate of one is looked at"),
        (compare(inside="b not in ends"), "best rate of other is looked at"),
        (compare(inside="a not in ends or b not in ends"), "is not enough"),
        (compare(inside="max(a, b) < len(one) - 1"), "The lower end"),
        (compare(inside="min(a, b) > 0"), "The upper end"),
        (compare(inside="True"), "True each time"),
        (compare(inside="False"), "False each time"),
        ("def compare(one, other):\n    return other.mean() - one.mean()", "3 entries was expected"),
        ("def compare(one, other):\n    return one.best", "AttributeError"),
    ],
    "ex-distance": [
        (DISTANCE.format("2 * rate - last"), "step 0 has no partner."),
        (DISTANCE.format("2 * rate"), "step 0 has no partner among"),
        (DISTANCE.format("2 * steps * rate / (steps + 1)"), "The floor is missing: "),
        (DISTANCE.format("2 * last + 2 * steps * (rate - last) / (steps + 1)"), "counted twice"),
        (DISTANCE.format("2 * steps * (rate - last) / (steps + 1)"), "This is the swing"),
        (DISTANCE.format("last + steps * (rate - last) / (steps + 1)"), "half of the swing"),
        (DISTANCE.format("2 * steps * rate / (steps + 1) - last"), "step T too"),
        (DISTANCE.format("last + 2 * steps * (rate - last) / (steps - 1)"), "is 1, not -1"),
        (DISTANCE.format("rate"), "starts at the constant rate"),
        (DISTANCE.format("steps * rate"), "the sum of the rates"),
        (DISTANCE.format("3 * rate"), "In one test, with the inputs 0.01, 10, 0.001,"),
        (DISTANCE.format("'twice'"), "A number was expected"),
    ],
}

# Right answers in other styles: by PyTorch's own scheduler, as tensors, whole or not, without //.
RIGHT = {
    "ex-cosine": [
        COSINE.format("(first + last) / 2 + (first - last) / 2 * math.cos(math.pi * step / steps)"),
        """
def cosine(step, steps, hold, first, last):
    step, steps = max(0, step - hold), steps - hold
    import torch

    return torch.tensor(last) + (first - last) * torch.cos(torch.tensor(math.pi * step / steps / 2)) ** 2
""",
    ],
    "ex-switch": [
        SWITCH.format("int(max(rest, 0) / first_time)"),
        SWITCH.format("max(0.0, rest // first_time)"),
        SWITCH.format("0 if rest < 0 else int(rest // first_time)"),
    ],
    "ex-compare": [
        compare(inside="bool(0 < a < 3 and 0 < b < 3)"),
        """
def compare(one, other):
    import numpy as np

    a, b = one.numpy(), other.numpy()
    i, j = a.mean(1).argmin(), b.mean(1).argmin()
    d = b[j] - a[i]
    inside = all(0 < k < len(a) - 1 for k in (i, j))
    return np.array([d.mean(), 2.365 * d.std(ddof=1) / np.sqrt(d.size), inside])
""",
    ],
    "ex-distance": [
        DISTANCE.format("last + 2 * steps * (rate - last) / (steps + 1)"),
        """
def start_rate(rate, steps, last):
    import torch

    shares = (1 + torch.cos(math.pi * torch.arange(steps, dtype=torch.float64) / steps)) / 2
    return last + (rate - last) * steps / shares.sum()
""",
        """
def start_rate(rate, steps, last):
    low, high = 0.0, 10 * rate
    for _ in range(100):
        first = (low + high) / 2
        rates = [last + (first - last) * (1 + math.cos(math.pi * t / steps)) / 2 for t in range(steps)]
        low, high = (first, high) if sum(rates) < steps * rate else (low, first)
    return first
""",
    ],
}

CLOCKS = """
def train(tasks, theta, alpha, K, E, F, epochs, epoch_length, beta):
    theta = {start}.requires_grad_()
    annealed = mamlkit.AnnealedMultiStep(E)
    sgd = torch.optim.SGD([theta], lr=beta)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(sgd, T_max={length})
    for epoch in {epochs}:
        weights = annealed.weights(K, {weights})
        for step in range(epoch_length):
            order = 1 if {first} else 2
            loss = 0.0
            for support_loss, query_loss in tasks:
                w = theta
                for k in range(K):
                    (g,) = torch.autograd.grad(support_loss(w), w, create_graph=order == 2)
                    {move}
                    loss = loss + weights[k] * query_loss(w) / len(tasks)
            sgd.zero_grad()
            loss.backward()
            {before}
            sgd.step()
            {inside}
        {outside}
    return {result}
"""
MENDED = {
    "start": "theta.clone()", "length": "epochs * epoch_length", "epochs": "range(epochs)", "weights": "epoch",
    "first": "epoch < F", "move": "w = w - alpha * g", "before": "pass", "inside": "cosine.step()", "outside": "pass",
    "result": "theta",
}  # fmt: skip


def clocks(**changes: str) -> str:
    return CLOCKS.format(**{**MENDED, **changes})


FROM_ONE, WITHIN = {"epochs": "range(1, epochs + 1)"}, {"first": "step < F"}
SLOW = {"inside": "pass", "outside": "cosine.step()"}
WRONG["ex-clocks"] = [
    (clocks(**FROM_ONE, **WITHIN, **SLOW), "All three mistakes are left: epochs are counted from 1, so the weights"),
    (clocks(**FROM_ONE), "One mistake is left: epochs are counted from 1, so weights and order are"),
    (clocks(**FROM_ONE, first="epoch <= F"), "One mistake is left: epochs are counted from 1, so the weights are"),
    (clocks(**FROM_ONE, weights="epoch - 1"), "One mistake is left: epochs are counted from 1, so the order is"),
    (clocks(**WITHIN), "One mistake is left: the order follows the outer step within"),
    (clocks(**SLOW), "One mistake is left: the cosine is made for the outer steps"),
    (clocks(**FROM_ONE, **WITHIN), "Two mistakes are left: epochs are counted from 1, so the weights are"),
    (clocks(**FROM_ONE, **SLOW), "Two mistakes are left: epochs are counted from 1, so weights and order are"),
    (clocks(**WITHIN, **SLOW), "Two mistakes are left: the order"),
    (clocks(first="epoch * epoch_length + step < F"), "step of the run now"),
    (clocks(first="epoch <= F"), "an epoch too long"),
    (clocks(first="epoch >= F"), "changed places"),
    (clocks(length="epochs", **SLOW), "in stairs"),
    (clocks(length="epochs"), "comes up again"),
    (clocks(outside="cosine.step()"), "once too often per epoch"),
    (clocks(before="cosine.step()", inside="pass"), "one outer step ahead"),
    (clocks(inside="pass"), "The rate stays at beta"),
    (clocks(start="theta"), "changed in place"),
    (clocks(start="theta", **SLOW), "changed in place"),
    (clocks(move="w -= alpha * g"), "raised RuntimeError"),
    (clocks(result="theta + 1"), "is right, and this gives"),
    (clocks(result="loss"), "3 entries was expected"),
    (clocks(weights="epoch // epoch_length"), "is right, and this gives"),
]
RIGHT["ex-clocks"] = [
    clocks(**FROM_ONE, weights="epoch - 1", first="epoch <= F"),
    clocks(result="theta.detach().numpy()"),
    """
def train(tasks, theta, alpha, K, E, F, epochs, epoch_length, beta):
    def graded(theta, weights, first):
        total = 0
        for support_loss, query_loss in tasks:
            w = theta
            for weight in weights:
                g = torch.func.grad(support_loss)(w)
                w = w - alpha * (g.detach() if first else g)
                total = total + weight * query_loss(w) / len(tasks)
        return total

    for step in range(epochs * epoch_length):
        epoch = step // epoch_length
        weights = mamlkit.AnnealedMultiStep(E).weights(K, epoch).tolist()
        rate = 0.5 * beta * (1 + math.cos(math.pi * step / (epochs * epoch_length)))
        theta = theta - rate * torch.func.grad(graded)(theta, weights, epoch < F)
    return theta.tolist()
""",
]
