"""Typical wrong answers to the exercises of chapter 3: what stands in the stub's place, and what the check must say."""

from __future__ import annotations

PENCIL = """
def meta_gradient(theta, c, h, q, alphas):
    import math
    last = c + math.prod(1 - alpha * h for alpha in alphas) * (theta - c)
    first = 1 - alphas[0] * h
    one, steps = c + first * (theta - c), len(alphas)
    factors = [1 - alpha * h for alpha in alphas]
    return {result}
"""
PRODUCT = """
def meta_gradient(path, hessian, alpha, query_gradient):
    result = query_gradient
    for point in {points}:
        result = {update}
    return result
"""
DESCEND = "result - alpha * hessian(point) @ result"
ADJOINT = """
def adjoint(support_loss, query_loss, path, alpha):
    grad, hvp = torch.func.grad, torch.autograd.functional.hvp
    lam, by_alpha, last = grad(query_loss)(path[-1]), 0.0, grad(query_loss)(path[-1])
    for k in reversed(range(len(path) - 1)):
        g, before = grad(support_loss)(path[k]), lam
        lam = {update}
        by_alpha = {by_alpha}
    return {result}
"""
UPDATE = "lam - alpha * hvp(support_loss, path[k], lam)[1]"

WRONG = {
    "ex-pencil": [
        (PENCIL.format(result="last - q"), "The factor is missing"),
        (PENCIL.format(result="first * (last - q)"), "Only the first step's factor"),
        (PENCIL.format(result="factors[-1] * (last - q)"), "Only the last step's factor"),
        (PENCIL.format(result="first**steps * (c + first**steps * (theta - c) - q)"), "Every step has the first"),
        (PENCIL.format(result="first**steps * (last - q)"), "In the factors every step has the first"),
        (PENCIL.format(result="math.prod(factors) * (one - q)"), "the end of K steps"),
        (PENCIL.format(result="first * (one - q)"), "Only the first step is here"),
        (PENCIL.format(result="sum(factors) * (last - q)"), "their product, not their sum"),
        (PENCIL.format(result="math.prod(2 - f for f in factors) * (last - q)"), "sign of alpha h is wrong in"),
        (PENCIL.format(result="math.prod(factors) * (theta - q)"), "taken at theta"),
        (PENCIL.format(result="math.prod(factors) * (last - c)"), "query set's minimum is q"),
        (PENCIL.format(result="math.prod(factors) * (q - last)"), "sign of the result"),
        (PENCIL.format(result="0.5 * (last - q) ** 2"), "not its derivative"),
        (
            PENCIL.format(result="(1 - h * sum(alphas)) * (c + (1 - h * sum(alphas)) * (theta - c) - q)"),
            "are added up: each",
        ),
        (PENCIL.format(result="(1 - h * sum(alphas)) * (last - q)"), "In the factor the step sizes are added up"),
        (PENCIL.format(result="math.prod(factors) * (last - c - q)"), "theta^(K) lacks c"),
        (PENCIL.format(result="h * math.prod(factors) * (last - q)"), "an h too many"),
        (PENCIL.format(result="'no idea'"), "A number was expected, this is str"),
        (PENCIL.format(result="float('nan')"), "In one test"),
        (PENCIL.format(result="undefined"), "Your code raised NameError"),
    ],
    "ex-blind": [
        ("def blind_step_size(H, v):\n    return (v @ H @ v) / (v @ v)", "This is the eigenvalue"),
        ("def blind_step_size(H, v):\n    return 2 * (v @ v) / (v @ H @ v)", "starts to diverge"),
        ("def blind_step_size(H, v):\n    return 1 / (v @ H @ v)", "need not have length 1"),
        ("def blind_step_size(H, v):\n    return 1 / (H @ v).norm()", "need not have length 1"),
        ("def blind_step_size(H, v):\n    return 1 / torch.linalg.eigvalsh(H)[-1]", "largest eigenvalue"),
        ("def blind_step_size(H, v):\n    return -(v @ v) / (v @ H @ v)", "sign is wrong"),
        ("def blind_step_size(H, v):\n    return H @ v", "A number was expected"),
    ],
    "ex-hvp": [
        (
            "def hvp(f, theta, v):\n    return torch.autograd.grad(f(theta), theta)[0]",
            "This is the gradient: v has not",
        ),
        ("def hvp(f, theta, v):\n    return torch.autograd.grad(f(theta), theta)[0] * v", "gradient times v"),
        (
            "def hvp(f, theta, v):\n    (g,) = torch.autograd.grad(f(theta), theta, create_graph=True)\n"
            "    return torch.autograd.grad(g.sum(), theta)[0]",
            "The gradient was summed",
        ),
        (
            "def hvp(f, theta, v):\n    (g,) = torch.autograd.grad(f(theta), theta, create_graph=True)\n"
            "    return torch.autograd.grad(g.sum(), theta)[0] * v",
            "v came in after",
        ),
        (
            "def hvp(f, theta, v):\n    return torch.func.jacrev(torch.func.grad(f))(theta).diagonal() * v",
            "Only the diagonal",
        ),
        ("def hvp(f, theta, v):\n    return -torch.func.jacrev(torch.func.grad(f))(theta) @ v", "sign is wrong"),
        ("def hvp(f, theta, v):\n    return v @ torch.func.jacrev(torch.func.grad(f))(theta) @ v", "the number v.H v"),
        (
            "def hvp(f, theta, v):\n    return torch.func.jacrev(torch.func.grad(f))(theta)",
            "A vector of 3 entries was expected",
        ),
        (
            "def hvp(f, theta, v):\n    (g,) = torch.autograd.grad(f(theta), theta)\n"
            "    return torch.autograd.grad(g @ v, theta)[0]",
            "the first torch.autograd.grad needs create_graph=True",
        ),
        (
            "def hvp(f, theta, v):\n    (g,) = torch.autograd.grad(f(theta), theta, retain_graph=True)\n"
            "    return torch.autograd.grad(g @ v, theta)[0]",
            "the first torch.autograd.grad needs create_graph=True",
        ),
        (
            "def hvp(f, theta, v):\n    theta = theta.detach()\n"
            "    (g,) = torch.autograd.grad(f(theta), theta, create_graph=True)\n"
            "    return torch.autograd.grad(g @ v, theta)[0]",
            "Your code raised RuntimeError",
        ),
        (
            "def hvp(f, theta, v):\n    return (torch.autograd.functional.hessian(f, theta) @ v).float().numpy()",
            "you built H",
        ),
        ("def hvp(f, theta, v):\n    return torch.func.hessian(f)(theta) @ v", "you built H"),
        (
            "def hvp(f, theta, v):\n    g = torch.func.grad(f)\n"
            "    return (g(theta + 1e-5 * v) - g(theta - 1e-5 * v)) / 2e-5",
            "f was called away from theta",
        ),
    ],
    "ex-product": [
        (PRODUCT.format(points="[]", update="result"), "The factors are missing"),
        (PRODUCT.format(points="[path[0]] * (len(path) - 1)", update=DESCEND), "Every Hessian is taken at theta;"),
        (PRODUCT.format(points="path[:-1]", update=DESCEND), "wrong order"),
        (PRODUCT.format(points="reversed(path[1:])", update=DESCEND), "where its step ends"),
        (PRODUCT.format(points="path[1:]", update=DESCEND), "where its step ends, and the factors"),
        (PRODUCT.format(points="reversed(path)", update=DESCEND), "one factor too many"),
        (PRODUCT.format(points="reversed(path[1:-1])", update=DESCEND), "first step's factor"),
        (PRODUCT.format(points="reversed(path[:-2])", update=DESCEND), "last step's factor, with"),
        (PRODUCT.format(points="reversed(path[:-1])", update=DESCEND.replace("-", "+")), "sign is wrong"),
        (PRODUCT.format(points="reversed(path[:-1])", update="result - hessian(point) @ result"), "alpha is missing"),
        (
            PRODUCT.format(points="reversed(path[:-1])", update="-alpha * hessian(point) @ result"),
            "identity is missing",
        ),
        (
            PRODUCT.format(points="path[:-1]", update="result - alpha * hessian(point) @ query_gradient"),
            "added up in one factor",
        ),
        (
            PRODUCT.format(points="[]", update="result").replace("return result", "return hessian(path[0])"),
            "A vector of 3",
        ),
    ],
    "ex-adjoint": [
        (ADJOINT.format(update=UPDATE, by_alpha="0.0", result="lam"), "Return two things"),
        (ADJOINT.format(update=UPDATE, by_alpha="0.0", result="(lam, None)"), "One of the two is None"),
        (
            ADJOINT.format(update="lam", by_alpha="by_alpha - g @ before", result="(lam, by_alpha)"),
            "The factors are missing",
        ),
        (
            ADJOINT.format(
                update=UPDATE.replace("path[k]", "path[0]"), by_alpha="by_alpha - g @ before", result="(lam, by_alpha)"
            ),
            "Every Hessian is taken at theta;",
        ),
        (
            ADJOINT.format(
                update=UPDATE.replace("path[k]", "path[k + 1]"),
                by_alpha="by_alpha - g @ before",
                result="(lam, by_alpha)",
            ),
            "where its step ends",
        ),
        (
            ADJOINT.format(update=UPDATE, by_alpha="by_alpha + g @ before", result="(lam, by_alpha)"),
            "with respect to alpha is not. The sign",
        ),
        (
            ADJOINT.format(update=UPDATE, by_alpha="by_alpha - g @ lam", result="(lam, by_alpha)"),
            "Which adjoint belongs",
        ),
        (ADJOINT.format(update=UPDATE, by_alpha="-g @ before", result="(lam, by_alpha)"), "Only the first step's term"),
        (
            ADJOINT.format(update=UPDATE, by_alpha="by_alpha - g @ before / (len(path) - 1)", result="(lam, by_alpha)"),
            "mean over the steps",
        ),
        (
            ADJOINT.format(update=UPDATE, by_alpha="by_alpha - g @ last", result="(lam, by_alpha)"),
            "has the query gradient",
        ),
        (
            ADJOINT.format(
                update=UPDATE, by_alpha="by_alpha - grad(query_loss)(path[k]) @ before", result="(lam, by_alpha)"
            ),
            "here it is the query loss's",
        ),
        (
            ADJOINT.format(update=UPDATE, by_alpha="by_alpha - last @ before", result="(lam, by_alpha)"),
            "stands in every term",
        ),
        (
            ADJOINT.format(update=UPDATE, by_alpha="by_alpha - alpha * g @ before", result="(lam, by_alpha)"),
            "alpha too many",
        ),
        (
            ADJOINT.format(update=UPDATE, by_alpha="by_alpha - g @ before", result="(by_alpha, lam)"),
            "A vector of 3 entries",
        ),
    ],
}

