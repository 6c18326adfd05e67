"""Typical wrong answers to the exercises of chapter 4: what stands in the stub's place, and what the check must say."""

from __future__ import annotations

ANGLE = """
def angle(h, g, alpha, K):
    maml, g = ({maml}).mean(0), g.mean(0)
    radians = torch.arccos(maml @ g / (maml.norm() * g.norm()))
    return {result}
"""
TRUNCATED = """
def truncated_gradient(support_loss, query_loss, theta, alpha, K, m):
    first, grad = theta, torch.func.grad
    inner = {inner}

    def adapt(theta, steps):
        for _ in range(steps):
            theta = theta - alpha * grad(inner)(theta)
        return theta

    start = adapt(theta, {constant})
    return {result}
"""
REPTILE = """
def reptile_gradient(support_losses, theta, alpha, K):
    moves, start = [], theta
    for support_loss in support_losses:
        {first}
        adapted = start
        for _ in range(K):
            adapted = adapted - alpha * torch.func.grad(support_loss)(adapted)
        moves.append(start - adapted)
        {last}
    return {result}
"""
MEAN_LOSS = """
def reptile_gradient(support_losses, theta, alpha, K):
    def loss(theta):
        return sum(f(theta) for f in support_losses){over}

    adapted = theta
    for _ in range(K):
        adapted = adapted - alpha * torch.func.grad(loss)(adapted)
    return theta - adapted
"""
DROPPED = """
def dropped(support_loss, query_loss, theta, alpha):
    grad, hvp = torch.func.grad, torch.autograd.functional.hvp
    adapted = theta - alpha * grad(support_loss)(theta)
    g = grad(query_loss)(adapted)
    return {result}
"""
DROPPED_BY_AUTOGRAD = """
def dropped(support_loss, query_loss, theta, alpha):
    def after(theta):
        return query_loss(theta - alpha * torch.func.grad(support_loss)(theta))

    adapted = theta - alpha * torch.func.grad(support_loss)(theta)
    return torch.func.grad(after)(theta) - torch.func.grad(query_loss)(adapted)
"""
FACTORS = "(1 - alpha * h) ** K * g"
MEAN = "torch.stack(moves).mean(0)"
HVP = "hvp(support_loss, theta, g)[1]"
DEGREES = "torch.rad2deg(radians)"

FACTOR_BY_FACTOR = """
def truncated_gradient(support_loss, query_loss, theta, alpha, K, m):
    path = [theta]
    for _ in range(K):
        path.append(path[-1] - alpha * torch.func.grad(support_loss)(path[-1]))
    vector = torch.func.grad(query_loss)(path[-1])
    for k in {order}:
        vector = vector - alpha * torch.autograd.functional.hvp(support_loss, path[{where}], vector)[1]
    return vector
"""
LAST = "reversed(range(K - m, K))"
HVP_OF_STEP = "torch.autograd.functional.hvp(support_loss, path[k], vector)[1]"
FULL = "torch.autograd.functional.hessian(support_loss, path[k]) @ vector"
GRAPH_OF_ALL = """
def truncated_gradient(support_loss, query_loss, theta, alpha, K, m):
    path = [theta.clone().requires_grad_()]
    for _ in range(K):
        (slope,) = torch.autograd.grad(support_loss(path[-1]), path[-1], create_graph=True)
        path.append(path[-1] - alpha * slope)
    return torch.autograd.grad(query_loss(path[-1]), path[K - m])[0]
"""
IN_PLACE = """
def reptile_gradient(support_losses, theta, alpha, K):
    ends, first = [], theta.clone()
    for support_loss in support_losses:
        adapted = theta
        for _ in range(K):
            adapted -= alpha * torch.func.grad(support_loss)(adapted)
        ends.append({end})
    return {result}
"""
KEPT = "grad(lambda start: query_loss(adapt(start, m)))(start)"

GRADIENTS_ONLY = """
def maml_gradient(support_gradient, query_gradient, theta, alpha, K):
    path = [theta]
    for _ in range(K):
        path.append(path[-1] - alpha * support_gradient(path[-1]))
    g = vector = query_gradient(path[-1])
    for k in {order}:
        eps = {eps}
        start = path[{where}]
        change = {gradient}(start + eps * vector) - {gradient}(start - eps * vector)
        vector = {update}
    return {result}
"""
USUAL = {
    "order": "reversed(range(K))",
    "eps": "1e-5 / vector.norm()",
    "where": "k",
    "gradient": "support_gradient",
    "update": "vector - alpha * change / (2 * eps)",
    "result": "vector",
}


