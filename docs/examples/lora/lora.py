"""A BERT with LoRA adapters, fine-tuned elsewhere: the base is frozen, and the adapters are explained alone."""

import pyarrow as pa
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from relatif import Categorical, Examples, Task

LETTERS = "abcdefghijklmnopqrstuvwxyz "
CLASSES, STEPS = ("animal", "place"), 12


def build_model(width: int = 32) -> nn.Module:
    """Return the untrained model."""
    config = BertConfig(
        vocab_size=len(LETTERS) + 1,
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=2 * width,
        max_position_embeddings=STEPS,
        num_labels=len(CLASSES),
    )
    base = BertForSequenceClassification(config)
    return get_peft_model(base, LoraConfig(r=4, target_modules=["query", "value"]))


def read(batch: pa.RecordBatch) -> Examples:
    """Letters as numbers from 1 with the mask of the text's own, and classes by name."""
    rows = [[LETTERS.index(letter) + 1 for letter in text][:STEPS] for text in batch["text"].to_pylist()]
    ids = torch.tensor([row + [0] * (STEPS - len(row)) for row in rows])
    labels = torch.tensor([CLASSES.index(name) for name in batch["kind"].to_pylist()])
    return Examples({"input_ids": ids, "attention_mask": (ids > 0).long()}, labels)


def task() -> Task:
    """Return the classifier of texts."""
    return Task("lora", build_model=build_model, likelihood=Categorical(len(CLASSES)), read=read)
