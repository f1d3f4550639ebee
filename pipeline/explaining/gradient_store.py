"""Training gradients in a run's directory, in blocks of rows: how they are made, and how they are opened.

A block holds what explains a further input without a pass over the training set: gradients over their lengths, rounded
(``influence.rounded``), with what the rounding changed; columns that denominators are made of; the model's inputs,
rounded, for distances; and the examples as the data stores them, from which those that matter are scored exactly.
Axes: N examples of a block.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from relatif.pipeline import inputs as batches
from relatif.pipeline.curvature.eigen import Curvature
from relatif.pipeline.curvature.forms import LayerGradients
from relatif.pipeline.datasets.shards import StoredExamples
from relatif.pipeline.explaining.examples import ExplainedExamples
from relatif.pipeline.influence.rounded import Rounded, RoundedFeatures, rounded, rounded_features, rounding_errors
from relatif.pipeline.inputs import Inputs, from_named, named
from relatif.pipeline.inputs import features as numbers_of
from relatif.pipeline.runs.run import Run
from relatif.pipeline.storage.manifests import AGAIN, read_manifest
from relatif.pipeline.storage.row_blocks import INDEX, BlockFile, open_blocks
from relatif.schemas import run_directory
from relatif.schemas.errors import ConfigurationError, StorageError
from relatif.schemas.manifest import Manifest
from relatif.schemas.methods import GRADIENT, INFLUENCE

DENSE, OUTPUTS, INPUTS = "dense", "outputs ", "inputs "
FEATURES, FEATURE_ERRORS, FEATURE_SQUARES = "features", "feature_errors", "feature_squares"
STORED, TARGETS = "stored", "targets"
ERRORS = "errors "
NORMS = ("gradient_norm", "theta_norm", "self_influence")
"""Columns of ``train_examples`` that denominators and lengths are made of, float64."""

FORMAT = "1"

SCORE_PROOF = run_directory.stage_manifest("score")


def facts_of(stage_digest: str, dtype: str) -> dict[str, str]:
    """Return what a file's index says of its origin."""
    return {"format": FORMAT, "stage": stage_digest, "dtype": dtype}


@dataclass(frozen=True)
class StoredForm:
    """How gradients are stored: their type, and C [O, I] by layer for influence, None where it is solved for."""

    dtype: torch.dtype
    curvature: Curvature | None

    def weights(self, numerator: str, gradients: Mapping[str, LayerGradients]) -> dict[str, Tensor]:
        """Return C by layer for a numerator: ones for plain inner products, and where solutions carry the inverse."""
        if numerator == INFLUENCE and self.curvature is not None:
            return {name: self.curvature.inverse(name) for name in gradients}
        return {name: each.ones() for name, each in gradients.items()}


def encoded(training: ExplainedExamples, stored: StoredExamples, form: StoredForm) -> dict[str, Tensor]:
    """Return what is stored of training examples, tensors [N, ...] by name; raises as ``require_storable``."""
    gradients = training.gradients
    require_storable(gradients)
    lengths = training.columns["gradient_norm"].double()
    kept = rounded(gradients, lengths, form.dtype)
    shown = rounded_features(numbers_of(training.inputs), form.dtype)
    found = {} if kept.dense is None else {DENSE: kept.dense}
    for name, (outputs, inputs) in kept.factored.items():
        found |= {OUTPUTS + name: outputs, INPUTS + name: inputs}
    numerators = (INFLUENCE, GRADIENT)
    errors = rounding_errors(gradients, lengths, kept, [form.weights(each, gradients) for each in numerators])
    found |= {ERRORS + name: values for name, values in zip(numerators, errors, strict=True)}
    found |= {name: training.columns[name].double() for name in NORMS}
    found |= {FEATURES: shown.values, FEATURE_ERRORS: shown.errors, FEATURE_SQUARES: shown.squares}
    found |= {STORED + name: values for name, values in named(stored.inputs).items()}
    return {**found, TARGETS: stored.labels}


def require_storable(gradients: Mapping[str, LayerGradients]) -> None:
    """Raise ConfigurationError for a layer whose gradients are kept as factors of many positions or words."""
    wide = [name for name, each in gradients.items() if not each.is_held]
    if wide:
        raise ConfigurationError(
            f"expected layers whose gradients are held entry by entry, or as one outer product, for "
            f"score.gradient_store = true, found {', '.join(wide)}, which are kept by position or word; leave the "
            f"setting out (explanations then take a pass over the training set), or choose layers by curvature.layers"
        )


