"""Typical wrong answers to the exercises of chapter 12: what stands in the stub's place, and what the check must say."""

from __future__ import annotations

COMPANY = """
def test_company(predict):
    x, y = torch.linspace(-2, 2, 6)[:, None], torch.linspace(-2, 2, 6)[:, None].sin()
    q = torch.linspace(-1, 3, 5)[:, None]
    {body}
"""
KIND = """
def test_kind(meta_gradient):
    def support_loss(theta):
        return {support}

    def query_loss(theta):
        return (theta - 1).square().sum()

    theta, alpha, K = torch.tensor([0.5, -1.2, 0.8]), 0.1, {K}

    def F(theta):
        for _ in range(K):
            theta = theta - alpha * torch.func.grad(support_loss)(theta)
        return query_loss(theta)

    truth = torch.func.grad(F)(theta)
    found = meta_gradient(support_loss, query_loss, theta, alpha, K)
    assert {claim}
"""
CURVED = "(theta**4).sum() / 4"
CLOSE = "torch.allclose(found, truth, rtol=1e-6)"
WHOLE = """
def test_whole_numbers(predict):
    x, q = torch.linspace(-2, 2, 5)[:, None], torch.tensor([[0.3], [1.1]])
    y = torch.tensor([[3, 1], [2, 5], [0, 4], [7, 2], [1, 1]])
    {body}
"""
COPIES = """
def test_copies(interval):
    easy = {easy}
    hits = (torch.rand({shape}, generator=torch.Generator().manual_seed(0)) < easy).double()
    mean, half_width = interval(hits)
    {body}
"""
HARD_AND_EASY = "torch.linspace(0.1, 0.9, 40)[:, None]"
EIGHT = """
def test_gradient(meta_gradient):
    def support_losses():
        return [lambda theta, c=c: ((theta - c) ** 4).sum() / 4 for c in {minima}]

    def query_losses():
        return [lambda theta, c=c: (theta - c - 1).square().sum() for c in {minima}]

    alpha, K = 0.1, {K}

    def F(theta):
        values = []
        for support, query in zip(support_losses(), query_losses()):
            own = theta
            for _ in range(K):
                own = own - alpha * torch.func.grad(support)(own)
            values.append(query(own))
        return torch.stack(values).mean()

    for start in {starts}:
        theta = torch.tensor(start)
        found = meta_gradient(support_losses(), query_losses(), theta, alpha, K)
        {after}
        truth = torch.func.grad(F)(torch.tensor(start))
        assert {claim}
"""
USUAL = {
    "minima": "(0.3, -0.4, 0.1)",
    "K": "3",
    "starts": "([0.5, -0.8], [-0.2, 1.0])",
    "after": "assert theta.equal(torch.tensor(start))",
    "claim": CLOSE,
}


def _eight(**changes):
    return EIGHT.format(**(USUAL | changes))


def _copies(body, easy=HARD_AND_EASY, shape="40, 15"):
    return COPIES.format(body=body, easy=easy, shape=shape)


