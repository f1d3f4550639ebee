"""How suspicious a label is, from the model's loss and the labels of the nearest training examples.

Axes: S suspects, R reference examples, K neighbours, C classes. The example itself is never among its neighbours.
"""

import torch
from torch import Tensor

MOST = 0.95
"""Agreement beyond chance that is believed at most: nobody's neighbours are right for certain."""


def neighbour_weight(labels: Tensor, neighbours: Tensor, frequencies: Tensor) -> float:
    """Return how much the share of neighbours with a label counts beside the model: r / (1 - r).

    ``r`` is how much more often reference examples [R] and their neighbours [R, K] share a label than two examples
    drawn by the classes' frequencies [C], as a share of what is possible (Cohen's kappa). It is 0 without reference
    examples, for inputs whose distance says nothing of their label, and where all have the same.
    """
    chance = float(frequencies.double().square().sum())
    if not len(labels) or chance >= 1.0:
        return 0.0
    shared = float((neighbours == labels[:, None]).double().mean())
    beyond = min(max((shared - chance) / (1.0 - chance), 0.0), MOST)
    return beyond / (1.0 - beyond)


def support(probabilities: Tensor, neighbours: Tensor, weight: float) -> Tensor:
    """Return how much model and neighbours are for each label, [S, C]: probability + weight x share, over 1 + weight.

    ``probabilities`` [S, C] are the model's, ``neighbours`` [S, K] the labels of the nearest examples.
    """
    shares = torch.zeros_like(probabilities)
    ones = torch.ones_like(neighbours, dtype=shares.dtype) / max(1, neighbours.shape[1])
    shares.scatter_add_(1, neighbours, ones)
    return (probabilities + weight * shares) / (1.0 + weight)


def suspicion(losses: Tensor, labels: Tensor, neighbours: Tensor, weight: float) -> Tensor:
    """Return how suspicious each label is, [S] from 0 to 1.

    The mean of the place by loss among the suspects, 1 for the highest, and of the share of neighbours [S, K] that
    have another label than ``labels`` [S], which counts ``weight`` times as much.
    """
    order = losses.argsort(stable=True)
    place = torch.empty(len(losses), dtype=torch.float64)
    place[order] = torch.arange(1, len(losses) + 1, dtype=torch.float64) / max(1, len(losses))
    other = torch.zeros(len(labels), dtype=torch.float64)
    if neighbours.shape[1]:
        other = (neighbours != labels[:, None]).double().mean(dim=1)
    return (place + weight * other) / (1.0 + weight)
