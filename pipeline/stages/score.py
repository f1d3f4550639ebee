"""Stage score: query blocks x training shards -> train_examples, test_examples, top_k, (scores)."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

from relatif.pipeline.cluster.session import WorkerShape
from relatif.pipeline.cluster.tasks import gather, submit
from relatif.pipeline.console import format_bytes, print_plan, progress, say
from relatif.pipeline.curvature.coverage import coverage_text
from relatif.pipeline.datasets.ids import RowIds
from relatif.pipeline.datasets.shards import Shard
from relatif.pipeline.explaining.covered import coverage_of
from relatif.pipeline.explaining.measured import measured_text, measurement_code, measurement_name
from relatif.pipeline.explaining.metadata import metadata_of
from relatif.pipeline.explaining.stored_size import stored_bytes, stored_lines
from relatif.pipeline.runs.chosen_tests import misclassified_rows, named_rows, selected
from relatif.pipeline.runs.durable import Made, Units, complete, look_up
from relatif.pipeline.runs.run import Run
from relatif.pipeline.runs.stage import Stage, StageRun
from relatif.pipeline.stages.factors import FACTORS
from relatif.pipeline.stages.score_join import BlockExtent, join_examples, join_top_k
from relatif.pipeline.stages.score_memory import actor_text
from relatif.pipeline.stages.score_unit import ScorePlan, ScoreUnit
from relatif.pipeline.stages.solve import SolvePlan, SolveUnit, solutions_table, solve_units
from relatif.pipeline.storage.parquet import write_table
from relatif.pipeline.storage.store import Store
from relatif.schemas import run_directory
from relatif.schemas.columns import TableSpec
from relatif.schemas.digests import digest
from relatif.schemas.errors import ConfigurationError
from relatif.schemas.manifest import FileReceipt, Manifest
from relatif.schemas.methods import methods_of
from relatif.schemas.score_config import MISCLASSIFIED
from relatif.schemas.tables import SCORES, SOLUTIONS, TEST_EXAMPLES, TOP_K, TRAIN_EXAMPLES

EVERY_TABLE = (TRAIN_EXAMPLES, TEST_EXAMPLES, TOP_K, SCORES, SOLUTIONS)
"""The tables that the stage writes."""

TOP_K_ROW_BYTES = 14
"""A row of top_k on disk: scores and indices hardly compress, the rest vanishes."""


@dataclass(frozen=True)
class Plan:
    """The planned stage: what every unit shares, the units, and the blocks that they belong to."""

    scoring: ScorePlan
    units: tuple[ScoreUnit, ...]
    blocks: tuple[BlockExtent, ...]

    @property
    def solutions(self) -> tuple[SolveUnit, ...]:
        """The pieces in which numerators are solved for, of all blocks; none where an eigen form makes them."""
        return tuple(unit for units in self.scoring.solutions for unit in units)


def score(stage: StageRun) -> Made:
    """Score every test input against every training example and leave the tables."""
    run, plan = stage.run, plan_score(stage)
    units = look_up(run.store, plan.units, tell="score")
    shape = stage.cluster.workers(len(units.pending))
    print_plan(_plan_rows(run, units, shape))
    _begin_anew(run, units)
    if units.pending and plan.solutions:
        _solve(stage, plan)
    proofs = complete(units, plan.scoring, stage.cluster, title="score")
    # What an attempt with other settings left goes before the first new part comes: readers take every part.
    written = _written_by_units(proofs)
    _remove_other_parts(run, written)
    outputs = [*_join(stage, plan, proofs), *written]
    return Made(tuple(outputs))


def plan_score(stage: StageRun) -> Plan:
    """Cut the stage into units, each of whole shards."""
    run, config = stage.run, stage.run.config.score
    rows = _explained_rows(stage)
    blocks = _test_blocks(run, rows)
    groups = group_shards(run.scored_shards, config.unit_rows)
    parameters = coverage_of(run.task, *run.config.curvature.chosen).covered_count
    iterative = run.config.curvature.is_iterative
    solutions = tuple(tuple(solve_units(stage, block, parameters)) for block in blocks) if iterative else ()
    # What was chosen by the model's predictions decides the units as what the settings name does.
    chosen = {} if rows is None else {"rows": digest(list(rows))}
    metadata = metadata_of(stage) | ({} if rows is None else {"test_count": str(len(rows))})
    scoring = ScorePlan(run.source, config, run.config.curvature, blocks, metadata, solutions, rows, stage.digest)
    units = tuple(
        ScoreUnit(block, index, group, stage.unit_digest(block=block, unit=index, **chosen))
        for block in range(len(blocks))
        for index, group in enumerate(groups)
    )
    extents = tuple(
        BlockExtent(number, block[0].start, block[-1].stop, rows=rows) for number, block in enumerate(blocks)
    )
    return Plan(scoring, units, extents)


def group_shards(shards: Sequence[Shard], rows: int) -> tuple[tuple[Shard, ...], ...]:
    """Group consecutive shards into runs of at most ``rows`` rows, and at least one shard."""
    groups: list[list[Shard]] = []
    for shard in shards:
        if groups and shard.stop - groups[-1][0].start <= rows:
            groups[-1].append(shard)
        else:
            groups.append([shard])
    return tuple(tuple(group) for group in groups)


def check_settings(run: Run) -> None:
    """Raise ConfigurationError for settings that the data or the task can't meet."""
    config = run.config.score
    named_rows(run)
    run.task.likelihood.check_choice(config.explained_label, len(run.dataset.class_names))
    measurement_name(config, run.task.likelihood)
    unlabelled = run.dataset.description.provenance.unlabelled
    if config.explained_label == "true" and unlabelled is not None:
        raise ConfigurationError(
            f"expected score.explained_label 'predicted' or a class where test inputs have no label, found 'true' and "
            f"{unlabelled} test input(s) without one; change the setting, or leave those inputs out"
        )
    if config.top_k > run.scored_rows:
        raise ConfigurationError(
            f"expected score.top_k of at most the {run.scored_rows} {scored_text(run)}, found {config.top_k}; lower it"
        )
    if config.gradient_store:
        stored_bytes(run)
    smallest = max(shard.rows for shard in run.dataset.shards("test", rows=1, limit=config.test_limit))
    if config.test_block_rows < smallest:
        raise ConfigurationError(
            f"expected score.test_block_rows of at least the {smallest} rows of a row group of the test data, found "
            f"{config.test_block_rows}; raise it, or prepare the data with smaller row groups"
        )


