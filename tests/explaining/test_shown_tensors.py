"""What a notebook shows of explained tensors is what the explanation holds."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import relatif
from relatif.pipeline.explaining.fitting import Explanation
from relatif.pipeline.explaining.shown_tensors import EXAMPLES, HARMS, INPUTS, shown_inputs
from relatif.pipeline.showing.shown import Shown, amount, cell

torch.set_num_threads(1)


def shown(found: Explanation) -> list[Shown]:
    assert found.inputs is not None
    scores = {name: found.scores(name) for name in ("influence", "l_relatif")}
    return shown_inputs(scores, found.influence, (found.test, found.train), found.inputs, found.measurement)


def classes(shape: tuple[int, ...], count: int = 12) -> tuple[Explanation, Tensor]:
    torch.manual_seed(0)
    inputs, labels = torch.randn(20, *shape), torch.randint(3, (20,))
    model = nn.Sequential(nn.Flatten(), nn.Linear(inputs[0].numel(), 3))
    made = relatif.fit(model, relatif.Categorical(3), inputs, labels, method="identity")
    return made.explain(torch.randn(count, *shape)), inputs


@pytest.mark.parametrize("shape", [(8, 9), (1, 8, 9), (3, 8, 9)])
def test_pictures_are_scaled_alike_and_ranked_as_the_scores(shape: tuple[int, ...]) -> None:
    found, inputs = classes(shape)
    every = shown(found)
    assert len(every) == INPUTS
    low, high = inputs.min(), inputs.max()
    for row, each in enumerate(every):
        for method in each.methods:
            values, rows = found.top(method.name, k=20)
            assert [helper.index for helper in method.helps] == rows[row, :EXAMPLES].tolist()
            assert [helper.score for helper in method.helps] == values[row, :EXAMPLES].tolist()
            harms = [int(place) for place, value in zip(rows[row], values[row], strict=True) if value < 0]
            assert [helper.index for helper in method.harms] == harms[::-1][:HARMS]
            for helper in (*method.helps, *method.harms):
                assert helper.effect == pytest.approx(float(found.influence[row, helper.index]) / 20)
                assert helper.label == str(int(found.train["label"][helper.index]))
                pixels = (255 * (inputs[helper.index].double() - low) / (high - low)).round().numpy()
                shaped = pixels.transpose(1, 2, 0) if shape[0] == 3 else pixels.reshape(8, 9)
                assert np.abs(helper.media.picture.astype(int) - shaped).max() <= 1  # type: ignore[union-attr]
        assert dict(each.facts)["explained"] == str(int(found.test["explained_label"][row]))


def test_few_numbers_are_a_row_and_many_are_nothing() -> None:
    found, inputs = classes((4,), count=2)
    (first, _) = shown(found)
    helper = first.methods[0].helps[0]
    assert helper.media.row == tuple(
        (str(place), cell(value)) for place, value in enumerate(inputs[helper.index].tolist())
    )
    found, _ = classes((60,), count=1)
    assert shown(found)[0].methods[0].helps[0].media.row is None


def test_a_regression_tells_targets_and_what_its_output_does() -> None:
    torch.manual_seed(0)
    inputs, targets = torch.randn(20, 3), torch.randn(20, 1)
    made = relatif.fit(nn.Linear(3, 1), relatif.Gaussian(), inputs, targets, method="exact")
    found = made.explain(torch.randn(1, 3), torch.full((1, 1), float("nan")))
    (only,) = shown(found)
    assert only.meaning.startswith("effect: leaving the example out would lower its output by about so much")
    assert dict(only.facts)["target"] == "", "it is not known"
    helper = only.methods[0].helps[0]
    assert helper.label == f"{cell(float(targets[helper.index]))}, predicted " + cell(
        float(found.train["prediction"][helper.index])
    )
    html = found._repr_html_()
    assert html is not None
    assert amount(helper.effect, "") in html


def test_an_explanation_without_its_inputs_shows_nothing() -> None:
    assert Explanation(torch.zeros(1, 2), {}, {})._repr_html_() is None
