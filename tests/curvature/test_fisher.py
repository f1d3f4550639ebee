"""Terms of the Fisher: every label with its probability, the data's labels, or labels drawn for each row."""

import pytest
import torch

from relatif.pipeline.curvature.fisher import Fisher, fisher_terms
from relatif.pipeline.curvature.likelihood import Categorical

LOGITS = torch.tensor([[0.0, 1.0, -1.0]], dtype=torch.float64)


def terms(fisher: Fisher, count: int, first_index: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    labels = torch.arange(count) % 3
    return list(fisher_terms(fisher, Categorical(3), LOGITS.expand(count, 3), labels, first_index=first_index))


def test_the_exact_expectation_has_a_term_for_every_label() -> None:
    found = terms(Fisher(), 4)
    assert [targets.tolist() for targets, _ in found] == [[0] * 4, [1] * 4, [2] * 4]
    torch.testing.assert_close(torch.stack([weights for _, weights in found], dim=1), LOGITS.softmax(1).expand(4, 3))


def test_the_empirical_fisher_takes_the_datas_labels() -> None:
    ((targets, weights),) = terms(Fisher("empirical"), 5)
    assert targets.tolist() == [0, 1, 2, 0, 1]
    assert weights.tolist() == [1.0] * 5


def test_drawn_labels_have_the_models_frequencies() -> None:
    count = 40_000
    found = terms(Fisher("sampled", samples=2, seed=1), count)
    assert [weights.unique().tolist() for _, weights in found] == [[0.5], [0.5]]
    for targets, _ in found:
        shares = targets.bincount(minlength=3) / count
        # Four standard deviations of a share are at most 4 * 0.5 / sqrt(count).
        assert (shares - LOGITS.softmax(1)[0]).abs().max() < 2 / count**0.5
    assert (found[0][0] != found[1][0]).any()


@pytest.mark.parametrize("cut", [1, 17])
def test_a_drawn_label_depends_on_the_examples_row_alone(cut: int) -> None:
    fisher = Fisher("sampled", seed=4)
    ((whole, _),) = terms(fisher, 50, first_index=100)
    ((head, _),), ((tail, _),) = terms(fisher, cut, first_index=100), terms(fisher, 50 - cut, first_index=100 + cut)
    assert torch.equal(torch.cat([head, tail]), whole)
    ((other, _),) = terms(Fisher("sampled", seed=5), 50, first_index=100)
    assert not torch.equal(other, whole)


@pytest.mark.parametrize(
    ("fisher", "text"),
    [
        (Fisher(), "exact expectation over the model's labels, inputs of the training set"),
        (Fisher("sampled", 2, 9), "2 label(s) drawn from the model for each training input, seed 9"),
        (Fisher("empirical"), "empirical: labels of the training set"),
    ],
)
def test_tables_say_which(fisher: Fisher, text: str) -> None:
    assert fisher.text == text
