"""A small transformer that tells the language of a surname, letter by letter: 18 languages, names of up to 24 letters.

Axes: N names, T letters of the longest name (shorter ones are filled up with code 0), W width, A heads.
"""

from functools import partial

import torch
from torch import Tensor, nn

from relatif.pipeline.tasks.minibatch import adam, train_by_minibatches
from relatif.pipeline.tasks.task import Task, cross_entropy

LANGUAGES = 18
CODES = 58
"""Letters and signs of the surnames' vocabulary, and 0 for the places after the end of a name."""

LONGEST = 24
WIDTH = 32
HEADS = 2


def names_transformer() -> Task:
    """Return the task that ``names_transformer.toml`` names."""
    return Task(
        name="names_transformer",
        class_count=LANGUAGES,
        build_model=NamesTransformer,
        model_inputs=stored_codes,
        loss=cross_entropy,
        train=partial(train_by_minibatches, optimizer=adam),
    )


def stored_codes(inputs: Tensor) -> Tensor:
    """Return codes [N, T] as they are stored, uint8; scores pass them on as float64, so the model makes them whole."""
    return inputs


class Attention(nn.Module):
    """Self-attention through linear layers of its own: ``nn.MultiheadAttention`` keeps weights that no rule covers."""

    def __init__(self) -> None:
        """Make the layers; a bias of the keys would change no attention."""
        super().__init__()
        self.query = nn.Linear(WIDTH, WIDTH)
        self.key = nn.Linear(WIDTH, WIDTH, bias=False)
        self.value = nn.Linear(WIDTH, WIDTH)
        self.projection = nn.Linear(WIDTH, WIDTH)

    def forward(self, hidden: Tensor, padding: Tensor) -> Tensor:
        """Return what every letter takes from the letters of its name, [N, T, W]; padding [N, T] is not looked at."""
        layers = (self.query, self.key, self.value)
        query, key, value = (layer(hidden).unflatten(2, (HEADS, -1)).transpose(1, 2) for layer in layers)
        likeness = query @ key.mT / key.shape[-1] ** 0.5
        attention = likeness.masked_fill(padding[:, None, None, :], -torch.inf).softmax(dim=-1)
        return self.projection((attention @ value).transpose(1, 2).flatten(2))


class NamesTransformer(nn.Module):
    """Embeddings of letters and places, one block of attention and perceptron, and the mean over a name's letters."""

    def __init__(self) -> None:
        """Make the layers with PyTorch's default initialization."""
        super().__init__()
        self.letters = nn.Embedding(CODES, WIDTH, padding_idx=0)
        self.places = nn.Embedding(LONGEST, WIDTH)
        self.before_attention = nn.LayerNorm(WIDTH)
        self.attention = Attention()
        self.before_perceptron = nn.LayerNorm(WIDTH)
        self.perceptron = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))
        self.head = nn.Linear(WIDTH, LANGUAGES)

    def forward(self, codes: Tensor) -> Tensor:
        """Return logits [N, LANGUAGES] of codes [N, T], of any number type."""
        codes = codes.long()
        padding = codes == 0
        # [N, T] and not [T]: the first axis of what a layer returns must be the examples.
        places = torch.arange(codes.shape[1], device=codes.device).expand_as(codes)
        hidden = self.letters(codes) + self.places(places)
        hidden = hidden + self.attention(self.before_attention(hidden), padding)
        hidden = hidden + self.perceptron(self.before_perceptron(hidden))
        kept = hidden.masked_fill(padding[:, :, None], 0)
        return self.head(kept.sum(dim=1) / (~padding).sum(dim=1, keepdim=True))