WRONG = {
    "ex-company": [
        (COMPANY.format(body="assert predict(x, y, q).shape == (5, 1)"), "It asks once"),
        (
            COMPANY.format(body="assert torch.allclose(predict(x, y, q).flip(0), predict(x, y, q.flip(0)))"),
            "at most in another order",
        ),
        (COMPANY.format(body="predict(x, y, q)\n    predict(x, y, q + 9)"), "No point is asked twice"),
        (
            COMPANY.format(body="assert torch.allclose(predict(x, y, q)[:2], predict(x, y, q[:2]), atol=100)"),
            "answers change by up to",
        ),
        (COMPANY.format(body="assert torch.equal(predict(x, y, q)[:2], predict(x, y, q[:2]))"), "allow for rounding"),
        (
            COMPANY.format(body="return torch.allclose(predict(x, y, q)[:2], predict(x, y, q[:2]))"),
            "returns its answer",
        ),
        (
            COMPANY.format(body="assert not torch.allclose(predict(x, y, q)[:2], predict(x, y, q[:2]))"),
            "wrong way round",
        ),
        (COMPANY.format(body="assert torch.allclose(predict(x, y, q)[:2], q[:2], atol=1e-3)"), "on a right one too"),
        (COMPANY.format(body="predict(x, y)"), "Your test raised TypeError"),
        (COMPANY.format(body="raise ValueError('no')"), "Your test raised ValueError: no"),
        (COMPANY.format(body="assert len(q) == 5"), "never calls the learner"),
        (
            COMPANY.format(body="i = torch.randint(2, ()).item()\n    assert i or predict(x, y, q) is None"),
            "passes at one time and fails at another",
        ),
    ],
    "ex-kind": [
        (KIND.format(support=CURVED, K=1, claim=CLOSE), "With one inner step there is one Hessian"),
        (
            KIND.format(support="(theta * theta).sum() + theta[0] * theta[1]", K=3, claim=CLOSE),
            "as every quadratic has",
        ),
        (KIND.format(support=CURVED, K=2, claim="torch.allclose(found, truth, rtol=10)"), "per cent: does your assert"),
        (KIND.format(support=CURVED, K=3, claim="found.shape == theta.shape"), "does your assert compare"),
        (KIND.format(support=CURVED, K=3, claim="torch.equal(found, truth)"), "allow for rounding"),
        (KIND.format(support=CURVED, K=3, claim="torch.allclose(found, -truth)"), "on a right one too"),
        (
            KIND.format(support=CURVED, K=3, claim="torch.allclose(found, 1.001 * truth, rtol=1e-5)").replace(
                "0.8])", "0.8]).float()"
            ),
            "Your numbers are float32",
        ),
    ],
    "ex-whole-numbers": [
        (
            WHOLE.format(body="y = y.double()\n    assert torch.allclose(predict(x, y, q), predict(x, y + 0, q))"),
            "All targets of your test are floats",
        ),
        (WHOLE.format(body="assert predict(x, y, q).shape == (2, 2)"), "its answers are off by up to"),
        (WHOLE.format(body="assert torch.equal(predict(x, y, q), predict(x, y.double(), q))"), "ridge regression"),
        (WHOLE.format(body="assert predict(x, y, x).round().equal(y.double())"), "takes five inner steps"),
        (WHOLE.format(body="assert (predict(x, y, x) - y).abs().max() < 0.5"), "takes five inner steps"),
        (
            WHOLE.format(body="y[-1, 1] = 0\n    assert predict(x, y, x).min() > -0.01"),
            "takes five inner steps",
        ),
        (WHOLE.format(body="assert torch.allclose(2 * predict(x, y, x), predict(x, 2 * y, x))"), "a small network"),
        (WHOLE.format(body="assert predict(x, y, q).equal(y[:2])"), "on a right one too. Does it ask for equal"),
        (
            WHOLE.format(body="assert predict(x, y, q).dtype == torch.int64"),
            "on a right one too",
        ),
    ],
    "ex-copies": [
        (_copies("assert abs(mean - hits.mean()) < 1e-9"), "does your assert look at it"),
        (
            _copies("assert half_width > 0.7 * 1.96 * hits.mean(1).std() / 200**0.5", easy="0.7", shape="200, 15"),
            "both intervals are about equally wide",
        ),
        (_copies("assert half_width > 0", shape="40, 1"), "Give several query points per task"),
        (
            _copies("assert abs(half_width - 1.96 * hits.mean(1).std() / 40**0.5) < 1e-6"),
            "an interval by Student's t",
        ),
        (_copies("assert interval(hits.repeat(9, 1))[1] == half_width"), "You copied tasks"),
        (_copies("assert torch.isclose(interval(hits.repeat(2, 1))[1], half_width)"), "Copy query points"),
        (_copies("assert interval(hits.repeat(1, 9))[1] == 2 * half_width"), "on a right one too"),
        (_copies("return half_width > 0.05"), "returns its answer"),
    ],
    "ex-eight": [
        (_eight(claim="found.shape == theta.shape", after="pass"), "0 of 8 are caught"),
        (_eight(minima="(0.3,)"), "it is right for one task; its sum"),
        (_eight(K="1"), "takes one inner step, whatever K is"),
        (_eight(after="pass"), "Look at theta, after the call"),
        (_eight(starts="([0.5, -0.8],)"), "7 of 8 are caught. One that gets through: it is right the first time"),
        (_eight(claim="torch.equal(found, truth)"), "allow for rounding"),
        (_eight(claim="torch.allclose(found, 2 * truth)"), "and on a right one too"),
        (_eight().replace("** 4).sum() / 4", "** 2).sum()"), "whose curvature is the same everywhere"),
        (_eight(after="theta.nothing()"), "Your test raised AttributeError"),
    ],
}

