"""Typical wrong answers to the exercises of chapter 9: what stands in the stub's place, and what the check must say."""

from __future__ import annotations

BATCH_NORM = """
def batch_norm(x, gamma, beta, step):
    row, dims = {row}, {dims}
    x = (x - {mean}) / {scale}
    return x * {gamma} + {beta}
"""
ROW, DIMS = "min(step, len(gamma) - 1)", "(0, 2, 3)"
MEAN, SCALE = "x.mean(dims, keepdim=True)", "x.var(dims, correction=0, keepdim=True).sqrt()"
GAMMA, BETA = "gamma[row][:, None, None]", "beta[row][:, None, None]"


def batch_norm(row=ROW, dims=DIMS, mean=MEAN, scale=SCALE, gamma=GAMMA, beta=BETA):
    return BATCH_NORM.format(row=row, dims=dims, mean=mean, scale=scale, gamma=gamma, beta=beta)


COMPANY = """
def sees_company(predict, x):
    {body}
"""
ALONE = "torch.cat([predict(p[None]) for p in x])"
QUIET = """
def quiet_outputs(model, x):
    {before}
    outputs = model(x)
    {after}
    return {result}
"""
SHARE = """
def share_in_common(moves):
    return {result}
"""
TOTAL = "moves.square().mean()"
HALVES = "moves[: len(moves) // 2].mean(0) * moves[len(moves) // 2 :].mean(0)"
BLEND = """
def blended_norm(query, support, share):
    a, b = {first}, {second}
    m, v = a.mean({dims}, keepdim=True), a.var({dims}, correction={correction}, keepdim=True)
    n, w = b.mean({own}, keepdim=True), b.var({own}, correction={correction}, keepdim=True)
    mean = share * m + (1 - share) * n
    var = {var}
    return {result}
"""
SWAPPED = "mean = (1 - share) * m + share * n"
BLENDED = {
    "first": "support",
    "second": "query",
    "dims": "(0, 2, 3)",
    "own": "(1, 2, 3)",
    "correction": "0",
    "var": "share * (v + m**2) + (1 - share) * (w + n**2) - mean**2",
    "result": "(query - mean) / var.sqrt()",
}


def blend(**changes):
    return BLEND.format(**{**BLENDED, **changes})


