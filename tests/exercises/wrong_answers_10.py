"""Typical wrong answers to the exercises of chapter 10: what stands in the stub's place, and what the check must say."""

from __future__ import annotations

COSINE = "def cosine(step, steps, first, last):\n    return {}"
NEEDED = "def share_needed(saved, ratio):\n    return {}"
SWITCH = """
def first_order_steps(budget, second_order_steps, first_time, second_time):
    rest = budget - second_order_steps * second_time
    return {}
"""
DISTANCE = "def start_rate(rate, steps, last):\n    return {}"
CLOCK = "def order_at(step, steps_per_epoch, first_order_epochs):\n    return {}"
SWING = "math.cos(math.pi * step / steps)"

WRONG = {
    "ex-cosine": [
        (COSINE.format(f"last + 0.5 * (first - last) * (1 - {SWING})"), "The rate rises"),
        (COSINE.format(f"last + 0.5 * (first - last) * {SWING}"), "1 + is missing"),
        (COSINE.format(f"last + (first - last) * (1 + {SWING})"), "one half is missing"),
        (COSINE.format("last + 0.5 * (first - last) * (1 + math.cos(step / steps))"), "pi is missing"),
        (COSINE.format("last + 0.5 * (first - last) * (1 + math.cos(2 * math.pi * step / steps))"), "a whole turn"),
        (
            COSINE.format("last + 0.5 * (first - last) * (1 + math.cos(math.pi / 2 * step / steps))"),
            "quarter of a turn",
        ),
        (
            COSINE.format("last + (first - last) * math.cos(math.pi / 2 * step / steps)"),
            "quarter of a turn, steepest at the end",
        ),
        (COSINE.format("first * 0.99**step"), "In one test, with the inputs 30, 100, 0.001, 1e-05,"),
        (COSINE.format("first + (last - first) * step / steps"), "a straight line"),
        (COSINE.format(f"0.5 * first * (1 + {SWING})"), "This ends at 0"),
        (COSINE.format(f"last + 0.5 * first * (1 + {SWING})"), "the swing is first - last"),
        (COSINE.format(f"0.5 * (first - last) * (1 + {SWING})"), "last rate is not added"),
        (COSINE.format(f"first + 0.5 * (last - first) * (1 + {SWING})"), "The rate rises"),
        (COSINE.format("last + 0.5 * (first - last) * (1 + math.cos(180 * step / steps))"), "radians"),
        (COSINE.format("last + 0.5 * (first - last) * (1 + math.cos(math.pi * (step + 1) / steps))"), "one step ahead"),
        (COSINE.format("last + 0.5 * (first - last) * (1 + math.cos(math.pi * step / (steps - 1)))"), "steps - 1"),
        (COSINE.format(f"0.5 * (1 + {SWING})"), "share of the way"),
        (COSINE.format("'cosine'"), "A number was expected"),
    ],
    "ex-saved": [
        (NEEDED.format("saved"), "as free"),
        (NEEDED.format("saved * (1 - 1 / ratio)"), "the other way round"),
        (NEEDED.format("saved * ratio"), "what a first-order step costs"),
        (NEEDED.format("saved / (ratio - 1)"), "measured in first-order steps"),
        (NEEDED.format("saved / ratio"), "takes ratio for"),
        (NEEDED.format("1 - saved / (1 - 1 / ratio)"), "share of second-order steps"),
        (NEEDED.format("(1 - saved) / (1 - 1 / ratio)"), "it should save it"),
        (NEEDED.format("saved / (ratio - 1) / (1 - saved)"), "share of the time"),
        (NEEDED.format("saved / (1 - 1 / ratio) / (1 + saved)"), "the wrong run"),
        (NEEDED.format("100 * saved / (1 - 1 / ratio)"), "in per cent"),
        (NEEDED.format("saved / (1 / ratio - 1)"), "The sign is wrong"),
    ],
    "ex-switch": [
        (SWITCH.format("rest / first_time"), "round down"),
        (SWITCH.format("round(rest / first_time)"), "round() goes to the nearest"),
        (SWITCH.format("math.ceil(rest / first_time)"), "one too many"),
        (SWITCH.format("budget // first_time"), "are not paid for"),
        (SWITCH.format("int((budget - second_order_steps * first_time) // second_time)"), "changed places"),
        (SWITCH.format("rest // second_time"), "divide it by their time"),
        (SWITCH.format("(budget - second_order_steps * first_time) // first_time"), "cost second_time each"),
        (SWITCH.format("int(rest // first_time) + second_order_steps"), "of the run"),
        (SWITCH.format("rest"), "This is the time that is left, in seconds"),
        (SWITCH.format("int(rest)"), "in whole seconds"),
        (SWITCH.format("int(rest * first_time)"), "divide by it"),
        (SWITCH.format("int(rest // first_time)"), "the answer is 0, not below"),
    ],
    "ex-clock": [
        (CLOCK.format("1 if step < first_order_epochs else 2"), "divide it by the steps of an epoch"),
        (CLOCK.format("1 if step <= first_order_epochs else 2"), "divide it by the steps of an epoch"),
        (CLOCK.format("1 if step // steps_per_epoch <= first_order_epochs else 2"), "one epoch too long"),
        (CLOCK.format("1 if step <= steps_per_epoch * first_order_epochs else 2"), "one outer step too long"),
        (CLOCK.format("1 if step // steps_per_epoch < first_order_epochs - 1 else 2"), "one epoch too early"),
        (CLOCK.format("1 if step + 1 < steps_per_epoch * first_order_epochs else 2"), "one outer step too early"),
        (CLOCK.format("2 if step // steps_per_epoch < first_order_epochs else 1"), "changed places"),
        (CLOCK.format("step // steps_per_epoch"), "This is the epoch"),
        (CLOCK.format("step // steps_per_epoch >= first_order_epochs"), "whether first order is over"),
        (CLOCK.format("step // steps_per_epoch < first_order_epochs"), "whether it is still first order"),
        (CLOCK.format("1"), "first in every step"),
        (CLOCK.format("2"), "second in every step"),
        (CLOCK.format("1 if step % steps_per_epoch < first_order_epochs else 2"), "not %"),
        (CLOCK.format("step.order"), "AttributeError"),
    ],
    "ex-distance": [
        (DISTANCE.format("2 * rate - last"), "step 0 has no partner."),
        (DISTANCE.format("2 * rate"), "step 0 has no partner among"),
        (DISTANCE.format("2 * steps * rate / (steps + 1)"), "The floor is missing: "),
        (DISTANCE.format("2 * last + 2 * steps * (rate - last) / (steps + 1)"), "counted twice"),
        (DISTANCE.format("2 * steps * (rate - last) / (steps + 1)"), "This is the swing"),
        (DISTANCE.format("last + steps * (rate - last) / (steps + 1)"), "half of the swing"),
        (DISTANCE.format("2 * steps * rate / (steps + 1) - last"), "step T too"),
        (DISTANCE.format("last + 2 * steps * (rate - last) / (steps - 1)"), "is 1, not -1"),
        (DISTANCE.format("rate"), "starts at the constant rate"),
        (DISTANCE.format("steps * rate"), "the sum of the rates"),
        (DISTANCE.format("3 * rate"), "In one test, with the inputs 0.01, 10, 0.001,"),
        (DISTANCE.format("'twice'"), "A number was expected"),
    ],
}

