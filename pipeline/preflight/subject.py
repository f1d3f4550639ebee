"""The untrained model with a few examples, as the pipeline's passes take them."""

import copy
from dataclasses import dataclass

import torch
from torch import nn

from relatif.pipeline.curvature.capture import ForwardPass, forward_pass
from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.curvature.fisher import fisher_gradients
from relatif.pipeline.curvature.model import CoveredModel
from relatif.pipeline.curvature.precision import in_precision
from relatif.pipeline.devices import CPU
from relatif.pipeline.explaining.covered import covered_model, precision_of
from relatif.pipeline.preflight.opening import head
from relatif.pipeline.runs.run import Run

TRIED_ROWS = 2
"""Rows of a trial pass: enough to see the first axis."""


@dataclass(frozen=True)
class Untrained:
    """The model before training, as scores compute with it and in evaluation mode, and the training set's first rows.

    ``trainable`` is the same in float32 with all parameters as they were built, as recipes train it.
    """

    covered: CoveredModel
    trainable: nn.Module
    examples: Examples

    def forward(self) -> ForwardPass:
        """Return a forward pass of a few examples; raises as ``forward_pass``."""
        few = self.examples.rows(0, TRIED_ROWS)
        return forward_pass(self.covered.model, few.inputs, self.covered.coverage)

    @property
    def terms(self) -> int:
        """Number of terms of the Fisher."""
        outputs, likelihood = self.forward().outputs, self.covered.likelihood
        few = self.examples.rows(0, TRIED_ROWS)
        return sum(1 for _ in fisher_gradients(self.covered.fisher, likelihood, outputs, few.targets, first_index=0))


def untrained(run: Run) -> Untrained:
    """Return a run's untrained model, made from the seed of training, with rows to try it on."""
    task = run.task
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.config.train.seed)
        model = task.build_model().double().eval()
    trainable = copy.deepcopy(model).float()
    covered = covered_model(model, run.source, task, run.config.curvature)
    # On this processor what a GPU would compute in mixed precision is float32.
    precision = precision_of(run.config.curvature, covered.coverage)
    covered = in_precision(covered, "float64" if precision == "float64" else "float32", CPU)
    return Untrained(covered, trainable, run.source.examples(task, head(run, "train")[0]))