def _solve(stage: StageRun, plan: Plan) -> None:
    """Solve for the numerators of every test input that has none yet."""
    run = stage.run
    config = run.config.score
    measured = measurement_name(config, run.task.likelihood)
    solving = SolvePlan(run.source, run.train_shards, config.explained_label, run.config.curvature, measured)
    units = look_up(run.store, plan.solutions)
    complete(units, solving, stage.cluster, title="solve", counted="pieces")


def _plan_rows(run: Run, units: Units[ScoreUnit], shape: WorkerShape) -> list[tuple[str, str]]:
    config, written = run.config.score, written_bytes(run)
    device = f"{shape.gpus:g} GPU(s)" if shape.gpus else "no GPU"
    covered, pending = coverage_of(run.task, *run.config.curvature.chosen), len(units.pending)
    return [
        ("task", run.config.task),
        ("curvature", curvature_line(run)),
        ("methods", ", ".join(config.methods)),
        ("explained", measured_text(measurement_name(config, run.task.likelihood), config)),
        ("parameters", coverage_text(covered)),
        ("pairs", f"{run.test_rows:,} test inputs x {run.scored_rows:,} {scored_text(run)}"),
        ("units", f"{pending:,} to compute, {len(units.all) - pending:,} finished earlier"),
        ("actors", f"{shape.count} with {shape.threads} core(s) and {device} each"),
        ("memory per actor", actor_text(run, covered, block_rows(run), shape.threads)),
        ("bytes to write", f"about {format_bytes(written)}"),
        *stored_lines(run),
    ]


def scored_text(run: Run) -> str:
    """Return what the scored examples are called."""
    return "training examples" if run.config.data.scored is None else f"examples of {run.config.data.scored}"


def written_bytes(run: Run) -> int:
    """Return about how many bytes the stage's tables take, but for what is as long as a data set."""
    config = run.config.score
    written = run.test_rows * config.top_k * len(config.methods) * TOP_K_ROW_BYTES
    return written + (4 * run.test_rows * run.scored_rows if config.write_scores else 0)


def curvature_line(run: Run) -> str:
    """Return the curvature, its damping and its denominators in one line."""
    curvature = run.config.curvature
    ignored = f", by definition: curvature.damping = {curvature.damping:g} is not used"
    note = ignored if curvature.effective_damping != curvature.damping else ""
    matrix = " (Hessian)" if curvature.exact_matrix == "hessian" else ""
    divided = f", denominators {curvature.denominators}" if curvature.is_iterative else ""
    return f"{curvature.method}{matrix}, damping {curvature.effective_damping:g}{note}{divided}"


def block_rows(run: Run) -> int:
    """Return how many test inputs the largest block has."""
    return max(block[-1].stop - block[0].start for block in _test_blocks(run, named_rows(run)))


def _explained_rows(stage: StageRun) -> tuple[int, ...] | None:
    """Return the rows that are explained, None for all; misclassified ones are looked for on a worker."""
    run = stage.run
    if run.config.score.test_rows != MISCLASSIFIED:
        return named_rows(run)
    found = stage.on_worker(partial(misclassified_rows, run.source, run.test_shards))
    say(f"score: {len(found):,} of {run.test_rows:,} test inputs are misclassified and explained")
    return found