@dataclass(frozen=True, eq=False)
class StoredBlock:
    """A block as it is read: rows ``first`` on, and its tensors."""

    first: int
    tensors: Mapping[str, Tensor]

    @property
    def rows(self) -> int:
        """Number of rows N."""
        return len(self.tensors[TARGETS])

    @property
    def gradients(self) -> Rounded:
        """The gradients over their lengths."""
        names = [name.removeprefix(OUTPUTS) for name in self.tensors if name.startswith(OUTPUTS)]
        pairs = {name: (self.tensors[OUTPUTS + name], self.tensors[INPUTS + name]) for name in names}
        return Rounded(self.tensors.get(DENSE), pairs)

    @property
    def features(self) -> RoundedFeatures:
        """The model's inputs."""
        return RoundedFeatures(*(self.tensors[name] for name in (FEATURES, FEATURE_ERRORS, FEATURE_SQUARES)))

    @property
    def columns(self) -> dict[str, Tensor]:
        """The norms [N] by name."""
        return {name: self.tensors[name] for name in NORMS}

    def examples(self, rows: Sequence[int]) -> tuple[Inputs, Tensor]:
        """Return some rows, counted in the data set, as they are stored there, with their targets."""
        places = torch.tensor(rows) - self.first
        inputs = from_named(
            {name.removeprefix(STORED): values for name, values in self.tensors.items() if name.startswith(STORED)}
        )
        return batches.rows(inputs, places), self.tensors[TARGETS][places]


@dataclass(frozen=True, eq=False)
class GradientStore:
    """The files of a run's gradients, in the order of rows."""

    files: tuple[BlockFile, ...]
    dtype: torch.dtype

    @property
    def factored(self) -> tuple[str, ...]:
        """The layers whose gradients are factors."""
        names = (column.name for column in self.files[0].index.columns)
        return tuple(name.removeprefix(OUTPUTS) for name in names if name.startswith(OUTPUTS))

    @property
    def places(self) -> list[tuple[int, int]]:
        """The number of a file and of a block in it, for every block."""
        return [(file, block) for file, each in enumerate(self.files) for block in range(len(each.index.blocks))]

    def read(self, place: tuple[int, int]) -> StoredBlock:
        """Return a block, verified; StorageError where it is not as it was written."""
        file = self.files[place[0]]
        return StoredBlock(file.index.blocks[place[1]].first, file.read(place[1]))

    def examples(self, rows: Sequence[int]) -> tuple[Inputs, Tensor]:
        """Return the stored inputs [R, ...] and targets [R] of some rows, given in rising order."""
        inputs, targets = [], []
        for block, some in self._grouped(rows):
            found = self.read(block).examples(some)
            inputs.append(found[0])
            targets.append(found[1])
        return batches.joined(inputs), torch.cat(targets)

    def _grouped(self, rows: Sequence[int]) -> Iterator[tuple[tuple[int, int], Sequence[int]]]:
        start = 0
        for place in self.places:
            block = self.files[place[0]].index.blocks[place[1]]
            stop = start
            while stop < len(rows) and rows[stop] < block.first + block.rows:
                stop += 1
            if stop > start:
                yield place, rows[start:stop]
            start = stop


def open_gradients(run: Run) -> GradientStore | None:
    """Return the gradients that a run's score stage left, None where it left none.

    Raises StorageError where they are not those that its proof names, or were made from another model or curvature than
    those that are there.
    """
    store = run.store
    if not run.config.score.gradient_store or not store.exists(SCORE_PROOF):
        return None
    proof = read_manifest(store, SCORE_PROOF)
    _require_same(run, proof)
    paths = sorted(each.path for each in proof.outputs if each.path.startswith(f"{run_directory.GRADIENTS}/"))
    files = [open_blocks(store, proof.outputs, path) for path in paths if not path.endswith(INDEX)]
    expected = facts_of(proof.digest, run.config.score.gradient_store_dtype)
    row = 0
    for file in files:
        for block in file.index.blocks:
            if dict(file.index.facts) != expected or block.first != row:
                raise StorageError(
                    f"expected gradients of the score stage in {store.describe(file.path)}, rows from {row} on, found "
                    f"those of another; {AGAIN}"
                )
            row += block.rows
    if row != run.scored_rows:
        raise StorageError(
            f"expected the gradients of {run.scored_rows} examples in {store.describe(run_directory.GRADIENTS)}, found "
            f"{row}; {AGAIN}"
        )
    return GradientStore(tuple(files), getattr(torch, run.config.score.gradient_store_dtype))


def _require_same(run: Run, proof: Manifest) -> None:
    """Raise StorageError where the score stage was made from another checkpoint or curvature than is there."""
    there = {"train": run_directory.CHECKPOINT_MANIFEST, "factors": run_directory.FACTORS_MANIFEST}
    for stage, path in there.items():
        if proof.made_from.get(stage) != read_manifest(run.store, path).hashes:
            raise StorageError(
                f"expected results of stage score in {run.store.describe()} that were made from the results of stage "
                f"{stage} there, found those of another; {AGAIN}"
            )
