"""Stage factors: per-shard Kronecker sums, tree-reduced, eigendecomposed per layer, written with proof.

Axes: O outputs, I inputs of a layer (bias folded).
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import torch
from torch import Tensor

from relatif.pipeline.cluster.reduction import reduce_shards
from relatif.pipeline.cluster.session import Resources
from relatif.pipeline.cluster.tasks import Reference, gather, share, submit
from relatif.pipeline.console import Progress, progress, say
from relatif.pipeline.curvature.coverage import Coverage, coverage_text
from relatif.pipeline.curvature.eigen import JOINT, Curvature, KroneckerBasis, LayerCurvature, check_positive
from relatif.pipeline.curvature.kronecker import (
    KroneckerSums,
    SpectrumSums,
    eigenbasis,
    kronecker_spectrum,
    kronecker_sums,
    spectrum_sums,
)
from relatif.pipeline.curvature.subject import Examples
from relatif.pipeline.datasets.shards import Shard
from relatif.pipeline.runs.run import Run
from relatif.pipeline.runs.source import Source, curvature_text, source_of
from relatif.pipeline.stages.exact_factors import check_size, exact_factors, exact_steps, load_joint
from relatif.pipeline.storage.manifests import publish_manifest
from relatif.pipeline.storage.store import Store
from relatif.pipeline.storage.tensors import read_tensors, write_tensors
from relatif.schemas import run_directory
from relatif.schemas.config import CurvatureConfig
from relatif.schemas.errors import ModelError
from relatif.schemas.manifest import FileReceipt, Manifest

OUTPUT_BASIS = "eigenbasis_output"
INPUT_BASIS = "eigenbasis_input"
SPECTRUM = "spectrum"

Eigen = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class ShardSums:
    """Computes Kronecker sums shard by shard, or, given eigenbases, the sums of EK-FAC's spectrum."""

    source: Source
    shards: tuple[Shard, ...]
    config: CurvatureConfig
    bases: Mapping[str, KroneckerBasis] = field(default_factory=dict)

    def __call__(self, indices: Sequence[int]) -> Iterator[KroneckerSums | SpectrumSums]:
        """Yield the sums of each shard, in order."""
        task = self.source.load_task()
        subject = self.source.load_subject(task, self.config)
        for index in indices:
            examples = Examples(*self.source.read(task, self.shards[index]), self.shards[index].start)
            if self.bases:
                yield spectrum_sums(subject, examples, self.bases)
            else:
                yield kronecker_sums(subject, examples)


@dataclass(frozen=True)
class SpectrumFromBases:
    """EK-FAC's second pass: the bases come as Ray values, so each task takes them from the object store."""

    sums: ShardSums

    def __call__(self, bases: Mapping[str, KroneckerBasis]) -> ShardSums:
        """Return the computation with its bases."""
        return replace(self.sums, bases=bases)


def factors(run: Run, resources: Resources) -> None:
    """Build the curvature's factors on the cluster and leave them with proof."""
    started = time.monotonic()
    # Asked first: it is also the proof that the checkpoint is there and was made with these settings.
    digest = run.factors_digest()
    config = run.config.curvature
    source = source_of(run)
    task = source.load_task()
    covered = source.coverage(task)
    say(f"factors: {coverage_text(covered)}")
    if config.eigen_method == "exact":
        check_size(covered)
    build = {"kfac": _kfac, "ekfac": _ekfac, "exact": _exact, "identity": _identity}[config.eigen_method]
    total, unit = _steps(run, resources, covered)
    sums = ShardSums(source, run.train_shards, config)
    with progress("factors", total, unit=unit) as shown:
        receipts = build(run, resources, sums, tuple(covered.blocks), shown)
    parameters = json.dumps([asdict(parameter) for parameter in covered.parameters], indent=1).encode()
    receipts.append(run.store.publish_bytes(run_directory.COVERAGE, parameters))
    proof = Manifest(
        work="factors",
        digest=digest,
        outputs=tuple(receipts),
        seconds=round(time.monotonic() - started, 3),
        facts={"method": config.eigen_method, "fisher": curvature_text(task, config)},
    )
    publish_manifest(run.store, run_directory.FACTORS_MANIFEST, proof)


def load_curvature(store: Store, names: Sequence[str], damping: float, *, joint: bool = False) -> Curvature:
    """Return the curvature that ``factors`` left for the layers ``names``, with a damping of one's choice.

    ``joint`` says that it couples all layers (exact). Raises StorageError where a file is missing, ModelError where it
    holds no spectrum, NumericalError where H + lambda I is not positive definite.
    """
    if joint:
        curvature = Curvature({JOINT: load_joint(store)}, damping)
        check_positive(curvature)
        return curvature
    layers = {}
    for name in names:
        tensors = read_tensors(store, run_directory.factor_file(name))
        if SPECTRUM not in tensors:
            raise ModelError(
                f"expected {SPECTRUM!r} for layer {name!r}, found {sorted(tensors)}; run stage factors again"
            )
        basis = KroneckerBasis(tensors[OUTPUT_BASIS], tensors[INPUT_BASIS]) if OUTPUT_BASIS in tensors else None
        layers[name] = LayerCurvature(basis, tensors[SPECTRUM])
    return Curvature(layers, damping)


