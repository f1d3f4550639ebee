"""Architectures of Hugging Face with random numbers: gradients of each example against torch.func."""

import os
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from relatif.pipeline.curvature.coverage import coverage
from relatif.pipeline.inputs import Inputs
from tests.support.rows import check_rows, ready

os.environ.setdefault("HF_HUB_OFFLINE", "1")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

torch.set_num_threads(1)

WORDS, WIDTH, STEPS = 11, 8, 5


def words(**further: Tensor) -> dict[str, Tensor]:
    ids = torch.randint(1, WORDS, (3, STEPS), generator=torch.Generator().manual_seed(2))
    mask = torch.ones_like(ids)
    mask[1, 3:] = 0
    return {"input_ids": ids * mask, "attention_mask": mask, **further}


def gpt2() -> nn.Module:
    config = transformers.GPT2Config(vocab_size=WORDS, n_positions=8, n_embd=WIDTH, n_layer=2, n_head=2)
    return transformers.GPT2LMHeadModel(config)


def untied() -> nn.Module:
    config = transformers.GPT2Config(
        vocab_size=WORDS, n_positions=8, n_embd=WIDTH, n_layer=1, n_head=2, tie_word_embeddings=False
    )
    return transformers.GPT2LMHeadModel(config)


SMALL = {"vocab_size": WORDS, "hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2}


def bert() -> nn.Module:
    config = transformers.BertConfig(**SMALL, intermediate_size=12, max_position_embeddings=8, num_labels=3)
    return transformers.BertForSequenceClassification(config)


def masked() -> nn.Module:
    config = transformers.BertConfig(**SMALL, intermediate_size=12, max_position_embeddings=8)
    return transformers.BertForMaskedLM(config)


def distilbert() -> nn.Module:
    config = transformers.DistilBertConfig(
        vocab_size=WORDS, dim=WIDTH, n_layers=1, n_heads=2, hidden_dim=12, max_position_embeddings=8, num_labels=3
    )
    return transformers.DistilBertForSequenceClassification(config)


def llama() -> nn.Module:
    config = transformers.LlamaConfig(**SMALL, intermediate_size=12, num_key_value_heads=1, max_position_embeddings=8)
    return transformers.LlamaForCausalLM(config)


def t5() -> nn.Module:
    config = transformers.T5Config(
        vocab_size=WORDS, d_model=WIDTH, d_kv=4, d_ff=12, num_layers=1, num_heads=2, decoder_start_token_id=0
    )
    return transformers.T5ForConditionalGeneration(config)


def vit() -> nn.Module:
    config = transformers.ViTConfig(
        hidden_size=WIDTH, num_hidden_layers=1, num_attention_heads=2, intermediate_size=12, image_size=8, patch_size=4,
        num_labels=3,
    )  # fmt: skip
    return transformers.ViTForImageClassification(config)


def lora() -> nn.Module:
    return peft.get_peft_model(gpt2(), peft.LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True))


CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[], Inputs]]] = {
    "gpt2": (gpt2, words),
    "gpt2 untied": (untied, words),
    "bert": (bert, words),
    "bert for masked words": (masked, words),
    "distilbert": (distilbert, words),
    "llama": (llama, words),
    "t5": (t5, lambda: words(decoder_input_ids=torch.randint(0, WORDS, (3, 4)))),
    "vit": (vit, lambda: torch.randn(3, 3, 8, 8, dtype=torch.float64)),
    "lora": (lora, words),
}


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_torch_func(name: str) -> None:
    torch.manual_seed(0)
    build, inputs = CASES[name]
    check_rows(ready(build()), inputs())


def test_a_tied_embedding_is_one_block() -> None:
    covered = coverage(gpt2())
    assert covered.blocks["transformer.wte"] == (WIDTH, WORDS)
    assert "lm_head" not in covered.blocks
    (word,) = (each for each in covered.parameters if each.name == "transformer.wte.weight")
    assert word.reason == "Kronecker factors, shared with lm_head.weight"


def test_adapters_are_explained_alone() -> None:
    covered = coverage(lora())
    assert {each.name.rsplit(".", 3)[1] for each in covered.parameters if each.covered} == {"lora_A", "lora_B"}
