"""How much arithmetic a meta-step cannot do without, and how long a matrix product with as much takes on the same machine.

One forward pass multiplies, for each point, 9 * channels * filters numbers per pixel of a convolution's output, and inputs *
outputs numbers in a linear layer. Counted in such passes, and for every layer but the first,

* a query pass is 3: forward, and two products on the way back, for the weights and for the layer below;
* an inner step with its share of the meta-gradient is 9: 3 for its gradient, and 6 for the Hessian times a vector, as the
  derivative of a product of two is two products.

The first layer has nothing below it: 2 and 6. Additions, batch norm, activations, pooling and losses are not counted, so a
ratio of 1 is out of reach.
"""

from __future__ import annotations

import torch

from mamlkit.bench.workloads import Workload

__all__ = ["PRODUCT_MULTIPLICATIONS", "matrix_product", "multiplications"]

_SIZE = 1024
PRODUCT_MULTIPLICATIONS = _SIZE**3
"""How many multiplications ``matrix_product`` has."""

_INNER, _QUERY = (6, 9), (2, 3)  # passes of the first layer, of the others


def multiplications(workload: Workload, mode: str) -> float:
    """Multiplications of a meta-step: of all inner steps, and of the query passes of the last step or, in MAML++, of each."""
    first, *others = _layers(workload)
    ways = max(workload.ways, 1)
    inner = workload.inner_steps * ways * workload.shots * (_INNER[0] * first + _INNER[1] * sum(others))
    passes = workload.inner_steps if mode == "maml++" else 1
    query = passes * ways * workload.queries * (_QUERY[0] * first + _QUERY[1] * sum(others))
    return workload.tasks * (inner + query)


def _layers(workload: Workload) -> list[float]:
    """Multiplications of one forward pass of one point, layer by layer."""
    if not workload.ways:
        return [40.0, 1600.0, 40.0]
    counts, size, channels = [], workload.size, workload.channels
    for _ in range(4):
        halved = size // 2 if workload.downsample == "pool" else -(-size // 2)
        outputs = size if workload.downsample == "pool" else halved
        counts.append(9.0 * channels * workload.filters * outputs**2)
        size, channels = halved, workload.filters
    features = workload.filters * (1 if workload.downsample == "stride" else size**2)
    return [*counts, float(features * workload.ways)]


def matrix_product(device: str) -> torch.Tensor:
    """A product of two square matrices in float32, ``(1024, 1024)``."""
    if device not in _MATRICES:
        _MATRICES[device] = torch.randn(_SIZE, _SIZE, device=device)
    return _MATRICES[device] @ _MATRICES[device]


_MATRICES: dict[str, torch.Tensor] = {}
