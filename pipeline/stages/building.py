"""The builder of a curvature: how many steps it reports, and the work on the cluster that leaves its factors."""

from collections.abc import Callable
from dataclasses import dataclass

from relatif.pipeline.cluster.session import Cluster
from relatif.pipeline.console import Progress
from relatif.pipeline.curvature.coverage import Coverage
from relatif.pipeline.datasets.shards import Shard
from relatif.pipeline.devices import device_for
from relatif.pipeline.runs.run import Run
from relatif.pipeline.runs.source import Source
from relatif.schemas.config import CurvatureConfig
from relatif.schemas.manifest import FileReceipt


@dataclass(frozen=True)
class Building:
    """What a builder works with: the run, the cluster, and the covered layers."""

    run: Run
    cluster: Cluster
    covered: Coverage

    @property
    def source(self) -> Source:
        """Addresses from which workers load everything."""
        return self.run.source

    @property
    def shards(self) -> tuple[Shard, ...]:
        """The training shards."""
        return self.run.train_shards

    @property
    def config(self) -> CurvatureConfig:
        """The curvature's settings."""
        return self.run.config.curvature

    @property
    def device(self) -> str:
        """Device on which tasks compute gradients."""
        return device_for(self.cluster.gpus)


def _accept(covered: Coverage) -> None:
    """Accept all layers."""


@dataclass(frozen=True)
class Builder:
    """One curvature in eigen form.

    ``steps(building)`` are how many steps it reports, and their plural; ``build(building, progress)`` leaves the
    factors in storage and returns their receipts; ``check(covered)`` raises ConfigurationError where it is too
    large to build.
    """

    steps: Callable[[Building], tuple[int, str]]
    build: Callable[[Building, Progress], list[FileReceipt]]
    check: Callable[[Coverage], None] = _accept
