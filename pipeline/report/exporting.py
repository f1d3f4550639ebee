"""Tables of a finished run with identifiers, names of classes and texts beside their indices, batch by batch.

Axes: R rows of a batch.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from relatif.pipeline.datasets.shards import PreparedDataset, read_shard_texts
from relatif.pipeline.report.example_rows import ExampleRows, rows_of_examples
from relatif.pipeline.runs.finished_tables import table_methods
from relatif.pipeline.runs.run import Run
from relatif.pipeline.storage.parquet import COPY_AGAIN, iter_batches, whole_parquet
from relatif.pipeline.storage.store import Store
from relatif.schemas import run_directory
from relatif.schemas.errors import ConfigurationError, MissingStageError
from relatif.schemas.exports import DENOMINATORS, EXPLANATIONS, JOINED, Side, class_names, text
from relatif.schemas.methods import INFLUENCE, METHODS
from relatif.schemas.tables import TABLES, TOP_K

BATCH_ROWS = 65_536
TEXT_BATCH_ROWS = 8_192
"""Rows that are held at once, and with two texts each."""

TEXT_SHARD_ROWS = 10_000
SIDES: tuple[Side, ...] = ("test", "train")
CLASSES = ("label", "predicted_label", "explained_label")


@dataclass(frozen=True)
class Chosen:
    """Which rows of a table are exported: all methods and ranks by default."""

    methods: tuple[str, ...] = ()
    ranks: int | None = None


@dataclass(frozen=True)
class Exported:
    """A table's schema, and its rows in batches, which can be gone through once."""

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]


Change = Callable[[pa.Table], pa.Table]


def plain(store: Store, table: str, chosen: Chosen) -> Exported:
    """Return rows of a table as they lie in a run's folder, which alone is read.

    Raises ConfigurationError for a name of no table and for a choice that it can't be asked for, MissingStageError
    where it is not written.
    """
    return _changed(store, table, chosen, [])


def exported(run: Run, table: str, chosen: Chosen, *, with_text: bool = False) -> Exported:
    """Return rows of a table, or of ``explanations``, with identifiers, names of classes and, if asked for, texts.

    Raises as ``plain``, and DataError where texts are asked for and the data has none.
    """
    name = TOP_K.name if table == EXPLANATIONS.name else table
    known = plain(run.store, name, chosen)
    changes: list[Change] = []
    if table == EXPLANATIONS.name:
        sides = {side: _rows(run, name, chosen, side) for side in SIDES}
        changes.append(partial(_explained, sides=sides, dataset=run.dataset, training=run.train_rows))
    else:
        lacking = [s for s in SIDES if f"{s}_index" in known.schema.names and f"{s}_id" not in known.schema.names]
        changes += [partial(_with_ids, side=side, found=_rows(run, name, chosen, side)) for side in lacking]
        changes.append(partial(_with_class_names, dataset=run.dataset))
    if with_text:
        _require_texts(run, table, known.schema)
        changes.append(partial(_with_texts, run=run))
    return _changed(run.store, name, chosen, changes, TEXT_BATCH_ROWS if with_text else BATCH_ROWS)


def _changed(
    store: Store, table: str, chosen: Chosen, changes: Sequence[Change], batch_rows: int = BATCH_ROWS
) -> Exported:
    """Return the chosen rows of a table, each batch changed by each change in turn."""
    schema = _schema(store, table)
    _require_choice(store, table, schema, chosen)

    def change(rows: pa.Table) -> pa.Table:
        for each in changes:
            rows = each(rows)
        return rows

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in _chosen_batches(store, table, chosen, batch_rows):
            yield from change(pa.Table.from_batches([batch])).combine_chunks().to_batches()

    return Exported(change(schema.empty_table()).schema, batches())


def _schema(store: Store, table: str) -> pa.Schema:
    if table not in TABLES:
        raise ConfigurationError(
            f"expected the name of a table, {', '.join([*TABLES, EXPLANATIONS.name])}, found {table!r}; correct it"
        )
    paths = store.list(run_directory.table(table), ".parquet")
    if not paths:
        raise MissingStageError(
            f"expected Parquet files in {store.describe(run_directory.table(table))}, found none; run the stage that "
            f"writes them first"
        )
    with whole_parquet(store, paths[0], COPY_AGAIN) as parquet:
        return parquet.schema_arrow


def _require_choice(store: Store, table: str, schema: pa.Schema, chosen: Chosen) -> None:
    for option, column, asked in (("--method", "method", chosen.methods), ("--rank", "rank", chosen.ranks)):
        if asked and column not in schema.names:
            raise ConfigurationError(
                f"expected {option} for a table with a column {column}, found {table}; leave the option out"
            )
    if chosen.methods:
        held = table_methods(store.child(run_directory.TABLES), table)
        lacking = [method for method in chosen.methods if method not in held]
        if lacking:
            raise ConfigurationError(
                f"expected --method among {', '.join(held)}, the methods of table {table}, found "
                f"{', '.join(lacking)}; use one of these, or score with it (score.methods)"
            )
    if chosen.ranks is not None:
        ranks = [pc.max(batch["rank"]).as_py() for batch in iter_batches(store, run_directory.table(table), ["rank"])]
        most = max((rank for rank in ranks if rank is not None), default=0)
        if not 1 <= chosen.ranks <= most:
            raise ConfigurationError(
                f"expected --rank between 1 and {most}, the ranks that table {table} lists, found {chosen.ranks}; "
                f"change it, or score with a larger score.top_k"
            )


