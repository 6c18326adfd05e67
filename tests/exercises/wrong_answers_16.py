"""Typical wrong answers to the exercises of chapter 16: what stands in the stub's place, and what the check must say."""

from __future__ import annotations

SCORE = """
def score(theta, arm):
    p = theta.softmax(0)
    drawn = torch.zeros_like(theta)
    drawn[arm] = 1
    return {result}
"""
DICE = """
def dice_surrogate(log_p, rewards):
    so_far = {so_far}
    factor = {factor}
    return {result}
"""
TERM = """
def score_term(theta, arms, after, baseline):
    p = theta.softmax(0)
    chance = ({chance}).double()
    each = ({gain}) * {scores}
    mean = chance @ each
    spread = {spread}
    return mean, spread**0.5
"""
VERDICT = """
def verdict(estimates, truth):
    half = {half}
    off = {off}
    return {result}
"""


def score(result="drawn - p"):
    return SCORE.format(result=result)


def dice(
    so_far="log_p.cumsum(1)", factor="(so_far - so_far.detach()).exp()", result="(factor * rewards).sum(1).mean()"
):
    return DICE.format(so_far=so_far, factor=factor, result=result)


def verdict(
    half="1.96 * estimates.std() / len(estimates) ** 0.5",
    off="abs(estimates.mean() - truth)",
    result="'biased' if off > half else 'not shown'",
):
    return VERDICT.format(half=half, off=off, result=result)


def term(
    chance="p[arms].prod(1)",
    scores="((arms == 0).double() - p[0]).sum(1)",
    gain="after - baseline",
    spread="chance @ (each - mean) ** 2",
):
    return TERM.format(chance=chance, scores=scores, gain=gain, spread=spread)


WRONG = {
    "ex-score": [
        (score("p - drawn"), "The sign is wrong"),
        (score("p[arm] * (drawn - p)"), "derivative of the probability"),
        (score("drawn"), "The numbers of the other arms must go down"),
        (score("drawn * (1 - p)"), "The other arms are missing"),
        (score("drawn / p[arm]"), "with respect to the probability"),
        (score("p.log()"), "These are the log-probabilities"),
        (score("p"), "These are the probabilities"),
        (score("(drawn - p)[arm]"), "was expected"),
        (score("drawn - theta"), "take the softmax"),
        (score("2 * (drawn - p)"), "In one test"),
    ],
    "ex-dice-surrogate": [
        (dice(result="(log_p * rewards).sum(1).mean()"), "also earns what comes after it"),
        (dice(so_far="log_p"), "only the action of its own time"),
        (dice(so_far="log_p.sum(1, keepdim=True)"), "cannot change what came before it"),
        (dice(factor="so_far.exp()"), "The factor should be 1"),
        (dice(result="(factor * rewards).sum()"), "their mean was asked for"),
        (dice(result="(factor * rewards).mean()"), "rewards of one path are added"),
        (dice(so_far="log_p.flip(1).cumsum(1).flip(1)"), "summed from the end"),
        (dice(result="(factor * rewards.flip(1).cumsum(1).flip(1)).sum(1).mean()"), "count several times"),
        (dice(result="-(factor * rewards).sum(1).mean()"), "this is a loss"),
        (dice(so_far="log_p.cumsum(1).detach()"), "does not depend on log_p any more"),
        (dice(result="(factor * rewards).sum(1)"), "One number was expected"),
        (dice(result="(factor * rewards).sum(1).mean().item()"), "One number was expected"),
        (dice(so_far="log_p.cumsum(0)"), "The first derivative is not that of REINFORCE"),
        (
            dice(result="(log_p * rewards.flip(1).cumsum(1).flip(1)).sum(1).mean()"),
            "The first derivative is right and the second is not",
        ),
        (
            dice(so_far="log_p", result="(factor * rewards.flip(1).cumsum(1).flip(1)).sum(1).mean()"),
            "This is LVC",
        ),
        (dice(factor="1 + so_far - so_far.detach()"), "take the exponential"),
        (dice(factor="(so_far - so_far.detach()).exp() + 1"), "the value should be the mean return"),
    ],
    "ex-verdict": [
        (verdict(half="1.96 * estimates.std()"), "a twentieth of it"),
        (verdict(half="1.96 * estimates.std() / len(estimates)"), "the truth is inside"),
        (verdict(half="0.1"), "the interval is ± 0.5"),
        (verdict(half="1.96 * estimates.var() / len(estimates) ** 0.5"), "not the variance"),
        (verdict(half="1.65 * estimates.std() / len(estimates) ** 0.5"), "1.8 standard errors"),
        (verdict(half="2.5 * estimates.std() / len(estimates) ** 0.5"), "2.1 standard errors"),
        (verdict(off="abs(estimates.median() - truth)"), "ask for the mean"),
        (verdict(off="estimates.mean() - truth"), "may also be too low"),
        (verdict(result="off > half"), "this is Tensor"),
        (verdict(result="'not shown' if off > half else 'biased'"), "'biased' is right"),
    ],
    "ex-score-term": [
        (term(chance="torch.full(after.shape, 1 / len(after))"), "not equally likely"),
        (term(scores="((arms == 0).double() - p[0]).mean(1)"), "The scores of the draws are added"),
        (term(gain="after + baseline"), "not added"),
        (term(gain="after"), "The baseline is left out"),
        (term(spread="chance @ each**2"), "about the mean"),
        (term(spread="(chance @ (each - mean) ** 2) ** 2"), "take its root"),
        (term(scores="(arms == 0).double().sum(1)"), "minus the chance of arm 0"),
        (term(spread="chance @ (each - mean).abs()"), "In one test"),
    ],
}

# Right answers in other styles: by automatic differentiation, with loops, with NumPy.
RIGHT = {
    "ex-score": [
        score("(drawn - p).tolist()"),
        """
def score(theta, arm):
    theta = theta.clone().requires_grad_()
    return torch.autograd.grad(theta.log_softmax(0)[arm], theta)[0]
""",
    ],
    "ex-dice-surrogate": [
        dice(result="torch.einsum('pt,pt->', factor, rewards) / len(rewards)"),
        """
def dice_surrogate(log_p, rewards):
    total, so_far = 0.0, 0.0
    for t in range(log_p.shape[1]):
        so_far = so_far + log_p[:, t]
        total = total + torch.exp(so_far - so_far.detach()) * rewards[:, t]
    return total.mean()
""",
    ],
    "ex-score-term": [
        """
def score_term(theta, arms, after, baseline):
    first, second = 0.0, 0.0
    start = theta.clone().requires_grad_()
    for outcome, gained in zip(arms, after):
        log_p = start.log_softmax(0)[outcome].sum()
        value = (gained - baseline) * torch.autograd.grad(log_p, start)[0][0]
        first = first + log_p.detach().exp() * value
        second = second + log_p.detach().exp() * value**2
    return [first.item(), (second - first**2).sqrt().item()]
""",
    ],
    "ex-verdict": [
        verdict(result="'Biased' if off > half else 'Not shown'"),
        """
def verdict(estimates, truth):
    values = estimates.numpy()
    half = 1.96 * values.std() / values.size**0.5
    inside = values.mean() - half <= truth <= values.mean() + half
    return "not shown" if inside else "biased"
""",
    ],
}
