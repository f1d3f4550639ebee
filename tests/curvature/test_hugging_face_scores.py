"""Scores of a small GPT, tied, untied and with LoRA adapters, against torch.func and an explicit inverse."""

import os
from collections.abc import Iterable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.curvature.likelihood_tokens import TokenCategorical
from tests.support.example_scores import Reference, assert_agree, pipeline_scores, reference_scores
from tests.support.rows import ready

os.environ.setdefault("HF_HUB_OFFLINE", "1")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

torch.set_num_threads(1)

WORDS, STEPS, DAMPING, IGNORED = 5, 3, 0.01, -100
TRAIN, TESTS = 8, 3


def gpt(*, tied: bool) -> nn.Module:
    config = transformers.GPT2Config(
        vocab_size=WORDS, n_positions=4, n_embd=4, n_layer=1, n_head=2, tie_word_embeddings=tied
    )
    return transformers.GPT2LMHeadModel(config)


def adapted() -> nn.Module:
    return peft.get_peft_model(
        gpt(tied=True), peft.LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True, lora_dropout=0.0)
    )


def entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs[0, :-1], targets[0, 1:], ignore_index=IGNORED, reduction="sum")


def every_word(outputs: Tensor) -> Iterable[tuple[Tensor, float]]:
    """Yield one word at one token, for every token that has one before it, with its probability there."""
    for token, shares in enumerate(outputs.detach()[0, :-1].softmax(dim=1).tolist()):
        for word, share in enumerate(shares):
            alone = torch.full((1, outputs.shape[1]), IGNORED)
            alone[0, token + 1] = word
            yield alone, share


def most_probable(outputs: Tensor) -> Tensor:
    return functional.pad(outputs[:, :-1].argmax(dim=2), (1, 0), value=IGNORED)


@pytest.mark.parametrize("name", ["tied", "untied", "lora"])
def test_scores_are_those_of_the_explicit_inverse(name: str) -> None:
    torch.manual_seed(0)
    model = ready(adapted() if name == "lora" else gpt(tied=name == "tied"))
    ids = torch.randint(0, WORDS, (TRAIN + TESTS, STEPS))
    train, test = Examples(ids[:TRAIN], ids[:TRAIN], 0), Examples(ids[TRAIN:], ids[TRAIN:], 0)

    found = pipeline_scores(model, TokenCategorical(WORDS, IGNORED, shift=1), train, test, DAMPING)

    reference = Reference(model, entropy, every_word)
    expected = reference_scores(reference, (ids[:TRAIN], ids[:TRAIN]), ids[TRAIN:], DAMPING, most_probable)
    assert_agree(found, expected)
