"""How well an imported model does: figures by hand, and a warning where labels or scales are not the model's."""

from pathlib import Path

import pytest
import torch

from relatif.pipeline.curvature.likelihood import Categorical
from relatif.pipeline.curvature.likelihood_bernoulli import Bernoulli
from relatif.pipeline.curvature.likelihood_dense import DenseCategorical
from relatif.pipeline.curvature.likelihood_gaussian import Gaussian
from relatif.pipeline.curvature.likelihood_tokens import TokenCategorical
from relatif.pipeline.preflight import standing as standing_module
from relatif.pipeline.preflight.looking import look
from relatif.pipeline.preflight.standing import Standing, standing, standing_of
from relatif.pipeline.preflight.text import plan_text
from relatif.pipeline.runs.opening import open_run
from relatif.pipeline.stages.whole_run import WHOLE_RUN
from tests.support.images import CLASSES, PERCEPTRON, perceptron, write_images
from tests.support.runs import config

LABELS = torch.tensor([0, 1, 2, 2, 1, 0, 2, -1])


def scores(predicted: list[int]) -> torch.Tensor:
    return 5 * torch.nn.functional.one_hot(torch.tensor(predicted), 3).double()


def test_accuracy_is_counted_over_labelled_rows_beside_the_most_frequent_class() -> None:
    found = standing_of("test", Categorical(3), scores([0, 1, 2, 2, 1, 1, 2, 0]), LABELS)
    assert found is not None
    assert (found.rows, found.accuracy, found.guess) == (7, 6 / 7, 3 / 7)
    assert found.text == "accuracy 85.7% on 7 row(s) of test (the most frequent class: 42.9%)"
    assert found.warning is None


def test_a_wrong_order_of_labels_is_warned_of() -> None:
    found = standing_of("test", Categorical(3), scores([1, 2, 0, 0, 2, 1, 0, 0]), LABELS)
    assert found is not None
    assert found.accuracy == 0
    assert found.warning is not None
    assert "data.class_names" in found.warning


def test_by_chance_is_told_from_a_weak_model_by_the_number_of_rows() -> None:
    assert Standing("test", 500, 0.53, 1.0, 0.5).at_chance
    assert not Standing("test", 500, 0.6, 1.0, 0.5).at_chance
    assert not Standing("test", 3, 1.0, 0.1, 0.9).at_chance


def test_rows_without_labels_have_no_standing() -> None:
    assert standing_of("test", Categorical(3), scores([0, 0]), torch.tensor([-1, -1])) is None


@pytest.mark.parametrize(("scale", "warned"), [(1.0, False), (200.0, True)])
def test_a_loss_is_compared_with_that_of_the_mean_output(scale: float, warned: bool) -> None:
    targets = torch.randn(40, 2, dtype=torch.float64)
    outputs = scale * (targets + 0.1)
    found = standing_of("test", Gaussian(2), outputs, targets)
    assert found is not None
    assert found.accuracy is None
    assert found.loss == pytest.approx(float(Gaussian(2).losses(outputs, targets).mean()))
    assert (found.warning is not None) is warned


def test_a_regressions_error_is_compared_with_its_variance() -> None:
    targets = torch.tensor([[1.0, 5.0], [torch.nan, 2.0], [0.0, 3.0]], dtype=torch.float64)
    outputs = targets.nan_to_num() + torch.tensor([[6.0, -8.0]])
    squared = (2 * 36 + 3 * 64) / 5

    near, far = (standing_of("test", Gaussian(2, variance), outputs, targets) for variance in (50.0, 1.0))

    assert near is not None
    assert far is not None
    assert near.figures == (f"mean squared error {squared:.4g}, where the likelihood's variance is 50",)
    assert f"error is {squared:.4g}, {squared:.3g} times more than the variance 1," in far.lines[-1]
    assert far.lines[-1].startswith("warning: ")
    assert far.warning is None or far.lines[-2] == far.figures[-1]
    assert Gaussian(2).text.endswith("of variance 1, the default")


def test_tokens_are_counted_one_by_one_without_those_left_out() -> None:
    likelihood = TokenCategorical(4, shift=1)
    targets = torch.tensor([[3, 1, 2, -100], [0, 2, -100, -100]])
    outputs = torch.randn(2, 4, 4, dtype=torch.float64)
    for row, place, word in ((0, 0, 1), (0, 1, 3), (1, 0, 2)):  # of three targets that are predicted, one is missed
        outputs[row, place, word] = 9.0
    loss = torch.nn.functional.cross_entropy(outputs[:, :-1].reshape(-1, 4), targets[:, 1:].reshape(-1))

    found = standing_of("test", likelihood, outputs, targets)

    assert found is not None
    (told,) = found.figures
    assert told == f"accuracy 66.7% and mean loss {loss:.4g} nats of 3 tokens (the most frequent word: 66.7%)"
    assert found.loss == pytest.approx(3 * float(loss) / 2)  # a whole sequence's


def test_pixels_are_counted_one_by_one() -> None:
    outputs = torch.zeros(1, 2, 2, 2, dtype=torch.float64)
    outputs[0, 1, 0] = 3.0
    targets = torch.tensor([[[1, 0], [-100, 0]]])
    loss = torch.nn.functional.cross_entropy(outputs, targets)

    found = standing_of("test", DenseCategorical(2), outputs, targets)

    assert found is not None
    assert found.figures == (
        f"accuracy 66.7% and mean loss {loss:.4g} nats of 3 pixels (the most frequent class: 66.7%)",
    )


def test_labels_are_counted_one_by_one() -> None:
    targets = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, torch.nan], [1.0, 0.0]], dtype=torch.float64)
    outputs = torch.tensor([[2.0, 1.0], [1.0, 1.0], [1.0, 1.0], [3.0, -1.0]], dtype=torch.float64)

    found = standing_of("test", Bernoulli(2), outputs, targets)

    assert found is not None
    assert found.figures == (
        "accuracy 71.4% of 7 labels (each label's more frequent value: 71.4%), label by label 75.0%, 66.7%",
    )


def test_check_shows_it_for_a_checkpoint_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_images(tmp_path / "data", train=60, test=30)
    torch.manual_seed(0)
    torch.save(
        {f"module.{name}": value for name, value in perceptron().build_model().state_dict().items()}, tmp_path / "m.pt"
    )
    base = ("data.shard_rows=50", "score.top_k=5")
    given = config(data, *base, f"model.checkpoint={tmp_path / 'm.pt'}", task=PERCEPTRON)
    run = open_run(given, str(tmp_path / "run"))
    found = standing(run)
    assert found is not None
    assert (found.part, found.rows) == ("test", 30)

    text = plan_text(look(run, WHOLE_RUN))

    assert found.text in text
    assert "nothing is trained, 4 tensors from" in text
    assert ("warning: " in text) is found.at_chance
    assert "training: " not in text
    assert standing(open_run(config(data, *base, task=PERCEPTRON), str(tmp_path / "other"))) is None
    assert CLASSES == 4

    # One row tells how many fit: here four, after which there are more than fit.
    monkeypatch.setattr(standing_module, "OUTPUT_BYTES", 4 * CLASSES * 8)
    few = standing(run)
    assert few is not None
    assert few.rows == 1 + 4
