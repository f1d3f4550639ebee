"""Training gradients that a run kept: they say which examples may matter, and those alone are scored exactly.

Axes: M queries, n training examples, N of them in a block.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from relatif.pipeline.explaining.explainer import Explainer
from relatif.pipeline.explaining.found import Asked, Found, sorted_out
from relatif.pipeline.explaining.gradient_store import ERRORS, GradientStore, StoredBlock
from relatif.pipeline.explaining.posed import Posed
from relatif.pipeline.explaining.shard_rows import held_rows
from relatif.pipeline.explaining.training_pass import Tiles, empty_ranks, swept
from relatif.pipeline.influence.block import QueryBlock, TrainShard, scale_of, train_shard
from relatif.pipeline.influence.candidates import near_candidates, score_candidates
from relatif.pipeline.influence.meeting import reciprocal
from relatif.pipeline.influence.neighbours import features
from relatif.pipeline.influence.precision import SCREENING_FLOAT32, Precision
from relatif.pipeline.influence.rounded import (
    RoundedFeatures,
    RoundedQueries,
    distance_bounds,
    product_type,
    rounded_features,
    rounded_queries,
)
from relatif.pipeline.influence.screening import score_neighbours
from relatif.pipeline.influence.sweep import Sweep
from relatif.pipeline.influence.top_k import NO_INDEX, TopK
from relatif.pipeline.inputs import Inputs
from relatif.pipeline.parallel import ordered_map
from relatif.pipeline.runs.source import model_examples

HELD_BYTES = 2**30
"""Bounds of all pairs of a block of queries that are held at once."""

NEAR_ROWS = 4096
"""Training inputs whose distances are measured at once."""

SINGLE_SHARE = 2.0**-20
"""Share by which a float32 is moved, so that rounding leaves a bound a bound."""

SINGLE_UP = 1 + SINGLE_SHARE


@dataclass(frozen=True, eq=False)
class Screened:
    """What stored blocks say of all pairs: cosines with weights, errors of the cosines [M, n] by numerator.

    ``lower`` and ``upper`` [M, n] bound the distances of inputs; None where these are not asked for.
    """

    tiles: Tiles
    errors: Mapping[str, Tensor]
    lower: Tensor | None
    upper: Tensor | None


@dataclass(frozen=True, eq=False)
class TrainingStore:
    """Explains by the gradients of ``count`` training examples that a run kept."""

    explainer: Explainer
    store: GradientStore
    pool: ThreadPoolExecutor
    count: int

    is_stored = True

    def precision(self, asked: Asked) -> Precision:
        """Return how closely a block of queries has to be computed: histograms are read off the store."""
        return SCREENING_FLOAT32

    def block_rows(self, asked: Asked) -> int:
        """Return how many queries are answered at once."""
        numbers = 8 * len({each.numerator for each in asked.methods}) + 8
        return max(1, HELD_BYTES // (numbers * self.count))

    def examples(self, rows: Sequence[int]) -> tuple[Inputs, Tensor]:
        """Return training examples [R, ...] as the data stores them, given in rising order, with their targets."""
        return self.store.examples(rows)

    def search(self, posed: Posed, asked: Asked) -> Found:
        """Return what is asked for of a block of queries."""
        block, screened = posed.block, self._screened(posed)
        ranked = self._by_gradients(posed, screened, asked)
        if screened.lower is not None and screened.upper is not None and block.distance is not None:
            near = near_candidates(screened.lower, screened.upper, asked.ranks)
            ranked = {**ranked, block.distance.name: self._nearest(block, near, asked)}
        return sorted_out(asked, ranked, screened.tiles.histograms(block, asked) if asked.histograms else {})

    def _screened(self, posed: Posed) -> Screened:
        """Bound the cosines of all pairs, and the distances, block by block."""
        block, dtype = posed.block, product_type(self.store.dtype)
        sides = posed.sides.items()
        factored = self.store.factored
        queries = {
            name: rounded_queries(side.gradients, side.weights, block.numerators[name].norms, dtype, factored)
            for name, side in sides
        }
        shape = (block.rows, self.count)
        tiles = Tiles({name: torch.zeros(shape) for name in queries})
        tiles.weights.update({method.name: torch.zeros(self.count, dtype=torch.float64) for method in block.methods})
        errors = {name: torch.zeros(shape) for name in queries}
        near = None if block.distance is None else rounded_features(block.features.exact.cpu(), dtype)
        lower, upper = (None if near is None else torch.zeros(shape) for _ in range(2))
        found = Screened(tiles, errors, lower, upper)

        def screen(place: tuple[int, int]) -> None:
            self._screen(self.store.read(place), block, queries, near, found)

        # Run for its effect on what was found; the deque keeps nothing.
        deque(ordered_map(screen, self.store.places, pool=self.pool, ahead=2), maxlen=0)
        return found

    def _screen(
        self,
        stored: StoredBlock,
        block: QueryBlock,
        queries: Mapping[str, RoundedQueries],
        near: RoundedFeatures | None,
        found: Screened,
    ) -> None:
        """Write what a stored block says into its columns of what is found."""
        columns = slice(stored.first, stored.first + stored.rows)
        for name, each in queries.items():
            lengths = block.numerators[name].lengths(stored.columns)
            ratios = stored.columns["gradient_norm"] * reciprocal(lengths)
            tile, sizes = each.tile(stored.gradients)
            found.tiles.cosines[name][:, columns] = (tile * ratios[:, None].float()).T
            bounds = each.bounds(sizes, stored.tensors[ERRORS + name], ratios)
            found.errors[name][:, columns] = bounds.T.float() * SINGLE_UP
            for method in block.by_numerator(name):
                weights = scale_of(method, stored.columns, stored.rows) * lengths
                found.tiles.weights[method.name][columns] = weights
        if near is not None and found.lower is not None and found.upper is not None:
            below, above = distance_bounds(near, stored.features)
            found.lower[:, columns] = below.float() - SINGLE_SHARE * below.float().abs()
            found.upper[:, columns] = above.float() * SINGLE_UP

    def _by_gradients(self, posed: Posed, screened: Screened, asked: Asked) -> dict[str, TopK]:
        """Score the examples that may be among the best by a method that has gradients."""
        block = replace(posed.block, distance=None)
        chosen = torch.zeros(self.count, dtype=torch.bool)
        for name in block.numerators:
            cosines, errors = screened.tiles.cosines[name], screened.errors[name]
            norms = block.numerators[name].norms.cpu()
            for method in block.by_numerator(name):
                lengths = (norms > 0).double() if method.normalized else norms
                weights = screened.tiles.weights[method.name]
                chosen |= score_candidates(cosines, errors, weights, lengths, asked.ranks)
        rows = chosen.nonzero().flatten()
        if not len(rows):
            return {}
        pieces = _with_starts(rows, held_rows(posed.queries.gradients))
        sweep = Sweep(block, self._prepare(block), empty_ranks(block, asked), self.explainer.worker, self.pool)
        return {name: _of_rows(ranks, rows) for name, ranks in swept(sweep, pieces, Tiles({})).items()}

    def _prepare(self, block: QueryBlock) -> Callable[[tuple[int, Tensor]], tuple[TrainShard, None]]:
        def prepare(piece: tuple[int, Tensor]) -> tuple[TrainShard, None]:
            start, rows = piece
            explainer = self.explainer
            inputs, targets = self.store.examples(rows.tolist())
            examples = model_examples(explainer.task, inputs, targets, int(rows[0]), explainer.worker.device)
            some = explainer.explain(examples, explained="true", split="train")
            return train_shard(block, some.gradients, some.columns, some.inputs, start=start), None

        return prepare

    def _nearest(self, block: QueryBlock, near: Tensor, asked: Asked) -> TopK:
        """Measure the distances of the examples that may be among the nearest."""
        rows, explainer = near.nonzero().flatten(), self.explainer
        assert block.distance is not None
        ranks = empty_ranks(block, asked)[block.distance.name]
        for start, some in _with_starts(rows, NEAR_ROWS):
            inputs, targets = self.store.examples(some.tolist())
            examples = model_examples(explainer.task, inputs, targets, int(some[0]), explainer.worker.device)
            shard = TrainShard(start, {}, features(examples.inputs, SCREENING_FLOAT32), {})
            score_neighbours(block, shard, slice(0, block.rows), ranks)
        return _of_rows(ranks, rows)


def _with_starts(rows: Tensor, height: int) -> list[tuple[int, Tensor]]:
    """Cut rows into pieces, each with its place among them."""
    return [(start, rows[start : start + height]) for start in range(0, len(rows), height)]


def _of_rows(ranks: TopK, rows: Tensor) -> TopK:
    """Return ranks whose indices are places among ``rows``, which rise, as ranks of the rows themselves."""
    there = ranks.indices != NO_INDEX
    places = torch.where(there, ranks.indices, 0).cpu()
    return TopK(ranks.scores, torch.where(there, rows[places].to(ranks.indices.device), NO_INDEX))