def _test_blocks(run: Run, chosen: tuple[int, ...] | None) -> tuple[tuple[Shard, ...], ...]:
    config = run.config.score
    rows = min(config.test_block_rows, run.config.data.shard_rows)
    shards = run.dataset.shards("test", rows=rows, limit=config.test_limit)
    return group_shards(shards if chosen is None else selected(shards, chosen), config.test_block_rows)


def _join(stage: StageRun, plan: Plan, proofs: Sequence[Manifest]) -> list[FileReceipt]:
    run, metadata = stage.run, dict(plan.scoring.metadata)
    store, config, limits = run.store, run.config.score, stage.cluster.limits
    asked = partial(submit, retries=limits.retries)
    # Only files that the units' proofs name, in the units' order; whoever reads one hashes it.
    candidates = _left(plan, proofs, TOP_K.name)
    blocks = [
        replace(block, parts=tuple(part for number, part in candidates if number == block.number))
        for block in plan.blocks
    ]
    # The part that was scored, and the one that was explained, as their shards say.
    scored, explained = plan.units[0].shards[0].split, run.test_shards[0].split
    ids = {
        TRAIN_EXAMPLES: RowIds(run.data, run.dataset, scored),
        TEST_EXAMPLES: RowIds(run.data, run.dataset, explained),
    }
    named = (config.top_k, config.methods, metadata, ids[TRAIN_EXAMPLES])
    tops = [asked(join_top_k, store, block, *named, name=f"score top_k {block.number:05d}") for block in blocks]
    examples = [
        asked(
            join_examples,
            store,
            [part for _, part in _left(plan, proofs, spec.name)],
            *(run_directory.table_part(spec.name, 0), spec, metadata, ids[spec]),
            name=f"score {spec.name}",
        )
        for spec in (TRAIN_EXAMPLES, TEST_EXAMPLES)
    ]
    waiting = [*tops, *examples]
    if plan.solutions:
        waiting.append(asked(_write_solutions, store, plan, metadata, name="score solutions"))
    with progress("score tables", len(waiting), unit="parts") as shown:
        receipts = gather(waiting, title="score tables", limits=limits, shown=shown)
        shown.advance(len(waiting))
    return receipts


def _left(plan: Plan, proofs: Sequence[Manifest], table: str) -> list[tuple[int, FileReceipt]]:
    """Return the numbers of blocks, with the receipts of what their units left for a table, in the units' order."""
    return [
        (unit.block, output)
        for unit, proof in zip(plan.units, proofs, strict=True)
        for output in proof.outputs
        if output.path == run_directory.unit_file(unit.block, unit.index, table)
    ]


def _write_solutions(store: Store, plan: Plan, metadata: Mapping[str, str]) -> FileReceipt:
    path, rows = run_directory.table_part(SOLUTIONS.name, 0), plan.scoring.test_rows
    return write_table(store, path, solutions_table(store, plan.solutions, rows), SOLUTIONS, metadata)


def _written_by_units(proofs: Sequence[Manifest]) -> list[FileReceipt]:
    """Return the receipts of what units write in place, dense scores and gradients: the stage's proof covers them."""
    places = (f"{run_directory.table(SCORES.name)}/", f"{run_directory.GRADIENTS}/")
    return [output for proof in proofs for output in proof.outputs if output.path.startswith(places)]


def _begin_anew(run: Run, units: Units[ScoreUnit]) -> None:
    """Remove the proof of other results, and what units write in place, dense scores and gradients, of other work.

    The other tables stay, whole as they are, until all units are finished.
    """
    run.store.delete(SCORE.manifest)
    _remove_other_parts(run, [output for proof in units.proofs.values() for output in proof.outputs], (SCORES,))


def _remove_other_parts(run: Run, outputs: Sequence[FileReceipt], tables: Sequence[TableSpec] = EVERY_TABLE) -> None:
    """Remove the parts of tables, and kept gradients, that are not among these files."""
    kept = {output.path for output in outputs}
    parts = [path for spec in tables for path in run.store.list(run_directory.table(spec.name), ".parquet")]
    for path in (*parts, *run.store.list(run_directory.GRADIENTS)):
        if path not in kept:
            run.store.delete(path)


SCORE = Stage(
    "score",
    score,
    run_directory.stage_manifest("score"),
    settings=("curvature.damping", "curvature.cg_", "curvature.lissa_", "score.", "data.scored"),
    after=(FACTORS,),
    lasting=True,
    work_folder=run_directory.SCORE_WORK,
    renewed_by=("score.", "data.scored"),
    definitions=lambda run: [
        *(asdict(method) for method in methods_of(run.config.score.methods)),
        *measurement_code(run.config.score),
    ],
    check=check_settings,
)
