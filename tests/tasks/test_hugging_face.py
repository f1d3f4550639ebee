"""The model of a Hugging Face folder as a task."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from relatif.pipeline.curvature.likelihood import Categorical
from relatif.pipeline.curvature.likelihood_bernoulli import Bernoulli
from relatif.pipeline.curvature.likelihood_gaussian import Gaussian
from relatif.pipeline.curvature.likelihood_tokens import TokenCategorical
from relatif.pipeline.tasks.imported import imported
from relatif.pipeline.tasks.named import NamedModel
from relatif.pipeline.tasks.task import Task, load_task
from relatif.schemas.errors import ConfigurationError
from relatif.schemas.model_config import ModelConfig


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, num_labels=3,
        max_position_embeddings=6,
    )  # fmt: skip
    model = transformers.BertForSequenceClassification(config).eval()
    made = tmp_path_factory.mktemp("bert")
    model.save_pretrained(made)
    return made, model


def named(folder: Path, **settings: object) -> Task:
    return load_task("hugging_face", NamedModel(ModelConfig(checkpoint=str(folder), **settings)))


def test_the_folder_is_the_task(folder: tuple[Path, nn.Module]) -> None:
    task = named(folder[0])
    assert task.likelihood == Categorical(3)
    model = task.build_model().eval()
    model.load_state_dict(imported(task, str(folder[0])).state)
    tokens = {"input_ids": torch.tensor([[1, 2, 3]]), "attention_mask": torch.tensor([[1, 1, 0]])}
    torch.testing.assert_close(model(**tokens).logits, folder[1](**tokens).logits)


def changed(folder: Path, target: Path, **changes: object) -> Path:
    content = json.loads((folder / "config.json").read_text()) | changes
    (target / "config.json").write_text(json.dumps(content))
    return target


@pytest.mark.parametrize(
    ("changes", "settings", "expected"),
    [
        ({"problem_type": "multi_label_classification"}, {}, Bernoulli(3)),
        ({"problem_type": "regression"}, {"variance": 2.0}, Gaussian(3, 2.0)),
        ({"id2label": {"0": "x"}, "label2id": {"x": 0}}, {}, Gaussian(1)),
        ({"architectures": ["BertForTokenClassification"]}, {}, TokenCategorical(3)),
        ({"architectures": ["BertLMHeadModel"]}, {"ignore_index": -1}, TokenCategorical(20, -1, shift=1)),
    ],
)
def test_the_configuration_tells_the_likelihood(
    folder: tuple[Path, nn.Module],
    tmp_path: Path,
    changes: dict[str, object],
    settings: dict[str, object],
    expected: object,
) -> None:
    assert named(changed(folder[0], tmp_path, **changes), **settings).likelihood == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architectures": ["BertForMaskedLM"]}, "one architecture that ends in .* found BertForMaskedLM; write a"),
        ({"architectures": None}, "one architecture that ends in .* found none"),
        ({"architectures": ["NoSuchForSequenceClassification"]}, "found none; install the version that has it"),
    ],
)
def test_other_architectures_are_refused(
    folder: tuple[Path, nn.Module], tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        named(changed(folder[0], tmp_path, **changes))


def test_a_task_without_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"to be a model folder with config.json .* found none; name"):
        load_task("hugging_face")
    with pytest.raises(ConfigurationError, match=r"found no config.json in"):
        named(tmp_path)
