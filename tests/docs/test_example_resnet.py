"""The worked example of a ResNet, cut to fewer parameters, against a dense reference."""

import torch
from torch.nn import functional

from relatif.pipeline.checkpoints.matching import matched
from relatif.pipeline.checkpoints.reading import read_checkpoint
from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.curvature.likelihood import Categorical
from tests.support.example_scores import Reference, assert_agree, class_terms, pipeline_scores, reference_scores
from tests.support.examples import example

WIDTH, DAMPING = 3, 0.01
TRAIN, TESTS = 20, 5


def test_scores_of_a_resnet_with_batch_normalization_are_those_of_the_explicit_inverse(tmp_path) -> None:
    module = example("resnet")
    torch.manual_seed(0)
    trained = module.ResNet(WIDTH)
    images = torch.randint(0, 256, (TRAIN + TESTS, 3, 8, 8), dtype=torch.uint8)
    labels = torch.randint(0, module.CLASSES, (TRAIN,))
    for _ in range(3):
        trained(images)  # running statistics that are not those of a new model
    torch.save({"state_dict": torch.nn.DataParallel(trained).state_dict()}, tmp_path / "model.pt")
    model = module.ResNet(WIDTH).double()
    model.load_state_dict(matched(read_checkpoint(str(tmp_path / "model.pt")), model, "resnet").state)
    model.eval()

    train, test = Examples(images[:TRAIN].double(), labels, 0), Examples(images[TRAIN:].double(), labels[:TESTS], 0)
    found = pipeline_scores(model, Categorical(module.CLASSES), train, test, DAMPING)

    reference = Reference(model, functional.cross_entropy, class_terms)
    expected = reference_scores(
        reference, (train.inputs, labels), test.inputs, DAMPING, lambda outputs: outputs.argmax(dim=1)
    )
    assert_agree(found, expected)
