"""Typical wrong answers to the exercises of chapter 1: what stands in the stub's place, and what the check must say."""

from __future__ import annotations

SAMPLE = """
def sample_tasks(num_tasks, points, generator):
    def rand(*shape):
        return torch.rand(*shape, generator=generator)
    a = {a}
    b = {b}
    x = {x}
    return {result}
"""
A, B, X = (
    "0.1 + 4.9 * rand(num_tasks, 1, 1)",
    "math.pi * rand(num_tasks, 1, 1)",
    "-5 + 10 * rand(num_tasks, points, 1)",
)


def _sample(a: str = A, b: str = B, x: str = X, result: str = "x, a * torch.sin(x - b)") -> str:
    return SAMPLE.format(a=a, b=b, x=x, result=result)


def _split(result: str) -> str:
    return f"def split(x, y, shots):\n    return {result}\n"


def _mean(result: str) -> str:
    return f"def mean_curve(x):\n    return {result}\n"


def _interval(result: str) -> str:
    return f"def half_width(e):\n    return {result}\n"


def _steps(body: str) -> str:
    return f"def first_step(losses, target):\n    means = losses.mean(1)\n    {body}\n"


FAMILY = """
def fit_family(support_x, support_y, query_x):
    def known(x):
        return torch.cat([{known}], -1)
    def asked(x):
        return torch.cat([{asked}], -1)
    solution = torch.linalg.lstsq(known(support_x), support_y).solution
    return {result}
"""


def _family(known: str = "x.sin(), x.cos()", asked: str = "", result: str = "asked(query_x) @ solution") -> str:
    return FAMILY.format(known=known, asked=asked or known, result=result)


FAMILY_POOLED = """
def fit_family(support_x, support_y, query_x):
    def features(x):
        return torch.cat([x.sin(), x.cos()], -1)
    solution = torch.linalg.lstsq(features(support_x).flatten(0, 1), support_y.flatten(0, 1)).solution
    return features(query_x) @ solution
"""
FAMILY_LOOP = """
def fit_family(support_x, support_y, query_x):
    answers = []
    for x, y, q in zip(support_x, support_y, query_x):
        p, t = (x[0, 0], x[1, 0]), (y[0, 0], y[1, 0])  # two points, Cramer's rule
        det = p[0].sin() * p[1].cos() - p[1].sin() * p[0].cos()
        c = (t[0] * p[1].cos() - t[1] * p[0].cos()) / det
        d = (p[0].sin() * t[1] - p[1].sin() * t[0]) / det
        a, b = (c**2 + d**2).sqrt(), torch.atan2(-d, c)
        answers.append(a * torch.sin(q - b))
    return torch.stack(answers).float()
"""

