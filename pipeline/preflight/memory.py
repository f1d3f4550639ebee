"""The largest memory of each stage's workers, estimated from the settings, and whether the machine has it.

Axes: N rows of a shard, P parameters.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from relatif.pipeline.cluster.session import worker_shape
from relatif.pipeline.console import format_bytes
from relatif.pipeline.curvature.coverage import Coverage
from relatif.pipeline.devices import piece_bytes
from relatif.pipeline.influence.contraction import DENSE_PARAMETERS
from relatif.pipeline.preflight.layers import NUMBER_BYTES, Block, factor_text
from relatif.pipeline.preflight.machine import Machine
from relatif.pipeline.runs.run import Run
from relatif.pipeline.stages.exact_factors import GROUP_BYTES
from relatif.pipeline.stages.score import block_rows
from relatif.pipeline.stages.score_memory import PROCESS_BYTES, actor_bytes
from relatif.schemas.errors import ConfigurationError

SHARED_BYTES = 150 * 2**20
"""Of a process: the libraries' files, which all processes of a machine share."""

EIGEN_COPIES = 5
"""Matrices that an eigendecomposition holds at once: what it is given, a copy, the vectors, and a workspace of two."""

SUMS_HELD = 4
"""Sums over shards that a task of the factor stage holds at once: its leaf, and the nodes above it."""

PIECES_HELD = 6
"""Pieces' worth of layer inputs and outputs that a pass holds: what is kept, its graph, and the gradients."""


@dataclass(frozen=True)
class StageMemory:
    """How many workers of a stage there are at once, the most that one takes, and what most of that is, in words."""

    stage: str
    workers: int
    bytes: int
    mostly: str
    advice: str

    @property
    def total(self) -> int:
        """Bytes of all workers together: what they load of libraries is there once."""
        return self.bytes + (self.workers - 1) * (self.bytes - SHARED_BYTES)


def stage_memory(run: Run, blocks: Sequence[Block], covered: Coverage, machine: Machine) -> list[StageMemory]:
    """Return what the stages take, in their order. Raises ClusterError where workers ask for more than there is."""
    return [_train(run, covered), _factors(run, blocks, covered, machine), _score(run, blocks, covered, machine)]


def refuse_too_large(stages: Sequence[StageMemory], machine: Machine) -> None:
    """Raise ConfigurationError, naming what makes it so, for a stage whose workers the machine can't hold together."""
    for stage in stages:
        if stage.total > machine.memory:
            count = "a worker" if stage.workers == 1 else f"{stage.workers} workers"
            raise ConfigurationError(
                f"expected work that fits into the {format_bytes(machine.memory)} of memory here, found stage "
                f"{stage.stage!r} with {count} of about {format_bytes(stage.bytes)}, most of it {stage.mostly}; "
                f"{stage.advice}"
            )


def _train(run: Run, covered: Coverage) -> StageMemory:
    held = run.train_rows * (run.dataset.description.row_bytes + NUMBER_BYTES)
    model = 5 * 4 * covered.total_count  # parameters, gradients, the optimizer's two moments, a copy
    return StageMemory(
        "train",
        1,
        PROCESS_BYTES + held + model,
        f"the {run.train_rows:,} stored training inputs, if the recipe holds them",
        "lower data.train_limit, or use a machine with more memory",
    )