WRONG = {
    "ex-batch-norm": [
        (batch_norm(row="0"), "Row 0 is used in every step"),
        (batch_norm(row="min(step + 1, len(gamma) - 1)"), "step k uses row k."),
        (batch_norm(row="step - 1"), "not row k - 1"),
        (batch_norm(row="min(max(step - 1, 0), len(gamma) - 1)"), "here step 1 has row 0 again"),
        (batch_norm(row="step"), "Beyond it there is no row"),
        (batch_norm(row="step % len(gamma)"), "the rows start again"),
        (batch_norm(row="step if step < len(gamma) else 0"), "Beyond K row 0"),
        (batch_norm(gamma="gamma.mean(0)[:, None, None]", beta="beta.mean(0)[:, None, None]"), "rows are averaged"),
        (batch_norm(gamma=BETA, beta=GAMMA), "have changed places"),
        (batch_norm(gamma="1", beta="0"), "gamma and beta are missing"),
        (batch_norm(beta="0"), "beta is missing"),
        (batch_norm(gamma="1"), "gamma is missing"),
        (batch_norm(dims="0"), "those of each place"),
        (batch_norm(dims="(2, 3)"), "Each image is normalised by itself"),
        (batch_norm(dims="(0, 1, 2, 3)"), "All channels share one mean"),
        (batch_norm(dims="(1, 2, 3)"), "layer norm"),
        (batch_norm(scale="x.std(dims, keepdim=True)"), "unbiased"),
        (batch_norm(scale="x.var((2, 3), correction=0, keepdim=True).mean(0).sqrt()"), "averaged within images"),
        (batch_norm(scale="x.var(dims, correction=0, keepdim=True)"), "The root is missing"),
        (batch_norm(mean="0"), "mean is not subtracted"),
        (batch_norm(scale="1"), "Only the mean is subtracted"),
        (batch_norm(mean="0", scale="1"), "x is not normalised"),
        ("def batch_norm(x, gamma, beta, step):\n    return x.mean()", "of the shape of x"),
        ("def batch_norm(x, gamma, beta, step):\n    return 'rows'", "this is str"),
        ("def batch_norm(x, gamma, beta, step):\n    return x.mean((0, 2, 3)) - x", "RuntimeError"),
    ],
    "ex-company": [
        (COMPANY.format(body="return True"), "It says True for a network with running statistics, where"),
        (COMPANY.format(body="return False"), "It says False for a network that normalises with the batch"),
        (COMPANY.format(body="return not torch.allclose(predict(x).flip(0), predict(x.flip(0)))"), "If you shuffled"),
        (COMPANY.format(body=f"return not torch.equal({ALONE}, predict(x))"), "differ by rounding"),
        (COMPANY.format(body=f"return torch.allclose({ALONE}, predict(x))"), "the opposite of the truth"),
        (COMPANY.format(body=f"return {ALONE} - predict(x)"), "True or False was expected"),
        (COMPANY.format(body="return predict.training"), "AttributeError"),
    ],
    "ex-quiet": [
        (
            QUIET.format(before="kept = model.state_dict()", after="model.load_state_dict(kept)", result="outputs"),
            "shares the memory",
        ),
        (QUIET.format(before="pass", after="pass", result="outputs"), "The running statistics have moved"),
        (
            QUIET.format(
                before="kept = {n: b.clone() for n, b in model.named_buffers() if n.endswith('mean')}",
                after="model.load_state_dict(kept, strict=False)",
                result="outputs",
            ),
            "running_var has moved",
        ),
        (
            QUIET.format(
                before="kept = {n: b.clone() for n, b in model.named_buffers() if b.ndim}",
                after="model.load_state_dict(kept, strict=False)",
                result="outputs",
            ),
            "num_batches_tracked",
        ),
        (QUIET.format(before="model.eval()", after="model.train()", result="outputs"), "with running statistics"),
        (
            QUIET.format(
                before="import copy; run, model = model, copy.deepcopy(model)", after="run.eval()", result="outputs"
            ),
            "left in evaluation mode",
        ),
        (
            QUIET.format(before="import copy; kept = copy.deepcopy(model)", after="model = kept", result="outputs"),
            "The running statistics have moved",
        ),
        (QUIET.format(before="pass", after="pass", result="outputs.relu()"), "not those of model(x)"),
        (QUIET.format(before="pass", after="pass", result="model"), "The model's outputs"),
    ],
    "ex-share": [
        (SHARE.format(result=f"1 - moves.mean(0).square().mean() / {TOTAL}"), "This is the rest"),
        (SHARE.format(result=f"(moves.mean(0).square().mean() / {TOTAL}).sqrt()"), "take no root"),
        (SHARE.format(result=f"moves.mean(1).square().mean() / {TOTAL}"), "taken over channels"),
        (SHARE.format(result=f"moves.mean().square() / {TOTAL}"), "over tasks and channels together"),
        (SHARE.format(result="moves.mean(0).square().mean()"), "divide by the mean squared movement"),
        (SHARE.format(result=f"moves.abs().mean(0).square().mean() / {TOTAL}"), "Signs are lost"),
        (SHARE.format(result="moves.mean(0).abs().mean() / moves.abs().mean()"), "without squares"),
        (SHARE.format(result="(moves.mean(0).square() / moves.square().mean(0)).mean()"), "for each channel and then"),
        (SHARE.format(result=f"moves.var(0).mean() / {TOTAL}"), "spread over tasks"),
        (SHARE.format(result="moves.mean(0).square().sum() / moves.square().sum()"), "different numbers of entries"),
        (SHARE.format(result=f"({HALVES}).mean() / {TOTAL}"), "estimate with two halves"),
        (SHARE.format(result="moves.mean(0)"), "A number was expected"),
    ],
    "ex-blend": [
        (blend(var="share * v + (1 - share) * w"), "distance of the means"),
        (blend(var="(share * v.sqrt() + (1 - share) * w.sqrt()) ** 2"), "standard deviations are blended"),
        (blend().replace("    a, b", "    share = 1 - share\n    a, b"), "have changed places"),
        (blend(var="(1 - share) * v + share * w + share * (1 - share) * (m - n) ** 2"), "variance's shares"),
        (
            blend(var="(1 - share) * v + share * w").replace("mean = share * m + (1 - share) * n", SWAPPED),
            "is left out",
        ),
        (blend().replace("mean = share * m + (1 - share) * n", SWAPPED), "the variance inherits it"),
        (blend(var="(1 - share) * (v + m**2) + share * (w + n**2) - mean**2"), "In the mean squares"),
        (
            blend(result="(query - mean - (1 - 2 * share) * (m - n)) / var.sqrt()"),
            "The mean's shares have changed places",
        ),
        (blend(first="query", result="(query - m) / v.sqrt()"), "batch norm's statistics"),
        (blend(first="query"), "first source is the query batch"),
        (blend(own="(2, 3)"), "for each channel"),
        (blend(own="(0, 1, 2, 3)"), "over all query points"),
        (blend(own="(0, 2, 3)"), "changes with the other query points"),
        (blend(own="(0, 2)"), "as number 1 of 36"),
        (blend(dims="(0, 1, 2, 3)"), "over all channels together"),
        (
            blend(result="share * (query - m) / v.sqrt() + (1 - share) * (query - n) / w.sqrt()"),
            "blend the statistics, then",
        ),
        (blend(result="(query - m) / v.sqrt()"), "Only the support"),
        (blend(result="(query - n) / w.sqrt()"), "layer norm"),
        (blend(correction="1"), "unbiased"),
        (blend(result="(query - mean) / var"), "root is missing"),
        (blend(result="query / var.sqrt()"), "not subtracted"),
        (blend(result="mean"), "was expected"),
        (blend(result="'norm'"), "was expected"),
    ],
}

