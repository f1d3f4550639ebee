"""The worked example of LoRA adapters, cut to fewer parameters, against a dense reference."""

import pyarrow as pa
import pytest
import torch
from torch.nn import functional

from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.inputs import rows
from tests.support.example_scores import Reference, assert_agree, class_terms, pipeline_scores, reference_scores
from tests.support.examples import example
from tests.support.rows import ready

pytest.importorskip("transformers")
pytest.importorskip("peft")

WIDTH, DAMPING = 8, 0.01
TEXTS = ["a cat", "the house", "my dog", "a river", "the cat", "my house", "a dog"]
TESTS = 2


def test_scores_of_adapters_are_those_of_the_explicit_inverse() -> None:
    module = example("lora")
    torch.manual_seed(0)
    model = ready(module.build_model(WIDTH))
    kinds = [module.CLASSES[number % 2] for number in range(len(TEXTS))]
    read = module.read(pa.RecordBatch.from_pydict({"text": TEXTS, "kind": kinds}))
    last = len(TEXTS) - TESTS
    train = Examples(rows(read.inputs, slice(0, last)), read.targets[:last], 0)
    test = Examples(rows(read.inputs, slice(last, None)), read.targets[last:], 0)

    found = pipeline_scores(model, module.task().likelihood, train, test, DAMPING)

    reference = Reference(model, functional.cross_entropy, class_terms)
    assert {name.rsplit(".", 3)[1] for name in reference.parameters if "base_model" in name} == {"lora_A", "lora_B"}
    expected = reference_scores(
        reference, (train.inputs, train.targets), test.inputs, DAMPING, lambda outputs: outputs.argmax(dim=1)
    )
    assert_agree(found, expected)
