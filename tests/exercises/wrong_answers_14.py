"""Typical wrong answers to the exercises of chapter 14: what stands in the stub's place, and what the check must say."""

from __future__ import annotations

SAVED = """
def saved_bytes(f, theta):
    kept = []

    def put_away(tensor):
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(put_away, lambda tensor: tensor):
        f(theta)
    once = {{t.untyped_storage().data_ptr(): t for t in kept}}.values()
    return {result}
"""
OF_STORAGE = "t.untyped_storage().nbytes()"

BY_ADDRESS = """
def saved_bytes(f, theta):
    sizes = {{}}

    def put_away(tensor):
        storage = tensor.untyped_storage()
        sizes[{key}] = storage.nbytes()
        return {kept}

    with torch.autograd.graph.saved_tensors_hooks(put_away, lambda tensor: tensor):
        f(theta)
    return sum(sizes.values())
"""


def by_address(key="storage.data_ptr()", kept="tensor"):
    return BY_ADDRESS.format(key=key, kept=kept)


TOGETHER = """
def meta_gradient(task_loss, theta, tasks):
    return {result}
"""
EACH = "vmap(grad(task_loss), in_dims=(None,) + (0,) * len(tasks))(theta, *tasks)"
LOOP = "[grad(task_loss)(theta, *task) for task in zip(*tasks)]"

SPARSE = """
def sparse_meta_gradient(support_loss, query_loss, theta, alpha, K, every):
    def step(point):
        return point - alpha * grad(support_loss)(point)

    def back(point, v):
        product = grad(lambda p: grad(support_loss)(p) @ v)(point)
        return v - alpha * product

    kept, point = [], theta
    for k in range(K):
        if k % every == 0:
            kept.append(point)
        point = step(point)
    v = grad(query_loss)({end})
    for number in {numbers}:
        stretch = [kept[number]]
        for _ in range({length} - 1):
            stretch.append(step(stretch[-1]))
        for start in {order}:
            v = back({start}, v)
    return {result}
"""
PLAIN = {
    "end": "point",
    "numbers": "reversed(range(len(kept)))",
    "length": "min(every, K - number * every)",
    "order": "reversed(stretch)",
    "start": "start",
    "result": "v",
}


def sparse(**changes):
    return SPARSE.format(**{**PLAIN, **changes})


WHOLE_PATH = """
def sparse_meta_gradient(support_loss, query_loss, theta, alpha, K, every):
    path = [theta]
    for _ in range(K):
        path.append(path[-1] - alpha * grad(support_loss)(path[-1]))
    v = grad(query_loss)(path[-1])
    for point in reversed(path[:-1]):
        v = v - alpha * {product}
    return v
"""
FROM_THE_START = """
def sparse_meta_gradient(support_loss, query_loss, theta, alpha, K, every):
    def at(k):
        point = theta
        for _ in range(k):
            point = point - alpha * grad(support_loss)(point)
        return point

    v = grad(query_loss)(at(K))
    for k in reversed(range(K)):
        v = v - alpha * grad(lambda p, v=v: grad(support_loss)(p) @ v)(at(k))
    return v
"""

ERRORS = """
def errors(pieces, x):
    found, chain = [], x.float()
    for piece in pieces:
        given = {given}
        truth = {truth}
        wrong = piece(given).double() - truth
        found.append(({error}).item(){unit})
        x, chain = piece(x), piece(chain)
    return found
"""
SOUND = {
    "given": "x.float()",
    "truth": "piece(given.double())",
    "error": "wrong.norm() / truth.norm()",
    "unit": " / torch.finfo(torch.float32).eps",
}


def errors(**changes):
    return ERRORS.format(**{**SOUND, **changes})


