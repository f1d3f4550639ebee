"""Do training examples with wrong labels stand out? Asked of a run on labels that were flipped on purpose.

The training examples are inspected in the order of a quantity of ``train_examples``, highest first. Three are scores of
an example for itself, at its own label: ``self_influence`` is its IF and the square of its l-RelatIF, so both rank
alike; ``self_influence / theta_norm`` is its theta-RelatIF; ``self_influence / gradient_norm`` divides by the norm
of the gradient instead. The loss, the norm of the gradient and ``theta_norm`` stand beside them.

Axes: N training examples. Memory: one number for each of them and ranking.
"""

from collections.abc import Callable, Mapping
from functools import partial

import pyarrow as pa
import torch
from torch import Tensor

from relatif.pipeline.datasets.labels import Labelling
from relatif.pipeline.evaluations.evaluation import Evaluation, evaluation_stage, in_one_pass, without_training_examples
from relatif.pipeline.explaining.metadata import metadata_of
from relatif.pipeline.influence.evaluation import Detection, detection
from relatif.pipeline.runs.durable import Made
from relatif.pipeline.runs.finished_tables import column_by_row
from relatif.pipeline.runs.run import Run
from relatif.pipeline.runs.stage import StageRun
from relatif.pipeline.storage.parquet import write_table
from relatif.pipeline.storage.store import Store
from relatif.schemas import run_directory
from relatif.schemas.manifest import FileReceipt
from relatif.schemas.tables import MISLABEL_DETECTION, TRAIN_EXAMPLES

INSPECTED_SHARES = (0.05, 0.1, 0.2)

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


def detection_table(found: Mapping[str, Detection]) -> pa.Table:
    """Return the table ``mislabel_detection``: a row for each ranking and share inspected."""
    rows = [
        {
            "ranking": name,
            "inspected_share": inspected,
            "found_share": each.found(inspected),
            "area": each.area,
        }
        for name, each in found.items()
        for inspected in INSPECTED_SHARES
    ]
    return pa.Table.from_pylist(rows, schema=MISLABEL_DETECTION.schema)


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
    return in_one_pass(stage, partial(_write, run.store, run.dataset.labelling, metadata_of(stage)))


def _write(store: Store, labelling: Labelling, metadata: Mapping[str, str]) -> FileReceipt:
    table = detection_table(detections(store.child(run_directory.TABLES), labelling))
    return write_table(store, run_directory.table_part(MISLABEL_DETECTION.name, 0), table, MISLABEL_DETECTION, metadata)


MISLABEL_DETECTION_CURVES = Evaluation(evaluation_stage("mislabel_detection", _evaluate), _obstacle)
