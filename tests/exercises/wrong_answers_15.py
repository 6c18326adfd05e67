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