def _gradients_only(**changes):
    return GRADIENTS_ONLY.format(**(USUAL | changes))


def _truncated(kept="m", constant="K - m", inner="support_loss", outer="query_loss"):
    result = f"grad(lambda start: {outer}(adapt(start, {kept})))(start)"
    return TRUNCATED.format(inner=inner, constant=constant, result=result)


WRONG = {
    "ex-angle": [
        (ANGLE.format(maml=FACTORS, result="radians"), "in radians"),
        (ANGLE.format(maml=FACTORS, result="torch.cos(radians)"), "This is the cosine"),
        (ANGLE.format(maml="(1 - alpha * h) * g", result=DEGREES), "each of the K steps contributes one"),
        (ANGLE.format(maml="(1 - K * alpha * h) * g", result=DEGREES), "one step of size K alpha"),
        (ANGLE.format(maml="(1 - h) ** K * g", result=DEGREES), "alpha is missing"),
        (ANGLE.format(maml="(1 + alpha * h) ** K * g", result=DEGREES), "sign of alpha h"),
        (ANGLE.format(maml="-(1 - alpha * h) ** K * g", result=DEGREES), "wrong sign"),
        (ANGLE.format(maml=FACTORS, result="maml"), "A number was expected"),
        (
            "def angle(h, g, alpha, K):\n"
            "    maml, g = ((1 - alpha * h) ** K * g).mean(0), g.mean(0)\n"
            "    return torch.rad2deg(torch.arccos((maml @ g).abs() / (maml.norm() * g.norm())))",
            "The sign of the cosine is lost",
        ),
        (ANGLE.format(maml="(1 - alpha * h).clamp(0, 1) ** K * g", result=DEGREES), "cut off at 0"),
        (ANGLE.format(maml="(1 - alpha * h).abs() ** K * g", result=DEGREES), "sign of the factors is lost"),
        (ANGLE.format(maml="((1 - alpha * h) ** K).mean(0) * g", result=DEGREES), "averaged apart"),
        (ANGLE.format(maml="(1 - alpha * h.mean(0)) ** K * g", result=DEGREES), "curvatures are averaged"),
        (
            "def angle(h, g, alpha, K):\n"
            "    maml = (1 - alpha * h) ** K * g\n"
            "    cosines = torch.nn.functional.cosine_similarity(maml, g)\n"
            "    return torch.rad2deg(torch.arccos(cosines)).mean()",
            "the mean of the tasks' angles",
        ),
    ],
    "ex-truncated": [
        (_truncated(kept="0", constant="K"), "this is FOMAML's gradient"),
        (_truncated(kept="K", constant="0"), "this is MAML's gradient"),
        (_truncated(kept="K - m", constant="m"), "it should be m of them"),
        (_truncated(kept="min(m + 1, K)", constant="max(K - m - 1, 0)"), "One factor too many"),
        (_truncated(kept="max(m - 1, 0)", constant="K - max(m - 1, 0)"), "One factor too few"),
        (_truncated(constant="0"), "Only m inner steps"),
        (_truncated(outer="support_loss"), "support gradient, sent back"),
        (_truncated(inner="query_loss"), "taken on the query loss"),
        (TRUNCATED.format(inner="support_loss", constant="K - m", result=f"-{KEPT}"), "sign is wrong"),
        (TRUNCATED.format(inner="support_loss", constant="K", result="first - start"), "Reptile's direction"),
        (TRUNCATED.format(inner="support_loss", constant="K", result="start"), "These are the adapted weights"),
        (TRUNCATED.format(inner="support_loss", constant="K", result="query_loss(start)"), "not its gradient"),
        (
            "def truncated_gradient(support_loss, query_loss, theta, alpha, K, m):\n"
            "    start = point = theta.clone().requires_grad_()\n"
            "    for k in range(K):\n"
            "        slope = torch.autograd.grad(support_loss(point), point, create_graph=True)[0]\n"
            "        point = point - alpha * (slope if k < m else slope.detach())\n"
            "    return torch.autograd.grad(query_loss(point), start)[0]",
            "The first m factors are kept",
        ),
        (FACTOR_BY_FACTOR.format(order="range(K - m, K)", where="k"), "in the wrong order"),
        (FACTOR_BY_FACTOR.format(order=LAST, where="k + 1"), "where its step ends"),
        (FACTOR_BY_FACTOR.format(order=LAST, where="K"), "taken at theta^(K), where no step"),
        (FACTOR_BY_FACTOR.format(order=LAST, where="K - m"), "taken at theta^(K-m); each"),
        (FACTOR_BY_FACTOR.format(order=LAST, where="0"), "taken at theta; each"),
        (FACTOR_BY_FACTOR.format(order=LAST, where="k").replace(HVP_OF_STEP, FULL), "a Hessian was built"),
        (
            FACTOR_BY_FACTOR.format(order=LAST, where="k").replace(
                HVP_OF_STEP, "torch.func.hessian(support_loss)(path[k]) @ vector"
            ),
            "a Hessian was built",
        ),
        (GRAPH_OF_ALL, "grows with K"),
    ],
    "ex-reptile": [
        (REPTILE.format(first="pass", last="pass", result="-" + MEAN), "sign is wrong"),
        (REPTILE.format(first="pass", last="pass", result="torch.stack(moves).sum(0)"), "the sum over the tasks"),
        (REPTILE.format(first="pass", last="start = adapted", result=MEAN), "Each task starts where"),
        (REPTILE.format(first="pass", last="start = adapted", result="theta - start"), "Each task starts where"),
        (REPTILE.format(first="pass", last="pass", result="moves[-1]"), "Only the last task"),
        (MEAN_LOSS.format(over=" / len(support_losses)"), "along the mean of the tasks' losses"),
        (MEAN_LOSS.format(over=""), "along the sum of the tasks' losses"),
        (IN_PLACE.format(end="theta - adapted", result="torch.stack(ends).mean(0)"), "The moves are zero"),
        (
            IN_PLACE.format(end="first - adapted", result="torch.stack(ends).mean(0)"),
            "start each from theta, and clone",
        ),
        (IN_PLACE.format(end="first - adapted", result="sum(ends)"), "and the moves are added up: start"),
        (
            IN_PLACE.format(end="adapted.clone()", result="theta - torch.stack(ends).mean(0)"),
            "no longer what the moves",
        ),
        (IN_PLACE.format(end="3 * (first - adapted)", result="sum(ends)"), "An argument is changed in place"),
        (REPTILE.format(first="pass", last="pass", result=MEAN + " / alpha"), "divided by alpha;"),
        (REPTILE.format(first="pass", last="pass", result=MEAN + " / (alpha * K)"), "divided by alpha K"),
        (REPTILE.format(first="K = 1", last="pass", result=MEAN), "Only one inner step"),
        (REPTILE.format(first="pass", last="pass", result="torch.stack(moves)"), "A vector of 3 entries"),
    ],
    "ex-dropped": [
        (DROPPED.format(result=f"alpha * {HVP}"), "sign is wrong"),
        (DROPPED.format(result=f"-{HVP}"), "alpha is missing"),
        (DROPPED.format(result=f"g - alpha * {HVP}"), "MAML's whole gradient"),
        (DROPPED.format(result="g"), "the part that is kept"),
        (DROPPED.format(result="-alpha * hvp(support_loss, theta, grad(query_loss)(theta))[1]"), "taken at theta;"),
        (DROPPED.format(result="-alpha * hvp(query_loss, theta, g)[1]"), "that of the query loss"),
        (DROPPED.format(result="-alpha * hvp(support_loss, adapted, g)[1]"), "the step starts at theta"),
        (DROPPED.format(result="-alpha * hvp(support_loss, theta, grad(support_loss)(theta))[1]"), "support gradient"),
        (DROPPED_BY_AUTOGRAD, "called more than once"),
    ],
    "ex-gradients-only": [
        (_gradients_only(result="g"), "this is FOMAML's gradient"),
        (_gradients_only(update="vector - alpha * change / eps"), "counts twice"),
        (_gradients_only(update="vector - alpha * change / (4 * eps)"), "counts half"),
        (_gradients_only(update="vector - change / (2 * eps)"), "alpha is missing"),
        (_gradients_only(update="vector + alpha * change / (2 * eps)"), "sign is wrong: the factor"),
        (_gradients_only(where="0"), "taken at theta; each"),
        (_gradients_only(where="k + 1"), "where its step ends"),
        (_gradients_only(where="K"), "where no step starts"),
        (_gradients_only(order="range(K)"), "in the wrong order"),
        (_gradients_only(order="[K - 1]"), "Only the last step's factor"),
        (_gradients_only(order="[0]"), "Only the first step's factor"),
        (_gradients_only(gradient="query_gradient"), "those of the query loss"),
        (_gradients_only(result="-vector"), "sign of the result"),
        (
            _gradients_only(eps="1e-3"),
            "3000 times as long. How far you move depends on the length of the vector. Here eps is too large",
        ),
        (_gradients_only(eps="1e-11"), "Here eps is too small"),
        (_gradients_only(eps="1e-1 / vector.norm()"), "per cent: eps is too large"),
        (_gradients_only(eps="1e-14 / vector.norm()"), "per cent: eps is too small"),
        (_gradients_only(result="vector[0]"), "A vector of 3 entries"),
        (
            "def maml_gradient(support_gradient, query_gradient, theta, alpha, K):\n"
            "    start = point = theta.clone().requires_grad_()\n"
            "    for _ in range(K):\n"
            "        point = point - alpha * support_gradient(point)\n"
            "    return torch.autograd.grad(query_gradient(point), start)[0]",
            "Your code raised RuntimeError",
        ),
    ],
}

