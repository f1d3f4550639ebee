"""Which measurement the settings mean: defaults, refusals, functions of the user's, and what tables say of it."""

from pathlib import Path

import pytest
import torch

from relatif.pipeline.curvature.likelihood import Categorical
from relatif.pipeline.curvature.likelihood_gaussian import Gaussian
from relatif.pipeline.explaining.measured import (
    load_measurement,
    measured_text,
    measurement_code,
    measurement_name,
    sign_text,
)
from relatif.schemas.config import ScoreConfig
from relatif.schemas.errors import ConfigurationError, TaskError

MODULE = """
def spread(outputs, targets):
    return outputs.amax(dim=1) - outputs.amin(dim=1)


def broken(outputs, targets):
    raise ValueError("no such thing")


number = 3
"""


def config(**settings: object) -> ScoreConfig:
    return ScoreConfig.model_validate(settings)


def test_the_loss_is_measured_but_of_a_regressions_own_prediction() -> None:
    assert measurement_name(config(), Categorical(3)) == "loss"
    assert measurement_name(config(), Gaussian(2)) == "output"
    assert measurement_name(config(explained_label=1), Gaussian(2)) == "output"
    assert measurement_name(config(explained_label="true"), Gaussian(2)) == "loss"
    assert measurement_name(config(measurement="margin"), Categorical(3)) == "margin"


@pytest.mark.parametrize(
    ("settings", "likelihood", "message"),
    [
        ({"measurement": "margin"}, Gaussian(2), "to be loss, output or module:function"),
        ({"measurement": "output"}, Categorical(3), "to be loss, logit, margin or module:function"),
        ({"measurement": "loss"}, Gaussian(2), "at its own prediction the loss has no gradient"),
        ({"measurement": "no_such_module:f"}, Categorical(3), "to import module 'no_such_module' of score.measurement"),
        ({"measurement": "math:no_such"}, Categorical(3), "expected a function 'no_such' in module 'math'"),
    ],
)
def test_what_makes_no_sense_is_refused(settings: dict, likelihood: Categorical | Gaussian, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        measurement_name(config(**settings), likelihood)


@pytest.mark.parametrize("wrong", ["lossy", "a:", ":b", "a:b:c", "a b:c"])
def test_other_names_are_no_settings(wrong: str) -> None:
    with pytest.raises(ValueError, match="measurement"):
        config(measurement=wrong)


def test_a_users_function_is_loaded_guarded_and_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_measurements.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    outputs = torch.tensor([[1.0, 4.0], [2.0, 2.5]], dtype=torch.float64)
    found = load_measurement("my_measurements:spread", Categorical(2))
    assert found.values(outputs, torch.zeros(2)).tolist() == [-3.0, -0.5]
    assert found.gradient(outputs, torch.zeros(2)).tolist() == [[1.0, -1.0], [1.0, -1.0]]
    with pytest.raises(TaskError, match="ValueError: no such thing"):
        load_measurement("my_measurements:broken", Categorical(2)).values(outputs, torch.zeros(2))
    with pytest.raises(ConfigurationError, match="a function 'number'"):
        load_measurement("my_measurements:number", Categorical(2))
    (code,) = measurement_code(config(measurement="my_measurements:spread"))
    (tmp_path / "my_measurements.py").write_text(MODULE.replace("amax", "mean"))
    assert measurement_code(config(measurement="my_measurements:spread")) != [code]
    assert measurement_code(config(measurement="logit")) == measurement_code(config()) == []


def test_tables_say_what_is_explained() -> None:
    assert measured_text("loss", config()) == "loss of the predicted target"
    assert measured_text("output", config()).startswith("output of the predicted target, as the loss has no gradient")
    assert measured_text("margin", config(measurement="margin", explained_label=2)) == "margin of label or output 2"
    assert sign_text("loss").endswith("lowers the test input's loss")
    assert sign_text("logit").endswith("raises the test input's logit")
