"""Scores summed over subsets of the training set, as durable units of some training shards each.

Axes: M chosen test inputs, N training examples of a shard, S subsets.
"""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from relatif.pipeline.datasets.shards import Shard
from relatif.pipeline.explaining.chosen_pairs import Pairwise, PairwisePlan, TestPiece
from relatif.pipeline.parallel import ordered_map, single_threaded_pool
from relatif.pipeline.retraining.subsets import Subsets
from relatif.pipeline.storage.manifests import publish_manifest
from relatif.pipeline.storage.store import Store
from relatif.pipeline.storage.tensors import read_tensors, write_tensors
from relatif.schemas import run_directory
from relatif.schemas.manifest import Manifest

ADDITIVE_METHODS = ("influence", "theta_relatif", "l_relatif")
"""Methods whose scores make sense when added up; a distance does not."""


@dataclass(frozen=True)
class SubsetScoreUnit:
    """Scores of the training examples of ``shards``; ``digest`` is what their sums depend on."""

    index: int
    shards: tuple[Shard, ...]
    digest: str

    @property
    def manifest(self) -> str:
        """Path of the unit's proof."""
        return run_directory.subset_scores_manifest(self.index)


@dataclass(frozen=True)
class SubsetScorePlan:
    """What all units share: rows ``tests`` of the test set, in rising order, and the first ``count`` subsets."""

    pairwise: PairwisePlan
    tests: tuple[int, ...]
    subsets: Subsets
    count: int

    def __call__(self, threads: int, device: str) -> "SubsetScorer":
        """Load model and curvature, and differentiate (and solve for) the test inputs, in an actor."""
        pairwise = self.pairwise.load(threads, device)
        pool = single_threaded_pool(threads if device == "cpu" else 1)
        return SubsetScorer(pairwise, list(pairwise.tests(self.tests)), self.subsets.mask(self.count), pool)


@dataclass(frozen=True)
class SubsetScorer:
    """Adds up scores in float64, shard after shard."""

    pairwise: Pairwise
    tests: Sequence[TestPiece]
    mask: Tensor
    pool: ThreadPoolExecutor

    def __call__(self, unit: SubsetScoreUnit) -> Manifest:
        """Compute sum_i score(t, i) over the members i of each subset, [M, S] for each method; publish and prove."""
        started = time.monotonic()
        parts = list(ordered_map(self._shard, unit.shards, pool=self.pool, ahead=1))
        store = self.pairwise.plan.source.store
        outputs = write_tensors(store, run_directory.subset_scores(unit.index), added(parts), {})
        proof = Manifest(
            work=f"subset scores {unit.index}",
            digest=unit.digest,
            outputs=(outputs,),
            seconds=round(time.monotonic() - started, 3),
        )
        publish_manifest(store, unit.manifest, proof)
        return proof

    def _shard(self, shard: Shard) -> dict[str, Tensor]:
        explainer, source = self.pairwise.explainer, self.pairwise.plan.source
        inputs, labels = source.read(explainer.task, shard, explainer.device)
        rows = explainer.rows(inputs, labels, explained="true", first=shard.start, split="train")
        scores = torch.cat([self.pairwise.influence(test, rows) for test in self.tests])
        members = self.mask[shard.start : shard.stop].to(scores)
        return {"influence": scores @ members} | {
            method: relative(scores, denominators) @ members for method, denominators in rows.denominators.items()
        }


def relative(influence: Tensor, denominators: Tensor) -> Tensor:
    """Return influence [M, N] / denominators [N], and 0 where an example has no gradient: it influences nothing."""
    return torch.where(denominators > 0, influence / denominators, 0.0)


def added(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the sums of all parts, added up in their order."""
    return {method: reduce(torch.add, (part[method] for part in parts)) for method in ADDITIVE_METHODS}


def load_sums(store: Store, units: Sequence[SubsetScoreUnit]) -> dict[str, Tensor]:
    """Return the sums over whole subsets, [M, S] by method, from finished units."""
    return added([read_tensors(store, run_directory.subset_scores(unit.index)) for unit in units])
