"""Which targets the Fisher takes its expectation over, and with what weights.

Axes: N examples. Every kind is a list of terms: the curvature is the mean over examples of the sum over terms of
``weight * g g'``, with g the gradient of the loss of the term's target.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from relatif.pipeline.curvature.likelihood import Likelihood, Term
from relatif.pipeline.draws import uniform

Kind = Literal["exact", "sampled", "empirical"]


@dataclass(frozen=True)
class Fisher:
    """The expectation of Eq. 7.

    ``exact`` sums over the model's targets, ``sampled`` draws ``samples`` of them for each example, ``empirical`` is
    the second moment at the data's own. A drawn target depends on ``seed``, the example's row in its data set and the
    number of the draw, on nothing else.
    """

    kind: Kind = "exact"
    samples: int = 1
    seed: int = 0

    @property
    def text(self) -> str:
        """Return how tables describe it."""
        return {
            "exact": "exact expectation over the model's labels, inputs of the training set",
            "sampled": f"{self.samples} label(s) drawn from the model for each training input, seed {self.seed}",
            "empirical": "empirical: labels of the training set",
        }[self.kind]


def fisher_terms(
    fisher: Fisher, likelihood: Likelihood, outputs: Tensor, targets: Tensor, *, first_index: int
) -> Iterator[Term]:
    """Yield targets and weights [N] of each term, for outputs [N, ...] of examples from row ``first_index`` on."""
    outputs = outputs.detach()
    if fisher.kind == "empirical":
        yield targets, torch.ones(len(targets), dtype=outputs.dtype, device=outputs.device)
    elif fisher.kind == "exact":
        yield from likelihood.expectation(outputs)
    else:
        # The sum over draws is then their mean.
        weights = torch.full((len(targets),), 1 / fisher.samples, dtype=outputs.dtype, device=outputs.device)
        rows = torch.arange(first_index, first_index + len(targets), device=outputs.device)
        for draw in range(fisher.samples):
            yield _drawn(likelihood, outputs, targets, uniform(rows, fisher.seed, draw)), weights


def fisher_gradients(
    fisher: Fisher, likelihood: Likelihood, outputs: Tensor, targets: Tensor, *, first_index: int
) -> Iterator[Term]:
    """Yield the gradient at the outputs, in their shape, and the weights [N] of each term, as ``fisher_terms``.

    A likelihood that has ``curvature_terms`` says itself what the exact expectation is.
    """
    outputs = outputs.detach()
    rule = getattr(likelihood, "curvature_terms", None)
    if fisher.kind == "exact" and rule is not None:
        yield from rule(outputs, targets)
        return
    for drawn, weights in fisher_terms(fisher, likelihood, outputs, targets, first_index=first_index):
        yield likelihood.gradient(outputs, drawn), weights


def _drawn(likelihood: Likelihood, outputs: Tensor, targets: Tensor, numbers: Tensor) -> Tensor:
    """Return drawn targets, without what the data's targets leave out where the likelihood knows of such."""
    rule = getattr(likelihood, "drawn", None)
    drawn: Tensor = likelihood.sample(outputs, numbers) if rule is None else rule(outputs, targets, numbers)
    return drawn
