"""Do training examples with wrong labels stand out? Asked of a run on labels that were flipped on purpose.

The training examples are inspected in the order of a quantity of ``train_examples``, highest first. Three are scores of
an example for itself, at its own label: ``self_influence`` is its IF and the square of its l-RelatIF, so both rank
alike; ``self_influence / theta_norm`` is its theta-RelatIF; ``self_influence / gradient_norm`` divides by the norm
of the gradient instead. The loss, the norm of the gradient and ``theta_norm`` stand beside them.

The ``label queue`` is what the report page shows: its order, and whether the label that it suggests is the data's.

Axes: N training examples. Memory: one number for each of them and ranking, and that of ``find_suspects``.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import pyarrow as pa
import torch
from torch import Tensor

from relatif.pipeline.datasets.labels import Labelling
from relatif.pipeline.datasets.shards import Shard, read_published_labels
from relatif.pipeline.devices import Worker
from relatif.pipeline.evaluations.evaluation import (
    Evaluation,
    evaluation_stage,
    in_one_pass,
    without_classes,
    without_training_examples,
)
from relatif.pipeline.evaluations.suspects import Suspects, find_suspects
from relatif.pipeline.explaining.metadata import metadata_of
from relatif.pipeline.influence.evaluation import Detection, detection
from relatif.pipeline.runs.durable import Made
from relatif.pipeline.runs.finished_tables import column_by_row
from relatif.pipeline.runs.run import Run
from relatif.pipeline.runs.source import Source
from relatif.pipeline.runs.stage import StageRun
from relatif.pipeline.storage.parquet import write_table
from relatif.pipeline.storage.store import Store
from relatif.schemas import run_directory
from relatif.schemas.manifest import FileReceipt
from relatif.schemas.tables import MISLABEL_DETECTION, TRAIN_EXAMPLES

INSPECTED_SHARES = (0.05, 0.1, 0.2)

LABEL_QUEUE = "label queue"

SUSPECT_SHARE = 0.2
"""Share of the training examples that the queue looks at closely: all that are inspected have a suggestion."""

COLUMNS = ("self_influence", "loss", "gradient_norm", "theta_norm")

RANKINGS: Mapping[str, Callable[[Mapping[str, Tensor]], Tensor]] = {
    "self_influence": lambda columns: columns["self_influence"],
    "loss": lambda columns: columns["loss"],
    "gradient_norm": lambda columns: columns["gradient_norm"],
    "theta_norm": lambda columns: columns["theta_norm"],
    "self_influence / theta_norm": lambda columns: _quotient(columns["self_influence"], columns["theta_norm"]),
    "self_influence / gradient_norm": lambda columns: _quotient(columns["self_influence"], columns["gradient_norm"]),
}
"""Rankings by name, from columns [N] float64 of train_examples."""


def detections(tables: Store, labelling: Labelling) -> dict[str, Detection]:
    """Return for every ranking where it meets the flipped training examples.

    Raises DataError where a row of train_examples is missing or stands twice, a value is not a number, or none is
    flipped; MissingStageError when the table is not there.
    """
    values = column_by_row(tables, TRAIN_EXAMPLES.name, "train_index", COLUMNS)
    columns = {name: column.double() for name, column in zip(COLUMNS, values, strict=True)}
    flipped = labelling.flipped(torch.arange(len(values[0])))
    return {name: detection(ranking(columns), flipped) for name, ranking in RANKINGS.items()}


def detection_table(found: Mapping[str, Detection], right: Mapping[float, float | None] | None = None) -> pa.Table:
    """Return the table ``mislabel_detection``: a row for each ranking and share inspected.

    ``right`` is the label queue's share of right suggestions by share inspected.
    """
    rows = [
        {
            "ranking": name,
            "inspected_share": inspected,
            "found_share": each.found(inspected),
            "area": each.area,
            "right_share": (right or {}).get(inspected) if name == LABEL_QUEUE else None,
        }
        for name, each in found.items()
        for inspected in INSPECTED_SHARES
    ]
    return pa.Table.from_pylist(rows, schema=MISLABEL_DETECTION.schema)


def queue_detection(suspects: Suspects, flipped: Tensor) -> Detection:
    """Return where inspecting in the order of the queue meets the flipped examples [N] bool."""
    places = torch.empty(len(flipped), dtype=torch.float64)
    places[suspects.order] = torch.arange(len(flipped), dtype=torch.float64)
    return detection(-places, flipped)


def right_suggestions(suspects: Suspects, flipped: Tensor, labels: Tensor) -> dict[float, float | None]:
    """Return, by share inspected, for what share of the flipped examples found the suggestion is the data's label [N].

    None where none is found. An example that is found beyond the suspects has no suggestion, which counts as wrong.
    """
    found = {}
    suggested = torch.full_like(labels, -1)
    suggested[suspects.rows] = suspects.suggested
    for inspected in INSPECTED_SHARES:
        rows = suspects.order[: round(inspected * len(labels))]
        rows = rows[flipped[rows]]
        found[inspected] = float((suggested[rows] == labels[rows]).double().mean()) if len(rows) else None
    return found


def _quotient(above: Tensor, below: Tensor) -> Tensor:
    """Return above / below, and 0 where both are: an example without a gradient influences nothing."""
    return torch.where((above == 0) & (below == 0), 0.0, above / below)


def _obstacle(run: Run) -> str | None:
    other = without_training_examples(run)
    if other is not None:
        return other
    if run.dataset.labelling.flip_share > 0:
        return None
    return (
        "expected a run on labels that were flipped on purpose, found data.flip_share = 0; run all stages into another "
        "--out with, for example, --set data.flip_share=0.1"
    )


def _evaluate(stage: StageRun) -> Made:
    """Compute and publish the table, on a worker."""
    run = stage.run
    shards = run.train_shards if without_classes(run) is None else ()
    return in_one_pass(stage, partial(_write, run.source, shards, metadata_of(stage)))


def _write(source: Source, shards: Sequence[Shard], metadata: Mapping[str, str]) -> FileReceipt:
    """Write the table; without shards the task predicts no classes, and there is no label queue."""
    store, labelling = source.store, source.dataset.labelling
    found, right = detections(store.child(run_directory.TABLES), labelling), None
    if shards:
        labels = torch.cat([read_published_labels(source.data, shard) for shard in shards]) // labelling.merge
        flipped = labelling.flipped(torch.arange(len(labels)))
        suspects = find_suspects(source, shards, round(SUSPECT_SHARE * len(labels)), Worker())
        found[LABEL_QUEUE] = queue_detection(suspects, flipped)
        right = right_suggestions(suspects, flipped, labels)
    table = detection_table(found, right)
    return write_table(store, run_directory.table_part(MISLABEL_DETECTION.name, 0), table, MISLABEL_DETECTION, metadata)


MISLABEL_DETECTION_CURVES = Evaluation(evaluation_stage("mislabel_detection", _evaluate), _obstacle)