# Right answers in other styles: by autograd, as a list, in float32, as an array, with an axis too many, in place.
RIGHT = {
    "ex-pencil": [
        """
def meta_gradient(theta, c, h, q, alphas):
    start = torch.tensor(theta, requires_grad=True)
    point = start
    for alpha in alphas:
        point = point - alpha * h * (point - c)
    return torch.autograd.grad(0.5 * (point - q) ** 2, start)
""",
        PENCIL.format(result="[math.prod(factors) * (last - q)]"),
        PENCIL.format(result="torch.tensor([math.prod(factors) * (last - q)])"),
    ],
    "ex-blind": [
        "def blind_step_size(H, v):\n    return float(v.norm() / (H @ v).norm())",
        "def blind_step_size(H, v):\n    i = v.abs().argmax()\n    return (v / (H @ v))[i : i + 1].float()",
        """
def blind_step_size(H, v):
    values, vectors = torch.linalg.eigh(H)
    return (1 / values[(vectors.T @ v).abs().argmax()]).numpy()
""",
    ],
    "ex-hvp": [
        "def hvp(f, theta, v):\n    return torch.func.jvp(torch.func.grad(f), (theta,), (v,))[1]",
        "def hvp(f, theta, v):\n    return torch.autograd.functional.hvp(f, theta, v)[1].tolist()",
        "def hvp(f, theta, v):\n    return torch.autograd.functional.hvp(f, theta, v)[1].float().numpy()",
        """
def hvp(f, theta, v):
    (g,) = torch.autograd.grad(f(theta), theta, create_graph=True)
    return torch.autograd.grad(g, theta, grad_outputs=v)
""",
    ],
    "ex-product": [
        """
def meta_gradient(path, hessian, alpha, query_gradient):
    jacobian = torch.eye(len(query_gradient), dtype=torch.float64)
    for point in path[:-1]:
        jacobian = jacobian - alpha * hessian(point) @ jacobian
    return query_gradient @ jacobian
""",
        """
def meta_gradient(path, hessian, alpha, query_gradient):
    path.pop()
    while path:
        query_gradient -= alpha * hessian(path.pop()) @ query_gradient
    return query_gradient[:, None].float()
""",
    ],
    "ex-adjoint": [
        """
def adjoint(support_loss, query_loss, path, alpha):
    start, rate = path[0].clone().requires_grad_(), torch.tensor(alpha, dtype=torch.float64, requires_grad=True)
    point = start
    for _ in path[1:]:
        point = point - rate * torch.autograd.grad(support_loss(point), point, create_graph=True)[0]
    return torch.autograd.grad(query_loss(point), (start, rate))
""",
        ADJOINT.format(update=UPDATE, by_alpha="by_alpha - (g @ before).item()", result="[lam.tolist(), [by_alpha]]"),
    ],
}
