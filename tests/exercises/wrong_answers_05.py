"""Typical wrong answers to the exercises of chapter 5: what stands in the stub's place, and what the check must say."""

from __future__ import annotations

EPISODE = """
def episode(images, ways, shots, queries, generator):
    classes = {classes}
    support, query, numbers = [], [], torch.arange(ways)
    fixed = torch.randperm(images.shape[1], generator=generator)
    for c in classes:
        order = {order}
        support.append(images[c, order[:shots]])
        query.append(images[c, {query}])
    sx, qx = torch.cat(support), torch.cat(query)
    sy, qy = numbers.repeat_interleave(shots), numbers.repeat_interleave(queries)
    return {result}
"""
PARTS = {
    "classes": "torch.randperm(len(images), generator=generator)[:ways]",
    "order": "torch.randperm(images.shape[1], generator=generator)",
    "query": "order[shots : shots + queries]",
    "result": "sx, sy, qx, qy",
}


def episode(**changes: str) -> str:
    """The right answer with some of its parts exchanged."""
    return EPISODE.format(**{**PARTS, **changes})


HALF = "def half_width(hits):\n    return {}"
LEAKS = """
def leaks(train, test):
    found = []
    for number, drawings in enumerate(test):
        for image in {images}:
            for other in {others}:
                for turn in {turns}:
                    if torch.equal(image, other.rot90(turn, (-2, -1))):
                        found.append(number)
    return {result}
"""
EVERY = "train.flatten(0, 1)"
ALONE = """
def scores_alone(learner, support_x, support_y, image):
    path = learner.adapt(support_x, support_y)
    batch = torch.cat([image[None], support_x])
    return {}
"""
COUNT = """
def count(ways, filters, image_size, channels):
    size = {size}
    convolutions = {first} + {later} * 9 * filters**2
    return convolutions + {norms} * filters + {head}
"""
COUNTED = {
    "size": "image_size // 16",
    "first": "9 * channels * filters",
    "later": "3",
    "norms": "8",
    "head": "filters * size * size * ways + ways",
}

PROTOTYPES = """
def prototype_scores(support, support_y, query, ways):
    means = {means}
    return {scores}
"""
MEANS = "torch.stack([support[support_y == n].mean(0) for n in range(ways)])"
SCORES = "-(query[:, None] - means).square().sum(-1)"


def prototypes(means: str = MEANS, scores: str = SCORES) -> str:
    """The right answer with some of its parts exchanged."""
    return PROTOTYPES.format(means=means, scores=scores)


def count(**changes: str) -> str:
    """The right answer with some of its parts exchanged."""
    return COUNT.format(**{**COUNTED, **changes})


