"""Every likelihood passes the audit, and each with a wrong normalization is refused."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from relatif.pipeline.auditing.likelihoods import check_likelihood
from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.curvature.fisher import Fisher
from relatif.pipeline.curvature.likelihood import Categorical, Likelihood, differentiated
from relatif.pipeline.curvature.likelihood_bernoulli import Bernoulli
from relatif.pipeline.curvature.likelihood_dense import DenseCategorical
from relatif.pipeline.curvature.likelihood_gaussian import Gaussian
from relatif.pipeline.curvature.likelihood_tokens import TokenCategorical
from relatif.pipeline.tasks.guarding import guarded_likelihood
from relatif.schemas.errors import ModelError

ROWS = 4
ROUNDING = 1e-9

SHAPES = {"numbers": (3,), "tokens": (5, 6), "pixels": (3, 2, 2)}
RIGHT: dict[str, tuple[Likelihood, str]] = {
    "Gaussian": (Gaussian(3, 0.3), "numbers"),
    "Bernoulli": (Bernoulli(3), "numbers"),
    "TokenCategorical": (TokenCategorical(6), "tokens"),
    "shifted": (TokenCategorical(6, shift=1), "tokens"),
    "DenseCategorical": (DenseCategorical(3), "pixels"),
    "weighted": (Categorical(3, class_weights=(1.0, 2.0, 0.5), label_smoothing=0.1), "numbers"),
}


def problem(likelihood: Likelihood, shape: str) -> tuple[Tensor, Examples]:
    torch.manual_seed(7)
    outputs = torch.randn(ROWS, *SHAPES[shape], dtype=torch.float64)
    classes = likelihood.classes is not None
    given = torch.tensor([0, 1, 2, 0]) if classes else likelihood.sample(outputs, torch.rand(ROWS).double())
    return outputs, Examples(torch.zeros(ROWS, 1), given, 0)


@pytest.mark.parametrize("kind", ["exact", "sampled", "empirical"])
@pytest.mark.parametrize("name", RIGHT)
def test_each_passes(name: str, kind: str) -> None:
    likelihood, shape = RIGHT[name]
    outputs, examples = problem(likelihood, shape)
    found = check_likelihood(likelihood, Fisher(kind), outputs, examples, "train")  # type: ignore[arg-type]
    assert found["total probability"] < ROUNDING
    assert max(found.values()) < ROUNDING


@dataclass(frozen=True)
class WithoutConstant(Gaussian):
    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).square().sum(dim=1) / (2 * self.variance)


@dataclass(frozen=True)
class Penalized(Bernoulli):
    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return super().losses(outputs, targets) + 0.1

    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return super().gradient(outputs, targets)


@dataclass(frozen=True)
class MeanOverTokens(TokenCategorical):
    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return super().losses(outputs, targets) / 2

    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return super().gradient(outputs, targets) / 2


@dataclass(frozen=True)
class MeanOverPixels(DenseCategorical):
    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return super().losses(outputs, targets) / 4

    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return super().gradient(outputs, targets) / 4


WRONG: dict[str, tuple[Likelihood, str]] = {
    "Gaussian": (WithoutConstant(3, 0.3), "numbers"),
    "Bernoulli": (Penalized(3), "numbers"),
    "TokenCategorical": (MeanOverTokens(6), "tokens"),
    "large vocabulary": (MeanOverTokens(1500), "tokens"),
    "shifted": (MeanOverTokens(6, shift=1), "tokens"),
    "DenseCategorical": (MeanOverPixels(3), "pixels"),
}


@pytest.mark.parametrize("name", WRONG)
def test_each_with_a_wrong_normalization_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    likelihood, shape = WRONG[name]
    if name == "large vocabulary":
        monkeypatch.setitem(SHAPES, "tokens", (2, 1500))
    outputs, examples = problem(likelihood, shape)
    with pytest.raises(ModelError, match=r"exp\(-loss\) to sum to 1 over all targets, found .* no negative log"):
        check_likelihood(likelihood, Fisher("sampled"), outputs, examples, "train")


@dataclass(frozen=True)
class AsymmetricLaplace(Gaussian):
    """Normalized, ``pinball loss + log(1 / (q (1 - q)))`` of one output, but with the inherited way to integrate it."""

    quantile: float = 0.9

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        apart = (targets - outputs)[:, 0]
        constant = torch.tensor(self.quantile * (1 - self.quantile), dtype=torch.float64).log()
        return torch.maximum(self.quantile * apart, (self.quantile - 1) * apart) - constant

    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return differentiated(self.losses, outputs, targets)


class Unchecked(AsymmetricLaplace):
    total_probability = None  # type: ignore[assignment]


@pytest.mark.parametrize("guard", [lambda each: each, lambda each: guarded_likelihood(each, "mine")])
def test_an_inherited_rule_that_does_not_fit_is_told_as_that(guard: Callable[[Likelihood], Likelihood]) -> None:
    outputs = torch.tensor([[0.2], [-1.0], [3.0]], dtype=torch.float64)
    examples = Examples(torch.zeros(3, 1), outputs + 1, 0)
    with pytest.raises(
        ModelError,
        match=r"found 0\.\d+ for train example \d: .*or total_probability of Gaussian does not fit the losses of "
        r"AsymmetricLaplace: define it where the losses are defined",
    ):
        check_likelihood(guard(AsymmetricLaplace()), Fisher("empirical"), outputs, examples, "train")
    assert "total probability" not in check_likelihood(
        guard(Unchecked()), Fisher("empirical"), outputs, examples, "train"
    )


@dataclass(frozen=True)
class NotTorchs(Categorical):
    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return super().losses(outputs, targets) * 2

    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return super().gradient(outputs, targets) * 2


def test_a_weighted_loss_that_is_not_torchs_is_refused() -> None:
    likelihood = NotTorchs(3, label_smoothing=0.1)
    outputs, examples = problem(likelihood, "numbers")
    with pytest.raises(ModelError, match="expected torch's cross_entropy with these class_weights"):
        check_likelihood(likelihood, Fisher(), outputs, examples, "train")
