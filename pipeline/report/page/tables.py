"""A finished run's tables as arrays: what the report page is made of.

Axes: N training examples that were scored, M explained test inputs, K ranks.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from relatif.pipeline.runs.finished_tables import table_methods, tensor_batches
from relatif.pipeline.runs.run import Run
from relatif.pipeline.storage.parquet import iter_batches, table_metadata
from relatif.pipeline.storage.store import Store
from relatif.schemas import run_directory
from relatif.schemas.tables import TEST_EXAMPLES, TOP_K, TRAIN_EXAMPLES

NO_CLASS = -1
"""Stands for a label that is null."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_NUMBERS = ("probability", "loss", "self_influence", "theta_norm")
_CLASSES = ("label", "predicted_label", "explained_label")
_SINGLE = ("target", "prediction")
LISTED = 0
"""Place of the one number of a target that is a single number."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Columns of examples by place: ``index`` [N] rises; numbers [N] are NaN and classes [N] NO_CLASS where null.

    ``numbers`` holds probability, loss, self_influence, theta_norm, and target and prediction where they are single
    numbers; ``classes`` holds label, predicted_label and explained_label. A column that is null throughout is left out.
    """

    index: Ints
    numbers: Mapping[str, NDArray[np.float32] | Floats]
    classes: Mapping[str, NDArray[np.int32]]

    def __len__(self) -> int:
        return len(self.index)

    def places(self, rows: Ints) -> Ints:
        """Return the places of rows that are among them."""
        return np.searchsorted(self.index, rows)

    def wrong(self) -> NDArray[np.bool_]:
        """Return which examples have a label that is not the one predicted, [N]; none where there are no classes."""
        label, predicted = self.classes.get("label"), self.classes.get("predicted_label")
        if label is None or predicted is None:
            return np.zeros(len(self), np.bool_)
        return (label != predicted) & (label != NO_CLASS)


@dataclass(frozen=True, eq=False)
class Lists:
    """The training rows of explanations, [M, K] int32 by method, best first; EMPTY beyond the end of a list."""

    train: Mapping[str, NDArray[np.int32]]

    @property
    def ranks(self) -> int:
        """Number of ranks K."""
        return next(iter(self.train.values())).shape[1]


EMPTY = -1


@dataclass(frozen=True, eq=False)
class PageTables:
    """A run's tables: training examples [N], explained inputs [M], who explains whom, and what the tables say of it."""

    train: Examples
    test: Examples
    lists: Lists
    told: Mapping[str, str]
    """Metadata of top_k."""

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that were scored, in order."""
        return tuple(self.lists.train)


def read_tables(run: Run) -> PageTables:
    """Return the tables of a run whose score stage is finished; raises as ``iter_batches`` and ``table_methods``."""
    store = run.store.child(run_directory.TABLES)
    train = _examples(store, TRAIN_EXAMPLES.name, "train_index")
    test = _examples(store, TEST_EXAMPLES.name, "test_index")
    ranks = min(run.config.score.top_k, len(train))
    return PageTables(train, test, _lists(store, test, ranks), table_metadata(store, TOP_K.name))


def read_scores(tables: Store, methods: Sequence[str], tests: Ints, ranks: int) -> dict[str, NDArray[np.float64]]:
    """Return the scores of some test rows, which rise, by method [rows, K]; NaN beyond the end of a list."""
    found = {method: np.full((len(tests), ranks), np.nan) for method in methods}
    wanted = pa.array(tests, pa.int64())
    for batch in iter_batches(tables, TOP_K.name, ["method", "test_index", "rank", "score"]):
        chosen = batch.filter(pc.is_in(batch.column(1), value_set=wanted))
        if not chosen.num_rows:
            continue
        named = pc.index_in(chosen.column(0), value_set=pa.array(methods, chosen.column(0).type))
        numbers = pc.fill_null(named, -1).to_numpy()
        place, rank = np.searchsorted(tests, chosen.column(1).to_numpy()), chosen.column(2).to_numpy() - 1
        score = chosen.column(3).to_numpy()
        for number, method in enumerate(methods):
            mine = numbers == number
            found[method][place[mine], rank[mine]] = score[mine]
    return found


def _lists(store: Store, test: Examples, ranks: int) -> Lists:
    methods = table_methods(store)
    lists = {method: np.full((len(test), ranks), EMPTY, np.int32) for method in methods}
    for method, index, rank, train in tensor_batches(
        store, TOP_K.name, ["method", "test_index", "rank", "train_index"], methods=methods
    ):
        numbers, place = method.numpy(), test.places(index.numpy())
        for number, name in enumerate(methods):
            mine = numbers == number
            lists[name][place[mine], rank.numpy()[mine] - 1] = train.numpy()[mine]
    return Lists(lists)


def _examples(store: Store, table: str, index: str) -> Examples:
    """Return the columns of a table that are there: a table of an earlier version has fewer."""
    there = next(iter_batches(store, table, None, 1)).schema.names
    columns = [name for name in (index, *_NUMBERS, *_CLASSES, *_SINGLE) if name in there]
    parts: dict[str, list[NDArray[np.generic]]] = {name: [] for name in columns}
    for batch in iter_batches(store, table, columns):
        for name in columns:
            parts[name].append(_values(name, batch.column(name)))
    joined = {name: np.concatenate(each) for name, each in parts.items()}
    order = np.argsort(joined[index], kind="stable")
    ordered = {name: values[order] for name, values in joined.items()}
    numbers = {name: ordered[name] for name in (*_NUMBERS, *_SINGLE) if _told(ordered, name, np.nan)}
    classes = {name: ordered[name] for name in _CLASSES if _told(ordered, name, NO_CLASS)}
    return Examples(ordered[index].astype(np.int64), numbers, classes)


def _told(columns: Mapping[str, NDArray[np.generic]], name: str, null: float) -> bool:
    if name not in columns or not len(columns[name]):
        return False
    values = columns[name]
    return bool((~np.isnan(values) if np.isnan(null) else values != null).any())


def _values(name: str, column: pa.Array) -> NDArray[np.generic]:
    if name in _SINGLE:
        # Lists of several numbers are no single number: NaN for these rows.
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
        single = pa.array(np.where(lengths == 1, 0, -1))
        taken = np.full(len(column), np.nan)
        taken[lengths == 1] = column.filter(pc.equal(single, 0)).flatten().to_numpy(zero_copy_only=False)
        return taken
    if name in _CLASSES:
        return np.asarray(pc.fill_null(column, NO_CLASS).to_numpy(zero_copy_only=False), np.int32)
    if name in _NUMBERS:
        return np.asarray(column.to_numpy(zero_copy_only=False), np.float32)
    return np.asarray(column.to_numpy(zero_copy_only=False))


def identifiers(store: Store, table: str, index: str, column: str, rows: Iterable[int]) -> dict[int, str] | None:
    """Return the user's identifiers of some rows; None where the table has none."""
    if column not in next(iter_batches(store, table, None, 1)).schema.names:
        return None
    wanted = pa.array(sorted(set(rows)), pa.int64())
    found: dict[int, str] = {}
    for batch in iter_batches(store, table, [index, column]):
        chosen = batch.filter(pc.and_(pc.is_in(batch.column(0), value_set=wanted), pc.is_valid(batch.column(1))))
        found.update(zip(chosen.column(0).to_pylist(), chosen.column(1).to_pylist(), strict=True))
    return found or None
