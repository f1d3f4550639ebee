"""Training examples whose labels look wrong, and the labels that model and nearest examples are for.

Two steps. All training examples are ordered by their loss, which is in the tables. Of the first of them, the suspects,
the model's probabilities and the nearest training examples are looked at, and they are put into the order of
``suspicion``. Nearest examples count as much as they agree with labels elsewhere: ``neighbour_weight``.

Axes: N training examples, S suspects, K neighbours, C classes. Memory: features and K neighbours of the suspects, and
a shard of training examples at a time.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from relatif.pipeline import inputs as batches
from relatif.pipeline.calls import run_model
from relatif.pipeline.curvature.eigen import Curvature
from relatif.pipeline.curvature.likelihood import Likelihood
from relatif.pipeline.datasets.shards import Shard
from relatif.pipeline.devices import Worker
from relatif.pipeline.draws import sampled_rows
from relatif.pipeline.explaining.chosen_pairs import read_rows
from relatif.pipeline.influence.block import TrainShard, query_block, train_shard
from relatif.pipeline.influence.precision import screening_precision
from relatif.pipeline.influence.suspicion import neighbour_weight, support, suspicion
from relatif.pipeline.influence.sweep import Sweep, empty_best
from relatif.pipeline.inputs import Inputs
from relatif.pipeline.runs.finished_tables import column_by_row
from relatif.pipeline.runs.source import Source, model_examples
from relatif.pipeline.tasks.task import Task
from relatif.schemas import run_directory
from relatif.schemas.errors import DataError
from relatif.schemas.methods import METHODS
from relatif.schemas.tables import TRAIN_EXAMPLES

NEIGHBOURS = 20
REFERENCE = 500
"""Training examples, drawn from all, whose neighbours tell how far neighbours agree with labels."""

NEAREST = "nearest_neighbour"
MODEL_ROWS = 512

NO_CURVATURE = Curvature({}, 1.0)
"""Distances need none."""


@dataclass(frozen=True, eq=False)
class Suspects:
    """Training rows [S], most suspicious first, and all other rows after them, by loss: ``order`` [N].

    ``losses`` and ``self_influence`` [N] are those of every row, ``suspicion`` [S] lies between 0 and 1, ``labels`` [S]
    are the data's and ``probabilities`` [S, C] the model's. ``neighbours`` [S, K] are rows, the nearest first,
    ``neighbour_labels`` [S, K] theirs; ``support`` [S, C] is that of ``influence.suspicion.support`` with the
    ``weight`` of neighbours. ``agreement`` is the share of neighbours that have the same label, among references.
    """

    rows: Tensor
    order: Tensor
    losses: Tensor
    self_influence: Tensor
    suspicion: Tensor
    labels: Tensor
    probabilities: Tensor
    neighbours: Tensor
    neighbour_labels: Tensor
    support: Tensor
    weight: float
    agreement: float

    @property
    def suggested(self) -> Tensor:
        """Return the label that has most support, [S] int64: the example's own where there is nothing to suggest."""
        return self.support.argmax(dim=1)


