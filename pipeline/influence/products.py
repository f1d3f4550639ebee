"""Products of a block and a shard in the type of a screen, by the fastest routine that this machine has for them.

Axes: m queries of a tile, N training examples of a shard, K terms of a sum.
"""

import torch
from torch import Tensor

from relatif.pipeline.devices import on_cpu


def product(left: Tensor, right: Tensor) -> Tensor:
    """Return ``left @ right.T`` as float32, [m, N], for [m, K] and [N, K] of one type: a sum's order is not fixed.

    >>> product(torch.ones(1, 3), torch.tensor([[1.0, 2.0, 3.0]]))
    tensor([[6.]])
    """
    if left.dtype != torch.float32:
        return (left @ right.T).float()
    if _has_one_dnn and on_cpu(left.device):
        # MKL, by which torch multiplies, leaves half of the speed of a processor that is not Intel's.
        found: Tensor = torch.ops.mkldnn._linear_pointwise(left, right, None, "none", [], "")
        return found
    return left @ right.T


def _works() -> bool:
    """Return whether torch offers oneDNN's product in the form in which it is called here."""
    if not torch.backends.mkldnn.is_available():
        return False
    left, right = torch.eye(2), torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    try:
        found = torch.ops.mkldnn._linear_pointwise(left, right, None, "none", [], "")
    except (AttributeError, NotImplementedError, RuntimeError):  # not a documented function: another release may differ
        return False
    return torch.equal(found, right.T)


_has_one_dnn = _works()
