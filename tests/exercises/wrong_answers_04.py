"""Typical wrong answers to the exercises of chapter 4: what stands in the stub's place, and what the check must say."""

from __future__ import annotations

ANGLE = """
def angle(h, g, alpha, K):
    maml = {maml}
    radians = torch.arccos(maml @ g / (maml.norm() * g.norm()))
    return {result}
"""
FOMAML = """
def fomaml_gradient(support_loss, query_loss, theta, alpha, K):
    start, grad = theta, torch.func.grad
    for _ in range({steps}):
        theta = theta - alpha * grad({inner})(theta)
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
DROPPED = """
def dropped(support_loss, query_loss, theta, alpha):
    grad, hvp = torch.func.grad, torch.autograd.functional.hvp
    adapted = theta - alpha * grad(support_loss)(theta)
    g = grad(query_loss)(adapted)
    return {result}
"""
FACTORS = "(1 - alpha * h) ** K * g"
MEAN = "torch.stack(moves).mean(0)"
HVP = "hvp(support_loss, theta, g)[1]"
DEGREES = "torch.rad2deg(radians)"

WRONG = {
    "ex-angle": [
        (ANGLE.format(maml=FACTORS, result="radians"), "in radians"),
        (ANGLE.format(maml=FACTORS, result="torch.cos(radians)"), "This is the cosine"),
        (ANGLE.format(maml="(1 - alpha * h) * g", result=DEGREES), "each of the K steps contributes one"),
        (ANGLE.format(maml="(1 - K * alpha * h) * g", result=DEGREES), "take the power"),
        (ANGLE.format(maml="(1 - h) ** K * g", result=DEGREES), "alpha is missing"),
        (ANGLE.format(maml="(1 + alpha * h) ** K * g", result=DEGREES), "sign of alpha h"),
        (ANGLE.format(maml="-(1 - alpha * h) ** K * g", result=DEGREES), "wrong sign"),
        (ANGLE.format(maml=FACTORS, result="maml"), "A number was expected"),
    ],
    "ex-fomaml": [
        (
            "def fomaml_gradient(support_loss, query_loss, theta, alpha, K):\n"
            "    start = theta.clone().requires_grad_()\n    point = start\n"
            "    for _ in range(K):\n"
            "        point = point - alpha * torch.autograd.grad(support_loss(point), point, create_graph=True)[0]\n"
            "    return torch.autograd.grad(query_loss(point), start)[0]",
            "This is MAML's gradient",
        ),
        (FOMAML.format(steps="K", inner="support_loss", result="grad(query_loss)(start)"), "taken at theta;"),
        (FOMAML.format(steps="K", inner="support_loss", result="grad(support_loss)(theta)"), "support gradient"),
        (FOMAML.format(steps="K", inner="support_loss", result="start - theta"), "Reptile's direction"),
        (FOMAML.format(steps="K", inner="query_loss", result="grad(query_loss)(theta)"), "on the query loss"),
        (
            FOMAML.format(steps="K - 1", inner="support_loss", result="grad(query_loss)(theta)"),
            "One inner step is missing",
        ),
        (FOMAML.format(steps="K", inner="support_loss", result="-grad(query_loss)(theta)"), "sign is wrong"),
        (FOMAML.format(steps="K", inner="support_loss", result="theta"), "These are the adapted weights"),
        (FOMAML.format(steps="K", inner="support_loss", result="query_loss(theta)"), "not its gradient"),
    ],
    "ex-reptile": [
        (REPTILE.format(first="pass", last="pass", result="-" + MEAN), "sign is wrong"),
        (REPTILE.format(first="pass", last="pass", result="torch.stack(moves).sum(0)"), "the sum over the tasks"),
        (REPTILE.format(first="pass", last="start = adapted", result=MEAN), "Each task starts where"),
        (REPTILE.format(first="pass", last="start = adapted", result="theta - start"), "Each task starts where"),
        (REPTILE.format(first="pass", last="pass", result="moves[-1]"), "Only the last task"),
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
    ],
}

# Right answers in other styles: by autograd, as a list, in float32, as an array, with an axis too many.
RIGHT = {
    "ex-angle": [
        """
def angle(h, g, alpha, K):
    import numpy as np

    h, g = h.numpy(), g.numpy()
    m = (1 - alpha * h) ** K * g
    return np.degrees(np.arccos(m @ g / np.linalg.norm(m) / np.linalg.norm(g)))
""",
        ANGLE.format(maml=FACTORS, result="[radians.float().item() * 180 / torch.pi]"),
    ],
    "ex-fomaml": [
        FOMAML.format(steps="K", inner="support_loss", result="grad(query_loss)(theta)[None].float()"),
        """
def fomaml_gradient(support_loss, query_loss, theta, alpha, K):
    theta = theta.clone().requires_grad_()
    optimiser = torch.optim.SGD([theta], lr=alpha)
    for _ in range(K):
        optimiser.zero_grad()
        support_loss(theta).backward()
        optimiser.step()
    return torch.autograd.grad(query_loss(theta), theta)
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
        """
def dropped(support_loss, query_loss, theta, alpha):
    def after(theta):
        return query_loss(theta - alpha * torch.func.grad(support_loss)(theta))

    adapted = theta - alpha * torch.func.grad(support_loss)(theta)
    return torch.func.grad(after)(theta) - torch.func.grad(query_loss)(adapted)
""",
    ],
}
