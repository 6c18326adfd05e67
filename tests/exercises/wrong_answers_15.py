"""Typical wrong answers to the exercises of chapter 15: what stands in the stub's place, and what the check must say."""

from __future__ import annotations

WAYS = """
def largest_ways(counts, shots, queries):
    n = {n}
    first, second = round(0.6 * n), round(0.8 * n)
    return {result}
"""
SPLIT = """
def split_groups(groups, share, generator):
    names = {names}
    order = {order}
    drawn = {drawn}
    training = [i for i, name in enumerate(groups) if name not in drawn]
    test = [i for i, name in enumerate(groups) if name in drawn]
    return {result}
"""
BY_SERIES = """
def split_groups(groups, share, generator):
    order = torch.randperm(len(groups), generator=generator).tolist()
    size = round(share * len(groups))
    return order[size:], order[:size]
"""
ROW = """
def best_row(rows):
    held = {held}
    best = {best}
    return {step}, {gap}
"""
SPRINGS = """
def sample(num_tasks, generator):
    def between(low, high, columns={columns}):
        u = {draw}
        return low + (high - low) * u

    {parts}
    x = {x}
    y = {y}
    x, y = x{axis}, y{axis}
    return {result}
"""
CAUSE = """
def cause(losses):
    first, last = losses[0], losses[-1]
    if {data}:
        return "data"
    if {inner}:
        return "inner loop"
    return {other}
"""


def ways(n="sum(count >= shots + queries for count in counts)", result="min(first, second - first, n - second)"):
    return WAYS.format(n=n, result=result)


def split(
    names="sorted(set(groups))",
    order="torch.randperm(len(names), generator=generator).tolist()",
    drawn="{names[i] for i in order[:round(share * len(names))]}",
    result="training, test",
):
    return SPLIT.format(names=names, order=order, drawn=drawn, result=result)


def row(
    held="[row for row in rows if row['validation_loss'] is not None]",
    best="min(held, key=lambda row: row['validation_loss'])",
    step="best['step']",
    gap="held[-1]['validation_loss'] - held[-1]['meta_loss']",
):
    return ROW.format(held=held, best=best, step=step, gap=gap)


def cause(data="not math.isfinite(first)", inner="not math.isfinite(last) or last > first", other="'outer loop'"):
    return CAUSE.format(data=data, inner=inner, other=other)


def springs(
    draw="torch.rand(num_tasks, columns, generator=generator)",
    length="between(5, 10)",
    give="between(0.5, 2)",
    columns=1,
    x="between(0, 10, 10)",
    y="(length + give * x)",
    axis="[..., None]",
    result="mamlkit.TaskBatch(x[:, :4], y[:, :4], x[:, 4:], y[:, 4:])",
    give_first=False,
):
    lines = [f"length = {length}", f"give = {give}"]
    return SPRINGS.format(
        draw=draw,
        columns=columns,
        parts="\n    ".join(reversed(lines) if give_first else lines),
        x=x,
        y=y,
        axis=axis,
        result=result,
    )


