"""Stage statistics: the paper's statistics, aggregated on a worker from the finished tables alone."""

from collections.abc import Sequence
from functools import partial

from relatif.pipeline.cluster.session import Cluster, session
from relatif.pipeline.cluster.tasks import gather, submit
from relatif.pipeline.console import progress
from relatif.pipeline.runs.durable import Made
from relatif.pipeline.runs.stage import Stage, StageRun
from relatif.pipeline.stages.score import SCORE
from relatif.pipeline.stages.table_statistics import statistics_from_tables
from relatif.pipeline.storage.parquet import table_metadata, write_table
from relatif.pipeline.storage.store import Store, open_store
from relatif.schemas import run_directory
from relatif.schemas.config import RunConfig
from relatif.schemas.manifest import FileReceipt
from relatif.schemas.tables import INFLUENCE_SETS, OVERLAP, TOP_K


def statistics(stage: StageRun) -> Made:
    """Aggregate influence sets and overlaps of the score stage's tables."""
    return Made(tuple(_aggregate(stage.run.store, stage.run.config, stage.cluster)))


def holds_only_tables(out: str) -> bool:
    """Return whether a directory has score tables but no model: tables that were copied from a run."""
    store = open_store(out)
    has_tables = bool(store.list(run_directory.table(TOP_K.name), ".parquet"))
    return has_tables and not store.exists(run_directory.CHECKPOINT_MANIFEST)


def statistics_of_tables(config: RunConfig, out: str) -> Store:
    """Aggregate the statistics of a directory that holds nothing but tables, and return its store."""
    store = open_store(out)
    with session(config.cluster) as cluster:
        _aggregate(store, config, cluster)
    return store


def _aggregate(store: Store, config: RunConfig, cluster: Cluster) -> list[FileReceipt]:
    with progress("statistics", 1, unit="passes") as shown:
        asked = partial(submit, name="statistics", retries=cluster.limits.retries)
        unit = asked(_write_statistics, store, config.influence_set_k, config.overlap_k)
        (outputs,) = gather([unit], limits=cluster.limits, shown=shown)
        shown.advance()
    return list(outputs)


def _write_statistics(store: Store, influence_set_k: Sequence[int], overlap_k: Sequence[int]) -> list[FileReceipt]:
    """Aggregate and publish; the statistics carry the metadata of the explanations."""
    found = table_metadata(store, run_directory.table(TOP_K.name))
    metadata = {key: value for key, value in found.items() if key not in ("table", "meaning", "schema_version")}
    tables = statistics_from_tables(
        store.child(run_directory.TABLES), influence_set_k=influence_set_k, overlap_k=overlap_k
    )
    return [
        write_table(store, run_directory.table_part(spec.name, 0), table, spec, metadata)
        for spec, table in zip((INFLUENCE_SETS, OVERLAP), tables, strict=True)
    ]


STATISTICS = Stage(
    "statistics",
    statistics,
    run_directory.stage_manifest("statistics"),
    settings=("statistics.",),
    after=(SCORE,),
)
