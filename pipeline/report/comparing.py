"""How far the explanations of two runs agree: the examples that they have in common, and the order of these.

Both runs explain inputs of one data set by examples of one data set. Rows are matched by their place in it, or by the
user's own identifiers where the data differ.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import pyarrow as pa
import pyarrow.compute as pc

from relatif.pipeline.report.tables import aligned
from relatif.pipeline.runs.finished_tables import table_methods
from relatif.pipeline.runs.opening import Record, read_record
from relatif.pipeline.runs.run import SCORED
from relatif.pipeline.storage.parquet import read_table
from relatif.pipeline.storage.store import Store, open_store
from relatif.schemas import run_directory
from relatif.schemas.errors import ConfigurationError, DataError, MissingStageError
from relatif.schemas.methods import METHODS, in_order
from relatif.schemas.tables import TEST_EXAMPLES, TOP_K

FARTHEST = 5
"""Inputs that are named for each method: those on which two runs differ most."""

INPUT = ["method", "test"]
PAIR = [*INPUT, "train"]

BY_PLACE = ("test_index", "train_index")
BY_IDENTIFIER = ("test_id", "train_id")


@dataclass(frozen=True)
class Compared:
    """A finished run: its address, its record, and the store of its tables."""

    name: str
    record: Record
    tables: Store


def open_compared(out: str) -> Compared:
    """Return a run that has explanations; MissingStageError where there is no run, or none that was scored."""
    store = open_store(out)
    record, table = read_record(store), run_directory.table(TOP_K.name)
    if record is None or not store.list(table, ".parquet"):
        lacking = run_directory.RUN_JSON if record is None else table
        raise MissingStageError(
            f"expected a run with explanations in {store.describe()}, found no {lacking}; name the --out of a finished "
            f"run"
        )
    return Compared(out, record, store.child(run_directory.TABLES))


def compare(runs: Sequence[Compared], *, top: int | None = None) -> pa.Table:
    """Return a row for each pair of runs, method and input that both explain, from their first ``top`` examples.

    By default these are as many as the shorter of both lists has. ``overlap`` is the share that both have;
    ``rank_correlation`` is Pearson's of the ranks over the examples that either has, one that a list lacks at rank
    top + 1: 1 for the same examples in the same order, below 0 where the lists have little in common, null where all
    ranks of a list are equal. Raises DataError for runs of other data without identifiers, and for runs without a
    method or an input in common; ConfigurationError for fewer than two runs, and where ``top`` exceeds a list.
    """
    if len({run.tables.url for run in runs}) < 2:
        raise ConfigurationError("expected two runs or more to compare, found one; name their --out folders")
    parts = [_agreement(a, b, top) for a, b in combinations(runs, 2)]
    return pa.concat_tables(parts)


def _agreement(a: Compared, b: Compared, top: int | None) -> pa.Table:
    keys = _keys(a, b)
    lists = [_lists(run, keys) for run in (a, b)]
    count = _count([int(pc.max(each["rank"]).as_py()) for each in lists], top)
    first, second = (each.filter(pc.less_equal(each["rank"], count)) for each in lists)
    explained = [each.select(INPUT).group_by(INPUT).aggregate([]) for each in (first, second)]
    shared = explained[0].join(explained[1], INPUT, join_type="inner")
    if not shared.num_rows:
        raise DataError(
            f"expected inputs that {a.name} and {b.name} explain by the same method, found none; score the same "
            f"inputs by the same methods in both"
        )
    both = first.join(second, PAIR, join_type="full outer", right_suffix="_b").join(shared, INPUT, join_type="inner")
    rows = _measured(both, count)
    names = {"run_a": a.name, "run_b": b.name, "by": keys[0]}
    for place, (column, value) in enumerate(names.items()):
        rows = rows.add_column(place, column, pa.array([value] * rows.num_rows, pa.string()))
    return rows.sort_by([("method", "ascending"), ("test", "ascending")])


def _keys(a: Compared, b: Compared) -> tuple[str, str]:
    """Return the columns by which rows of two runs are matched: places in the same data, else identifiers."""
    if is_same_data(a, b):
        return BY_PLACE
    for run in (a, b):
        table = read_table(run.tables, TOP_K.name, ["train_id"]) if _has_identifiers(run) else None
        if table is None or table["train_id"].null_count:
            raise DataError(
                f"expected {a.name} and {b.name} to explain the same inputs by the same examples, or identifiers to "
                f"match them by, found other data and no identifiers in {run.name}; compare runs on the same data, or "
                f"set data.id_column in both"
            )
    return BY_IDENTIFIER


def is_same_data(a: Compared, b: Compared) -> bool:
    """Return whether two runs explain the same rows by the same rows, so that places name examples in both."""
    return _data(a.record) == _data(b.record)


def _data(record: Record) -> tuple[str | None, ...]:
    """Return the fingerprints of what is explained and by what: of the whole data in records without parts."""
    if not record.parts:
        return (record.fingerprint,)
    scored = record.parts.get(SCORED) if record.config.data.scored else record.parts.get("train")
    return scored, record.parts.get("test")


def _has_identifiers(run: Compared) -> bool:
    return run.record.config.data.id_column is not None


def _lists(run: Compared, keys: tuple[str, str]) -> pa.Table:
    """Return a run's explanations: method, test, train (as strings) and rank."""
    table_methods(run.tables)
    table = read_table(run.tables, TOP_K.name, ["method", "test_index", "train_index", "rank"])
    test, train = (table[name] for name in BY_PLACE)
    if keys == BY_IDENTIFIER:
        train = read_table(run.tables, TOP_K.name, ["train_id"])["train_id"]
        inputs = read_table(run.tables, TEST_EXAMPLES.name, ["test_index", "test_id"]).combine_chunks()
        test = pc.take(inputs["test_id"], pc.index_in(test, value_set=inputs["test_index"]))
    columns = {"method": table["method"], "test": pc.cast(test, pa.string()), "train": pc.cast(train, pa.string())}
    lists = pa.table(columns | {"rank": table["rank"]}).combine_chunks()
    distinct = lists.select(PAIR).group_by(PAIR).aggregate([]).num_rows
    if distinct != lists.num_rows:
        raise DataError(
            f"expected each {keys[1]} once in an explanation of {run.name}, found {lists.num_rows - distinct} row(s) "
            f"too many; let identifiers tell examples apart"
        )
    return lists