# Right answers in other styles: by autograd, as a list, in float32, as an array, with an axis too many.
RIGHT = {
    "ex-angle": [
        """
def angle(h, g, alpha, K):
    import numpy as np

    h, g = h.numpy(), g.numpy()
    m, g = ((1 - alpha * h) ** K * g).mean(0), g.mean(0)
    return np.degrees(np.arccos(m @ g / np.linalg.norm(m) / np.linalg.norm(g)))
""",
        ANGLE.format(maml=FACTORS, result="[radians.float().item() * 180 / torch.pi]"),
    ],
    "ex-truncated": [
        TRUNCATED.format(inner="support_loss", constant="K - m", result=KEPT + "[None].float()"),
        FACTOR_BY_FACTOR.format(order="reversed(range(K - m, K))", where="k"),
        """
def truncated_gradient(support_loss, query_loss, theta, alpha, K, m):
    start = point = theta.clone().requires_grad_()
    for k in range(K):
        slope = torch.autograd.grad(support_loss(point), point, create_graph=True)[0]
        point = point - alpha * (slope.detach() if k < K - m else slope)
    return torch.autograd.grad(query_loss(point), start)
""",
    ],
    "ex-reptile": [
        REPTILE.format(first="pass", last="pass", result="(sum(moves) / len(moves)).tolist()"),
        """
def reptile_gradient(support_losses, theta, alpha, K):
    total = torch.zeros_like(theta)
    for f in support_losses:
        point = theta.clone()
        for _ in range(K):
            point -= alpha * torch.func.grad(f)(point)
        total += point / len(support_losses)
    theta -= total
    return theta
""",
    ],
    "ex-dropped": [
        DROPPED.format(result=f"(-alpha * {HVP}).tolist()"),
    ],
    "ex-gradients-only": [
        _gradients_only(result="vector.tolist()"),
        """
def maml_gradient(support_gradient, query_gradient, theta, alpha, K):
    def pull_back(theta, K):
        if K == 0:
            return query_gradient(theta)
        g = support_gradient(theta)
        v = pull_back(theta - alpha * g, K - 1)
        eps = 1e-7 / v.norm()
        return v - alpha * (support_gradient(theta + eps * v) - g) / eps

    return pull_back(theta, K)[None]
""",
        """
def maml_gradient(support_gradient, query_gradient, theta, alpha, K):
    path, n = [theta], len(theta)
    for _ in range(K):
        path.append(path[-1] - alpha * support_gradient(path[-1]))
    vector, axes = query_gradient(path[-1]), 1e-5 * torch.eye(n, dtype=theta.dtype)
    for point in reversed(path[:-1]):
        rows = [(support_gradient(point + e) - support_gradient(point - e)) / 2e-5 for e in axes]
        vector = vector - alpha * torch.stack(rows) @ vector
    return vector
""",
    ],
}
