"""A unit of score work: one query block against a group of training shards, on one actor.

Axes: M queries of a block, N training examples of a shard, k ranks. The computation is ``influence.sweep``.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace

import pyarrow as pa
import torch
from torch import Tensor

from relatif.pipeline.curvature.eigen import by_layer, side_by_side
from relatif.pipeline.datasets.shards import Shard, StoredExamples
from relatif.pipeline.devices import Worker, use_plain_arithmetic
from relatif.pipeline.explaining.examples import ExplainedExamples, joined
from relatif.pipeline.explaining.explainer import Explainer, load_explainer
from relatif.pipeline.explaining.gradient_store import StoredForm, encoded, facts_of
from relatif.pipeline.explaining.measured import measurement_name
from relatif.pipeline.explaining.shard_rows import ShardRows, cut, held_rows
from relatif.pipeline.influence.block import QueryBlock, TrainShard, query_block, solved_block, train_shard
from relatif.pipeline.influence.precision import FULL, Precision, screening_precision
from relatif.pipeline.influence.sweep import Sweep, empty_best
from relatif.pipeline.influence.top_k import TopK
from relatif.pipeline.inputs import device_of
from relatif.pipeline.inputs import rows as rows_of
from relatif.pipeline.parallel import ordered_map
from relatif.pipeline.runs.chosen_tests import rows_at
from relatif.pipeline.runs.durable import Made
from relatif.pipeline.runs.source import Source
from relatif.pipeline.stages.score_rows import examples_table, scores_batch, top_k_rows
from relatif.pipeline.stages.solve import SolveUnit, load_solutions
from relatif.pipeline.storage.parquet import TableWriter, write_table
from relatif.pipeline.storage.row_blocks import BlockWriter
from relatif.schemas import run_directory
from relatif.schemas.columns import TableSpec
from relatif.schemas.config import CurvatureConfig, ScoreConfig
from relatif.schemas.manifest import FileReceipt
from relatif.schemas.methods import INFLUENCE, methods_of
from relatif.schemas.tables import SCORES, TEST_EXAMPLES, TOP_K, TRAIN_EXAMPLES

Columns = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Prepared:
    """What comes with a shard that is ready: its first row, its table columns, and what is kept of its gradients."""

    first: int
    columns: Columns
    kept: Columns | None = None


@dataclass(frozen=True)
class ScoreUnit:
    """Query block ``block`` against the training shards ``shards``; ``digest`` is what it depends on."""

    block: int
    index: int
    shards: tuple[Shard, ...]
    digest: str

    @property
    def name(self) -> str:
        """Name in logs and manifests."""
        rows = f"training rows {self.shards[0].start} to {self.shards[-1].stop - 1}"
        return f"unit {self.block:05d}-{self.index:05d} ({rows})"

    @property
    def manifest(self) -> str:
        """Path of the unit's proof."""
        return run_directory.unit_manifest(self.block, self.index)


@dataclass(frozen=True)
class ScorePlan:
    """What every unit of a run shares; ``blocks`` are the test shards of each block.

    ``solutions`` are, for each block, the pieces in which its numerators were solved for; ``test_rows`` are the chosen
    rows of the test part, among which the blocks count positions (None: all). ``stage_digest`` is what kept gradients
    name as their origin.
    """

    source: Source
    config: ScoreConfig
    curvature: CurvatureConfig
    blocks: tuple[tuple[Shard, ...], ...]
    metadata: Mapping[str, str]
    solutions: tuple[tuple[SolveUnit, ...], ...] = ()
    test_rows: tuple[int, ...] | None = None
    stage_digest: str = ""

    def __call__(self, worker: Worker) -> "Scorer":
        """Load model and factors in an actor."""
        use_plain_arithmetic()
        return Scorer(self, load_explainer(self.source, self.curvature, worker), worker.pool())


@dataclass
class BlockState:
    """The block an actor holds: its sweep, whose best later units start from, and its table columns.

    ``rows`` is how many training examples are explained at once.
    """

    number: int
    sweep: Sweep[ShardRows, Prepared]
    columns: Columns
    rows: int


