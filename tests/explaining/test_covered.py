"""Which parameters are explained: asked once, chosen by layers, and said in words."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from relatif.pipeline.curvature.likelihood import Categorical
from relatif.pipeline.datasets.shards import open_dataset
from relatif.pipeline.explaining.covered import coverage_of, curvature_text, load_covered_model
from relatif.pipeline.runs.source import Source
from relatif.pipeline.storage.store import open_store
from relatif.schemas.config import CurvatureConfig
from tests.support.images import PERCEPTRON, perceptron, write_images
from tests.support.proofs import write_checkpoint


def test_a_tasks_model_is_built_once_and_leaves_the_random_numbers_alone() -> None:
    built: list[nn.Module] = []

    def build() -> nn.Module:
        built.append(perceptron().build_model())
        return built[-1]

    task = replace(perceptron(), build_model=build)
    before = torch.get_rng_state()
    assert coverage_of(task, None) is coverage_of(task, None)
    assert len(built) == 1
    assert torch.equal(torch.get_rng_state(), before)
    assert list(coverage_of(task, ("3",)).layers) == ["3"]


def test_the_trained_model_has_gradients_for_the_chosen_layers_alone(tmp_path: Path) -> None:
    data = open_store(write_images(tmp_path / "data", train=60))
    source = Source(open_store(tmp_path / "run"), data, open_dataset(data), PERCEPTRON, layers=("3",))
    write_checkpoint(source.store, perceptron().build_model().state_dict())

    subject = load_covered_model(source, source.load_task(), CurvatureConfig(fisher="sampled", fisher_samples=3))

    trainable = {name for name, parameter in subject.model.named_parameters() if parameter.requires_grad}
    assert trainable == {"3.weight", "3.bias"}
    assert list(subject.coverage.layers) == ["3"]
    assert (subject.fisher.kind, subject.fisher.samples) == ("sampled", 3)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"method": "kfac"}, "exact expectation over the model's labels, inputs of the training set"),
        ({"method": "kfac", "fisher": "empirical"}, "empirical: labels of the training set"),
        ({"method": "identity"}, "none"),
        ({"method": "cg", "denominators": "identity"}, "exact expectation over the model's labels, inputs of the "),
        ({"method": "exact", "exact_matrix": "hessian"}, "none: Hessian of the mean training loss"),
    ],
)
def test_tables_say_what_the_curvature_is(settings: dict[str, str], text: str) -> None:
    assert curvature_text(CurvatureConfig.model_validate(settings), Categorical(3)).startswith(text)
