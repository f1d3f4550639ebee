"""Training gradients computed in a pass over the training set: what explains queries where no gradients are stored.

Axes: M queries, n training examples, N of them in a piece.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from relatif.pipeline.console import format_duration
from relatif.pipeline.explaining.chosen_pairs import read_rows
from relatif.pipeline.explaining.explainer import Explainer
from relatif.pipeline.explaining.found import Asked, Found, sorted_out
from relatif.pipeline.explaining.posed import Posed
from relatif.pipeline.explaining.shard_rows import ShardRows, cut, explained, held_rows
from relatif.pipeline.influence.block import QueryBlock, TrainShard, train_shard
from relatif.pipeline.influence.histograms import Histograms, histograms
from relatif.pipeline.influence.precision import FULL, Precision, screening_precision
from relatif.pipeline.influence.sweep import Sweep
from relatif.pipeline.influence.top_k import TopK, empty_top_k
from relatif.pipeline.inputs import Inputs
from relatif.pipeline.parallel import Item
from relatif.pipeline.runs.run import Run

Say = Callable[[str], None]

HISTOGRAM_BYTES = 2**30
"""Scores of a block of queries that are held for their histograms."""

TEST_BLOCK_ROWS = 10_000
"""Queries that are answered at once where nothing but ranks is asked for."""

TIMED = 2
"""After so many pieces a pass tells how long it takes."""

WORTH_TELLING_S = 2.0
"""A pass that takes less is not told of."""


@dataclass(frozen=True, eq=False)
class Tiles:
    """The scores of all pairs as they are swept: cosines [M, n] float32 by numerator, weights [n] by method.

    A score is cosine x |w_t| x weight.
    """

    cosines: Mapping[str, Tensor]
    weights: dict[str, Tensor] = field(default_factory=dict)

    def take(self, block: QueryBlock, shard: TrainShard, rows: slice, tiles: Mapping[str, Tensor]) -> None:
        """Keep a tile, and with the first tile of a shard what its columns are weighted by."""
        for name, kept in self.cosines.items():
            columns = slice(shard.start, shard.start + tiles[name].shape[1])
            kept[rows, columns] = tiles[name].cpu()
            if rows.start == 0:
                for method in block.by_numerator(name):
                    weights = self.weights.setdefault(method.name, torch.zeros(kept.shape[1], dtype=torch.float64))
                    weights[columns] = (shard.scales[method.name] * shard.numerators[name].norms).cpu()

    def histograms(self, block: QueryBlock, asked: Asked) -> dict[str, Histograms]:
        """Return the histograms of all methods that have a sign."""
        found = {}
        for method in asked.signed:
            norms = block.numerators[method.numerator].norms
            lengths = (norms > 0).double() if method.normalized else norms
            found[method.name] = histograms(self.cosines[method.numerator], lengths.cpu(), self.weights[method.name])
        return found


@dataclass(frozen=True, eq=False)
class TrainingPass:
    """Explains by a pass over the scored examples of a run; ``say`` is told how long it takes."""

    run: Run
    explainer: Explainer
    pool: ThreadPoolExecutor
    say: Say

    is_stored = False

    def precision(self, asked: Asked) -> Precision:
        """Return how closely a block of queries has to be computed: histograms are read off its tiles."""
        return FULL if asked.histograms else self._screening

    @cached_property
    def _screening(self) -> Precision:
        return screening_precision(self.explainer.worker.device)

    def block_rows(self, asked: Asked) -> int:
        """Return how many queries are answered at once, so that the scores for their histograms fit into memory."""
        held = len({each.numerator for each in asked.signed}) if asked.histograms else 0
        return max(1, HISTOGRAM_BYTES // (4 * self.run.scored_rows * held)) if held else TEST_BLOCK_ROWS

    def examples(self, rows: Sequence[int]) -> tuple[Inputs, Tensor]:
        """Return training examples [R, ...] as the data stores them, given in rising order, with their targets."""
        return read_rows(self.run.source, self.run.scored_shards, rows)

    def search(self, posed: Posed, asked: Asked) -> Found:
        """Return what is asked for of a block of queries."""
        block = posed.block
        pieces = cut(self.run.scored_shards, held_rows(posed.queries.gradients))
        tiles = empty_tiles(block, asked, self.run.scored_rows)

        def prepare(piece: ShardRows) -> tuple[TrainShard, None]:
            some = explained(self.run.source, self.explainer, piece)
            return train_shard(block, some.gradients, some.columns, some.inputs, start=piece.first), None

        sweep = Sweep(block, prepare, empty_ranks(block, asked), self.explainer.worker, self.pool)
        best = swept(sweep, pieces, tiles, told=self._told(len(pieces)))
        return sorted_out(asked, best, tiles.histograms(block, asked) if asked.histograms else {})

    def _told(self, pieces: int) -> Callable[[int], None]:
        """Return what is called after each piece: it tells, once it has seen one from begin to end, what is left."""
        ends: list[float] = []

        def told(done: int) -> None:
            ends.append(time.perf_counter())
            # The first one also takes what is loaded with it.
            left = (ends[-1] - ends[0]) * (pieces - done)
            if done == TIMED and left > WORTH_TELLING_S:
                self.say(
                    f"explain: a pass over {self.run.scored_rows:,} examples, as no gradients are stored: about "
                    f"{format_duration(left)} to go"
                )

        return told


def empty_tiles(block: QueryBlock, asked: Asked, n: int) -> Tiles:
    """Return room for the tiles of the numerators whose histograms are asked for."""
    names = {each.numerator for each in asked.signed} if asked.histograms else set()
    return Tiles({name: torch.zeros(block.rows, n) for name in names})


def empty_ranks(block: QueryBlock, asked: Asked) -> dict[str, TopK]:
    """Return empty ranks for all that is sought."""
    device = block.features.squares.device
    return {method.name: empty_top_k(block.rows, asked.ranks, device) for method in asked.sought}


def swept(
    sweep: Sweep[Item, None], items: Sequence[Item], tiles: Tiles, *, told: Callable[[int], None] = lambda _: None
) -> Mapping[str, TopK]:
    """Sweep items over a block, keep what is asked for of the tiles, and return the ranks."""
    block = sweep.block

    def visit(shard: TrainShard, rows: slice, found: Mapping[str, Tensor]) -> None:
        tiles.take(block, shard, rows, found)

    for number, (_, results) in enumerate(sweep.run(items, visit)):
        deque(results, maxlen=0)
        told(number + 1)
    return sweep.best
