"""Float32 and mixed precision against float64: the same gradients and sums, within their rounding."""

import copy

import pytest
import torch

from relatif.pipeline.curvature.capture import forward_pass
from relatif.pipeline.curvature.coverage import coverage
from relatif.pipeline.curvature.kronecker import kronecker_sums
from relatif.pipeline.curvature.model import CoveredModel
from relatif.pipeline.curvature.precision import SINGLE_ABOVE, Single, default_precision, in_precision
from relatif.schemas.errors import ConfigurationError
from tests.support.layered import CASES, subject_and_examples

torch.set_num_threads(1)

SINGLE, MIXED = 1e-4, 0.2
"""Of the largest entry: float32 keeps seven digits of each number, bfloat16 two to three, and layers add up."""


def copied(subject: CoveredModel) -> CoveredModel:
    model = copy.deepcopy(subject.model)
    return CoveredModel(model, coverage(model), subject.likelihood, subject.fisher)


def close(found: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    assert found.dtype == torch.float32 or found.ndim == 1
    assert float((found.double() - expected).abs().max()) <= tolerance * float(expected.abs().max()) + 1e-30


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("mixed", [False, True])
def test_gradients_and_sums_are_those_of_float64(name: str, *, mixed: bool) -> None:
    subject, examples = subject_and_examples(name, "exact", 4)
    single = copied(subject)
    single = CoveredModel(
        Single(single.model.float(), mixed=mixed), single.coverage, subject.likelihood, subject.fisher
    )
    found = []
    for each in (single, subject):
        forward = forward_pass(each.model, examples.inputs, each.coverage)
        assert forward.outputs.dtype == torch.float64
        at_outputs = each.likelihood.gradient(forward.outputs.detach(), examples.targets)
        found.append(forward.gradients(forward.backward(at_outputs)))

    tolerance = MIXED if mixed else SINGLE
    for block, gradients in found[0].items():
        close(gradients.dense(), found[1][block].dense(), tolerance)
    one, other = kronecker_sums(single, examples), kronecker_sums(subject, examples)
    for block, sums in one.layers.items():
        close(sums.input_moment, other.layers[block].input_moment, 3 * tolerance)
        close(sums.output_moment, other.layers[block].output_moment, 3 * tolerance)


def test_float64_is_the_model_itself_and_float32_another() -> None:
    subject, examples = subject_and_examples("tokens", "exact", 2)
    assert in_precision(subject, "float64", "cpu") is subject

    found = in_precision(subject, "float32", "cpu")

    assert not found.model.training
    assert {parameter.dtype for parameter in found.model.parameters()} == {torch.float32}
    assert found.model(examples.inputs).dtype == torch.float64
    assert found.model(examples.inputs.long()).dtype == torch.float64


def test_mixed_precision_is_refused_without_a_gpu() -> None:
    subject, _ = subject_and_examples("tokens", "exact", 2)

    with pytest.raises(ConfigurationError, match=r"^expected a GPU for curvature\.precision = amp, found none; set"):
        in_precision(subject, "amp", "cpu")


def test_large_models_are_float32_by_default() -> None:
    assert [default_precision(SINGLE_ABOVE + more) for more in (0, 1)] == ["float64", "float32"]