def _factors(run: Run, blocks: Sequence[Block], covered: Coverage, machine: Machine) -> StageMemory:
    config = run.config.curvature
    common = PROCESS_BYTES + _model_bytes(covered) + _shard_bytes(run) + PIECES_HELD * piece_bytes("cpu")
    tasks = max(1, min(machine.cpus, -(-len(run.train_shards) // run.config.cluster.shards_per_task)))
    if config.eigen_method == "exact":
        size = covered.covered_count
        joint = EIGEN_COPIES * NUMBER_BYTES * size * size
        # The strips of a task: an equal share of half the matrix, or less; twice while a shard's part is added.
        tasks = machine.cpus
        share = min(GROUP_BYTES, NUMBER_BYTES * size * size // (2 * tasks))
        summing = common + 2 * share
        what = f"the dense matrix of {size:,} x {size:,} parameters"
        advice = "choose fewer layers by curvature.layers, or another curvature.method"
        # One task decomposes; before it as many as there are cores sum strips.
        workers, peak = (1, common + joint) if joint > tasks * summing else (tasks, summing)
        return StageMemory("factors", workers, peak, what, advice)
    if config.eigen_method == "identity":
        return StageMemory("factors", 1, PROCESS_BYTES, "the process itself", "use a machine with more memory")
    sums = sum(block.number_bytes * block.squares for block in blocks)
    if config.eigen_method == "ekfac":  # the bases, and spectra instead of factors
        sums = max(sums, sums // SUMS_HELD + sum(block.number_bytes * block.size for block in blocks))
    largest = max(blocks, key=lambda block: block.squares)
    # Decomposed in float64.
    square = NUMBER_BYTES * max(block.widest for block in blocks) ** 2
    peak = max(common + SUMS_HELD * sums + 2 * square, PROCESS_BYTES + EIGEN_COPIES * square)
    factors = " and ".join(factor_text(width, diagonal=diagonal) for width, diagonal in largest.sides)
    what = f"the Kronecker factors of layer {largest.name!r} ({factors})"
    advice = "leave that layer out by curvature.exclude, use curvature.method = identity, or lower cluster.local_cpus"
    if square < _shard_bytes(run):
        what, advice = f"shards of {_shard_rows(run):,} rows", "lower data.shard_rows or cluster.local_cpus"
    return StageMemory("factors", tasks, peak, what, advice)


def _score(run: Run, blocks: Sequence[Block], covered: Coverage, machine: Machine) -> StageMemory:
    rows, row_bytes = block_rows(run), _row_bytes(run, blocks)
    shape = worker_shape(run.config.cluster, machine.resources, max(1, len(run.scored_shards)))
    factors = sum(block.number_bytes * (block.squares + 2 * block.size) for block in blocks)
    if run.config.curvature.eigen_method in ("exact", "identity"):
        factors = 2 * NUMBER_BYTES * covered.covered_count  # the joint matrix is counted by actor_bytes
    positions = max(block.positions for block in blocks)
    peak = (
        actor_bytes(run, covered, rows, shape.threads, positions=positions, row_bytes=row_bytes)
        + factors
        + _model_bytes(covered)
    )
    without_block = actor_bytes(run, covered, 0, shape.threads, positions=positions, row_bytes=row_bytes)
    parts = {
        f"the block of {rows:,} test inputs": (peak - factors - without_block, "lower score.test_block_rows"),
        f"the curvature of {covered.covered_count:,} parameters": (
            factors + (NUMBER_BYTES * covered.covered_count**2 if run.config.curvature.eigen_method == "exact" else 0),
            "choose fewer layers by curvature.layers, or another curvature.method",
        ),
        f"shards of {_shard_rows(run):,} rows": (without_block - PROCESS_BYTES, "lower data.shard_rows"),
    }
    what = max(parts, key=lambda part: parts[part][0])
    return StageMemory("score", shape.count, peak, what, f"{parts[what][1]}, or lower cluster.workers")


def _row_bytes(run: Run, blocks: Sequence[Block]) -> int | None:
    """Return the bytes of an example's gradients where they are kept as they are held; None where as dense rows."""
    if run.config.curvature.is_iterative or run.config.curvature.eigen_method == "exact":
        return None
    large = sum(block.size for block in blocks) > DENSE_PARAMETERS and any(block.positions > 1 for block in blocks)
    return sum(block.row_bytes for block in blocks) if large or not all(block.is_held for block in blocks) else None


def _model_bytes(covered: Coverage) -> int:
    return 3 * NUMBER_BYTES * covered.total_count


def _shard_rows(run: Run) -> int:
    return max(shard.rows for shard in run.train_shards)


def _shard_bytes(run: Run) -> int:
    """Return a shard's bytes as stored, as ``model_inputs`` gives it (float32) and as the model reads it (float64)."""
    numbers = run.dataset.input_numbers
    return _shard_rows(run) * (run.dataset.description.row_bytes + (4 + NUMBER_BYTES) * numbers)
