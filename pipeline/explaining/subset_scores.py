"""Scores summed over subsets of the training set, as durable units of some training shards each.

Axes: M chosen test inputs, N training examples of a shard, S subsets.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from relatif.pipeline.datasets.shards import Shard
from relatif.pipeline.devices import Worker
from relatif.pipeline.explaining.chosen_pairs import ChosenPairs, ChosenPairsPlan, Queries
from relatif.pipeline.parallel import ordered_map
from relatif.pipeline.runs.durable import Made
from relatif.pipeline.storage.store import Store
from relatif.pipeline.storage.tensors import read_proven_tensors, write_tensors
from relatif.schemas import run_directory
from relatif.schemas.methods import INFLUENCE, Method, in_order, methods_of


@dataclass(frozen=True)
class SubsetScoreUnit:
    """Scores of the training examples of ``shards``; ``digest`` is what their sums depend on."""

    index: int
    shards: tuple[Shard, ...]
    digest: str

    @property
    def name(self) -> str:
        """Name in logs and manifests."""
        return f"subset scores {self.index}"

    @property
    def file(self) -> str:
        """Path of the sums."""
        return run_directory.subset_scores(self.index)

    @property
    def manifest(self) -> str:
        """Path of the unit's proof."""
        return run_directory.subset_scores_manifest(self.index)


@dataclass(frozen=True)
class SubsetScorePlan:
    """What all units share: rows ``tests`` of the test set, in rising order, methods by name, and the subsets.

    ``members`` [n, S] bool says which training examples each subset has.
    """

    pairs: ChosenPairsPlan
    tests: tuple[int, ...]
    methods: tuple[str, ...]
    members: Tensor

    def __call__(self, worker: Worker) -> "SubsetScorer":
        """Load model and curvature, and differentiate (and solve for) the test inputs, in an actor."""
        pairs = self.pairs.load(worker)
        return SubsetScorer(self, pairs, list(pairs.queries(self.tests)), worker.pool())


@dataclass(frozen=True)
class SubsetScorer:
    """Adds up scores in float64, shard after shard."""

    plan: SubsetScorePlan
    pairs: ChosenPairs
    queries: Sequence[Queries]
    pool: ThreadPoolExecutor

    def __call__(self, unit: SubsetScoreUnit) -> Made:
        """Compute sum_i score(t, i) over the members i of each subset, [M, S] for each method."""
        parts = list(ordered_map(self._shard, unit.shards, pool=self.pool, ahead=1))
        store = self.pairs.plan.source.store
        return Made((write_tensors(store, unit.file, added(parts), {}),))

    def _shard(self, shard: Shard) -> dict[str, Tensor]:
        explainer, source = self.pairs.explainer, self.pairs.plan.source
        examples = source.examples(explainer.task, shard, explainer.worker.device)
        training = explainer.explain(examples, explained="true", split="train")
        scores = torch.cat([self.pairs.influence(queries, training) for queries in self.queries])
        members = self.plan.members[shard.start : shard.stop].to(scores)
        return {
            method.name: relative(method, scores, training.columns) @ members
            for method in methods_of(self.plan.methods)
        }


def summable(names: Sequence[str]) -> tuple[str, ...]:
    """Return those of the named methods whose scores can be added up, without those that only turn another's sign.

    All have influence as their numerator, which is what is added up.
    """
    added_up = (each for each in methods_of(names) if each.additive and each.numerator == INFLUENCE and each.sign > 0)
    return tuple(method.name for method in added_up)


def relative(method: Method, influence: Tensor, columns: Mapping[str, Tensor]) -> Tensor:
    """Return a method's scores from influence [M, N]: 0 where an example has no gradient, as it influences nothing."""
    if method.denominator is None:
        return influence
    values = columns[method.denominator]
    denominators = values.sqrt() if method.root else values
    return torch.where(denominators > 0, influence / denominators, 0.0)


def added(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the sums of all parts by method, added up in their order; methods come in the order of METHODS."""
    return {method: reduce(torch.add, (part[method] for part in parts)) for method in in_order(parts[0])}


def load_sums(store: Store, units: Sequence[SubsetScoreUnit]) -> dict[str, Tensor]:
    """Return the sums over whole subsets, [M, S] by method, from finished units."""
    return added([read_proven_tensors(store, unit.file, unit.manifest) for unit in units])
