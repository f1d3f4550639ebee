"""Small models with what the references say of them: gradients at every label, and dense undamped curvatures."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from torch import nn

from relatif.pipeline.curvature.eigen import Curvature, KroneckerBasis
from relatif.pipeline.curvature.forms import LayerGradients
from tests.reference import fisher, mlp, problems, scores
from tests.reference.softmax import Array
from tests.support.curvatures import gradients_of

MODELS = {
    "softmax regression": ((6, 4), "tanh"),
    "two layers": ((5, 4, 3), "tanh"),
    "three layers": ((5, 6, 4, 3), "relu"),
}
"""Widths and activation."""


@dataclass(frozen=True)
class Explained:
    """A model with its examples; gradients ``[N, P]`` and ``[M, P]`` are the reference's."""

    model: nn.Module
    problem: problems.MlpProblem
    classes: int
    train: Array
    test: Array
    passed: mlp.MlpPass
    class_gradients: list[Array]

    def undamped(self, method: str, curvature: Curvature) -> Array:
        """Return H, ``[P, P]``; of ``curvature`` only EK-FAC's bases are taken.

        The dead units of ReLU leave eigenvalues that are equal, and EK-FAC is then defined only in a given basis.
        """
        if method == "kfac":
            return fisher.kfac_curvature(self.passed.inputs, self.passed.class_deltas, self.passed.probabilities)
        if method == "exact":
            return fisher.fisher(np.concatenate(self.class_gradients, axis=2), self.passed.probabilities)
        if method == "identity":
            return fisher.identity_curvature(self.train.shape[1])
        blocks = []
        for block, gradients in zip(curvature.blocks.values(), self.class_gradients, strict=True):
            assert isinstance(block.basis, KroneckerBasis)
            assert block.basis.output is not None
            assert block.basis.input is not None
            basis = np.kron(block.basis.output.numpy(), block.basis.input.numpy())
            spectrum = fisher.ekfac_spectrum(gradients, self.passed.probabilities, basis)
            blocks.append(fisher.eigen_form(basis, spectrum))
        return fisher.block_diagonal(blocks)

    def inverse(self, method: str, curvature: Curvature) -> Array:
        """Return ``(H + lambda I)^-1`` by explicit inversion."""
        return fisher.damped_inverse(self.undamped(method, curvature), curvature.damping)

    def rotated(self, curvature: Curvature, split: str) -> dict[str, LayerGradients]:
        """Return the pipeline's Q'g of ``train`` or ``test`` examples."""
        inputs, labels = getattr(self.problem, f"{split}_inputs"), getattr(self.problem, f"{split}_labels")
        return curvature.rotate(gradients_of(self.model, inputs, labels))

    def scores(self, inverse: Array) -> dict[str, Array]:
        """Return the scores of all methods but the one by distance, ``[M, N]``."""
        return {
            "gradient_cosine": scores.gradient_cosine(self.test, self.train),
            "negative_influence": -scores.influence(inverse, self.test, self.train),
            "influence": scores.influence(inverse, self.test, self.train),
            "theta_relatif": scores.theta_relatif(inverse, self.test, self.train),
            "l_relatif": scores.l_relatif(inverse, self.test, self.train),
        }


@cache
def explained(name: str) -> Explained:
    """Return one of ``MODELS``."""
    widths, activation = MODELS[name]
    problem = problems.random_mlp(4, widths=widths, activation=activation)
    passed = mlp.run_mlp(problem.layers, problem.train_inputs, activation=activation)
    class_gradients = mlp.mlp_class_gradients(passed)
    of_tests = mlp.mlp_class_gradients(mlp.run_mlp(problem.layers, problem.test_inputs, activation=activation))
    return Explained(
        model=mlp.torch_mlp(problem.layers, activation=activation),
        problem=problem,
        classes=widths[-1],
        train=mlp.label_gradients(class_gradients, problem.train_labels),
        test=mlp.label_gradients(of_tests, problem.test_labels),
        passed=passed,
        class_gradients=class_gradients,
    )
