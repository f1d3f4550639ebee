"""The worked example of a text classifier, cut to fewer parameters, against a dense reference."""

import importlib.util
import tomllib
from pathlib import Path
from types import ModuleType

import torch
from torch.nn import functional
from transformers import DistilBertForSequenceClassification

from relatif.pipeline import inputs as batches
from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.curvature.likelihood import Categorical
from relatif.pipeline.datasets.shards import read_shard, read_shard_ids
from relatif.pipeline.runs.opening import open_run
from relatif.schemas.config import RunConfig
from tests.support.example_scores import Reference, assert_agree, class_terms, pipeline_scores, reference_scores
from tests.support.own_tasks import EXAMPLES

WIDTH, DAMPING = 8, 0.01
TEXTS = {"train": ["a warm film", "dull and cold", "the very boring plot is weak", "funny"], "test": ["moving cast"]}
LABELS = {"train": ["positive", "negative", "negative", "positive"], "test": ["positive"]}


def make_data() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_reviews", EXAMPLES / "text_classifier" / "make_data.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_scores_of_texts_in_a_csv_are_those_of_the_explicit_inverse(tmp_path: Path) -> None:
    user = make_data()
    tokenizer = user.words()
    torch.manual_seed(0)
    model = DistilBertForSequenceClassification(user.small(len(tokenizer), WIDTH)).double().eval()
    for part, texts in TEXTS.items():
        lines = [
            f"{part}-{row},{text},{label}" for row, (text, label) in enumerate(zip(texts, LABELS[part], strict=True))
        ]
        (tmp_path / f"{part}.csv").write_text("\n".join(["review,text,label", *lines]))
    tokenizer.save_pretrained(tmp_path / "classifier")
    model.save_pretrained(tmp_path / "classifier")

    settings = tomllib.loads((EXAMPLES / "text_classifier/text_classifier.toml").read_text())
    settings |= {"model": {"checkpoint": str(tmp_path / "classifier")}}
    settings["data"] |= {"source": str(tmp_path)}
    run = open_run(RunConfig.model_validate(settings), str(tmp_path / "run"))
    store, dataset = run.data, run.dataset
    assert dataset.class_names == user.LABELS
    assert dataset.description.inputs[0].shape == (user.LENGTH,)
    assert "layers" not in settings["curvature"]
    shards = {part: dataset.shards(part, rows=100)[0] for part in TEXTS}
    assert read_shard_ids(store, dataset, shards["train"]) == [f"train-{row}" for row in range(4)]
    train, test = (_examples(read_shard(store, dataset, shard)) for shard in shards.values())
    found = pipeline_scores(model, Categorical(len(user.LABELS)), train, test, DAMPING)

    read = {
        part: dict(tokenizer(texts, padding="max_length", max_length=user.LENGTH, return_tensors="pt"))
        for part, texts in TEXTS.items()
    }
    own = {part: {name: read[part][name] for name in ("input_ids", "attention_mask")} for part in read}
    targets = torch.tensor([user.LABELS.index(label) for label in LABELS["train"]])
    reference = Reference(model, functional.cross_entropy, class_terms)
    expected = reference_scores(
        reference, (own["train"], targets), own["test"], DAMPING, lambda outputs: outputs.argmax(dim=1)
    )
    assert_agree(found, expected)


def _examples(stored) -> Examples:
    return Examples(batches.moved(stored.inputs, "cpu", torch.float64), stored.labels, 0)
