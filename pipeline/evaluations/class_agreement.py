"""Identical class and identical subclass tests of Hanawa, Yokoi, Hara, Inui (2021), for every method of top_k.

Identical class test (their Definition 2): the test instance is the input with the label that the model predicts for it,
and its most relevant training example has to have that label; over all test inputs, right or wrong. Here that label is
``explained_label``, which is the predicted one unless ``score.explained_label`` says otherwise.

Identical subclass test (their Definition 3): the model learned classes that were merged, and the most relevant training
example has to be of the test input's own class before merging; over the test inputs that the model classifies right.
They merge classes into two at random; here ``data.merge_classes`` consecutive ones become one. The subclass is read
from the data, so flipped labels don't change it.

Axes: N training examples, M test inputs. Memory: a few integers for each, and a batch of rows of top_k; rows may lie in
any order.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import pyarrow as pa
import torch
from torch import Tensor

from relatif.pipeline.console import progress
from relatif.pipeline.datasets.shards import Shard, read_published_labels
from relatif.pipeline.evaluations.evaluation import Evaluation, evaluation_stage
from relatif.pipeline.explaining.metadata import table_metadata
from relatif.pipeline.influence.evaluation import Share, agreement
from relatif.pipeline.runs.durable import Made
from relatif.pipeline.runs.finished_tables import column_by_row, table_methods, tensor_batches
from relatif.pipeline.runs.run import Run
from relatif.pipeline.runs.source import Source
from relatif.pipeline.runs.stage import StageRun
from relatif.pipeline.storage.parquet import write_table
from relatif.pipeline.storage.store import Store
from relatif.schemas import run_directory
from relatif.schemas.errors import DataError
from relatif.schemas.manifest import FileReceipt
from relatif.schemas.tables import CLASS_AGREEMENT, TEST_EXAMPLES, TOP_K, TRAIN_EXAMPLES

IDENTICAL_CLASS, IDENTICAL_SUBCLASS = "identical_class", "identical_subclass"

_NONE = -1


def class_agreement(tables: Store, subclasses: tuple[Tensor, Tensor] | None = None) -> pa.Table:
    """Return the table ``class_agreement`` of the ``top_k``, ``train_examples`` and ``test_examples`` below ``tables``.

    ``subclasses`` are the classes before merging of the training [N] and test rows [M]; None: no subclass test.
    Raises DataError, naming the table, where a row is missing, stands twice or is in one table alone, and for a test
    without test inputs; MissingStageError when a table is not there.
    """
    (label,) = column_by_row(tables, TRAIN_EXAMPLES.name, "train_index", ["label"])
    true, predicted, explained = column_by_row(
        tables, TEST_EXAMPLES.name, "test_index", ["label", "predicted_label", "explained_label"]
    )
    methods = table_methods(tables)
    first = _first_examples(tables, methods, training=len(label), tests=len(explained))
    rows = [(IDENTICAL_CLASS, *each) for each in _shares(methods, label[first], explained)]
    if subclasses is not None:
        train, test = subclasses
        right = true == predicted
        rows += [(IDENTICAL_SUBCLASS, *each) for each in _shares(methods, train[first][:, right], test[right])]
    return _table(rows)


def _first_examples(tables: Store, methods: Sequence[str], *, training: int, tests: int) -> Tensor:
    """Return the training example of rank 1 for every method and test input, [methods, M] int64."""
    first = torch.full((len(methods), tests), _NONE)
    count = 0
    columns = ["method", "test_index", "rank", "train_index"]
    for method, test, rank, train in tensor_batches(tables, TOP_K.name, columns, methods=methods):
        best = rank == 1
        _require_rows(tables, TEST_EXAMPLES.name, test, tests)
        _require_rows(tables, TRAIN_EXAMPLES.name, train, training)
        first[method[best], test[best]] = train[best]
        count += int(best.sum())
    missing = (first == _NONE).nonzero()
    if len(missing):
        method_number, row = missing[0].tolist()
        raise DataError(
            f"expected a row of rank 1 for every method and test input in {tables.describe(TOP_K.name)}, found none "
            f"for {methods[method_number]} of test_index {row}; run the score stage again"
        )
    if count != first.numel():
        raise DataError(
            f"expected one row of rank 1 for each method and test_index in {tables.describe(TOP_K.name)}, found "
            f"{count - first.numel()} row(s) too many; remove files that are not of this run"
        )
    return first


def _require_rows(tables: Store, other: str, rows: Tensor, count: int) -> None:
    if len(rows) and int(rows.max()) >= count:
        raise DataError(
            f"expected the rows of {tables.describe(TOP_K.name)} in {other} too, found {int(rows.max())} in the first "
            f"alone; take both tables from the same run"
        )


def _shares(methods: Sequence[str], classes: Tensor, wanted: Tensor) -> list[tuple[str, Share]]:
    """Return for every method how many explaining classes [methods, M] are the wanted ones [M]."""
    return [(method, agreement(each, wanted)) for method, each in zip(methods, classes, strict=True)]


def _table(rows: Sequence[tuple[str, str, Share]]) -> pa.Table:
    values = [
        {
            "method": method,
            "test": name,
            "test_count": share.total,
            "share": share.share,
            "standard_error": share.standard_error,
        }
        for name, method, share in rows
    ]
    return pa.Table.from_pylist(values, schema=CLASS_AGREEMENT.schema)


def _evaluate(stage: StageRun) -> Made:
    """Compute and publish the table, on a worker."""
    run = stage.run
    metadata = table_metadata(run, checkpoint=stage.checkpoint, code_version=stage.code_version)
    merged = run.dataset.labelling.merge > 1
    shards = (run.train_shards, run.test_shards) if merged else None
    with progress(stage.stage.name, 1, unit="passes") as shown:
        receipt = stage.on_worker(partial(_write, run.source, shards, metadata))
        shown.advance()
    return Made((receipt,))


def _write(
    source: Source, shards: tuple[Sequence[Shard], Sequence[Shard]] | None, metadata: Mapping[str, str]
) -> FileReceipt:
    store = source.store
    subclasses = None if shards is None else (_published(source, shards[0]), _published(source, shards[1]))
    table = class_agreement(store.child(run_directory.TABLES), subclasses)
    return write_table(store, run_directory.table_part(CLASS_AGREEMENT.name, 0), table, CLASS_AGREEMENT, metadata)


def _published(source: Source, shards: Sequence[Shard]) -> Tensor:
    return torch.cat([read_published_labels(source.data, shard) for shard in shards])


def _obstacle(run: Run) -> str | None:
    if run.task.likelihood.classes is not None:
        return None
    return f"expected a task that predicts classes, found {run.config.task!r}, which does not; leave it out"


CLASS_AGREEMENT_TESTS = Evaluation(evaluation_stage("class_agreement", _evaluate), _obstacle)