# Right answers in other styles: by PyTorch's own scheduler, as tensors, whole or not, without //.
RIGHT = {
    "ex-cosine": [
        COSINE.format("(first + last) / 2 + (first - last) / 2 * math.cos(math.pi * step / steps)"),
        """
def cosine(step, steps, first, last):
    import torch

    return torch.tensor(last) + (first - last) * torch.cos(torch.tensor(math.pi * step / steps / 2)) ** 2
""",
    ],
    "ex-saved": [
        NEEDED.format("saved * ratio / (ratio - 1)"),
        NEEDED.format("saved / ((ratio - 1) / ratio)"),
        NEEDED.format("math.inf if saved > 1 - 1 / ratio else saved / (1 - 1 / ratio)"),
    ],
    "ex-switch": [
        SWITCH.format("int(max(rest, 0) / first_time)"),
        SWITCH.format("max(0.0, rest // first_time)"),
        SWITCH.format("0 if rest < 0 else int(rest // first_time)"),
    ],
    "ex-clock": [
        CLOCK.format("1 if step < steps_per_epoch * first_order_epochs else 2"),
        CLOCK.format("1 + (step >= steps_per_epoch * first_order_epochs)"),
        CLOCK.format("2 - int(step / steps_per_epoch < first_order_epochs)"),
    ],
    "ex-distance": [
        DISTANCE.format("last + 2 * steps * (rate - last) / (steps + 1)"),
        """
def start_rate(rate, steps, last):
    import torch

    shares = (1 + torch.cos(math.pi * torch.arange(steps, dtype=torch.float64) / steps)) / 2
    return last + (rate - last) * steps / shares.sum()
""",
        """
def start_rate(rate, steps, last):
    low, high = 0.0, 10 * rate
    for _ in range(100):
        first = (low + high) / 2
        rates = [last + (first - last) * (1 + math.cos(math.pi * t / steps)) / 2 for t in range(steps)]
        low, high = (first, high) if sum(rates) < steps * rate else (low, first)
    return first
""",
    ],
}