WRONG = {
    "ex-sample": [
        (_sample(a="0.1 + 4.9 * rand(num_tasks, points, 1)"), "drawn anew for every point"),
        (_sample(b="math.pi * rand(num_tasks, points, 1)"), "drawn anew for every point"),
        (_sample(a="0.1 + 4.9 * rand(1, 1, 1)"), "Every task has the same amplitude"),
        (_sample(b="math.pi * rand(1)"), "Every task has the same phase"),
        (_sample(result="x, a * torch.sin(x + b)"), "b is subtracted"),
        (_sample(a="0.1 + 5 * rand(num_tasks, 1, 1)"), "Amplitudes should lie in [0.1, 5]"),
        (_sample(a="5 * rand(num_tasks, 1, 1)"), "Amplitudes should lie in [0.1, 5]"),
        (_sample(b="2 * math.pi * rand(num_tasks, 1, 1)"), "outside [0, pi]"),
        (_sample(a="-5 + 10 * rand(num_tasks, 1, 1)"), "or an amplitude negative"),
        (_sample(b="rand(num_tasks, 1, 1)"), "Phases should be uniform on [0, pi]"),
        (_sample(x="5 * rand(num_tasks, points, 1)"), "x should fill [-5, 5]"),
        (_sample(x="10 * rand(num_tasks, points, 1)"), "x should lie in [-5, 5]"),
        (_sample(x="(-5 + 10 * rand(1, points, 1)).expand(num_tasks, points, 1)"), "Every task has the same x"),
        (_sample(b="math.pi * (a - 0.1) / 4.9"), "rise and fall together"),
        (_sample(result="x[..., 0], (a * torch.sin(x - b))[..., 0]"), "should have shape (2000, 12, 1)"),
        (_sample(result="a * torch.sin(x - b)"), "Return two tensors"),
        (_sample(result="a * torch.sin(x - b), x"), "return x first"),
        (_sample().replace("generator=generator", ""), "equal seeds draw different tasks"),
        (_sample(x="-5 + 10 * torch.rand(num_tasks, points, 1)"), "equal seeds draw different tasks"),
        (
            _sample().replace("def rand", "generator = torch.Generator().manual_seed(0)\n    def rand"),
            "seed none of your own",
        ),
        ("def sample_tasks(num_tasks, points):\n    return 1, 2\n", "Your code raised TypeError"),
    ],
    "ex-split": [
        (_split("x[:shots], y[:shots], x[shots:], y[shots:]"), "This splits the tasks"),
        (_split("x[:, :shots], y[:, :shots], x, y"), "The query set holds all points"),
        (_split("x[:, :shots], x[:, shots:], y[:, :shots], y[:, shots:]"), "The order"),
        (_split("x[:, :shots], y[:, -shots:], x[:, shots:], y[:, :-shots]"), "split differently"),
        (_split("x[:, :shots], y[:, :shots], x[:, :-shots], y[:, :-shots]"), "in both sets"),
        (_split("x[:, 0], y[:, 0], x[:, shots:], y[:, shots:]"), "An axis got lost"),
        (_split("x[:, :shots], y[:, :shots]"), "Return four tensors"),
    ],
    "ex-mean": [
        (_mean("2.55 * 2 / math.pi * torch.cos(x)"), "The sign"),
        (_mean("-2 / math.pi * torch.cos(x)"), "the average amplitude is missing"),
        (_mean("2.55 * torch.sin(x - math.pi / 2)"), "the sine of the average"),
        (_mean("-5 / math.pi * torch.cos(x)"), "not 5 / 2"),
        (_mean("-2.55 / math.pi * torch.cos(x)"), "A factor 1/2 too much"),
        (_mean("-5.1 * torch.cos(x)"), "division by pi"),
        (_mean("-10.2 / math.pi * torch.cos(x)"), "A factor 2 too much"),
        (_mean("0 * x"), "do not cancel"),
        (_mean("-2 / math.pi * 2.55 * math.cos(x)"), "Use torch.cos"),
        (_mean("-2 / math.pi * 2.55 * cosine(x)"), "Your code raised NameError"),
        (_mean("2.55 * 2 / math.pi"), "A vector of 7 entries was expected"),
        (_mean("2.55 * 2 / math.pi * torch.sin(x)"), "Sine and cosine are exchanged"),
    ],
    "ex-interval": [
        (_interval("1.96 * e.std() / e.numel() ** 0.5"), "as if they were independent"),
        (_interval("1.96 * e.std() / len(e) ** 0.5"), "that of single points"),
        (_interval("1.96 * e.std(1).mean() / len(e) ** 0.5"), "spread between the tasks' means"),
        (_interval("1.96 * e.std(1).mean() / e.shape[1] ** 0.5"), "n is the number of points"),
        (_interval("1.96 * e.mean(0).std() / e.shape[1] ** 0.5"), "The wrong axis"),
        (_interval("1.96 * e.mean(1).std()"), "The root of n is missing"),
        (_interval("e.mean(1).std() / len(e) ** 0.5"), "The factor 1.96 is missing"),
        (_interval("1.96 * e.mean(1).std() / len(e)"), "the root of n"),
        (_interval("1.96 * e.mean(1).var() / len(e) ** 0.5"), "variance"),
        (_interval("1.96 * e.mean(1).std(correction=0) / len(e) ** 0.5"), "has n - 1"),
        (_interval("2 * 1.96 * e.mean(1).std() / len(e) ** 0.5"), "whole width"),
        (_interval("1.96 * e.std(1) / 40 ** 0.5"), "A number was expected"),
    ],
    "ex-steps": [
        (_steps("return int((means <= target).int().argmax())"), "math.inf"),
        (_steps("return next((k for k, m in enumerate(means, 1) if m <= target), math.inf)"), "Off by one"),
        (_steps("return next((k for k, m in enumerate(means) if m < target), math.inf)"), "At or below"),
        (_steps("return next((k for k, m in enumerate(means) if m <= target), None)"), "math.inf"),
        (_steps("return int((means > target).sum()) if (means <= target).any() else math.inf"), "the loss rises again"),
        (
            _steps("return next((k for k, row in enumerate(losses) if row.median() <= target), math.inf)"),
            "single tasks or at their median",
        ),
        (_steps("return next((k for k, row in enumerate(losses) if (row <= target).any()), math.inf)"), "single tasks"),
        (
            _steps("return next((k for k, row in enumerate(losses) if (row <= target).all()), math.inf)"),
            "the worst one too",
        ),
        (
            _steps("return next((k for k, row in enumerate(losses) if row.max() <= target), math.inf)"),
            "the worst one too",
        ),
        (
            _steps("return next((k for k, row in enumerate(losses) if row.sum() <= target), math.inf)"),
            "the sum over tasks",
        ),
        (_steps("return len(losses) - 1"), "the last step"),
        (
            _steps("return (losses <= target).float().argmax(0).float().mean().item()"),
            "the average of the tasks' own first steps",
        ),
        (_steps("return int((losses <= target).int().argmax(0).float().mean())"), "own first steps averaged"),
        (_steps("return next(k for k, m in enumerate(means) if m <= target)"), "Your code raised StopIteration"),
    ],
    "ex-family": [
        (_family(known="x.sin(), x.cos(), torch.ones_like(x)"), "with two it is not"),
        (_family(known="x.sin()"), "The phase is missing"),
        (_family(known="x, torch.ones_like(x)"), "straight lines"),
        (_family(asked="x.cos(), x.sin()"), "in a different order"),
        (_family(asked="x.sin(), -x.cos()"), "A sign differs"),
        (_family(result="-asked(query_x) @ solution"), "upside down"),
        (_family(result="0 * query_x"), "answers 0 everywhere"),
        (_family(result="-2 / math.pi * 2.55 * query_x.cos()"), "the average curve"),
        (_family(result="solution"), "should have that shape"),
        (_family(result="asked(query_x) @ solution + 1"), "where 0 is possible"),
        (_family(known="x.sin() + x.cos()"), "where 0 is possible"),
        (_family(known="x.sine()"), "AttributeError"),
        (FAMILY_POOLED, "One curve for all tasks"),
        (
            _family().replace("lstsq(known(support_x), support_y).solution", "solve(known(support_x), support_y)"),
            "use torch.linalg.lstsq",
        ),
        (
            _family().replace("lstsq(known(support_x), support_y).solution", "inv(known(support_x)) @ support_y"),
            "use torch.linalg.lstsq",
        ),
    ],
}

RIGHT = {
    "ex-family": [
        _family(),
        _family(known="x.cos(), x.sin()"),
        _family(known="x.sin() + x.cos(), x.cos()"),
        _family(known="(x - 1).sin(), (x + 0.5).sin()"),
        FAMILY_LOOP,
    ],
}