WRONG = {
    "ex-largest-ways": [
        (ways(n="len(counts)"), "leave them out first"),
        (ways(n="sum(count > shots + queries for count in counts)"), "exactly shots + queries"),
        (ways(n="sum(count >= shots for count in counts)"), "for the query set as well"),
        (ways(n="sum(count >= queries for count in counts)"), "the support pictures are needed"),
        (ways(result="n"), "shared out over three splits"),
        (ways(result="len(counts)"), "some cannot be used"),
        (ways(result="first"), "These are the training classes"),
        (ways(result="int(0.2 * n)"), "rounded down"),
        (ways(result="round(0.2 * n)"), "This is the test split alone, a fifth"),
        (ways(result="n - second"), "This is the test split alone"),
        (
            ways(result="min(int(0.6 * n), int(0.8 * n) - int(0.6 * n), n - int(0.8 * n))"),
            "cut off by int(), not rounded",
        ),
        (ways(result="second - first"), "This is the validation split alone"),
        (ways(result="[first, second - first, n - second]"), "A number was expected"),
    ],
    "ex-split-groups": [
        (BY_SERIES, "has series on both sides"),
        (split(names="list(set(groups))"), "Sort the names first"),
        (split(order="torch.randperm(len(names)).tolist()"), "draw from the generator that is given"),
        (split(order="list(range(len(names)))"), "the groups for the test must be drawn"),
        (split(names="list(groups)"), "The share is one of groups"),
        (split(drawn="{names[i] for i in order[:round(share * len(groups))]}"), "The share is one of groups"),
        (split(drawn="{names[i] for i in order[:int(share * len(names))]}"), "The share is one of groups"),
        (
            split(
                order="torch.randint(len(names), (1,), generator=generator).tolist()",
                drawn="{names[(order[0] + i) % len(names)] for i in range(round(share * len(names)))}",
            ),
            "never drawn together",
        ),
        (
            split(
                order="torch.randperm(len(groups), generator=generator).tolist()",
                drawn="set(list(dict.fromkeys(groups[i] for i in order))[:round(share * len(names))])",
            ),
            "not drawn as often",
        ),
        (split(result="test, training"), "stand in the wrong order?"),
        (split(result="training[1:], test"), "on neither side"),
        (split(result="training, test + test[:1]"), "there twice"),
        (split(result="[i + 1 for i in training], [i + 1 for i in test]"), "numbered from 0"),
        (split(result="test"), "Two lists were expected"),
        (split(result="[groups[i] for i in training], [groups[i] for i in test]"), "Two lists were expected"),
    ],
    "ex-best-row": [
        (row(best="held[-1]"), "This is the step of the last validation"),
        (row(best="min(rows, key=lambda row: row['meta_loss'])"), "training tasks have no say"),
        (row(best="min(held, key=lambda row: row['meta_loss'])"), "that has the lowest meta-loss"),
        (row(gap="abs(held[-1]['validation_loss'] - held[-1]['meta_loss'])"), "The gap has a sign"),
        (row(best="max(held, key=lambda row: row['validation_loss'])"), "better when it is lower"),
        (row(step="rows.index(best)"), "This is the row's number"),
        (row(step="held.index(best)"), "among the rows with a validation"),
        (row(step="best['epoch']"), "This is the epoch"),
        (row(gap="held[-1]['meta_loss'] - held[-1]['validation_loss']"), "The sign of the gap"),
        (row(gap="best['validation_loss'] - best['meta_loss']"), "taken at the best row"),
        (row(gap="held[-1]['validation_loss'] - best['validation_loss']"), "rose since its best"),
        (row(gap="held[-1]['validation_loss'] - rows[-1]['meta_loss']"), "last row of all"),
        (row(gap="held[-1]['validation_loss'] / held[-1]['meta_loss']"), "a ratio"),
        (row(held="rows"), "Your code raised TypeError"),
    ],
    "ex-cause": [
        (cause(data="first == float('nan')"), "For the losses nan, nan, nan"),
        (cause(data="first != first"), "Infinite is not finite either"),
        (cause(data="not math.isfinite(last)"), "data and model are sound"),
        (cause(inner="last > first"), "Every comparison with NaN is false"),
        (cause(inner="not math.isfinite(last)"), "the steps make it larger"),
        (cause(inner="not math.isfinite(last) or losses[1] > first"), "after the last the loss is lower"),
        (cause(other="'data'"), "look at the outer one"),
        (cause(other="3"), "this is int"),
    ],
    "ex-springs": [
        (springs(y="(length + 0.5 * x)"), "the same length or the same give"),
        (springs(columns=10), "do not lie on a line"),
        (springs(x="between(0, 1, 10)"), "between 0 and 10"),
        (springs(x="between(0, 10, 6)[:, [0, 1, 2, 3, 0, 1, 2, 3, 4, 5]]"), "those of the support set"),
        (springs(x="between(0, 10, 10)[:1].expand(num_tasks, 10)"), "the same forces"),
        (springs(give="between(0, 2)"), "The give goes from 0.0 to 2.0"),
        (springs(length="between(5, 9)"), "The length goes from 5.0 to 9.0"),
        (springs(length="5 + 10 / 3 * (give - 0.5)", give_first=True), "go together"),
        (springs(y="torch.cat([length + give * x[:, :4], length.flip(0) + give * x[:, 4:]], 1)"), "about two springs"),
        (springs(draw="torch.rand(num_tasks, columns)"), "pass generator= to every draw"),
        (springs(draw="torch.rand(num_tasks, columns, generator=torch.Generator().manual_seed(3))"), "Every generator"),
        (springs(axis=""), "Shapes (400, 4, 1)"),
        (springs(result="x, y"), "A TaskBatch was expected"),
    ],
}

# Right answers in other styles: with NumPy, as lists, with loops.
RIGHT = {
    "ex-largest-ways": [
        ways(
            n="len([c for c in counts if c - shots - queries > -1])", result="[min(first, second - first, n - second)]"
        ),
        """
def largest_ways(counts, shots, queries):
    classes = torch.arange((torch.tensor(counts) >= shots + queries).sum())
    a, b = round(0.6 * len(classes)), round(0.8 * len(classes))
    return torch.tensor([len(part) for part in (classes[:a], classes[a:b], classes[b:])]).min()
""",
    ],
    "ex-split-groups": [
        split(names="list(dict.fromkeys(groups))", result="torch.tensor(training), torch.tensor(test)"),
        """
def split_groups(groups, share, generator):
    names, which = np.unique(groups, return_inverse=True)
    score = torch.rand(len(names), generator=generator)
    drawn = score.argsort()[: round(share * len(names))].numpy()
    test = np.isin(which, drawn)
    return [np.flatnonzero(~test), np.flatnonzero(test)]
""".replace("def split", "import numpy as np\n\n\ndef split", 1),
    ],
    "ex-best-row": [
        row(step="float(best['step'])"),
        """
def best_row(rows):
    step, lowest, gap = None, float("inf"), None
    for row in rows:
        if row["validation_loss"] is None:
            continue
        if row["validation_loss"] < lowest:
            step, lowest = row["step"], row["validation_loss"]
        gap = row["validation_loss"] - row["meta_loss"]
    return torch.tensor([step, gap])
""",
    ],
    "ex-springs": [
        """
def sample(num_tasks, generator):
    tasks = []
    for _ in range(num_tasks):
        u = torch.rand(2, generator=generator, dtype=torch.float64)
        x = 10 * torch.rand(10, 1, generator=generator, dtype=torch.float64)
        y = 5 + 5 * u[0] + (0.5 + 1.5 * u[1]) * x
        tasks.append((x[:4], y[:4], x[4:], y[4:]))
    return mamlkit.TaskBatch(*(torch.stack(part) for part in zip(*tasks)))
""",
    ],
    "ex-cause": [
        """
def cause(losses):
    losses = torch.as_tensor(losses, dtype=torch.float64)
    if not losses[0].isfinite():
        return "Data"
    return "outer loop" if losses[-1] <= losses[0] else "inner loop"
""",
    ],
}
