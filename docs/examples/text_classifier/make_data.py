"""Stands for what a user has already: reviews/train.csv and reviews/test.csv, and a fine-tuned model's folder."""

import csv
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import DistilBertConfig, DistilBertForSequenceClassification, PreTrainedTokenizerFast

GOOD, BAD = ("warm", "funny", "brilliant", "moving"), ("dull", "cold", "boring", "weak")
OTHERS = ("the", "film", "story", "is", "and", "with", "a", "cast", "plot", "very")
LENGTH, TRAINING, TESTS, EPOCHS = 12, 160, 24, 6
LABELS = ("negative", "positive")


def main() -> None:
    """Write both tables, then train the model on the first and save it as transformers does."""
    generator = np.random.default_rng(0)
    Path("reviews").mkdir(exist_ok=True)
    parts = {part: written(generator, part, count) for part, count in (("train", TRAINING), ("test", TESTS))}
    tokenizer = words()
    model = trained(tokenizer, *parts["train"])
    model.save_pretrained("classifier")
    tokenizer.save_pretrained("classifier")


def written(generator: np.random.Generator, part: str, count: int) -> tuple[list[str], list[int]]:
    """Write a table of reviews, some with a wrong label; return texts and labels."""
    texts, labels = [], []
    with Path(f"reviews/{part}.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["review", "text", "label"])
        for row in range(count):
            label = int(generator.integers(2))
            said = [*generator.choice((BAD, GOOD)[label], 2), *generator.choice(OTHERS, generator.integers(3, 7))]
            texts.append(" ".join(generator.permutation(said)))
            labels.append(1 - label if row % 20 == 7 else label)
            table.writerow([f"{part}-{row}", texts[-1], LABELS[labels[-1]]])
    return texts, labels


def words() -> PreTrainedTokenizerFast:
    """Return a tokenizer of whole words."""
    vocabulary = {word: place for place, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *GOOD, *BAD, *OTHERS])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]")


def trained(tokenizer: PreTrainedTokenizerFast, texts: list[str], labels: list[int]) -> torch.nn.Module:
    """Return a small DistilBERT of random numbers after some epochs of AdamW."""
    torch.manual_seed(0)
    model = DistilBertForSequenceClassification(small(len(tokenizer)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    given = tokenizer(texts, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt")
    ids, mask, targets = given["input_ids"], given["attention_mask"], torch.tensor(labels)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(texts)).split(32):
            optimizer.zero_grad()
            model(input_ids=ids[batch], attention_mask=mask[batch], labels=targets[batch]).loss.backward()
            optimizer.step()
    return model


def small(vocabulary: int, width: int = 24) -> DistilBertConfig:
    """Return the settings of a model of two blocks."""
    return DistilBertConfig(
        vocab_size=vocabulary,
        max_position_embeddings=LENGTH,
        n_layers=2,
        n_heads=2,
        dim=width,
        hidden_dim=2 * width,
        dropout=0.1,
        id2label=dict(enumerate(LABELS)),
        label2id={name: number for number, name in enumerate(LABELS)},
    )


if __name__ == "__main__":
    main()
