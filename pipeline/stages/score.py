"""Stage score: test blocks x training shards -> train_examples, test_examples, top_k, (scores)."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from relatif.pipeline.cluster.pool import run_units
from relatif.pipeline.cluster.session import Resources, WorkerShape, worker_shape
from relatif.pipeline.cluster.tasks import gather, submit
from relatif.pipeline.console import Progress, format_bytes, print_plan, progress, say
from relatif.pipeline.curvature.coverage import Coverage, coverage_text
from relatif.pipeline.datasets.shards import Shard
from relatif.pipeline.explaining.solver import SolvePlan, SolveUnit, is_solved, solutions_table, solve_units
from relatif.pipeline.runs.run import Run
from relatif.pipeline.runs.source import curvature_text, source_of
from relatif.pipeline.stages.score_join import BlockExtent, join_examples, join_top_k
from relatif.pipeline.stages.score_unit import ScorePlan, ScoreUnit
from relatif.pipeline.storage.manifests import finished, publish_manifest, read_manifest
from relatif.pipeline.storage.parquet import write_table
from relatif.pipeline.storage.store import Store
from relatif.pipeline.tasks.task import load_task
from relatif.schemas import run_directory
from relatif.schemas.errors import ConfigurationError
from relatif.schemas.manifest import FileReceipt, Manifest
from relatif.schemas.tables import METHODS, SCORES, SOLUTIONS, TEST_EXAMPLES, TOP_K, TRAIN_EXAMPLES

PROCESS_BYTES = 500 * 2**20
"""A Python process with torch, Ray and pyarrow, before it holds data."""

TOP_K_ROW_BYTES = 14
"""A row of top_k on disk: scores and indices hardly compress, the rest vanishes."""


@dataclass(frozen=True)
class Score:
    """The stage as it was planned: what every unit shares, the units, and the blocks they are of."""

    plan: ScorePlan
    units: tuple[ScoreUnit, ...]
    blocks: tuple[BlockExtent, ...]

    @property
    def solutions(self) -> tuple[SolveUnit, ...]:
        """The pieces in which numerators are solved for, of all blocks; none where an eigen form makes them."""
        return tuple(unit for units in self.plan.solutions for unit in units)


def score(run: Run, resources: Resources) -> None:
    """Score every test input against every training example and leave the tables with proof."""
    started = time.monotonic()
    stage = plan_score(run)
    pending = [unit for unit in stage.units if not _finished_earlier(run, unit)]
    shape = worker_shape(run.config.cluster, resources, len(pending))
    print_plan(_plan_rows(run, stage, pending, shape))
    if pending and stage.solutions:
        _solve(run, resources, stage)
    with progress("score", len(stage.units), unit="units", done=len(stage.units) - len(pending)) as shown:
        run_units(
            stage.plan,
            pending,
            shape,
            retries=run.config.cluster.max_retries,
            done=lambda proof: shown.advance(note=f"{proof.work} in {proof.seconds:.1f} s"),
            tick=shown.tick,
        )
        outputs = [*_join(run, stage, shown), *_written_by_units(run, stage)]
    _remove_other_parts(run, outputs)
    proof = Manifest(
        work="score", digest=run.score_digest(), outputs=tuple(outputs), seconds=round(time.monotonic() - started, 3)
    )
    publish_manifest(run.store, run_directory.stage_manifest("score"), proof)
    run.store.delete(run_directory.SCORE_WORK)


def plan_score(run: Run) -> Score:
    """Cut the stage into units, each of whole shards."""
    config, source = run.config.score, source_of(run)
    tests = run.dataset.shards(
        "test", rows=min(config.test_block_rows, run.config.data.shard_rows), limit=config.test_limit
    )
    blocks = group_shards(tests, config.test_block_rows)
    groups = group_shards(run.train_shards, config.unit_rows)
    depends = run.score_digest()
    parameters = source.coverage(source.load_task()).covered_count
    iterative = run.config.curvature.is_iterative
    solutions = tuple(tuple(solve_units(run, block, parameters)) for block in blocks) if iterative else ()
    plan = ScorePlan(source, config, run.config.curvature, blocks, table_metadata(run), solutions)
    units = tuple(
        ScoreUnit(block, index, group, run.digest("score", stage_digest=depends, block=block, unit=index))
        for block in range(len(blocks))
        for index, group in enumerate(groups)
    )
    extents = tuple(
        BlockExtent(number, block[0].start, block[-1].stop, len(groups)) for number, block in enumerate(blocks)
    )
    return Score(plan, units, extents)


def group_shards(shards: Sequence[Shard], rows: int) -> tuple[tuple[Shard, ...], ...]:
    """Group consecutive shards into runs of at most ``rows`` rows, and at least one shard."""
    groups: list[list[Shard]] = []
    for shard in shards:
        if groups and shard.stop - groups[-1][0].start <= rows:
            groups[-1].append(shard)
        else:
            groups.append([shard])
    return tuple(tuple(group) for group in groups)


def table_metadata(run: Run) -> dict[str, str]:
    """Return what every score table says of itself."""
    curvature = run.config.curvature
    task = load_task(run.config.task)
    covered = source_of(run).coverage(task)
    return {
        "task": run.config.task,
        "curvature": curvature.method,
        "damping": repr(curvature.effective_damping),
        "denominators": curvature.eigen_method,
        "fisher": curvature_text(task, curvature),
        "covered_parameters": coverage_text(covered),
        "sign": "positive influence is helpful: up-weighting the training example lowers the test input's loss",
        "scaling": "influence is g_t' (H + lambda I)^-1 g_i of per-example losses; leaving example i out of n changes "
        "the test loss by influence / n to first order",
        "explained_label": str(run.config.score.explained_label),
        "train_count": str(run.train_rows),
        "test_count": str(run.test_rows),
        "labels": run.dataset.labelling.text,
        "data_fingerprint": run.dataset.fingerprint,
        "checkpoint_sha256": run.checkpoint().outputs[0].sha256,
        "code_version": run.code,
    }


def check_settings(run: Run) -> None:
    """Raise ConfigurationError for settings that the data or the task can't meet, before any work is done."""
    config = run.config.score
    class_count = min(load_task(run.config.task).class_count, len(run.dataset.class_names))
    if isinstance(config.explained_label, int) and config.explained_label >= class_count:
        raise ConfigurationError(
            f"expected score.explained_label 'predicted', 'true' or a class from 0 to {class_count - 1}, found "
            f"{config.explained_label}; name one of the task's {class_count} classes"
        )
    if config.top_k > run.train_rows:
        raise ConfigurationError(
            f"expected score.top_k of at most the {run.train_rows} training examples, found {config.top_k}; lower it"
        )
    smallest = max(shard.rows for shard in run.dataset.shards("test", rows=1, limit=config.test_limit))
    if config.test_block_rows < smallest:
        raise ConfigurationError(
            f"expected score.test_block_rows of at least the {smallest} rows of a row group of the test data, found "
            f"{config.test_block_rows}; raise it, or prepare the data with smaller row groups"
        )


