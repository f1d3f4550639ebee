"""Statistics of explanations, from finished tables alone: ``influence_sets`` (Table 1), ``overlap`` (section 4.3).

Axes: N training examples, M test inputs, K ranks. Memory: one boolean per training example and set, and a block of
explanations of at most ``BLOCK_BYTES``; rows may lie in any order, over any files.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import pyarrow as pa
import torch
from torch import Tensor

from relatif.pipeline.influence.statistics import InfluenceSet, SetMoments, influence_set, overlap_counts, set_moments
from relatif.pipeline.runs.finished_tables import table_methods, tensor_batches
from relatif.pipeline.storage.parquet import iter_batches
from relatif.pipeline.storage.store import Store
from relatif.schemas.errors import DataError
from relatif.schemas.tables import INFLUENCE_SETS, OVERLAP, TOP_K, TRAIN_EXAMPLES

BLOCK_BYTES = 64 * 2**20
"""Explanations that are held at once; a larger top_k table is read once for every such block of test inputs."""

_EMPTY = -1
_INDEX_BYTES = 8

Sets = dict[tuple[str, int], InfluenceSet]
Common = dict[tuple[str, str, int], int]


@dataclass(frozen=True)
class _Extent:
    """Test inputs from ``start`` to ``stop`` (exclusive), and the most ranks that the top_k table holds of one."""

    start: int
    stop: int
    ranks: int


def statistics_from_tables(
    tables: Store, *, influence_set_k: Sequence[int], overlap_k: Sequence[int], block_bytes: int = BLOCK_BYTES
) -> tuple[pa.Table, pa.Table]:
    """Return the tables ``influence_sets`` and ``overlap`` of the ``top_k`` and ``train_examples`` below ``tables``.

    Influence sets are counted for every method that the table holds, overlaps for every pair of them, in the order of
    METHODS. A set's probabilities are null where ``train_examples`` has none.
    Raises ConfigurationError when a k exceeds the ranks of top_k; DataError, naming the table, when a method is unknown
    or missing for a test input, a train_index is not in train_examples, test inputs have different ranks, or a row
    stands twice; MissingStageError when a table is not there.
    """
    known, methods = _train_rows(tables), table_methods(tables)
    sets: Sets = {}
    common: Common = {}
    test_count = 0
    for block in _blocks(tables, known, methods, block_bytes):
        test_count += block.shape[1]
        # Blocks merge exactly, so their size changes memory and time alone.
        explanations = dict(zip(methods, block, strict=True))
        _count_sets(sets, explanations, influence_set_k, train_count=len(known))
        _count_common(common, explanations, overlap_k)
    return _sets_table(sets, _moments(tables, sets)), _overlap_table(common, test_count)


def _count_sets(sets: Sets, explanations: Mapping[str, Tensor], ks: Sequence[int], *, train_count: int) -> None:
    for method, top_k in explanations.items():
        for k in dict.fromkeys(ks):
            found = influence_set(top_k, k=k, train_count=train_count)
            sets[method, k] = sets[method, k].merge(found) if (method, k) in sets else found


def _count_common(common: Common, explanations: Mapping[str, Tensor], ks: Sequence[int]) -> None:
    for (a, first), (b, second) in combinations(explanations.items(), 2):
        for k in dict.fromkeys(ks):
            common[a, b, k] = common.get((a, b, k), 0) + overlap_counts(first, second, k=k)


def _train_rows(tables: Store) -> Tensor:
    """Return which train indices, 0 to N - 1, stand in train_examples, as [N] bool."""
    known = torch.zeros(0, dtype=torch.bool)
    rows = end = 0
    for (index,) in tensor_batches(tables, TRAIN_EXAMPLES.name, ["train_index"]):
        end = max(end, int(index.max()) + 1)
        if end > len(known):
            # At least doubled, so that growing costs time in proportion to N, whatever the order of rows.
            known = torch.cat([known, torch.zeros(max(end, 2 * len(known)) - len(known), dtype=torch.bool)])
        known[index] = True
        rows += len(index)
    distinct = int(known.sum())
    if rows == 0 or rows != distinct:
        raise DataError(
            f"expected one row for each training example in {tables.describe(TRAIN_EXAMPLES.name)}, found {rows} rows "
            f"for {distinct} training examples; remove files that are not of this run or run the score stage again"
        )
    return known[:end]


def _blocks(tables: Store, known: Tensor, methods: Sequence[str], block_bytes: int) -> Iterator[Tensor]:
    """Yield the train indices of all test inputs as blocks [methods, M, K], complete and checked."""
    extent = _extent(tables)
    rows = max(1, block_bytes // (len(methods) * extent.ranks * _INDEX_BYTES))
    for start in range(extent.start, extent.stop, rows):
        yield _read_block(tables, known, methods, _Extent(start, min(start + rows, extent.stop), extent.ranks))


def _extent(tables: Store) -> _Extent:
    start, stop, ranks = sys.maxsize, 0, 0
    for test, rank in tensor_batches(tables, TOP_K.name, ["test_index", "rank"]):
        start, stop = min(start, int(test.min())), max(stop, int(test.max()) + 1)
        ranks = max(ranks, int(rank.max()))
    if not ranks:
        raise DataError(
            f"expected explanations in {tables.describe(TOP_K.name)}, found no row; "
            f"run the score stage with at least one test input"
        )
    return _Extent(start, stop, ranks)


def _read_block(tables: Store, known: Tensor, methods: Sequence[str], extent: _Extent) -> Tensor:
    tests = extent.stop - extent.start
    cells = torch.full((len(methods) * tests * extent.ranks,), _EMPTY)
    rows = 0
    columns = ["method", "test_index", "rank", "train_index"]
    for method, test, rank, train in tensor_batches(tables, TOP_K.name, columns, methods=methods):
        # Rows may lie in any order, so every block looks at the whole table.
        _require_known(tables, known, test, train)
        inside = (test >= extent.start) & (test < extent.stop)
        # Place of (method, test input, rank) in the flat block.
        place = (method * tests + test - extent.start) * extent.ranks + rank - 1
        cells[place[inside]] = train[inside]
        # A row that stands twice fills one cell but counts twice.
        rows += int(inside.sum())
    block = cells.view(len(methods), tests, extent.ranks)
    here = _complete(tables, block, methods, first_test=extent.start)
    if rows != int((block != _EMPTY).sum()):
        raise DataError(
            f"expected one row for each method, test_index and rank in {tables.describe(TOP_K.name)}, found "
            f"{rows - int((block != _EMPTY).sum())} row(s) too many; remove files that are not of this run"
        )
    return block[:, here]


def _complete(tables: Store, block: Tensor, methods: Sequence[str], *, first_test: int) -> Tensor:
    """Return which test inputs are there, [M] bool, after a check that each has every rank of every method."""
    counts = (block != _EMPTY).sum(dim=2)
    # A test input without any row was not scored; one with some rows must have all.
    here = counts.any(dim=0)
    if (counts[:, here] != block.shape[2]).any():
        method, test = ((counts != block.shape[2]) & here).nonzero()[0].tolist()
        raise DataError(
            f"expected {block.shape[2]} ranks for every method and test input in {tables.describe(TOP_K.name)}, found "
            f"{int(counts[method, test])} for {methods[method]} of test_index {first_test + test}; "
            f"run the score stage again"
        )
    return here


def _require_known(tables: Store, known: Tensor, test: Tensor, train: Tensor) -> None:
    # Clamped for the look-up alone: an index beyond the end is missing by the first condition.
    missing = (train >= len(known)) | ~known[train.clamp(max=len(known) - 1)]
    if missing.any():
        row = int(missing.nonzero()[0])
        raise DataError(
            f"expected every train_index of {tables.describe(TOP_K.name)} in {TRAIN_EXAMPLES.name}, found "
            f"{int(train[row])} (test_index {int(test[row])}) in the first alone; take both tables from the same run"
        )


def _moments(tables: Store, sets: Sets) -> Mapping[tuple[str, int], SetMoments]:
    """Return the moments of each set's probabilities; none where the table has no probabilities."""
    totals: dict[tuple[str, int], SetMoments] = {}
    if _has_no_probabilities(tables):
        return totals
    for index, probability in tensor_batches(tables, TRAIN_EXAMPLES.name, ["train_index", "probability"]):
        for key, found in sets.items():
            # This batch's rows of the set, in the order of the batch.
            piece = set_moments(found.members[index], probability)
            totals[key] = totals[key].merge(piece) if key in totals else piece
    return totals


def _has_no_probabilities(tables: Store) -> bool:
    """Return whether the likelihood has none: the column is null in every row."""
    batches = iter_batches(tables, TRAIN_EXAMPLES.name, ["probability"])
    return all(batch.column("probability").null_count == batch.num_rows for batch in batches)


def _sets_table(sets: Sets, moments: Mapping[tuple[str, int], SetMoments]) -> pa.Table:
    rows = []
    for (method, k), found in sets.items():
        summary = moments[method, k].summary() if moments else None
        cardinality = int(found.members.sum())
        rows.append(
            {
                "method": method,
                "k": k,
                "test_count": found.test_count,
                "cardinality": cardinality,
                "cardinality_ratio": cardinality / (k * found.test_count),
                "probability_mean": summary and summary.mean,
                "probability_std": summary and summary.std,
            }
        )
    return pa.Table.from_pylist(rows, schema=INFLUENCE_SETS.schema)


def _overlap_table(common: Common, test_count: int) -> pa.Table:
    rows = [
        {"method_a": a, "method_b": b, "k": k, "overlap": count / (k * test_count)}
        for (a, b, k), count in common.items()
    ]
    return pa.Table.from_pylist(rows, schema=OVERLAP.schema)
