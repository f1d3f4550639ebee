"""What is asked of training examples for some queries, and what is found.

Axes: M queries, n training examples, k ranks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from relatif.pipeline.influence.histograms import Histograms
from relatif.pipeline.influence.top_k import TopK
from relatif.schemas.errors import ConfigurationError
from relatif.schemas.methods import DISTANCE, Method, methods_of

LOWEST = "lowest "
"""Before the name of a method whose lowest scores are looked for."""


@dataclass(frozen=True)
class Asked:
    """The ``k`` best by each method, the ``lowest`` scores of those that have a sign, and histograms of all scores."""

    methods: tuple[Method, ...]
    k: int
    lowest: int = 0
    histograms: bool = False

    @property
    def ranks(self) -> int:
        """Return how many ranks are kept while scores come."""
        return max(self.k, self.lowest)

    @property
    def signed(self) -> tuple[Method, ...]:
        """Return the methods whose scores lie on both sides of 0, without those that only turn another's sign."""
        return tuple(each for each in self.methods if each.numerator != DISTANCE and each.sign > 0)

    @property
    def sought(self) -> tuple[Method, ...]:
        """Return what is ranked: the methods, and with their signs turned those whose lowest scores are asked for."""
        turned = [replace(each, name=LOWEST + each.name, sign=-1) for each in self.signed] if self.lowest else []
        return (*self.methods, *turned)


@dataclass(frozen=True, eq=False)
class Found:
    """The best training examples of every query by method, the lowest (rising), and histograms, where asked for."""

    best: Mapping[str, TopK]
    lowest: Mapping[str, TopK]
    histograms: Mapping[str, Histograms]

    @staticmethod
    def joined(parts: Sequence["Found"]) -> "Found":
        """Return what was found for consecutive queries as one value."""
        first = parts[0]
        return Found(
            {name: _joined([part.best[name] for part in parts]) for name in first.best},
            {name: _joined([part.lowest[name] for part in parts]) for name in first.lowest},
            {name: Histograms.joined([part.histograms[name] for part in parts]) for name in first.histograms},
        )


def asked_for(names: Sequence[str], n: int, *, k: int, lowest: int = 0, histograms: bool = False) -> Asked:
    """Return what is asked for by the names of methods, of ``n`` training examples; all of them where k is larger.

    Raises ConfigurationError for unknown methods, and for numbers of examples that make no sense.
    """
    if k < 1 or lowest < 0:
        raise ConfigurationError(f"expected at least 1 example to be asked for, found {min(k, lowest)}; raise it")
    return Asked(methods_of(names), min(k, n), min(lowest, n), histograms)


def sorted_out(asked: Asked, ranked: Mapping[str, TopK], histograms: Mapping[str, Histograms]) -> Found:
    """Return the ranks of ``asked.sought`` as what was asked for."""
    best = {each.name: _first(ranked[each.name], asked.k) for each in asked.methods}
    turned = {each.name: _first(ranked[LOWEST + each.name], asked.lowest) for each in asked.signed if asked.lowest}
    # Zeros keep their sign: none is -0.
    lowest = {name: TopK(0.0 - each.scores, each.indices) for name, each in turned.items()}
    return Found(best, lowest, histograms)


def _first(ranks: TopK, k: int) -> TopK:
    return TopK(ranks.scores[:, :k], ranks.indices[:, :k])


def _joined(parts: Sequence[TopK]) -> TopK:
    return TopK(torch.cat([part.scores for part in parts]), torch.cat([part.indices for part in parts]))