def _finished_earlier(run: Run, unit: ScoreUnit) -> bool:
    if finished(run.store, run_directory.unit_manifest(unit.block, unit.index), unit.digest) is None:
        return False
    rows = f"training rows {unit.shards[0].start} to {unit.shards[-1].stop - 1}"
    say(f"score: unit {unit.name} ({rows}) was finished earlier, as its manifest proves: not computed again")
    return True


def _solve(run: Run, resources: Resources, stage: Score) -> None:
    """Solve for the numerators of every test input that has none yet."""
    pending = [unit for unit in stage.solutions if not is_solved(run.store, unit)]
    plan = SolvePlan(stage.plan.source, run.train_shards, run.config.score.explained_label, run.config.curvature)
    shape = worker_shape(run.config.cluster, resources, len(pending))
    with progress("solve", len(stage.solutions), unit="pieces", done=len(stage.solutions) - len(pending)) as shown:
        run_units(
            plan,
            pending,
            shape,
            retries=run.config.cluster.max_retries,
            done=lambda proof: shown.advance(
                note=f"largest residual {proof.facts['largest_residual']} in {proof.seconds:.1f} s"
            ),
            tick=shown.tick,
        )


def _plan_rows(run: Run, stage: Score, pending: Sequence[ScoreUnit], shape: WorkerShape) -> list[tuple[str, str]]:
    written = run.test_rows * run.config.score.top_k * len(METHODS) * TOP_K_ROW_BYTES
    if run.config.score.write_scores:
        written += 4 * run.test_rows * run.train_rows
    device = f"{shape.gpus:g} GPU(s)" if shape.gpus else "no GPU"
    return [
        ("task", run.config.task),
        ("curvature", _curvature_text(run)),
        ("parameters", coverage_text(source_of(run).coverage(load_task(run.config.task)))),
        ("pairs", f"{run.test_rows:,} test inputs x {run.train_rows:,} training examples"),
        ("units", f"{len(pending):,} to compute, {len(stage.units) - len(pending):,} finished earlier"),
        ("actors", f"{shape.count} with {shape.threads} core(s) and {device} each"),
        ("memory per actor", f"about {format_bytes(_actor_bytes(run, stage, shape))}"),
        ("bytes to write", f"about {format_bytes(written)}"),
    ]


