"""Second moments of a likelihood's gradients: by its terms, and by targets that it draws.

N examples; outputs [N, ...] are flattened to D numbers.
"""

import torch
from torch import Tensor

from relatif.pipeline.curvature.fisher import Fisher, fisher_gradients
from relatif.pipeline.curvature.likelihood import Likelihood

EXACT = 1e-12
"""Absolute, of numbers around 1 in float64."""

DRAWS = 100_000


def close(found: Tensor, expected: Tensor, tolerance: float = EXACT) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def moment(gradients: Tensor) -> Tensor:
    """Return the mean of ``g g'`` over rows, [D, D]."""
    rows = gradients.flatten(1)
    return rows.T @ rows / len(rows)


def summed_terms(likelihood: Likelihood, outputs: Tensor, targets: Tensor, terms: str = "curvature_terms") -> Tensor:
    """Return ``sum weight * g g'`` of the exact terms of each example, [N, D, D]."""
    if terms == "curvature_terms":
        every = list(fisher_gradients(Fisher(), likelihood, outputs, targets, first_index=0))
    else:
        every = [(likelihood.gradient(outputs, drawn), weights) for drawn, weights in likelihood.expectation(outputs)]
    products = [
        weights[:, None, None] * rows.flatten(1)[:, :, None] * rows.flatten(1)[:, None, :] for rows, weights in every
    ]
    return torch.stack(products).sum(dim=0)


def drawn_moment(likelihood: Likelihood, outputs: Tensor, targets: Tensor | None = None) -> Tensor:
    """Return the second moment of DRAWS gradients at targets that are drawn for one example [1, ...], [D, D]."""
    many = outputs.expand(DRAWS, *outputs.shape[1:])
    given = likelihood.sample(many, torch.zeros(DRAWS).double()) if targets is None else targets
    theirs = given if len(given) == DRAWS else given.expand(DRAWS, *given.shape[1:])
    ((gradients, _),) = fisher_gradients(Fisher("sampled", seed=3), likelihood, many, theirs, first_index=0)
    return moment(gradients)