# Right answers in other styles: PyTorch's own function, float32, arrays, a copy of the model, numbers instead of tensors.
RIGHT = {
    "ex-batch-norm": [
        """
def batch_norm(x, gamma, beta, step):
    k = min(step, gamma.shape[0] - 1)
    return torch.nn.functional.batch_norm(x, None, None, gamma[k], beta[k], training=True)
""",
        batch_norm(scale="(1e-5 + x.var(dims, unbiased=False, keepdim=True)) ** 0.5", beta=BETA + ".float()"),
        """
def batch_norm(x, gamma, beta, step):
    import numpy as np

    x, k = x.numpy(), min(step, len(gamma) - 1)
    z = (x - x.mean((0, 2, 3), keepdims=True)) / x.std((0, 2, 3), keepdims=True)
    return z * gamma[k].numpy().reshape(1, -1, 1, 1) + beta[k].numpy().reshape(1, -1, 1, 1)
""",
    ],
    "ex-company": [
        COMPANY.format(body=f"return ({ALONE} - predict(x)).abs().max() > 1e-4"),
        COMPANY.format(body="return int(not torch.allclose(predict(x)[:3], predict(x[:3]), atol=1e-5))"),
        COMPANY.format(
            body="import numpy as np\n    return ~np.isclose(predict(x)[0].numpy(), predict(x[:1])[0].numpy(), 1e-3).all()"
        ),
    ],
    "ex-quiet": [
        QUIET.format(
            before="import copy\n    kept = copy.deepcopy(model.state_dict())",
            after="model.load_state_dict(kept)",
            result="outputs",
        ),
        "def quiet_outputs(model, x):\n    import copy\n    return copy.deepcopy(model)(x)",
        """
def quiet_outputs(model, x):
    with torch.no_grad():
        kept = [b.clone() for b in model.buffers()]
        y = model(x)
        for b, k in zip(model.buffers(), kept):
            b.copy_(k)
    return y.numpy()
""",
        """
def quiet_outputs(model, x):
    buffers = {n: b.clone() for n, b in model.named_buffers()}
    return torch.func.functional_call(model, buffers, (x,))
""",
    ],
    "ex-share": [
        SHARE.format(result="float((moves.mean(dim=0) ** 2).sum() / (moves ** 2).mean(dim=0).sum())"),
        SHARE.format(result="moves.float().numpy().mean(0).__pow__(2).mean() / (moves.float().numpy() ** 2).mean()"),
    ],
    "ex-blend": [
        blend(var="share * v + (1 - share) * w + share * (1 - share) * (m - n) ** 2"),
        blend(result="(query - mean) / (var + 1e-5).sqrt()"),
        blend(
            var="share * (v + (m - mean) ** 2) + (1 - share) * (w + (n - mean) ** 2)",
            result="((query - mean) / var**0.5).float()",
        ),
    ],
}
