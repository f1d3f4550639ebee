"""How well an imported model does on some rows: a wrong order of labels, or a wrong scaling of inputs, shows there.

Axes: N rows.
"""

import math
import time
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from relatif.pipeline import inputs as rows_of
from relatif.pipeline.calls import run_model
from relatif.pipeline.curvature.likelihood import Likelihood
from relatif.pipeline.datasets.label_column import UNLABELLED
from relatif.pipeline.parallel import single_threaded_pool
from relatif.pipeline.preflight.opening import head
from relatif.pipeline.runs.run import Run
from relatif.pipeline.tasks.task import load_model

ROWS, AT_ONCE = 500, 20
"""Rows that are looked at, and how many the model reads at once."""

SECONDS = 15.0
"""A large model is looked at on fewer rows."""

OUTPUT_BYTES = 2**28
"""A model of many outputs is looked at on fewer rows, too."""

WARNING = "warning"

ERRORS = 2.0
"""Standard errors by which guessing may do as well by luck."""


@dataclass(frozen=True)
class Standing:
    """What a model reaches on the first ``rows`` labelled rows of a part, and what a guess reaches that sees no inputs.

    ``accuracy`` is a share, None where targets are no classes; ``loss`` is a mean in nats. The guess is the most
    frequent class of these rows, or, for the loss, the mean of the model's outputs. ``figures`` are what the likelihood
    says of the outputs.
    """

    part: str
    rows: int
    accuracy: float | None
    loss: float
    guess: float
    figures: tuple[str, ...] = ()

    @property
    def lines(self) -> tuple[str, ...]:
        """What is said of it, line by line; warnings begin with that word and come last."""
        every = [self.text, *self.figures, *([] if self.warning is None else [self.warning])]
        return tuple(sorted(every, key=lambda line: line.startswith(WARNING)))

    @property
    def at_chance(self) -> bool:
        """Whether the model does no better than the guess."""
        if self.accuracy is None:
            return not self.loss < self.guess
        error = math.sqrt(max(self.guess * (1 - self.guess), 0.0) / self.rows)
        return self.accuracy <= min(self.guess + ERRORS * error, 1 - 1e-9)

    @property
    def text(self) -> str:
        """The figures in words."""
        where = f"on {self.rows} row(s) of {self.part}"
        if self.accuracy is None:
            return f"mean loss {self.loss:.4g} nats {where} (its mean output, whatever the input: {self.guess:.4g})"
        return f"accuracy {self.accuracy:.1%} {where} (the most frequent class: {self.guess:.1%})"

    @property
    def warning(self) -> str | None:
        """What to look at where the model does no better than the guess."""
        if not self.at_chance:
            return None
        return (
            f"{WARNING}: the imported model is no better than a guess that sees no inputs; look at the order of the "
            "classes (data.class_names), at the scaling of the inputs (model_inputs, or data.mean and data.std), and "
            "whether it was trained for these targets"
        )


def standing(run: Run) -> Standing | None:
    """Return how an imported model does on the test part, or on the training part where that has no labels.

    None where no model is imported.
    """
    if run.imported is None:
        return None
    model = load_model(run.task, run.imported.state).float()
    with single_threaded_pool(1) as pool:
        for part in ("test", "train"):
            found = pool.submit(partial(_on, run, part, model)).result()
            if found is not None:
                return found
    return None


def _on(run: Run, part: str, model: nn.Module) -> Standing | None:
    outputs, targets, at_once = list[Tensor](), list[Tensor](), 1
    until = time.perf_counter() + SECONDS
    for examples in (run.source.examples(run.task, shard) for shard in head(run, part, rows=ROWS)):
        start = 0
        while start < len(examples) and _goes_on(outputs, until):
            some = examples.rows(start, min(start + at_once, len(examples)))
            read = rows_of.in_precision(some.inputs, torch.float32)
            with torch.no_grad():
                outputs.append(run_model(model, read, first_index=0).double())
            targets.append(some.targets)
            start += len(some)
            # The words' scores of one long document may take gigabytes.
            at_once = max(1, min(AT_ONCE, OUTPUT_BYTES // max(1, outputs[-1][0].nbytes)))
    if not outputs:
        return None
    return standing_of(part, run.task.likelihood, torch.cat(outputs), torch.cat(targets))


def _goes_on(outputs: list[Tensor], until: float) -> bool:
    held = sum(each.nbytes for each in outputs)
    return not outputs or (time.perf_counter() <= until and held <= OUTPUT_BYTES)


def standing_of(part: str, likelihood: Likelihood, outputs: Tensor, targets: Tensor) -> Standing | None:
    """Return the standing of outputs [N, ...] for targets [N, ...]; None where no row has a label."""
    missing = getattr(likelihood, "missing", None)
    if likelihood.classes is not None or missing is not None:
        labelled = targets != UNLABELLED if missing is None else ~missing(targets)
        outputs, targets = outputs[labelled], targets[labelled]
    if not len(targets):
        return None
    loss = float(likelihood.losses(outputs, targets).mean())
    if likelihood.classes is None:
        mean = outputs.mean(dim=0, keepdim=True).expand_as(outputs)
        figures = getattr(likelihood, "figures", None)
        told = () if figures is None else tuple(figures(outputs, targets))
        return Standing(part, len(targets), None, loss, float(likelihood.losses(mean, targets).mean()), told)
    right = float((likelihood.explained(outputs, targets, "predicted") == targets).double().mean())
    most = int(targets.bincount().max()) / len(targets)
    return Standing(part, len(targets), right, loss, most)