BY_C = """
def by_c(c, v, u):
    s = {s}
    x = s * c
    b, d = (v * x).{mean}(), (u * x).{mean}()
    e = (u * v).{mean}() - b * d
    return {result}
"""
AUTOGRAD = """
def by_c(c, v, u):
    def first(c):
        s = c.square().mean() ** -0.5
        return u @ (s * (v - (v * c).mean() * s**2 * c))

    return grad(first)(c)
"""
FREE = """
def by_c(c, v, u):
    c = c.requires_grad_()
    s = c.square().mean() ** -0.5
    (slope,) = torch.autograd.grad(s * c, c, v, create_graph=True)
    return torch.autograd.grad(slope, c, u)[0]
"""
RMS = "c.square().mean() ** -0.5"


def by_c(result="-s * s * (d * v + b * u + (e - 2 * b * d) * x)", mean="mean", s=RMS):
    return BY_C.format(result=result, mean=mean, s=s)


WRONG = {
    "ex-saved": [
        (SAVED.format(result=f"sum({OF_STORAGE} for t in kept)"), "counts once"),
        (SAVED.format(result="sum(t.nbytes for t in kept)"), "Every tensor counts"),
        (
            SAVED.format(result="sum(t.untyped_storage().nbytes() // t.element_size() for t in once)"),
            "not bytes: a number",
        ),
        (SAVED.format(result="sum(t.numel() for t in kept)"), "not bytes, and storages"),
        (SAVED.format(result="sum(t.nbytes for t in once)"), "A view keeps the whole storage"),
        (SAVED.format(result="len(kept)"), "This counts tensors"),
        (SAVED.format(result="len(once)"), "This counts storages"),
        (
            SAVED.format(result=f"sum({OF_STORAGE} for t in once if t.data_ptr() != theta.data_ptr())"),
            "theta counts, too",
        ),
        (SAVED.format(result="kept[-1].untyped_storage().nbytes()"), "Only the last tensor"),
        (SAVED.format(result="'many'"), "A number was expected"),
        (by_address(kept="None"), "gives its address to the next"),
        (by_address(key="tensor.data_ptr()"), "Views of a storage begin"),
    ],
    "ex-together": [
        (TOGETHER.format(result=f"{EACH}.sum(0)"), "the sum over the tasks"),
        (TOGETHER.format(result=f"{EACH}[0]"), "Only the first task"),
        (TOGETHER.format(result=f"{EACH}[-1]"), "Only the last task"),
        (TOGETHER.format(result=EACH), "gradients of the tasks"),
        (TOGETHER.format(result=f"-{EACH}.mean(0)"), "sign is wrong"),
        (TOGETHER.format(result="vmap(lambda *task: task_loss(theta, *task))(*tasks).mean()"), "not its gradient"),
        (TOGETHER.format(result=f"torch.stack({LOOP}).mean(0)"), "one after the other"),
        (TOGETHER.format(result="vmap(grad(task_loss))(theta, *tasks)"), "Your code raised"),
    ],
    "ex-sparse": [
        (sparse(result="grad(query_loss)(point)"), "this is FOMAML's gradient"),
        (sparse(start="kept[number]"), "the kept point that the stretch begins with"),
        (sparse(start="step(start)"), "where its step ends"),
        (sparse(numbers="range(len(kept))", order="stretch"), "that of the last step comes first"),
        (sparse(numbers="range(len(kept))"), "The stretches come in the wrong order"),
        (sparse(order="stretch"), "Within a stretch"),
        (sparse(order="stretch[:1]"), "Only the steps that start at a kept point"),
        (sparse(numbers="reversed(range(K // every))", length="every"), "The last stretch may be shorter"),
        (sparse(length="every"), "the last stretch has fewer steps, and so fewer factors"),
        (sparse(end="theta"), "The query gradient is taken at theta"),
        (sparse(result="-v"), "sign of the result"),
        (
            WHOLE_PATH.format(product="grad(lambda p: grad(support_loss)(p) @ v)(point)"),
            "vectors as long as theta are alive",
        ),
        (WHOLE_PATH.format(product="torch.func.hessian(support_loss)(point) @ v"), "a Hessian was built"),
        (FROM_THE_START, "the support loss is called"),
    ],
    "ex-errors": [
        (errors(given="chain", truth="piece(x)"), "their errors are passed on"),
        (errors(truth="piece(x)"), "round first"),
        (errors(unit=""), "divide them by float32's epsilon"),
        (errors(error="wrong.norm()"), "These are absolute errors"),
        (errors(error="wrong.abs().max() / truth.abs().max()"), "the largest entry's error"),
        (errors(error="(wrong / truth).abs().max()"), "the largest relative error of a single entry"),
        (errors(given="chain"), "is measured by itself"),
        (errors(truth="piece(given.double()).float().double()"), "its own rounding counts"),
    ],
    "ex-by-c": [
        (by_c("s * s * (d * v + b * u + (e - 2 * b * d) * x)"), "The sign is wrong"),
        (by_c("-s * s * (d * v + b * u + e * x)"), "the term -2 b d x is missing"),
        (by_c("-s * s * (d * v + b * u + (e - b * d) * x)"), "subtracted once"),
        (by_c("-s * s * (d * v + b * u + (e - 2 * b * d) * x) / len(c)"), "1 / n too many"),
        (by_c("-s * s * (d * v + b * u - 2 * b * d * x)"), "s depends on c, too"),
        (by_c("-s * s * (b * u + (e - b * d) * x)"), "b depends on c, too"),
        (by_c("-s * s * (d * v + (e - b * d) * x)"), "d depends on c, too"),
        (by_c("-s * s * e * x"), "Only s is differentiated"),
        (by_c("-s * (d * v + b * u + (e - 2 * b * d) * x)"), "One factor s is missing"),
        (by_c("s * (u - d * x)"), "the gradient by v"),
        (by_c("s * (v - b * x)"), "the first derivative"),
        (AUTOGRAD, "autograd finds them"),
        (FREE, "autograd finds them"),
    ],
}

