"""kronfluence's side of the comparison, through its public Analyzer, in float64 throughout.

Axes: M test inputs, N training examples, T positions at which a layer is applied.

kronfluence divides both Kronecker factors of a convolution by N T, where K-FAC's expand form divides the output
gradients' by N: its K-FAC curvature of that layer is 1 / T of the form's, while its EK-FAC, whose spectrum is measured,
is not concerned. Since g' (H / T + lambda / T)^-1 g = T g' (H + lambda)^-1 g, its scores of a layer at damping
lambda / T, divided by T, are those of the expand form at lambda.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from kronfluence.analyzer import Analyzer, prepare_model
from kronfluence.arguments import FactorArguments, ScoreArguments
from kronfluence.task import Task
from torch import Tensor, nn
from torch.utils.data import TensorDataset

FACTOR_BATCH, QUERY_BATCH, TRAIN_BATCH = 250, 200, 250
EXACT = torch.float64


class Classification(Task):
    """Cross-entropy as training loss and as what is explained, summed over a batch as kronfluence asks."""

    def compute_train_loss(self, batch: tuple[Tensor, Tensor], model: nn.Module, sample: bool = False) -> Tensor:
        if sample:
            raise NotImplementedError("expected the empirical Fisher, found a call for sampled labels")
        inputs, labels = batch
        return nn.functional.cross_entropy(model(inputs), labels, reduction="sum")

    def compute_measurement(self, batch: tuple[Tensor, Tensor], model: nn.Module) -> Tensor:
        return self.compute_train_loss(batch, model)


@dataclass(frozen=True)
class Judge:
    """kronfluence's influence of training examples on test inputs; T by layer."""

    analyzer: Analyzer
    train: TensorDataset
    test: TensorDataset
    positions: Mapping[str, int]

    def fit(self, strategy: str) -> None:
        """Fit the factors of ``kfac``, ``ekfac`` or ``identity`` with the empirical Fisher."""
        arguments = FactorArguments(
            strategy=strategy,
            use_empirical_fisher=True,
            activation_covariance_dtype=EXACT,
            gradient_covariance_dtype=EXACT,
            eigendecomposition_dtype=EXACT,
            per_sample_gradient_dtype=EXACT,
            lambda_dtype=EXACT,
        )
        self.analyzer.fit_all_factors(
            strategy, self.train, per_device_batch_size=FACTOR_BATCH, factor_args=arguments, overwrite_output_dir=True
        )

    def by_layer(self, strategy: str, damping: float) -> Mapping[str, Tensor]:
        """Return influence [M, N] through each layer's parameters, by its name."""
        arguments = ScoreArguments(
            damping_factor=damping,
            compute_per_module_scores=True,
            per_sample_gradient_dtype=EXACT,
            precondition_dtype=EXACT,
            score_dtype=EXACT,
        )
        self.analyzer.compute_pairwise_scores(
            scores_name=strategy,
            factors_name=strategy,
            query_dataset=self.test,
            train_dataset=self.train,
            per_device_query_batch_size=QUERY_BATCH,
            per_device_train_batch_size=TRAIN_BATCH,
            score_args=arguments,
            overwrite_output_dir=True,
        )
        return self.analyzer.load_pairwise_scores(strategy)

    def influence(self, strategy: str, damping: float) -> Tensor:
        """Return influence [M, N] as kronfluence gives it."""
        return sum(self.by_layer(strategy, damping).values(), torch.zeros((), dtype=EXACT))

    def expand_form(self, damping: float) -> Tensor:
        """Return K-FAC's influence [M, N] with every layer's curvature and damping in the scale of the expand form."""
        total = torch.zeros((), dtype=EXACT)
        for count in sorted(set(self.positions.values())):
            scores = self.by_layer("kfac", damping / count)
            total = total + sum(scores[name] for name, own in self.positions.items() if own == count) / count
        return total


def judge_of(model: nn.Module, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], out: Path) -> Judge:
    """Prepare a copy of a float64 model and its examples (inputs, labels) for kronfluence, which writes to ``out``."""
    task = Classification()
    prepared = prepare_model(copy.deepcopy(model), task)
    analyzer = Analyzer("judge", prepared, task, cpu=True, disable_tqdm=True, output_dir=str(out))
    return Judge(analyzer, TensorDataset(*train), TensorDataset(*test), positions(model, train[0][:1]))


def positions(model: nn.Module, inputs: Tensor) -> dict[str, int]:
    """Return T of every linear and convolutional layer, seen in a forward pass."""
    found: dict[str, int] = {}

    def recorder(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        return lambda _module, _inputs, output: found.update({name: output[0].numel() // output.shape[1]})

    layers = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}
    handles = [layer.register_forward_hook(recorder(name)) for name, layer in layers.items()]
    with torch.no_grad():
        model(inputs)
    for handle in handles:
        handle.remove()
    return found