WRONG = {
    "ex-episode": [
        (
            episode(result="sx, classes.repeat_interleave(shots), qx, classes.repeat_interleave(queries)"),
            "within the task",
        ),
        (episode(query="order[:queries]"), "An image is in both sets"),
        (episode(classes="torch.arange(ways)"), "same classes"),
        (episode(classes="torch.randint(len(images), (ways,), generator=generator)"), "without repetition"),
        (episode(classes="torch.randperm(len(images), generator=generator)[:ways].sort().values"), "at random"),
        (episode(order="torch.arange(images.shape[1])"), "always the same drawings"),
        (episode(order="fixed"), "for each class by itself"),
        (episode(order="torch.randperm(images.shape[1])"), "generator=generator"),
        (episode(result="sx, sy, qx, qy.flip(0)"), "one number in the support set and another"),
        (episode(result="sx, numbers.repeat(shots), qx, qy"), "do not match"),
        (episode(result="torch.stack(support), sy, qx, qy"), "flatten(0, 1)"),
        (episode(result="sx, qx"), "Four tensors"),
        (episode(result="sx, sy + 1, qx, qy + 1"), "from 0 to 3"),
        (episode(query="order[shots:]"), "query_x should have shape (12"),
    ],
    "ex-half-width": [
        (HALF.format("1.96 * hits.std() / hits.numel() ** 0.5"), "independent draw"),
        (HALF.format("hits.std() / hits.numel() ** 0.5"), "independent draw"),
        (HALF.format("hits.std()"), "single hits: no interval"),
        (HALF.format("hits.mean(1).std()"), "standard deviation over tasks"),
        (HALF.format("1.96 * hits.mean(1).std()"), "does not shrink"),
        (HALF.format("hits.mean(1).std() / len(hits) ** 0.5"), "1.96 is missing"),
        (HALF.format("2 * 1.96 * hits.mean(1).std() / len(hits) ** 0.5"), "twice the half width"),
        (HALF.format("1.96 * hits.mean(1).std() / hits.shape[1] ** 0.5"), "number of query images"),
        (HALF.format("1.96 * hits.mean(0).std() / hits.shape[1] ** 0.5"), "wrong axis"),
        (HALF.format("1.96 * hits.mean(1).std(correction=0) / len(hits) ** 0.5"), "minus 1"),
        (HALF.format("196 * hits.mean(1).std() / len(hits) ** 0.5"), "in per cent"),
        (HALF.format("hits.mean(1)"), "A number was expected"),
    ],
    "ex-leaks": [
        (LEAKS.format(images="drawings", others=EVERY, turns="(0,)", result="found"), "Turned copies are missed"),
        (LEAKS.format(images="drawings", others=EVERY, turns="(0, 1, 3)", result="found"), "180 degrees is missed"),
        (LEAKS.format(images="drawings", others=EVERY, turns="(0, 1, 2)", result="found"), "One direction"),
        (LEAKS.format(images="drawings[:1]", others="train[:, 0]", turns="range(4)", result="found"), "same place"),
        (LEAKS.format(images="drawings", others=EVERY, turns="range(4)", result="[2, 3, 4, 5]"), "training classes"),
        (LEAKS.format(images="drawings", others=EVERY, turns="range(4)", result="[]"), "Nothing was found"),
        (
            LEAKS.format(images="drawings", others=EVERY, turns="range(4)", result="list(range(len(test)))"),
            "has no drawing",
        ),
        (
            LEAKS.format(images="drawings", others=f"[*{EVERY}, *{EVERY}.flip(-1)]", turns="range(4)", result="found"),
            "turn, do not mirror",
        ),
        (
            LEAKS.format(images="drawings", others=EVERY, turns="range(4)", result="len(set(found))"),
            "Numbers of test classes",
        ),
        (LEAKS.format(images="drawings", others=EVERY, turns="range(4)", result="'yes'"), "Numbers of test classes"),
    ],
    "ex-alone": [
        (ALONE.format("learner.predict(image[None], path[-1])[0]"), "put the support images into the batch"),
        (ALONE.format("learner.predict(batch, path[0])[0]"), "has not adapted"),
        (ALONE.format("learner.predict(batch)[0]"), "has not adapted"),
        (ALONE.format("learner.predict(batch, path[1])[0]"), "last entry"),
        (ALONE.format("learner.predict(batch, path[-1])[-1]"), "a support image"),
        (ALONE.format("learner.predict(torch.cat([batch, support_x]), path[-1])[0]"), "in once"),
        (ALONE.format("learner.predict(batch, path[-1])"), "the whole batch"),
        (ALONE.format("learner.predict(batch, path[-1])[0].argmax()"), "before the argmax"),
        (ALONE.format("learner.predict(batch, path)[0]"), "Your code raised"),
        (ALONE.format("learner.predict(batch, path[-1])[0].softmax(0)"), "without a softmax"),
        (ALONE.format("learner.predict(batch, path[-1])[0].log_softmax(0)"), "without a softmax"),
        (ALONE.format("learner.predict(batch, path[-1])[:1]"), "the shape is (1, 5)"),
    ],
    "ex-parameters": [
        (count(norms="12"), "no bias here"),
        (count(norms="0"), "a scale and a shift"),
        (count(norms="4"), "two parameters for each channel"),
        (count(norms="16"), "running mean and variance"),
        (count(head="filters * size * size * ways"), "has a bias"),
        (count(head="0"), "linear layer is missing"),
        (count(size="1"), "not 1 x 1"),
        (count(size="-(-image_size // 16)"), "rounding down"),
        (count(first="9 * filters**2"), "not as many as there are filters"),
        (count(first="channels * filters", later="1 / 3"), "nine weights"),
        (
            """
def count(ways, filters, image_size, channels):
    model = mamlkit.conv4(ways, filters=filters, image_size=image_size, channels=channels)
    return sum(p.numel() for p in model.parameters())
""",
            "but the network was made",
        ),
        (count(first="9 * filters"), "every channel of the image"),
        (count(head="filters * size * ways + ways"), "counts squared"),
        (count(head="ways"), "With the inputs 5, 16, 28, 1, 7269 is right"),
        (count(later="4"), "the first and three more"),
        (count(later="2"), "one of the later ones"),
    ],
    "ex-prototypes": [
        (prototypes(means="support.view(ways, -1, support.shape[1]).mean(1)"), "sorted by class"),
        (prototypes(means="support.view(-1, ways, support.shape[1]).mean(0)"), "in rounds"),
        (prototypes(means=MEANS.replace("mean(0)", "sum(0)")), "not their sum"),
        (prototypes(scores="(query[:, None] - means).square().sum(-1)"), "highest score"),
        (prototypes(scores="-torch.cdist(query, means)"), "not squared."),
        (prototypes(scores="torch.cdist(query, means)"), "not squared, and the sign"),
        (
            prototypes(
                means="-torch.cdist(query, support).square()",
                scores="torch.stack([means[:, support_y == n].max(1).values for n in range(ways)], 1)",
            ),
            "nearest support image",
        ),
        (
            prototypes(
                means="-torch.cdist(query, support).square()",
                scores="torch.stack([means[:, support_y == n].mean(1) for n in range(ways)], 1)",
            ),
            "mean of the distances",
        ),
        (prototypes(scores="-(query[:, None] - means).square().mean(-1)"), "averaged over the features"),
        (prototypes(scores="query @ means.T"), "inner products"),
        (prototypes(scores="2 * query @ means.T - means.square().sum(1)"), "lacks the squared length"),
        (prototypes(scores=f"({SCORES}).softmax(1)"), "These are probabilities"),
        (prototypes(scores=f"({SCORES}).log_softmax(1)"), "logarithms of probabilities"),
        (prototypes(scores=f"({SCORES}).T"), "axes have changed places"),
        (prototypes(scores=f"({SCORES}).detach()"), "no gradient reaches the features"),
        (prototypes(means=f"{MEANS}.detach()"), "reaches the support features"),
        (prototypes(scores=f"({SCORES}).argmax(1)"), "was expected"),
        (prototypes(scores="'near'"), "was expected"),
        (prototypes(means="support[support_y]"), "was expected"),
    ],
}

