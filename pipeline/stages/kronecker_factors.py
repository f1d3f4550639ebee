"""The layer-wise curvatures: K-FAC, EK-FAC and the identity. Sums are tree-reduced, then decomposed layer by layer.

Axes: O outputs, I inputs of a layer (bias folded).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from relatif.pipeline.cluster.attempts import Limits
from relatif.pipeline.cluster.reduction import Spread, reduce_shards
from relatif.pipeline.cluster.tasks import Reference, Task, gather, settle, share, submit
from relatif.pipeline.console import Progress
from relatif.pipeline.curvature.eigen import KroneckerBasis, LayerCurvature
from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.curvature.kronecker import (
    KroneckerSums,
    SpectrumSums,
    eigenbasis,
    kronecker_spectrum,
    kronecker_sums,
    spectrum_sums,
)
from relatif.pipeline.curvature.model import CoveredModel
from relatif.pipeline.datasets.shards import Shard
from relatif.pipeline.devices import give_back_memory
from relatif.pipeline.explaining.covered import load_covered_model, precision_of
from relatif.pipeline.explaining.stored_curvature import write_layer
from relatif.pipeline.runs.source import Source
from relatif.pipeline.stages.building import Builder, Building
from relatif.pipeline.storage.store import Store
from relatif.schemas.config import CurvatureConfig
from relatif.schemas.manifest import FileReceipt

LARGE_SUMS = 2**28
"""Sums of more bytes are worth the time that giving memory back takes."""

Eigen = tuple[Tensor, Tensor | None]


@dataclass(frozen=True)
class ShardPass:
    """Loads the trained model and yields the examples of shards: what every sum over training shards needs."""

    source: Source
    shards: tuple[Shard, ...]
    config: CurvatureConfig
    device: str

    def examples(self, indices: Sequence[int]) -> Iterator[tuple[CoveredModel, Examples]]:
        """Yield the model with each shard's examples, in order."""
        task = self.source.load_task()
        subject = load_covered_model(self.source, task, self.config, self.device)
        for index in indices:
            yield subject, self.source.examples(task, self.shards[index], self.device)


@dataclass(frozen=True)
class FirstMoments:
    """Computes the Kronecker sums of shards, one by one."""

    shards: ShardPass

    def __call__(self, indices: Sequence[int]) -> Iterator[KroneckerSums]:
        """Yield the sums of each shard, in order."""
        for subject, examples in self.shards.examples(indices):
            sums = kronecker_sums(subject, examples).to("cpu")
            if sums.nbytes > LARGE_SUMS:
                # Before Ray copies them into its store.
                give_back_memory()
            yield sums


@dataclass(frozen=True)
class RotatedSquares:
    """Computes the sums of EK-FAC's spectrum; Ray passes the bases through its object store."""

    shards: ShardPass
    bases: Mapping[str, KroneckerBasis]

    def __call__(self, indices: Sequence[int]) -> Iterator[SpectrumSums]:
        """Yield the sums of each shard, in order."""
        bases = {name: basis.to(self.shards.device) for name, basis in self.bases.items()}
        for subject, examples in self.shards.examples(indices):
            yield spectrum_sums(subject, examples, bases).to("cpu")


def shard_pass(building: Building) -> ShardPass:
    """Return what tasks that sum over shards share."""
    return ShardPass(building.source, building.shards, building.config, building.device)


def reduced(building: Building, compute: Reference, shown: Progress) -> Reference:
    """Return a reference to the sum over all training shards of what ``compute`` yields for each."""
    cluster = building.cluster
    spread = Spread(
        cluster.config.shards_per_task, lambda: 2 * cluster.cores(), cluster.gpus, "factors", cluster.limits
    )
    return reduce_shards(compute, len(building.shards), spread, shown=shown, done=shown.advance)


@dataclass(frozen=True)
class _Calls:
    """Submits functions over the layers of a curvature, and waits for all of them."""

    limits: Limits
    shown: Progress

    def submit(self, what: str, function: Callable[..., Any], *args: Any, returns: int = 1) -> Task:
        return submit(function, *args, name=f"factors {what}", retries=self.limits.retries, returns=returns)

    def settle(self, tasks: Sequence[Task]) -> list[Reference]:
        return settle(tasks, title="factors", limits=self.limits, shown=self.shown)

    def gather(self, tasks: Sequence[Task]) -> list[FileReceipt]:
        return gather(tasks, title="factors", limits=self.limits, shown=self.shown)

    def parts(self, what: str, function: Callable[..., Any], whole: Reference, names: Sequence[str]) -> list[Reference]:
        """Cut a sum into one object for each layer: what works on a layer then loads no other's."""
        return self.settle([self.submit(what, function, whole, tuple(names), returns=len(names))])

    def eigen(self, total: Reference, names: Sequence[str]) -> list[Reference]:
        """Decompose both factors of every layer, the output's before the input's."""
        asked = list(zip(names, self.parts("layers", _layers, total, names), strict=True))
        return self.settle(
            [
                self.submit(f"{name} {side}", _factor, layer, side)
                for name, layer in asked
                for side in ("output", "input")
            ]
        )