def _curvature_text(run: Run) -> str:
    curvature = run.config.curvature
    ignored = f", by definition: curvature.damping = {curvature.damping:g} is not used"
    note = ignored if curvature.effective_damping != curvature.damping else ""
    matrix = " (Hessian)" if curvature.exact_matrix == "hessian" else ""
    divided = f", denominators {curvature.denominators}" if curvature.is_iterative else ""
    return f"{curvature.method}{matrix}, damping {curvature.effective_damping:g}{note}{divided}"


def _actor_bytes(run: Run, stage: Score, shape: WorkerShape) -> int:
    """Estimate an actor's peak: a block's factors, exact and at full rank for screening; shards in hand; tiles."""
    covered = stage.plan.source.coverage(load_task(run.config.task))
    rows = max(block.stop - block.start for block in stage.blocks)
    shard_rows = max(shard.rows for shard in run.train_shards)
    features = math.prod(run.dataset.input_shape)
    curvature, size = run.config.curvature, covered.covered_count
    joint = 8 * size * size if curvature.eigen_method == "exact" else 0
    if not joint and not curvature.is_iterative and _all_linear(covered):
        width = sum(outputs + inputs for outputs, inputs in covered.blocks.values())
        block_width, shard_width = 10 * width + 2 * covered.covered_count, 24 * width
    else:  # gradients as dense rows: float64 while they are made (twice while parts are joined), float32 afterwards
        block_width, shard_width = 20 * size, 20 * size
    block = rows * (block_width + 6 * features + 4 * 12 * run.config.score.top_k)
    in_hand = 3 * shard_rows * (shard_width + 24 * features)
    tiles = shape.threads * 512 * shard_rows * 4 * 5
    return PROCESS_BYTES + joint + block + in_hand + tiles


def _all_linear(covered: Coverage) -> bool:
    return all(isinstance(layer.module, nn.Linear) for layer in covered.layers.values())


def _join(run: Run, stage: Score, shown: Progress) -> list[FileReceipt]:
    store, metadata = run.store, dict(stage.plan.metadata)
    tops = [submit(join_top_k, store, block, run.config.score.top_k, metadata) for block in stage.blocks]
    trains = [run_directory.unit_file(0, unit, TRAIN_EXAMPLES.name) for unit in range(stage.blocks[0].units)]
    tests = [run_directory.unit_file(block.number, 0, TEST_EXAMPLES.name) for block in stage.blocks]
    examples = [
        submit(join_examples, store, paths, run_directory.table_part(spec.name, 0), spec, metadata)
        for paths, spec in ((trains, TRAIN_EXAMPLES), (tests, TEST_EXAMPLES))
    ]
    solved = [submit(_write_solutions, store, stage.solutions, metadata)] if stage.solutions else []
    return gather([*tops, *examples, *solved], tick=shown.tick)


def _write_solutions(store: Store, units: Sequence[SolveUnit], metadata: Mapping[str, str]) -> FileReceipt:
    path = run_directory.table_part(SOLUTIONS.name, 0)
    return write_table(store, path, solutions_table(store, units), SOLUTIONS, metadata)


def _written_by_units(run: Run, stage: Score) -> list[FileReceipt]:
    """Return the receipts of the parts of ``scores``, which units write in place: the stage's proof covers them."""
    if not run.config.score.write_scores:
        return []
    proofs = (read_manifest(run.store, run_directory.unit_manifest(unit.block, unit.index)) for unit in stage.units)
    parts = run_directory.table(SCORES.name)
    return [output for proof in proofs for output in proof.outputs if output.path.startswith(f"{parts}/")]


def _remove_other_parts(run: Run, outputs: Sequence[FileReceipt]) -> None:
    """Remove what an attempt with other settings left before its first unit was finished: readers take every part."""
    kept = {output.path for output in outputs}
    for spec in (TRAIN_EXAMPLES, TEST_EXAMPLES, TOP_K, SCORES, SOLUTIONS):
        for path in run.store.list(run_directory.table(spec.name), ".parquet"):
            if path not in kept:
                run.store.delete(path)