# Right answers in other styles.
RIGHT = {
    "ex-company": [
        COMPANY.format(body="torch.testing.assert_close(predict(x, y, q)[:2], predict(x, y, q[:2]))"),
        COMPANY.format(
            body="alone = torch.cat([predict(x, y, one[None]) for one in q])\n"
            "    assert (alone - predict(x, y, q)).abs().max() < 1e-6, 'company matters'"
        ),
        """
def test_company(predict):
    import numpy as np
    x = torch.randn(6, 1)
    q = torch.randn(4, 1)
    a = predict(x, x**2, q).numpy()
    b = predict(x, x**2, torch.cat([q, 10 + torch.randn(3, 1)])).numpy()
    np.testing.assert_allclose(a, b[:4], rtol=1e-6)
""",
    ],
    "ex-kind": [
        KIND.format(support="(theta**4).sum() / 4 + theta.prod()", K=2, claim="(found - truth).norm() < 1e-6"),
        """
def test_kind(meta_gradient):
    theta, K, alpha, eps = torch.tensor([1.0]), 3, 0.1, 1e-5

    def F(t):
        for _ in range(K):
            t = t - alpha * t**3
        return float(t**2)

    slope = (F(1 + eps) - F(1 - eps)) / (2 * eps)
    found = meta_gradient(lambda t: (t**4).sum() / 4, lambda t: (t**2).sum(), theta, alpha, K)
    if abs(found.item() - slope) > 1e-4:
        raise AssertionError("not the slope")
""",
    ],
    "ex-whole-numbers": [
        WHOLE.format(body="assert (predict(x, y, x) - y).square().mean() < y.double().var()"),
        WHOLE.format(body="torch.testing.assert_close(predict(x, y, q), predict(x, y.double(), q))"),
        WHOLE.format(
            body="moved = predict(x, y + 10, q) - predict(x, y, q)\n    assert moved.mean() > 1, 'ten more change nothing'"
        ),
        WHOLE.format(
            body="error = (predict(x, y, x) - y).square().mean()\n    assert error < (y - y.double().mean(0)).square().mean()"
        ),
    ],
    "ex-copies": [
        _copies("copies = interval(hits.repeat_interleave(50, 1))[1]\n    assert abs(copies - half_width) < 1e-6"),
        _copies("assert half_width > 0.8 * 1.96 * hits.mean(1).std() / 40**0.5"),
        """
def test_copies(interval):
    generator, held, times = torch.Generator().manual_seed(0), 0, 200
    for _ in range(times):
        easy = torch.rand(30, 1, generator=generator)  # accuracy of each task: 0.5 on average
        mean, half = interval((torch.rand(30, 20, generator=generator) < easy).double())
        held += abs(mean - 0.5) < half
    assert held > 0.9 * times
""",
    ],
    "ex-eight": [
        _eight(
            claim="(found - truth).abs().max() < 1e-5", after="assert (theta - torch.tensor(start)).abs().max() == 0"
        ),
        """
def test_gradient(meta_gradient):
    supports = [lambda t: torch.cosh(t).sum(), lambda t: (t**4).sum()]
    queries = [lambda t: (t - 2).square().sum(), lambda t: (t + 1).square().sum()]

    def F(theta):
        total = 0
        for s, q in zip(supports, queries):
            t = theta
            for _ in range(2):
                t = t - 0.05 * torch.func.grad(s)(t)
            total += q(t) / 2
        return total

    for seed in range(2):
        theta = torch.randn(3)
        kept = theta.clone()
        found = meta_gradient(supports, queries, theta, 0.05, 2)
        for i, e in enumerate(1e-5 * torch.eye(3)):
            assert abs(found[i] - (F(kept + e) - F(kept - e)) / 2e-5) < 1e-4
        assert theta.equal(kept)
""",
    ],
}