# Right answers in other styles.
RIGHT = {
    "ex-saved": [by_address(), SAVED.format(result=f"torch.tensor([float({OF_STORAGE}) for t in once]).sum()")],
    "ex-together": [
        TOGETHER.format(result=f"{EACH}.mean(0)"),
        TOGETHER.format(result=f"{EACH}.mean(0)[None].float()"),
    ],
    "ex-sparse": [
        sparse(result="v.tolist()"),
        """
def sparse_meta_gradient(support_loss, query_loss, theta, alpha, K, every):
    def step(point, create_graph=False):
        point = point if point.requires_grad else point.detach().requires_grad_()
        slope = torch.autograd.grad(support_loss(point), point, create_graph=create_graph)[0]
        return point - alpha * slope

    kept = {0: theta}
    point = theta
    for k in range(K):
        point = step(point).detach()
        if (k + 1) % every == 0:
            kept[k + 1] = point
    end = point.detach().requires_grad_()
    v = torch.autograd.grad(query_loss(end), end)[0]
    stretch = {}
    for k in reversed(range(K)):
        if k not in stretch:
            first = k - k % every
            stretch = {first: kept.pop(first)}
            for j in range(first, k):
                stretch[j + 1] = step(stretch[j]).detach()
        point = stretch.pop(k).detach().requires_grad_()
        v = torch.autograd.grad(step(point, create_graph=True), point, v)[0]
    return v
""",
    ],
    "ex-errors": [
        errors(error="(wrong / truth.norm()).norm()"),
        """
def errors(pieces, x):
    import numpy as np

    found = []
    for piece in pieces:
        given = x.to(torch.float32)
        a, b = piece(given).numpy().astype(float), piece(given.to(torch.float64)).numpy()
        found.append(np.linalg.norm(a - b) / np.linalg.norm(b) * 2.0**23)
        x = piece(x)
    return np.array(found)
""",
    ],
    "ex-by-c": [
        by_c("(-s * (s * (e - 2 * b * d) * x + b * s * u + d * s * v)).tolist()"),
    ],
}