def _count(longest: Sequence[int], top: int | None) -> int:
    shortest = min(longest)
    if top is not None and not 1 <= top <= shortest:
        raise ConfigurationError(
            f"expected --top between 1 and {shortest}, the examples that both runs list, found {top}; lower it, or "
            f"score with a larger score.top_k"
        )
    return shortest if top is None else top


def _measured(both: pa.Table, count: int) -> pa.Table:
    """Return overlap and rank correlation by method and input, from the ranks of either list."""
    x, y = (pc.cast(pc.fill_null(both[name], count + 1), pa.float64()) for name in ("rank", "rank_b"))
    common = pc.cast(pc.and_(pc.is_valid(both["rank"]), pc.is_valid(both["rank_b"])), pa.float64())
    same = pc.cast(pc.and_(pc.equal(x, 1.0), pc.equal(y, 1.0)), pa.float64())
    terms = {"n": pc.fill_null(pc.cast(pc.is_valid(x), pa.float64()), 0.0), "x": x, "y": y, "common": common}
    terms |= {"same": same, "xx": pc.multiply(x, x), "yy": pc.multiply(y, y), "xy": pc.multiply(x, y)}
    sums = pa.table({name: both[name] for name in INPUT} | terms).group_by(INPUT)
    added = sums.aggregate([(name, "sum") for name in terms])
    total = {name: added[f"{name}_sum"] for name in terms}
    # Ranks are whole numbers, so these sums are exact.
    spread = [_centred(total, *names) for names in (("x", "x"), ("y", "y"), ("x", "y"))]
    scale = pc.sqrt(pc.multiply(spread[0], spread[1]))
    correlation = pc.if_else(pc.greater(scale, 0.0), pc.divide(spread[2], scale), pa.scalar(None, pa.float64()))
    return pa.table(
        {
            "method": added["method"],
            "test": added["test"],
            "top": pa.array([count] * added.num_rows, pa.int32()),
            "overlap": pc.divide(total["common"], float(count)),
            "rank_correlation": correlation,
            "same_first": pc.greater(total["same"], 0.0),
        }
    )


def _centred(total: Mapping[str, pa.ChunkedArray], first: str, second: str) -> pa.ChunkedArray:
    """Return n times the centred sum of products: n sum(xy) - sum(x) sum(y)."""
    return pc.subtract(pc.multiply(total["n"], total[f"{first}{second}"]), pc.multiply(total[first], total[second]))


def comparison_text(table: pa.Table) -> str:
    """Return the means over inputs for each pair of runs and method, and the inputs on which they differ most."""
    pairs = table.select(["run_a", "run_b"]).group_by(["run_a", "run_b"]).aggregate([]).to_pylist()
    return "\n\n".join(
        _pair_text(table.filter(pc.and_(pc.equal(table["run_a"], a), pc.equal(table["run_b"], b))), a, b)
        for a, b in ((pair["run_a"], pair["run_b"]) for pair in pairs)
    )


def _pair_text(table: pa.Table, a: str, b: str) -> str:
    top, by = table["top"][0].as_py(), table["by"][0].as_py()
    rows = [["method", "inputs", "overlap", "rank correlation", "same first", "differ most"]]
    for method in in_order(pc.unique(table["method"]).to_pylist()):
        mine = table.filter(pc.equal(table["method"], method))
        other = mine.filter(
            pc.or_(pc.less(mine["overlap"], 1.0), pc.less(pc.fill_null(mine["rank_correlation"], 1.0), 1.0))
        )
        farthest = other.sort_by([("overlap", "ascending"), ("rank_correlation", "ascending")])["test"][:FARTHEST]
        means = [pc.mean(pc.cast(mine[name], pa.float64())).as_py() for name in ("overlap", "rank_correlation")]
        same = pc.mean(pc.cast(mine["same_first"], pa.float64())).as_py()
        shown = ["-" if value is None else f"{value:z.4f}" for value in means]
        rows.append([METHODS[method].title, f"{len(mine):,}", *shown, f"{same:.2%}", ", ".join(farthest.to_pylist())])
    head = f"{a} beside {b}: the first {top} examples of each input, matched by {by.replace('test_', '')}"
    foot = f"rank correlation: of all examples that either list has; one that a list lacks counts as rank {top + 1}"
    return f"{head}\n\n{aligned(rows, '<>>>><')}\n\n{foot}"
