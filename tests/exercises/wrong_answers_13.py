"""Typical wrong answers to the exercises of chapter 13: what stands in the stub's place, and what the check must say."""

from __future__ import annotations

CKA = """
def wide_cka(X, Y):
    {centre}
    K, L = X @ X.T, Y @ Y.T
    cross = {cross}
    return {result}
"""
CENTRE = "X, Y = X - X.mean(0), Y - Y.mean(0)"
CROSS = "(K * L).sum()"
RATIO = "cross / (K.norm() * L.norm())"
KERNELS = """
def wide_cka(X, Y):
    n = len(X)
    H = torch.eye(n) - torch.ones(n, n) / n
    K, L = (H @ (Z @ Z.T).float() @ H for Z in (X, Y))
    return float((K * L).sum() / (K.norm() * L.norm()))
"""
ONE_SIDE = """
def wide_cka(X, Y):
    K, L = (Z @ Z.T - (Z @ Z.T).mean(0) for Z in (X, Y))
    return (K * L).sum() / (K.norm() * L.norm())
"""
CHAPTER = """
def wide_cka(X, Y):
    X, Y = X - X.mean(0), Y - Y.mean(0)
    cross = (X.T @ Y).square().sum()
    return cross / ((X.T @ X).norm() * (Y.T @ Y).norm())
"""

HEAD = """
def head(support, labels, ways, M):
    members = torch.nn.functional.one_hot(labels, ways).to(support)
    sums = members.T @ support
    c = {c}
    return {weight}, {bias}
"""
MEAN = "sums / members.sum(0)[:, None]"
BIAS = "-((c @ M) * c).sum(1)"
BY_CLASS = """
def head(support, labels, ways, M):
    S = (M + M.T) / 2
    c = torch.stack([support[labels == n].mean(0) for n in range(ways)])
    return {result}
"""

PULL = """
def pull_gradient(hessian_times, g, away, strength, steps):
    v, r, p = torch.zeros_like(g), {b}, {b}
    for _ in range({steps}):
        image = {image}
        length = (r @ r) / (p @ image)
        v, left = v + length * p, r - length * image
        p, r = {direction}, left
    return {result}
"""
IMAGE = "hessian_times(p) + strength * p"
DIRECTION = "left + (left @ left) / (r @ r) * p"
DENSE = """
def pull_gradient(hessian_times, g, away, strength, steps):
    n = len(g)
    H = torch.stack([hessian_times(e) for e in torch.eye(n).to(g)], 1)
    return -away @ torch.linalg.solve(H + strength * torch.eye(n).to(g), g)
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


def head(c=MEAN, weight="c @ (M + M.T)", bias=BIAS):
    return HEAD.format(c=c, weight=weight, bias=bias)


def pull(steps="steps", image=IMAGE, direction=DIRECTION, b="g", result="-away @ v"):
    return PULL.format(steps=steps, image=image, direction=direction, b=b, result=result)


def unrolled(left=LEFT, result="limit + (1 - limit) * left"):
    return UNROLLED.format(left=left, result=result)


def recursion(start="1.0", own="1", result="d"):
    return RECURSION.format(start=start, own=own, result=result)


WRONG = {
    "ex-wide-cka": [
        (cka(centre=""), "not centred"),
        (cka(centre="X, Y = X - X.mean(), Y - Y.mean()"), "One number is subtracted"),
        (cka(centre="X, Y = X - X.mean(1, keepdim=True), Y - Y.mean(1, keepdim=True)"), "Each row is centred"),
        (cka(centre="X = X - X.mean(0)"), "Only X is centred"),
        (ONE_SIDE, "along one of its axes"),
        (cka(cross="(K @ L).norm()"), "norm of the product"),
        (cka(cross="(K * L).sum().sqrt()"), "this is its root"),
        (cka(result="cross"), "not divided"),
        (cka(result="cross / (K.norm() ** 2 * L.norm() ** 2)"), "norms below are squared"),
        (cka(result="cross / (X.norm() * Y.norm())"), "norms of X and Y"),
        (cka(result="cross / (K.trace() * L.trace())"), "traces of the two matrices"),
        (cka(result=f"1 - {RATIO}"), "one minus the similarity"),
        (cka(result=f"({RATIO}) ** 0.5"), "The root is taken"),
        (CHAPTER, "one row and one column per image"),
    ],
    "ex-head": [
        (head(weight="(c @ (M + M.T)).T"), "transposed"),
        (head(weight="2 * c @ M.T"), "f^T M c and c^T M f differ"),
        (head(weight="2 * c @ M"), "M c as well as M^T c"),
        (head(weight="c @ M.T"), "c^T M f as well"),
        (head(weight="c @ M"), "f^T M c as well"),
        (head(weight="2 * c", bias="-c.square().sum(1)"), "M is left out"),
        (head(bias="-c.square().sum(1)"), "M is missing in the biases"),
        (head(bias="((c @ M) * c).sum(1)"), "sign of the biases"),
        (head(weight="-c @ (M + M.T)"), "sign of the weights"),
        (head(weight="-c @ (M + M.T)", bias="((c @ M) * c).sum(1)"), "Both signs"),
        (head(bias="-((c @ (M + M.T)) * c).sum(1)"), "one factor 2 too many"),
        (head(bias="0 * c[:, 0]"), "no biases"),
        (head(c="sums"), "this is the sum"),
        (head(bias="-(members.T @ ((support @ M) * support).sum(1)) / members.sum(0)"), "take the mean point first"),
        (head(c="sums * ways / len(support)"), "classes differ in size"),
    ],
    "ex-pull": [
        (pull(result="away @ v"), "The sign is wrong"),
        (pull(result="-strength * away @ v"), "One lambda is too many"),
        (pull(image="hessian_times(p)"), "with H alone"),
        (pull(result="-away @ v / strength"), "a division by lambda too many"),
        (pull(image="hessian_times(p) + p"), "lambda is missing at the identity"),
        (pull(image="p + strength * hessian_times(p)"), "it is H + lambda I"),
        (pull(result="-away @ (hessian_times(g) + strength * g)"), "is to be inverted"),
        (pull(result="-away @ g / strength"), "The curvature is missing"),
        (pull(result="-away @ g"), "between them stands the inverse"),
        (pull(direction="left"), "steepest-descent"),
        (pull(steps="steps - 1"), "One step too few"),
        (pull(result="strength * v"), "This is the gradient by theta"),
        (pull(result="v"), "This is the vector v"),
        (pull(b="away", result="-v"), "This is how the solution moves"),
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
        (unrolled(result="left + strength * (1 - left) / (alpha * (h + strength))"), "alpha is missing"),
        (
            unrolled(left="(1 - alpha * h) ** K", result="left + strength / h * (1 - left)"),
            "takes something from the factor",
        ),
        (recursion(own="0"), "The pull depends on theta"),
        (recursion(start="0.0"), "this begins at 0"),
    ],
}
RIGHT = {
    "ex-wide-cka": [KERNELS, cka(result=f"({RATIO}).item()"), cka(cross="(K @ L).trace()")],
    "ex-head": [
        BY_CLASS.format(result="2 * c @ S, -torch.einsum('ni,ij,nj->n', c, M, c)"),
        BY_CLASS.format(result="2 * (c @ S).float(), -((c @ S) * c).sum(1).float()"),
    ],
    "ex-pull": [pull(b="away", result="-(g @ v)"), pull(b="g.float()", result="float(-(v @ away.to(v)))")],
    "ex-unrolled": [recursion(), recursion(result="torch.tensor(d)")],
}