def find_suspects(source: Source, shards: Sequence[Shard], count: int, worker: Worker) -> Suspects:
    """Return ``count`` suspects among the training examples of a finished run whose task predicts classes.

    Raises DataError where a row of train_examples is missing, and for a loss that is no number; MissingStageError when
    the table is not there.
    """
    task = source.load_task()
    tables = source.store.child(run_directory.TABLES)
    columns = ["label", "loss", "self_influence"]
    labels, losses, own = column_by_row(tables, TRAIN_EXAMPLES.name, "train_index", columns)
    if bool(losses.isnan().any()):
        raise DataError(
            f"expected a loss of every training example, found none for row {int(losses.isnan().nonzero()[0])}; look "
            f"at the model's outputs and run the score stage again"
        )
    order = losses.argsort(descending=True, stable=True)
    chosen = order[:count]
    reference = torch.tensor(sampled_rows(len(labels), REFERENCE, 0))
    near = nearest(source, shards, torch.cat([chosen, reference]), worker)
    mine, theirs = near[: len(chosen)], labels[near[len(chosen) :]]
    classes = int(task.likelihood.classes or 0)
    frequencies = torch.bincount(labels, minlength=classes).double() / len(labels)
    weight = neighbour_weight(labels[reference], theirs, frequencies)
    probabilities = _probabilities(source, shards, chosen, worker)
    values = suspicion(losses[chosen], labels[chosen], labels[mine], weight)
    best = values.argsort(descending=True, stable=True)
    rows, mine, probabilities = chosen[best], mine[best], probabilities[best]
    return Suspects(
        rows=rows,
        order=torch.cat([rows, order[count:]]),
        losses=losses,
        self_influence=own,
        suspicion=values[best],
        labels=labels[rows],
        probabilities=probabilities,
        neighbours=mine,
        neighbour_labels=labels[mine],
        support=support(probabilities, labels[mine], weight),
        weight=weight,
        agreement=float((theirs == labels[reference][:, None]).double().mean()) if theirs.numel() else 0.0,
    )


def nearest(source: Source, shards: Sequence[Shard], rows: Tensor, worker: Worker, k: int = NEIGHBOURS) -> Tensor:
    """Return the k nearest training examples of training rows [S], nearest first, without the example itself: [S, k].

    Distances are those of the method nearest_neighbour. There are fewer of a smaller training set.
    """
    task, precision = source.load_task(), screening_precision(worker.device)
    ranked = min(k + 1, shards[-1].stop)
    asked = _inputs(source, task, shards, rows, worker)
    block = query_block(NO_CURVATURE, {}, asked, methods=(METHODS[NEAREST],), precision=precision)

    def prepare(shard: Shard) -> tuple[TrainShard, None]:
        shown = source.examples(task, shard, worker.device).inputs
        return train_shard(block, {}, {}, shown, start=shard.start), None

    with worker.pool() as pool:
        best = empty_best(block, ranked)
        sweep = Sweep(block, prepare, best, worker, pool)
        for _, tiles in sweep.run(shards, lambda *_: None):
            deque(tiles, maxlen=0)
    indices = best[NEAREST].indices.cpu()
    others = indices != rows[:, None]
    # Of more than k equal inputs the example itself may not be among the nearest: then the last one is left out.
    others[others.all(dim=1), -1] = False
    return indices[others].reshape(len(rows), ranked - 1)


def _probabilities(source: Source, shards: Sequence[Shard], rows: Tensor, worker: Worker) -> Tensor:
    """Return the model's probability of every class, [S, C] float64."""
    task = source.load_task()
    model = source.load_model(task, worker.device)
    found = []
    for some in rows.split(MODEL_ROWS):
        with torch.no_grad():
            outputs = run_model(model, _inputs(source, task, shards, some, worker))
            found.append(class_probabilities(task.likelihood, outputs).cpu())
    return torch.cat(found)


def class_probabilities(likelihood: Likelihood, outputs: Tensor) -> Tensor:
    """Return the probability of every class, [N, C] float64, of a likelihood of C classes."""
    # Weights of classes and smoothing make the loss another than the likelihood's.
    plain: Likelihood = getattr(likelihood, "likelihood", likelihood)
    classes = int(plain.classes or 0)
    every = [plain.losses(outputs, torch.full((len(outputs),), label).to(outputs.device)) for label in range(classes)]
    return torch.stack(every, dim=1).double().neg().softmax(dim=1)


def _inputs(source: Source, task: Task, shards: Sequence[Shard], rows: Tensor, worker: Worker) -> Inputs:
    """Return training rows [S], in any order, as the model reads them."""
    wanted = rows.unique()
    stored, targets = read_rows(source, shards, wanted.tolist())
    places = torch.searchsorted(wanted, rows)
    return model_examples(task, batches.rows(stored, places), targets[places], 0, worker.device).inputs