def _kfac(building: Building, shown: Progress) -> list[FileReceipt]:
    calls, store = _Calls(building.cluster.limits, shown), building.run.store
    names = tuple(building.covered.blocks)
    eigen = calls.eigen(reduced(building, share(FirstMoments(shard_pass(building))), shown), names)
    pairs = zip(names, eigen[::2], eigen[1::2], strict=True)
    return calls.gather([calls.submit(name, _write_kfac, store, name, *both) for name, *both in pairs])


def _ekfac(building: Building, shown: Progress) -> list[FileReceipt]:
    names, passed = tuple(building.covered.blocks), shard_pass(building)
    calls, store = _Calls(building.cluster.limits, shown), building.run.store
    eigen = calls.eigen(reduced(building, share(FirstMoments(passed)), shown), names)
    (bases,) = calls.settle([calls.submit("bases", _bases, names, *eigen)])
    # A second pass over the data: gradients can be squared in the eigenbases only when these are known.
    (compute,) = calls.settle([calls.submit("second pass", RotatedSquares, passed, bases)])
    spectra = calls.parts("spectra", _spectra, reduced(building, compute, shown), names)
    layers = zip(names, eigen[::2], eigen[1::2], spectra, strict=True)
    return calls.gather([calls.submit(name, _write_ekfac, store, name, *parts) for name, *parts in layers])


def _identity(building: Building, shown: Progress) -> list[FileReceipt]:
    calls, store = _Calls(building.cluster.limits, shown), building.run.store
    blocks, single = building.covered.blocks.items(), precision_of(building.config, building.covered) != "float64"
    return calls.gather([calls.submit(name, _write_identity, store, name, shape, single) for name, shape in blocks])


def _passes(count: int, building: Building) -> tuple[int, str]:
    return count * len(building.shards), "shards"


def _layers(total: KroneckerSums, names: tuple[str, ...]) -> list[KroneckerSums] | KroneckerSums:
    """Return the sums of each layer alone; of one layer the value itself, as Ray takes it."""
    found = [KroneckerSums({name: total.layers[name].single()}, total.count) for name in names]
    return found if len(found) > 1 else found[0]


def _factor(layer: KroneckerSums, side: str) -> Eigen:
    (sums,) = layer.layers.values()
    return eigenbasis(sums.output_moment if side == "output" else sums.input_moment, layer.count)


def _spectra(total: SpectrumSums, names: tuple[str, ...]) -> list[Tensor] | Tensor:
    """Return the spectrum of each layer; of one layer the value itself, as Ray takes it."""
    found = [total.layers[name] / total.count for name in names]
    return found if len(found) > 1 else found[0]


def _bases(names: tuple[str, ...], *eigen: Eigen) -> dict[str, KroneckerBasis]:
    vectors = [basis for _, basis in eigen]
    return {name: KroneckerBasis(vectors[2 * place], vectors[2 * place + 1]) for place, name in enumerate(names)}


def _write_kfac(store: Store, name: str, output: Eigen, input_: Eigen) -> FileReceipt:
    basis = KroneckerBasis(output[1], input_[1])
    return write_layer(store, name, LayerCurvature(basis, kronecker_spectrum(output[0], input_[0])), "kfac")


def _write_ekfac(store: Store, name: str, output: Eigen, input_: Eigen, spectrum: Tensor) -> FileReceipt:
    return write_layer(store, name, LayerCurvature(KroneckerBasis(output[1], input_[1]), spectrum), "ekfac")


def _write_identity(store: Store, name: str, shape: tuple[int, int], single: bool) -> FileReceipt:
    zeros = torch.zeros(shape, dtype=torch.float32 if single else torch.float64)
    return write_layer(store, name, LayerCurvature(None, zeros), "identity")


KFAC = Builder(lambda building: _passes(1, building), _kfac)
EKFAC = Builder(lambda building: _passes(2, building), _ekfac)
IDENTITY = Builder(lambda building: _passes(0, building), _identity)
