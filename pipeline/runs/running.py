"""The stages in their order: what is finished is not done again."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from relatif.pipeline.cluster.session import Resources, session
from relatif.pipeline.cluster.tasks import gather, submit
from relatif.pipeline.console import progress, say
from relatif.pipeline.evaluations.evaluate import evaluate, evaluations_proof
from relatif.pipeline.stages.factors import factors
from relatif.pipeline.evaluations.leave_one_out import leave_one_out, leave_one_out_proof
from relatif.pipeline.runs.run import STAGES, Run, open_run
from relatif.pipeline.stages.score import check_settings, score, table_metadata
from relatif.pipeline.stages.statistics import statistics_from_tables
from relatif.pipeline.stages.train import train
from relatif.pipeline.storage.manifests import publish_manifest
from relatif.pipeline.storage.parquet import table_metadata as table_metadata_of
from relatif.pipeline.storage.parquet import write_table
from relatif.pipeline.storage.store import Store, open_store
from relatif.schemas import run_directory
from relatif.schemas.config import RunConfig
from relatif.schemas.errors import MissingStageError
from relatif.schemas.manifest import FileReceipt, Manifest
from relatif.schemas.tables import INFLUENCE_SETS, OVERLAP, TOP_K


@dataclass(frozen=True)
class Stage:
    """How a stage is run, and how its finished result is found (raising MissingStageError where there is none)."""

    run: Callable[[Run, Resources], None]
    proof: Callable[[Run], Manifest]


def run_stages(config: RunConfig, out: str, names: Sequence[str] = STAGES) -> Run:
    """Run the named stages in order on the cluster that is there, or on one started here.

    Raises a RelatifError that says what to do; what is finished by then stays and is not computed again.
    """
    with session(config.cluster) as resources:
        run = open_run(config, out)
        check_settings(run)
        for name in names:
            _run_stage(run, resources, name)
    return run


def holds_only_tables(out: str) -> bool:
    """Return whether a directory has score tables but no model: tables that were taken elsewhere."""
    store = open_store(out)
    has_tables = bool(store.list(run_directory.table(TOP_K.name), ".parquet"))
    return has_tables and not store.exists(run_directory.CHECKPOINT_MANIFEST)


def statistics_of_tables(config: RunConfig, out: str) -> Store:
    """Aggregate the statistics of a directory that holds nothing but tables, and return its store."""
    store = open_store(out)
    metadata = table_metadata_of(store, run_directory.table(TOP_K.name))
    own = {key: value for key, value in metadata.items() if key not in ("table", "meaning", "schema_version")}
    with session(config.cluster):
        _aggregate(store, config, own)
    return store


def statistics(run: Run, _: Resources) -> None:
    """Aggregate the paper's statistics from the finished tables, on a worker."""
    started = time.monotonic()
    run.scores()
    outputs = _aggregate(run.store, run.config, table_metadata(run))
    proof = Manifest(
        work="statistics",
        digest=_statistics_digest(run),
        outputs=tuple(outputs),
        seconds=round(time.monotonic() - started, 3),
    )
    publish_manifest(run.store, run_directory.stage_manifest("statistics"), proof)


def _aggregate(store: Store, config: RunConfig, metadata: dict[str, str]) -> list[FileReceipt]:
    with progress("statistics", 1, unit="passes") as shown:
        unit = submit(_write_statistics, store, config.influence_set_k, config.overlap_k, metadata)
        (outputs,) = gather([unit], tick=shown.tick)
        shown.advance()
    return list(outputs)


def _write_statistics(
    store: Store, influence_set_k: Sequence[int], overlap_k: Sequence[int], metadata: dict[str, str]
) -> list[FileReceipt]:
    tables = statistics_from_tables(
        store.child(run_directory.TABLES), influence_set_k=influence_set_k, overlap_k=overlap_k
    )
    return [
        write_table(store, run_directory.table_part(spec.name, 0), table, spec, metadata)
        for spec, table in zip((INFLUENCE_SETS, OVERLAP), tables, strict=True)
    ]


def _statistics_digest(run: Run) -> str:
    return run.digest("statistics", score=run.score_digest())


def _statistics_proof(run: Run) -> Manifest:
    return run.proof(run_directory.stage_manifest("statistics"), _statistics_digest(run), stage="statistics")


_STAGES = {
    "train": Stage(train, Run.checkpoint),
    "factors": Stage(factors, Run.factors),
    "score": Stage(score, Run.scores),
    "statistics": Stage(statistics, _statistics_proof),
    "evaluate": Stage(evaluate, evaluations_proof),
    "leave_one_out": Stage(leave_one_out, leave_one_out_proof),
}


def _run_stage(run: Run, resources: Resources, name: str) -> None:
    try:
        proof = _STAGES[name].proof(run)
    except MissingStageError:
        _STAGES[name].run(run, resources)
    else:
        say(f"{name}: was finished earlier in {proof.seconds:.1f} s, as its manifest proves: not computed again")