def _chosen_batches(
    store: Store, table: str, chosen: Chosen, batch_rows: int = BATCH_ROWS, columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    for batch in iter_batches(store, run_directory.table(table), columns, batch_rows):
        kept = batch
        if chosen.methods:
            kept = kept.filter(pc.is_in(kept["method"], value_set=pa.array(chosen.methods)))
        if chosen.ranks is not None:
            kept = kept.filter(pc.less_equal(kept["rank"], chosen.ranks))
        if kept.num_rows:
            yield kept


def _rows(run: Run, table: str, chosen: Chosen, side: Side) -> ExampleRows:
    """Return what the examples' own table says of those that the chosen rows of a table name."""
    index = f"{side}_index"
    needed = [index, *(["method"] if chosen.methods else []), *(["rank"] if chosen.ranks is not None else [])]
    found = np.empty(0, np.int64)
    for batch in _chosen_batches(run.store, table, chosen, columns=needed):
        found = np.union1d(found, batch[index].to_numpy())
    wanted = {each.source for each in JOINED if each.side == side} | (set(DENOMINATORS) if side == "train" else set())
    tables = run.store.child(run_directory.TABLES)
    return rows_of_examples(tables, side, found, [f"{side}_id", *sorted(wanted)])


def _explained(rows: pa.Table, *, sides: dict[Side, ExampleRows], dataset: PreparedDataset, training: int) -> pa.Table:
    """Return rows of ``top_k`` [R] as rows of ``explanations``."""
    beside = {side: found.of(rows[f"{side}_index"].to_numpy()) for side, found in sides.items()}
    columns = {name: rows[name] for name in ("method", "rank", "score", "test_index", "train_index")}
    columns |= {f"{side}_id": found[f"{side}_id"] for side, found in beside.items()}
    columns |= {each.name: beside[each.side][each.source] for each in JOINED}
    columns |= {
        class_names(each.field).name: _names(dataset, columns[each.name]) for each in JOINED if each.source in CLASSES
    }
    columns["effect"] = _effect(rows, beside["train"], training)
    made = [columns[name] for name in EXPLANATIONS.schema.names]
    return pa.table(made, schema=EXPLANATIONS.schema)


def _effect(rows: pa.Table, train: pa.Table, training: int) -> pa.Array:
    """Return influence / n of rows of ``top_k`` [R], null for methods that are not made from influence."""
    effect = np.full(rows.num_rows, np.nan)
    named, scores = rows["method"].to_numpy(), rows["score"].to_numpy().astype(np.float64)
    for name in np.unique(named):
        method, here = METHODS[name], named == name
        if method.numerator != INFLUENCE:
            continue
        divided = np.ones(here.sum())
        if method.denominator is not None:
            divided = train[method.denominator].to_numpy()[here].astype(np.float64)
        effect[here] = method.sign * scores[here] * (np.sqrt(divided) if method.root else divided) / training
    return pa.array(effect, mask=np.isnan(effect))


def _with_ids(rows: pa.Table, *, side: Side, found: ExampleRows) -> pa.Table:
    named = found.of(rows[f"{side}_index"].to_numpy())
    return rows.append_column(named.schema.field(f"{side}_id"), named[f"{side}_id"])


def _with_class_names(rows: pa.Table, *, dataset: PreparedDataset) -> pa.Table:
    for name in (name for name in CLASSES if name in rows.schema.names):
        field = class_names(rows.schema.field(name))
        rows = rows.add_column(rows.schema.get_field_index(name) + 1, field, _names(dataset, rows[name]))
    return rows


def _names(dataset: PreparedDataset, labels: pa.ChunkedArray) -> pa.Array:
    """Return the names of classes [R], null where there is no class."""
    known = pc.unique(labels).drop_null()
    names = pa.array([dataset.class_name(label) for label in known.to_pylist()], pa.string())
    return names.take(pc.index_in(labels, value_set=known, skip_nulls=True))


def _require_texts(run: Run, table: str, schema: pa.Schema) -> None:
    if not any(f"{side}_index" in schema.names for side in SIDES):
        raise ConfigurationError(f"expected --with-text for a table that names examples, found {table}; leave it out")
    (first, *_) = run.test_shards
    read_shard_texts(run.data, run.dataset, first)


def _with_texts(rows: pa.Table, *, run: Run) -> pa.Table:
    for side in (side for side in SIDES if f"{side}_index" in rows.schema.names):
        rows = rows.append_column(text(side), _texts(run, side, rows[f"{side}_index"].to_numpy()))
    return rows


def _texts(run: Run, side: Side, rows: NDArray[np.int64]) -> pa.Array:
    """Return the texts of rows [R] of the test set, or of what is scored; each shard that holds one is read once."""
    part = "test" if side == "test" else run.config.data.scored or "train"
    wanted, places = np.unique(rows, return_inverse=True)
    found: list[str] = []
    for shard in run.dataset.shards(part, rows=TEXT_SHARD_ROWS):
        here = wanted[slice(*np.searchsorted(wanted, [shard.start, shard.stop]))]
        if len(here):
            texts = read_shard_texts(run.data, run.dataset, shard)
            found += [texts[row - shard.start] for row in here]
    return pa.array(found, pa.string()).take(pa.array(places, pa.int64()))
