"""Models of real size with random parameters, and made-up texts: what memory has to hold."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from relatif.pipeline.curvature.likelihood_tokens import TokenCategorical
from relatif.pipeline.datasets.description import InputDescription, Provenance, Subject, TargetDescription
from relatif.pipeline.datasets.writing import write_dataset
from relatif.pipeline.storage.store import open_store
from relatif.pipeline.tasks.task import Task
from relatif.schemas.config import TrainConfig

GPT_WORDS, BERT_WORDS = 50257, 30522
TOKENS = 64


class Block(nn.Module):
    """A transformer block of GPT-2: 768 wide, 12 heads, its four matrices as linear layers."""

    def __init__(self, width: int, *, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = width // 64, causal
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention, self.projection = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, states: Tensor) -> Tensor:
        parts = self.attention(self.before(states)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(*parts, is_causal=self.causal)
        states = states + self.projection(mixed.transpose(1, 2).flatten(2))
        return states + self.narrow(functional.gelu(self.wide(self.after(states))))


class Generator(nn.Module):
    """GPT-2's shape: word and position embeddings, blocks, and a head that is tied to the words."""

    def __init__(self, layers: int, width: int = 768, words: int = GPT_WORDS) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(words, width), nn.Embedding(1024, width)
        self.blocks = nn.ModuleList([Block(width, causal=True) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        for embedding in (self.words, self.places):
            nn.init.normal_(embedding.weight, std=0.02)
            embedding.weight.requires_grad_(False)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens.long()
        states = self.words(tokens) + self.places(torch.arange(tokens.shape[1], device=tokens.device))
        for block in self.blocks:
            states = block(states)
        return self.norm(states) @ self.words.weight.T


class Classifier(nn.Module):
    """DistilBERT's shape: word and position embeddings, six blocks, and two classes read off the first token."""

    def __init__(self, layers: int = 6, width: int = 768, words: int = BERT_WORDS) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(words, width, padding_idx=0), nn.Embedding(512, width)
        self.blocks = nn.ModuleList([Block(width, causal=False) for _ in range(layers)])
        self.head, self.labels = nn.Linear(width, width), nn.Linear(width, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens.long()
        places = torch.arange(tokens.shape[1], device=tokens.device).expand(tokens.shape)
        states = self.words(tokens) + self.places(places)
        for block in self.blocks:
            states = block(states)
        return self.labels(self.head(states[:, 0]).relu())


def as_built(task: Task, data: object, config: TrainConfig) -> dict[str, Tensor]:
    """Train nothing: the parameters are those of the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return task.build_model().state_dict()


def _generator(layers: int) -> Task:
    return Task(
        "generator",
        build_model=lambda: Generator(layers),
        likelihood=TokenCategorical(GPT_WORDS, shift=1),
        train=as_built,
    )


def gpt2() -> Task:
    """Return GPT-2's shape: 124 M parameters, 85 M of them in its blocks."""
    return _generator(12)


def gpt2_of_two_layers() -> Task:
    """Return a sixth of it."""
    return _generator(2)


def words_of_distilbert() -> Task:
    """Return a classifier of one block on DistilBERT's words."""
    return Task("one block", class_count=2, build_model=lambda: Classifier(1), loss=functional_loss, train=as_built)


def distilbert() -> Task:
    """Return DistilBERT's shape: 66 M parameters, 23 M of them in 30,522 words."""
    return Task("classifier", class_count=2, build_model=Classifier, loss=functional_loss, train=as_built)


def functional_loss(outputs: Tensor, labels: Tensor) -> Tensor:
    """Return the cross entropy of each example."""
    return functional.cross_entropy(outputs, labels, reduction="none")


def write_texts(folder: Path, words: int, train: int, test: int, *, labelled: bool) -> None:
    """Write documents of 64 random tokens, the tokens themselves as targets or one of two classes."""
    rng = np.random.default_rng(0)
    splits = {}
    for split, count in (("train", train), ("test", test)):
        tokens = rng.integers(1, words, (count, TOKENS))
        splits[split] = tokens, rng.integers(0, 2, count) if labelled else tokens
    subject = Subject(
        name="texts",
        meaning="random tokens",
        input=InputDescription(column="tokens", shape=(TOKENS,), dtype="int64"),
        target=None if labelled else TargetDescription(column="targets", shape=(TOKENS,), dtype="int64"),
        class_names=("no", "yes") if labelled else (),
        provenance=Provenance(origin="made up", licence="CC0-1.0", licence_url="", sources=()),
    )
    write_dataset(open_store(str(folder)), subject, splits)
