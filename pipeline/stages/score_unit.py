"""A unit of score work: one test block against a group of training shards, on one actor.

Axes: M test inputs of a block, N training examples of a shard, k ranks.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import torch
from torch import Tensor

from relatif.pipeline.curvature.eigen import by_layer, side_by_side
from relatif.pipeline.datasets.shards import Shard
from relatif.pipeline.explaining.examples import Rows, joined
from relatif.pipeline.explaining.explainer import Explainer
from relatif.pipeline.explaining.solver import SolveUnit, load_solutions
from relatif.pipeline.influence.block import (
    RELATIVE_METHODS,
    TestBlock,
    TrainShard,
    score_neighbours,
    score_tile,
    seed_tile,
    solved_block,
    test_block,
    train_shard,
)
from relatif.pipeline.influence.precision import FULL, Precision, screening_precision
from relatif.pipeline.influence.top_k import TopK, empty_top_k
from relatif.pipeline.parallel import Result, ordered_map, single_threaded_pool
from relatif.pipeline.runs.source import Source
from relatif.pipeline.stages.factors import load_eigen_form
from relatif.pipeline.storage.manifests import publish_manifest
from relatif.pipeline.storage.parquet import TableWriter, write_table
from relatif.schemas import run_directory
from relatif.schemas.config import CurvatureConfig, ScoreConfig
from relatif.schemas.manifest import FileReceipt, Manifest
from relatif.schemas.tables import METHODS, SCORES, TEST_EXAMPLES, TOP_K, TRAIN_EXAMPLES

TILE_ROWS = 512
"""Test rows of a tile on a CPU: a tile and what it is made of stay within the caches."""

SEED_SHARDS = 5
"""Shards whose most promising pairs give a new block its first thresholds."""


@dataclass(frozen=True)
class ScoreUnit:
    """Test block ``block`` against the training shards ``shards``; ``digest`` is what it depends on."""

    block: int
    index: int
    shards: tuple[Shard, ...]
    digest: str

    @property
    def name(self) -> str:
        """Name in logs and manifests."""
        return f"{self.block:05d}-{self.index:05d}"


@dataclass(frozen=True)
class ScorePlan:
    """What every unit of a run shares; ``blocks`` are the test shards of each block.

    ``solutions`` are, for each block, the pieces in which its numerators were solved for.
    """

    source: Source
    config: ScoreConfig
    curvature: CurvatureConfig
    blocks: tuple[tuple[Shard, ...], ...]
    metadata: Mapping[str, str]
    solutions: tuple[tuple[SolveUnit, ...], ...] = ()

    def __call__(self, threads: int, device: str) -> "Scorer":
        """Load model and factors in an actor."""
        # The bounds of screening are those of plain arithmetic: no TF32, no sums in bfloat16.
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
        task = self.source.load_task()
        subject = self.source.load_subject(task, self.curvature, device)
        curvature = load_eigen_form(self.source, self.curvature, device)
        pool = single_threaded_pool(threads if device == "cpu" else 1)
        explainer = Explainer(task, subject, curvature, device, solves=self.curvature.is_iterative)
        return Scorer(self, explainer, pool, threads)


@dataclass
class BlockState:
    """The block an actor holds, and the best it has seen of it: thresholds that later units start from."""

    number: int
    block: TestBlock
    columns: Sequence[Mapping[str, Tensor]]
    best: Mapping[str, TopK]
    floors: Mapping[str, Tensor] | None = None

    @property
    def rows(self) -> int:
        """Number of test inputs M."""
        return len(self.block.norms)


class Scorer:
    """Computes units in an actor, keeping the test block between units of the same block."""

    def __init__(self, plan: ScorePlan, explainer: Explainer, pool: ThreadPoolExecutor, threads: int) -> None:
        """Take what the actor loaded; the test block is made with the first unit."""
        self._plan, self._explainer, self._pool, self._threads = plan, explainer, pool, threads
        self._state: BlockState | None = None

    def __call__(self, unit: ScoreUnit) -> Manifest:
        """Compute a unit, write its files, and prove it."""
        started = time.monotonic()
        if self._state is None or self._state.number != unit.block:
            self._state = None
            self._state = self._load_block(unit.block)
        columns, outputs = self._score(self._state, unit)
        outputs.append(self._write_top_k(self._state, unit))
        if unit.block == 0:
            outputs.append(self._write(unit, TRAIN_EXAMPLES.name, columns))
        if unit.index == 0:
            outputs.append(self._write(unit, TEST_EXAMPLES.name, self._state.columns))
        proof = Manifest(
            work=f"score {unit.name}",
            digest=unit.digest,
            outputs=tuple(outputs),
            seconds=round(time.monotonic() - started, 3),
        )
        publish_manifest(self._plan.source.store, run_directory.unit_manifest(unit.block, unit.index), proof)
        return proof

    def _load_block(self, number: int) -> BlockState:
        explainer, source = self._explainer, self._plan.source
        rows = joined(
            [
                explainer.rows(
                    *source.read(explainer.task, shard, explainer.device),
                    explained=self._plan.config.explained_label,
                    first=shard.start,
                    split="test",
                )
                for shard in self._plan.blocks[number]
            ]
        )
        precision = FULL if self._plan.config.write_scores else screening_precision(explainer.device)
        block, columns = self._block(number, rows, precision)
        best = {method: empty_top_k(len(rows.inputs), self._plan.config.top_k, explainer.device) for method in METHODS}
        return BlockState(number, block, [columns], best)

    def _block(self, number: int, rows: Rows, precision: Precision) -> tuple[TestBlock, Mapping[str, Tensor]]:
        """Return the block and its table columns: numerators come from the eigen form, or from solutions in storage."""
        explainer = self._explainer
        if not explainer.solves:
            return test_block(explainer.curvature, rows.gradients, rows.inputs, precision), rows.columns
        solved = load_solutions(self._plan.source.store, self._plan.solutions[number]).to(rows.inputs.device)
        own = (solved * side_by_side(rows.gradients).dense()[:, 0]).sum(dim=1)
        block = solved_block(by_layer(solved, explainer.subject.coverage.blocks), rows.inputs, precision)
        return block, {**rows.columns, "self_influence": own}

    def _score(self, state: BlockState, unit: ScoreUnit) -> tuple[list[Mapping[str, Tensor]], list[FileReceipt]]:
        """Stream the unit's shards past the block; the next shard is prepared while the tiles of one are computed."""
        if state.floors is None:
            state.floors = self._floors(state, unit.shards[:SEED_SHARDS])
        columns = []
        with ExitStack() as stack:
            writer = stack.enter_context(self._scores_writer(unit)) if self._plan.config.write_scores else None
            for shard, rows in ordered_map(partial(self._prepare, state), unit.shards, pool=self._pool, ahead=1):
                columns.append(rows)
                for batch in self._tiles(state, partial(self._tile, state, shard)):
                    if writer is not None:
                        writer.write(batch)
        return columns, [] if writer is None else [writer.receipt]

    def _floors(self, state: BlockState, shards: Sequence[Shard]) -> dict[str, Tensor]:
        """Return scores [M] that k training examples of these shards reach, from each shard's most promising pairs.

        Without them the first shards, with no good threshold yet, would let through several times more pairs.
        """
        k = self._plan.config.top_k
        seeds = {method: empty_top_k(state.rows, k, self._explainer.device) for method in RELATIVE_METHODS}
        for shard, _ in ordered_map(partial(self._prepare, state), shards, pool=self._pool, ahead=1):
            work = partial(seed_tile, state.block, shard, seeds=seeds, count=-(-k // len(shards)))
            deque(self._tiles(state, work), maxlen=0)
        return {method: seeds[method].threshold() for method in RELATIVE_METHODS}

    def _prepare(self, state: BlockState, shard: Shard) -> tuple[TrainShard, Mapping[str, Tensor]]:
        explainer = self._explainer
        inputs, labels = self._plan.source.read(explainer.task, shard, explainer.device)
        rows = explainer.rows(inputs, labels, explained="true", first=shard.start, split="train")
        ready = train_shard(state.block, rows.gradients, rows.denominators, rows.inputs, start=shard.start)
        return ready, rows.columns

    def _tiles(self, state: BlockState, work: Callable[[slice], Result]) -> Iterator[Result]:
        height = TILE_ROWS if self._explainer.device == "cpu" else state.rows
        tiles = [slice(start, min(start + height, state.rows)) for start in range(0, state.rows, height)]
        return ordered_map(work, tiles, pool=self._pool, ahead=2 * self._threads)

    def _tile(self, state: BlockState, shard: TrainShard, rows: slice) -> pa.RecordBatch | None:
        tile = score_tile(state.block, shard, rows, state.best, state.floors)
        score_neighbours(state.block, shard, rows, state.best["nearest_neighbour"])
        if not self._plan.config.write_scores:
            return None
        values = tile.mul_(state.block.norms[rows].float()[:, None]).mul_(shard.norms.float()).cpu()
        return scores_batch(values, self._plan.blocks[state.number][0].start + rows.start, shard.start)

    def _scores_writer(self, unit: ScoreUnit) -> TableWriter:
        path = run_directory.scores_part(unit.block, unit.index)
        return TableWriter(self._plan.source.store, path, SCORES, self._plan.metadata)

    def _write_top_k(self, state: BlockState, unit: ScoreUnit) -> FileReceipt:
        """Write those of the block's best that are the unit's own; what is missing can't be among the k best."""
        first, stop = unit.shards[0].start, unit.shards[-1].stop
        first_test = self._plan.blocks[unit.block][0].start
        tables = [top_k_rows(method, state.best[method], first_test, keep=(first, stop)) for method in METHODS]
        path = run_directory.unit_file(unit.block, unit.index, TOP_K.name)
        return write_table(self._plan.source.store, path, pa.concat_tables(tables), TOP_K, self._plan.metadata)

    def _write(self, unit: ScoreUnit, name: str, columns: Sequence[Mapping[str, Tensor]]) -> FileReceipt:
        spec = {TRAIN_EXAMPLES.name: TRAIN_EXAMPLES, TEST_EXAMPLES.name: TEST_EXAMPLES}[name]
        names = {field.name: field.name for field in spec.schema} | {spec.schema[0].name: "index"}
        values = [torch.cat([part[names[field.name]] for part in columns]).cpu().numpy() for field in spec.schema]
        arrays = [
            pa.array(column).cast(field.type, safe=False) for column, field in zip(values, spec.schema, strict=True)
        ]
        path = run_directory.unit_file(unit.block, unit.index, name)
        return write_table(
            self._plan.source.store, path, pa.Table.from_arrays(arrays, schema=spec.schema), spec, self._plan.metadata
        )


def scores_batch(values: Tensor, test_start: int, train_start: int) -> pa.RecordBatch:
    """Return rows of the table ``scores`` for influences [m, N] of consecutive test inputs and training examples."""
    height, width = values.shape
    offsets = pa.array(range(0, (height + 1) * width, width), pa.int32())
    lists = pa.ListArray.from_arrays(
        offsets, pa.array(values.flatten().numpy()), type=SCORES.schema.field("influence").type
    )
    tests = pa.array(range(test_start, test_start + height), pa.int64())
    return pa.RecordBatch.from_arrays(
        [tests, pa.repeat(pa.scalar(train_start, pa.int64()), height), lists], schema=SCORES.schema
    )


def top_k_rows(method: str, best: TopK, first_test: int, *, keep: tuple[int, int]) -> pa.Table:
    """Return rows of ``top_k`` for the ranks [M, k] whose training index lies in ``keep``, by test and rank."""
    indices, scores = best.indices.cpu(), best.scores.cpu()
    test, rank = torch.nonzero((indices >= keep[0]) & (indices < keep[1])).unbind(1)
    return pa.table(
        {
            "method": pa.repeat(pa.scalar(method), len(test)),
            "test_index": (test + first_test).numpy(),
            "rank": (rank + 1).int().numpy(),
            "train_index": indices[test, rank].numpy(),
            "score": scores[test, rank].numpy(),
        },
        schema=TOP_K.schema,
    )
