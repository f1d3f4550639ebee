"""Leave-one-out's objective, against ridge regression in closed form, and retraining from scratch."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from relatif.pipeline.tasks.retraining import FromScratch, leave_one_out_config
from relatif.schemas.config import TrainConfig
from tests.support.held import held
from tests.tasks.test_logistic import task_of

ROWS, WIDTH, DECAY = 12, 3, 0.25


@pytest.mark.parametrize("row", [0, 5, 11])
def test_the_recipes_objective_on_fewer_examples_has_the_optimum_of_eq_5(row: int) -> None:
    generator = np.random.default_rng(0)
    inputs, targets = generator.standard_normal((ROWS, WIDTH)), generator.standard_normal(ROWS)
    kept = np.delete(np.arange(ROWS), row)
    # Eq. 5: 1 / n sum_{j != i} (x_j' theta - y_j)^2 / 2 + decay / 2 ||theta||^2, by its normal equations.
    moment, side = inputs[kept].T @ inputs[kept] / ROWS, inputs[kept].T @ targets[kept] / ROWS
    expected = np.linalg.solve(moment + DECAY * np.eye(WIDTH), side)

    config = leave_one_out_config(TrainConfig(weight_decay=DECAY, seed=3), ROWS)
    mean, mean_side = inputs[kept].T @ inputs[kept] / len(kept), inputs[kept].T @ targets[kept] / len(kept)
    found = np.linalg.solve(mean + config.weight_decay * np.eye(WIDTH), mean_side)

    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert config == TrainConfig(weight_decay=config.weight_decay, seed=3), "nothing else changes"


def test_from_scratch_is_the_tasks_own_recipe_on_what_it_is_given() -> None:
    seen = []

    def recipe(task, data, config):
        seen.append((data.rows, config))
        return {"weight": torch.ones(1)}

    task = replace(task_of(2, 2), train=recipe)
    config = TrainConfig(seed=4)
    with held(torch.zeros(6, 2), torch.zeros(6, dtype=torch.int64)) as data:
        assert FromScratch().prepare(task, data, config, {"weight": torch.zeros(1)}) == {}
        assert FromScratch().run(task, data.without(2), config, {})["weight"] == 1
    assert seen == [(5, config)]