class Scorer:
    """Computes units in an actor, keeping the query block between units of the same block."""

    def __init__(self, plan: ScorePlan, explainer: Explainer, pool: ThreadPoolExecutor) -> None:
        """Take what the actor loaded; the query block is made with the first unit."""
        self._plan, self._explainer, self._pool = plan, explainer, pool
        self._state: BlockState | None = None

    def __call__(self, unit: ScoreUnit) -> Made:
        """Compute a unit and write its files."""
        if self._state is None or self._state.number != unit.block:
            self._state = None  # so that two blocks are never held at once
            self._state = self._load_block(unit.block)
        columns, outputs = self._score(self._state, unit)
        outputs.append(self._write_top_k(self._state.sweep.best, unit))
        if unit.block == 0:
            outputs.append(self._write(unit, TRAIN_EXAMPLES, columns))
        if unit.index == 0:
            tests = self._state.columns
            tests = {**tests, "index": rows_at(self._plan.test_rows, tests["index"])}
            outputs.append(self._write(unit, TEST_EXAMPLES, [tests]))
        return Made(tuple(outputs))

    def _load_block(self, number: int) -> BlockState:
        explained = ordered_map(
            self._explained, self._plan.blocks[number], pool=self._pool, ahead=self._explainer.worker.width
        )
        examples = joined(list(explained))
        worker, config = self._explainer.worker, self._plan.config
        # Dense scores are read off the tiles, which then have to be accurate themselves.
        precision = FULL if config.write_scores else screening_precision(worker.device)
        block, columns = self._block(number, examples, precision)

        def prepare(piece: ShardRows) -> tuple[TrainShard, Prepared]:
            training, _ = self._training(piece)
            ready = train_shard(block, training.gradients, training.columns, training.inputs, start=piece.first)
            return ready, Prepared(piece.first, training.columns)

        sweep = Sweep(block, prepare, empty_best(block, config.top_k), worker, self._pool)
        return BlockState(number, sweep, columns, held_rows(examples.gradients))

    def _block(self, number: int, examples: ExplainedExamples, precision: Precision) -> tuple[QueryBlock, Columns]:
        """Return the block and its table columns: numerators come from the eigen form, or from solutions in storage."""
        explainer, methods = self._explainer, methods_of(self._plan.config.methods)
        gradients, inputs = examples.gradients, examples.inputs
        if not explainer.numerators_are_solved:
            dense = self._plan.config.write_scores
            block = query_block(
                explainer.curvature, gradients, inputs, methods=methods, precision=precision, dense=dense
            )
            return block, examples.columns
        solved = load_solutions(self._plan.source.store, self._plan.solutions[number]).to(device_of(inputs))
        # g_t' (H + lambda I)^-1 g_t by the same solution as the numerators.
        own = (solved * side_by_side(gradients).dense()[:, 0]).sum(dim=1)
        solutions = by_layer(solved, explainer.subject.coverage.blocks)
        block = solved_block(solutions, gradients, inputs, methods=methods, precision=precision)
        return block, {**examples.columns, "self_influence": own}

    def _explained(self, shard: Shard) -> ExplainedExamples:
        """Read and explain a shard of test inputs, as the settings say."""
        explainer, config = self._explainer, self._plan.config
        examples = self._plan.source.examples(explainer.task, shard, explainer.worker.device)
        measured = measurement_name(config, explainer.subject.likelihood)
        return explainer.explain(examples, explained=config.explained_label, split="test", measurement=measured)

    def _training(self, piece: ShardRows) -> tuple[ExplainedExamples, StoredExamples]:
        """Read some rows of a shard and explain them by their own loss; return them as they are stored, too."""
        explainer, source = self._explainer, self._plan.source
        stored = source.stored(piece.shard)
        examples = source.read(explainer.task, piece.shard, stored, explainer.worker.device)
        some = explainer.explain(examples.rows(piece.start, piece.stop), explained="true", split="train")
        chosen = slice(piece.start, piece.stop)
        return some, StoredExamples(rows_of(stored.inputs, chosen), stored.labels[chosen], piece.first)

    def _keeping(self, sweep: Sweep[ShardRows, Prepared]) -> Sweep[ShardRows, Prepared]:
        """Return a sweep that also makes what is kept of each piece's gradients."""
        curvature = None if self._explainer.numerators_are_solved else self._explainer.curvature
        form = StoredForm(getattr(torch, self._plan.config.gradient_store_dtype), curvature)

        def prepare(piece: ShardRows) -> tuple[TrainShard, Prepared]:
            training, stored = self._training(piece)
            gradients, columns = training.gradients, training.columns
            ready = train_shard(sweep.block, gradients, columns, training.inputs, start=piece.first)
            return ready, Prepared(piece.first, columns, encoded(training, stored, form))

        return replace(sweep, prepare=prepare)

    def _score(self, state: BlockState, unit: ScoreUnit) -> tuple[list[Columns], list[FileReceipt]]:
        """Sweep the unit's shards over the block; return the shards' columns, and receipts of what was written."""
        pieces = cut(unit.shards, state.rows)
        keeps = self._plan.config.gradient_store and unit.block == 0
        sweep = self._keeping(state.sweep) if keeps else state.sweep
        columns = []
        with ExitStack() as stack:
            writer = stack.enter_context(self._scores_writer(unit)) if self._plan.config.write_scores else None
            keeper = stack.enter_context(self._gradients_writer(unit)) if keeps else None
            block = self._plan.blocks[unit.block]
            tests = rows_at(self._plan.test_rows, torch.arange(block[0].start, block[-1].stop))

            def visit(shard: TrainShard, rows: slice, tiles: Mapping[str, Tensor]) -> pa.RecordBatch | None:
                return None if writer is None else _dense_scores(state.sweep.block, shard, rows, tiles, tests)

            for prepared, batches in sweep.run(pieces, visit):
                columns.append(prepared.columns)
                if keeper is not None and prepared.kept is not None:
                    keeper.write(prepared.first, prepared.kept)
                self._take(batches, writer)
        kept = () if keeper is None else keeper.receipts
        return columns, [*([] if writer is None else [writer.receipt]), *kept]

    def _gradients_writer(self, unit: ScoreUnit) -> BlockWriter:
        path, dtype = run_directory.gradients_file(unit.index), self._plan.config.gradient_store_dtype
        return BlockWriter(self._plan.source.store, path, facts_of(self._plan.stage_digest, dtype))

    def _take(self, batches: Iterator[pa.RecordBatch | None], writer: TableWriter | None) -> None:
        if writer is None:
            # Nothing to write: the tiles are computed for the ranks that they update.
            deque(batches, maxlen=0)
            return
        for batch in batches:
            writer.write(batch)

    def _scores_writer(self, unit: ScoreUnit) -> TableWriter:
        path = run_directory.scores_part(unit.block, unit.index)
        return TableWriter(self._plan.source.store, path, SCORES, self._plan.metadata)

    def _write_top_k(self, best: Mapping[str, TopK], unit: ScoreUnit) -> FileReceipt:
        """Write the block's current top k, restricted to this unit's training rows."""
        keep = range(unit.shards[0].start, unit.shards[-1].stop)
        first_test = self._plan.blocks[unit.block][0].start
        tables = [top_k_rows(name, best[name], first_test, keep=keep) for name in self._plan.config.methods]
        path = run_directory.unit_file(unit.block, unit.index, TOP_K.name)
        return write_table(self._plan.source.store, path, pa.concat_tables(tables), TOP_K, self._plan.metadata)

    def _write(self, unit: ScoreUnit, spec: TableSpec, columns: Sequence[Columns]) -> FileReceipt:
        path = run_directory.unit_file(unit.block, unit.index, spec.name)
        return write_table(self._plan.source.store, path, examples_table(spec, columns), spec, self._plan.metadata)


def _dense_scores(
    block: QueryBlock, shard: TrainShard, rows: slice, tiles: Mapping[str, Tensor], tests: Tensor
) -> pa.RecordBatch:
    """Return rows of ``scores`` from a tile of cosines: they are multiplied by both norms."""
    norms, other = block.numerators[INFLUENCE].norms[rows].float(), shard.numerators[INFLUENCE].norms.float()
    values = tiles[INFLUENCE].mul_(norms[:, None]).mul_(other).cpu()
    return scores_batch(values, tests[rows], shard.start)
