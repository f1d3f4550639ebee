"""Identical class and identical subclass tests of Hanawa, Yokoi, Hara, Inui (2021), for every method of top_k.

Identical class test (their Definition 2): the test instance is the input with the label that the model predicts for it,
and its most relevant training example has to have that label; over all test inputs, right or wrong. Here that label is
``explained_label``, which is the predicted one unless ``score.explained_label`` says otherwise.

Identical subclass test (their Definition 3): the model learned classes that were merged, and the most relevant training
example has to be of the test input's own class before merging; over the test inputs that the model classifies right.
They merge at random into two classes, here ``data.merge_classes`` consecutive ones become one. The subclass is read
from the data, so flipped labels don't change it.

Axes: N training examples, M test inputs. Memory: some integers for each of both, and a batch of rows of top_k; rows may
lie in any order.
"""

from collections.abc import Mapping, Sequence

import pyarrow as pa
import torch
from torch import Tensor

from relatif.pipeline.cluster.session import Resources
from relatif.pipeline.cluster.tasks import gather, submit
from relatif.pipeline.datasets.description import Split
from relatif.pipeline.datasets.shards import read_published_labels
from relatif.pipeline.evaluations.evaluation import Evaluation
from relatif.pipeline.influence.evaluation import Share, agreement
from relatif.pipeline.report.evaluations import class_agreement_text
from relatif.pipeline.runs.run import Run
from relatif.pipeline.stages.statistics import rows_of
from relatif.pipeline.storage.parquet import read_table, write_table
from relatif.pipeline.storage.store import Store
from relatif.schemas import run_directory
from relatif.schemas.errors import DataError
from relatif.schemas.manifest import FileReceipt
from relatif.schemas.tables import CLASS_AGREEMENT, METHODS, TEST_EXAMPLES, TOP_K, TRAIN_EXAMPLES

IDENTICAL_CLASS, IDENTICAL_SUBCLASS = "identical_class", "identical_subclass"

_NONE = -1


def class_agreement(tables: Store, subclasses: tuple[Tensor, Tensor] | None = None) -> pa.Table:
    """Return the table ``class_agreement`` of the ``top_k``, ``train_examples`` and ``test_examples`` below ``tables``.

    ``subclasses`` are the classes before merging of the training [N] and test rows [M]; None: no subclass test.
    Raises DataError, naming the table, where a row is missing, stands twice or is in one table alone, and where a test
    has no test input; MissingStageError when a table is not there.
    """
    (label,) = column_by_row(tables, TRAIN_EXAMPLES.name, "train_index", ["label"])
    true, predicted, explained = column_by_row(
        tables, TEST_EXAMPLES.name, "test_index", ["label", "predicted_label", "explained_label"]
    )
    first = _first_examples(tables, training=len(label), tests=len(explained))
    rows = [(IDENTICAL_CLASS, *each) for each in _shares(label[first], explained)]
    if subclasses is not None:
        train, test = subclasses
        right = true == predicted
        rows += [(IDENTICAL_SUBCLASS, *each) for each in _shares(train[first][:, right], test[right])]
    return _table(rows)


def column_by_row(tables: Store, table: str, index: str, columns: Sequence[str]) -> list[Tensor]:
    """Return columns of a table in the order of its index. Raises DataError unless each row, from 0, stands once."""
    parts = list(rows_of(tables, table, [index, *columns]))
    if not parts:
        raise DataError(f"expected rows in {tables.describe(table)}, found none; run the score stage again")
    rows, *values = (torch.cat(each) for each in zip(*parts, strict=True))
    order = rows.argsort()
    if not torch.equal(rows[order], torch.arange(len(rows))):
        raise DataError(
            f"expected each {index} from 0 once in {tables.describe(table)}, found {len(rows)} rows for "
            f"{len(rows.unique())} of them up to {int(rows.max())}; remove files that are not of this run"
        )
    return [each[order] for each in values]


def _first_examples(tables: Store, *, training: int, tests: int) -> Tensor:
    """Return the training example of rank 1 for every method and test input, [methods, M] int64."""
    first = torch.full((len(METHODS), tests), _NONE)
    count = 0
    for method, test, rank, train in rows_of(tables, TOP_K.name, ["method", "test_index", "rank", "train_index"]):
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
            f"for {METHODS[method_number]} of test_index {row}; run the score stage again"
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


def _shares(classes: Tensor, wanted: Tensor) -> list[tuple[str, Share]]:
    """Return for every method how many explaining classes [methods, M] are the wanted ones [M]."""
    return [(method, agreement(each, wanted)) for method, each in zip(METHODS, classes, strict=True)]


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


def _evaluate(run: Run, _: Resources, metadata: Mapping[str, str]) -> list[FileReceipt]:
    return [gather([submit(_write, run, dict(metadata))])[0]]


def _write(run: Run, metadata: Mapping[str, str]) -> FileReceipt:
    """Compute and publish the table, on a worker."""
    merged = run.dataset.labelling.merge > 1
    subclasses = (_published(run, "train", run.train_rows), _published(run, "test", run.test_rows)) if merged else None
    table = class_agreement(run.store.child(run_directory.TABLES), subclasses)
    return write_table(run.store, run_directory.table_part(CLASS_AGREEMENT.name, 0), table, CLASS_AGREEMENT, metadata)


def _published(run: Run, split: Split, rows: int) -> Tensor:
    shards = run.dataset.shards(split, rows=run.config.data.shard_rows, limit=rows)
    return torch.cat([read_published_labels(run.data, shard) for shard in shards])


CLASS_AGREEMENT_TESTS = Evaluation(
    "class_agreement",
    obstacle=lambda _: None,
    evaluate=_evaluate,
    text=lambda tables: class_agreement_text(read_table(tables, CLASS_AGREEMENT.name)),
)
