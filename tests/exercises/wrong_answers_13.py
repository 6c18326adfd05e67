"""Typical wrong answers to the exercises of chapter 13: what stands in the stub's place, and what the check must say."""

from __future__ import annotations

CKA = """
def linear_cka(X, Y):
    {centre}
    cross = {cross}
    return {result}
"""
CENTRE = "X, Y = X - X.mean(0), Y - Y.mean(0)"
CROSS = "(X.T @ Y).square().sum()"
RATIO = "cross / ((X.T @ X).norm() * (Y.T @ Y).norm())"
KERNELS = """
def linear_cka(X, Y):
    n = len(X)
    H = torch.eye(n) - torch.ones(n, n) / n
    K, L = (H @ (Z @ Z.T).float() @ H for Z in (X, Y))
    return float((K * L).sum() / (K.norm() * L.norm()))
"""

HEAD = """
def head(support, labels, ways):
    members = torch.nn.functional.one_hot(labels, ways).to(support)
    sums = members.T @ support
    c = {c}
    return {weight}, {bias}
"""
MEAN = "sums / members.sum(0)[:, None]"
BIAS = "-c.square().sum(1)"
BY_CLASS = """
def head(support, labels, ways):
    c = torch.stack([support[labels == n].mean(0) for n in range(ways)])
    return {result}
"""

SOLVE = """
def solve(hessian_times, g, strength, steps):
    v, r, p = torch.zeros_like(g), g, g
    for _ in range({steps}):
        image = {image}
        length = (r @ r) / (p @ image)
        v, left = v + length * p, r - length * image
        p, r = {direction}, left
    return {result}
"""
IMAGE = "hessian_times(p) + strength * p"
DIRECTION = "left + (left @ left) / (r @ r) * p"
SCALED = """
def solve(hessian_times, g, strength, steps):
    v, r = 0 * g, g.clone()
    p, square = r.clone(), r.dot(r)
    for _ in range(steps):
        image = hessian_times(p) / strength + p
        length = square / p.dot(image)
        v = v + length * p
        r = r - length * image
        new = r.dot(r)
        p = r + new / square * p
        square = new
    return v
"""
DENSE = """
def solve(hessian_times, g, strength, steps):
    n = len(g)
    H = torch.stack([hessian_times(e) for e in torch.eye(n).to(g)], 1)
    A, b = torch.eye(n).to(g) + H / strength, g
    v, r, p = 0 * g, g, g
    for _ in range(steps):
        length = (r @ r) / (p @ A @ p)
        v, left = v + length * p, r - length * (A @ p)
        p, r = left + (left @ left) / (r @ r) * p, left
    return v
"""
UNROLLED = """
def derivative(h, strength, alpha, K):
    limit = strength / (h + strength)
    left = {left}
    return {result}
"""
LEFT = "(1 - alpha * (h + strength)) ** K"
RECURSION = """
def derivative(h, strength, alpha, K):
    d = {start}
    for _ in range(K):
        d = d - alpha * (h * d + strength * (d - {own}))
    return {result}
"""


def cka(centre=CENTRE, cross=CROSS, result=RATIO):
    return CKA.format(centre=centre, cross=cross, result=result)


def head(c=MEAN, weight="2 * c", bias=BIAS):
    return HEAD.format(c=c, weight=weight, bias=bias)


def solve(steps="steps", image=IMAGE, direction=DIRECTION, result="strength * v"):
    return SOLVE.format(steps=steps, image=image, direction=direction, result=result)


def unrolled(left=LEFT, result="limit + (1 - limit) * left"):
    return UNROLLED.format(left=left, result=result)


def recursion(start="1.0", own="1", result="d"):
    return RECURSION.format(start=start, own=own, result=result)


