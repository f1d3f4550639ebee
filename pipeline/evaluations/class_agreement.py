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

from relatif.pipeline.datasets.shards import Shard, read_published_labels
from relatif.pipeline.evaluations.evaluation import (
    Evaluation,
    evaluation_stage,
    in_one_pass,
    with_chosen_tests,
    without_classes,
)
from relatif.pipeline.explaining.metadata import metadata_of
from relatif.pipeline.influence.evaluation import Share, agreement
from relatif.pipeline.runs.durable import Made
from relatif.pipeline.runs.finished_tables import column_by_row, first_examples, table_methods
from relatif.pipeline.runs.run import Run
from relatif.pipeline.runs.source import Source
from relatif.pipeline.runs.stage import StageRun
from relatif.pipeline.storage.parquet import write_table
from relatif.pipeline.storage.store import Store
from relatif.schemas import run_directory
from relatif.schemas.manifest import FileReceipt
from relatif.schemas.tables import CLASS_AGREEMENT, TEST_EXAMPLES, TRAIN_EXAMPLES

IDENTICAL_CLASS, IDENTICAL_SUBCLASS = "identical_class", "identical_subclass"


def class_agreement(tables: Store, subclasses: tuple[Tensor, Tensor] | None = None) -> pa.Table:
    """Return the table ``class_agreement`` of the ``top_k``, ``train_examples`` and ``test_examples`` below ``tables``.

    ``subclasses`` are the classes before merging of the training [N] and test rows [M]; None: no subclass test.
    Raises DataError, naming the table, where a row is missing, stands twice or is in one table alone, and for a test
    without test inputs; MissingStageError when a table is not there.
    """
    (label,) = column_by_row(tables, TRAIN_EXAMPLES.name, "train_index", ["label"])
    (explained,) = column_by_row(tables, TEST_EXAMPLES.name, "test_index", ["explained_label"])
    methods = table_methods(tables)
    first = first_examples(tables, methods, training=len(label), tests=len(explained))
    rows = [(IDENTICAL_CLASS, *each) for each in _shares(methods, label[first], explained)]
    if subclasses is not None:
        train, test = subclasses
        true, predicted = column_by_row(tables, TEST_EXAMPLES.name, "test_index", ["label", "predicted_label"])
        right = true == predicted
        rows += [(IDENTICAL_SUBCLASS, *each) for each in _shares(methods, train[first][:, right], test[right])]
    return _table(rows)


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
    merged = run.dataset.labelling.merge > 1
    shards = (run.scored_shards, run.test_shards) if merged else None
    return in_one_pass(stage, partial(_write, run.source, shards, metadata_of(stage)))


def _write(
    source: Source, shards: tuple[Sequence[Shard], Sequence[Shard]] | None, metadata: Mapping[str, str]
) -> FileReceipt:
    store = source.store
    subclasses = None if shards is None else (_published(source, shards[0]), _published(source, shards[1]))
    table = class_agreement(store.child(run_directory.TABLES), subclasses)
    return write_table(store, run_directory.table_part(CLASS_AGREEMENT.name, 0), table, CLASS_AGREEMENT, metadata)


def _published(source: Source, shards: Sequence[Shard]) -> Tensor:
    return torch.cat([read_published_labels(source.data, shard) for shard in shards])


def _cannot_be_made(run: Run) -> str | None:
    """Return why there is nothing to agree with: data without classes, or without the test labels before merging."""
    if run.dataset.labelling.merge > 1 and run.dataset.description.provenance.unlabelled is not None:
        return (
            f"expected a label of every test input, which is compared before merging, found "
            f"{run.dataset.description.provenance.unlabelled} without one; leave it out"
        )
    return without_classes(run) or with_chosen_tests(run)


CLASS_AGREEMENT_TESTS = Evaluation(evaluation_stage("class_agreement", _evaluate), _cannot_be_made)