def load_eigen_form(source: Source, config: CurvatureConfig, device: torch.device | str = "cpu") -> Curvature:
    """Return the curvature in eigen form that the settings ask for, with its damping; raises as ``load_curvature``."""
    names = tuple(source.coverage(source.load_task()).blocks)
    joint = config.eigen_method == "exact"
    return load_curvature(source.store, names, config.eigen_damping, joint=joint).to(device)


Build = Callable[[Run, Resources, ShardSums, tuple[str, ...], Progress], list[FileReceipt]]


def _steps(run: Run, resources: Resources, covered: Coverage) -> tuple[int, str]:
    """Return how many steps the stage reports, and what they are."""
    method = run.config.curvature.eigen_method
    if method == "exact":
        return exact_steps(covered, resources.cpus), "steps"
    return {"kfac": 1, "ekfac": 2, "identity": 0}[method] * len(run.train_shards), "shards"


def _kfac(
    run: Run, resources: Resources, sums: ShardSums, names: tuple[str, ...], shown: Progress
) -> list[FileReceipt]:
    total = _reduced(run, resources, share(sums), shown)
    written = [
        submit(_write_kfac, run.store, name, *(submit(_factor, total, name, side) for side in ("output", "input")))
        for name in names
    ]
    return gather(written, tick=shown.tick)


def _ekfac(
    run: Run, resources: Resources, sums: ShardSums, names: tuple[str, ...], shown: Progress
) -> list[FileReceipt]:
    total = _reduced(run, resources, share(sums), shown)
    eigen = [submit(_factor, total, name, side) for name in names for side in ("output", "input")]
    bases = submit(_bases, names, *eigen)
    spectra = _reduced(run, resources, submit(SpectrumFromBases(sums), bases), shown)
    return gather([submit(_write_ekfac, run.store, name, bases, spectra) for name in names], tick=shown.tick)


def _exact(run: Run, resources: Resources, sums: ShardSums, _: tuple[str, ...], shown: Progress) -> list[FileReceipt]:
    return exact_factors(sums.source, run.train_shards, run.config.curvature, resources, shown)


def _identity(run: Run, _: Resources, sums: ShardSums, names: tuple[str, ...], shown: Progress) -> list[FileReceipt]:
    return gather([submit(_write_identity, run.store, sums.source, name) for name in names], tick=shown.tick)


def _reduced(run: Run, resources: Resources, compute: Reference, shown: Progress) -> Reference:
    return reduce_shards(
        compute,
        len(run.train_shards),
        shards_per_task=run.config.cluster.shards_per_task,
        in_flight=2 * resources.cpus,
        tick=shown.tick,
        done=shown.advance,
    )


def _factor(total: KroneckerSums, name: str, side: str) -> Eigen:
    sums = total.layers[name]
    return eigenbasis(sums.output_moment if side == "output" else sums.input_moment, total.count)


def _bases(names: tuple[str, ...], *eigen: Eigen) -> dict[str, KroneckerBasis]:
    vectors = [basis for _, basis in eigen]
    return {name: KroneckerBasis(vectors[2 * place], vectors[2 * place + 1]) for place, name in enumerate(names)}


def _write_kfac(store: Store, name: str, output: Eigen, input_: Eigen) -> FileReceipt:
    basis = KroneckerBasis(output[1], input_[1])
    return _write(store, name, LayerCurvature(basis, kronecker_spectrum(output[0], input_[0])), "kfac")


def _write_ekfac(store: Store, name: str, bases: Mapping[str, KroneckerBasis], spectra: SpectrumSums) -> FileReceipt:
    return _write(store, name, LayerCurvature(bases[name], spectra.layers[name] / spectra.count), "ekfac")


def _write_identity(store: Store, source: Source, name: str) -> FileReceipt:
    shape = source.coverage(source.load_task()).blocks[name]
    return _write(store, name, LayerCurvature(None, torch.zeros(shape, dtype=torch.float64)), "identity")


def _write(store: Store, name: str, layer: LayerCurvature, method: str) -> FileReceipt:
    tensors = {SPECTRUM: layer.spectrum}
    if isinstance(layer.basis, KroneckerBasis):
        tensors |= {OUTPUT_BASIS: layer.basis.output, INPUT_BASIS: layer.basis.input}
    return write_tensors(store, run_directory.factor_file(name), tensors, {"layer": name, "method": method})