# Right answers in other styles: other containers, dtypes and orders, as arrays, by sets.
RIGHT = {
    "ex-episode": [
        episode(result="[sx, sy.int(), qx, qy.double()]"),
        """
def episode(images, ways, shots, queries, generator):
    keys = torch.rand(images.shape[:2], generator=generator)
    chosen = torch.rand(len(images), generator=generator).argsort()[:ways]
    order = keys.argsort(1)[chosen]
    x = images[chosen[:, None], order]
    y = torch.arange(ways)[:, None].expand(-1, images.shape[1])
    mix = torch.randperm(ways * queries, generator=generator)
    q = slice(shots, shots + queries)
    return (
        x[:, :shots].transpose(0, 1).flatten(0, 1),
        y[:, :shots].T.flatten(),
        x[:, q].flatten(0, 1)[mix],
        y[:, q].flatten()[mix],
    )
""",
    ],
    "ex-half-width": [
        HALF.format("mamlkit.interval(hits.mean(1)).half_width"),
        """
def half_width(hits):
    import numpy as np

    a = hits.numpy().mean(axis=1)
    return np.array([1.96 * a.std(ddof=1) / np.sqrt(a.size)], dtype=np.float32)
""",
    ],
    "ex-leaks": [
        LEAKS.format(images="drawings", others=EVERY, turns="range(4)", result="set(found)"),
        LEAKS.format(images="drawings", others=EVERY, turns="(-1, 0, 1, 2)", result="torch.tensor(found)"),
        LEAKS.format(
            images="drawings", others=EVERY, turns="range(4)", result="[i in found for i in range(len(test))]"
        ),
    ],
    "ex-alone": [
        ALONE.format("learner.predict(torch.cat([support_x, image[None]]), path[-1])[-1].float().tolist()"),
        ALONE.format("learner.predict(batch, path[-1])[0].detach().numpy()"),
    ],
    "ex-parameters": [
        count(size="image_size // 2 // 2 // 2 // 2") + "    # floor by floor",
    ],
    "ex-prototypes": [
        prototypes(scores="-torch.cdist(query, means).square()"),
        prototypes(
            means="torch.nn.functional.one_hot(support_y, ways).to(support).T",
            scores="-torch.cdist(query, means @ support / means.sum(1, keepdim=True)) ** 2",
        ),
        prototypes(
            means="support[support_y.argsort()].view(ways, -1, support.shape[1]).mean(1)",
            scores="2 * query @ means.T - means.square().sum(1) - query.square().sum(1, keepdim=True)",
        ),
    ],
}