WRONG = {
    "ex-cka": [
        (cka(centre=""), "not centred"),
        (cka(centre="X, Y = X - X.mean(), Y - Y.mean()"), "One number is subtracted"),
        (cka(centre="X, Y = X - X.mean(1, keepdim=True), Y - Y.mean(1, keepdim=True)"), "Each row is centred"),
        (cka(centre="X = X - X.mean(0)"), "Only X is centred"),
        (cka(cross="(X.T @ Y).norm()"), "norm is not squared"),
        (cka(result="cross"), "not divided"),
        (cka(result="cross / ((X.T @ X).norm() ** 2 * (Y.T @ Y).norm() ** 2)"), "norms below are squared"),
        (cka(result="cross / (X.norm() * Y.norm())"), "norms of X and Y"),
        (cka(result=f"1 - {RATIO}"), "one minus the similarity"),
        (cka(result=f"({RATIO}) ** 0.5"), "The root is taken"),
    ],
    "ex-head": [
        (head(weight="c"), "lack the factor 2"),
        (head(weight="c", bias=f"{BIAS} / 2"), "lack the factor 2 that you have left out of both"),
        (head(bias="c.square().sum(1)"), "sign of the biases"),
        (head(weight="-2 * c"), "sign of the weights"),
        (head(weight="-2 * c", bias="c.square().sum(1)"), "Both signs"),
        (head(bias="-c.norm(dim=1)"), "their squares are needed"),
        (head(bias="0 * c[:, 0]"), "no biases"),
        (head(c="sums"), "this is the sum"),
        (head(bias="-(members.T @ support.square().sum(1)) / members.sum(0)"), "square of the mean"),
        (head(c="sums * ways / len(support)"), "classes differ in size"),
    ],
    "ex-solve": [
        (solve(result="v"), "lambda times v"),
        (solve(image="hessian_times(p)"), "not H"),
        (solve(image="hessian_times(p) + p"), "lambda is missing at the identity"),
        (solve(image="p + strength * hessian_times(p)", result="v"), "it is I + H / lambda"),
        (solve(direction="left"), "steepest-descent"),
        (solve(steps="steps + 1"), "One step too many"),
        (solve(steps="steps - 1"), "One step too few"),
        (solve(result="g + hessian_times(g) / strength"), "is to be inverted"),
        (solve(result="g"), "FOMAML"),
        (DENSE, "more products than needed"),
    ],
    "ex-unrolled": [
        (unrolled(result="limit"), "limit of many steps"),
        (unrolled(result="left"), "The pull depends on theta"),
        (unrolled(result="(1 - alpha * h) ** K"), "proximal term is missing"),
        (unrolled(result="limit - (1 - limit) * left"), "wrong sign"),
        (unrolled(result="limit * (1 - left)"), "this begins at 0"),
        (unrolled(left="(1 - alpha * (h + strength)) ** (K + 1)"), "one step too many"),
        (unrolled(left="(1 - alpha * (h + strength)) ** (K - 1)"), "one step too few"),
        (unrolled(left="(1 - alpha * h) ** K"), "In the factor the pull is missing"),
        (unrolled(result="1 - (limit + (1 - limit) * left)"), "1 minus the derivative"),
        (recursion(own="0"), "The pull depends on theta"),
        (recursion(start="0.0"), "this begins at 0"),
    ],
}
RIGHT = {
    "ex-cka": [KERNELS, cka(result=f"({RATIO}).item()"), cka(cross="torch.linalg.matrix_norm(Y.T @ X) ** 2")],
    "ex-head": [
        BY_CLASS.format(result="2 * c, -(c ** 2).sum(1)"),
        BY_CLASS.format(result="2 * c.float(), -(c.float() ** 2).sum(1)"),
        BY_CLASS.format(result="[2 * c, -c.norm(dim=1) ** 2]"),
    ],
    "ex-solve": [SCALED, solve(image="strength * p + hessian_times(p)", result="v * strength")],
    "ex-unrolled": [recursion(), recursion(result="torch.tensor(d)")],
}
