"""A small GPT that was trained elsewhere on letters, its head tied to its embedding or not."""

from functools import partial

import pyarrow as pa
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from relatif import Examples, Task, TokenCategorical

LETTERS = "abcdefghijklmnopqrstuvwxyz "
WORDS, STEPS, PADDING = len(LETTERS) + 1, 16, -100


def build_model(width: int = 32, *, tied: bool = True) -> nn.Module:
    """Return the untrained model."""
    sizes = {"vocab_size": WORDS, "n_positions": STEPS, "n_embd": width, "n_layer": 2, "n_head": 2}
    return GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=None, eos_token_id=None, tie_word_embeddings=tied))


def read(batch: pa.RecordBatch) -> Examples:
    """Letters as numbers from 1, 0 behind a text's end, which is no target."""
    rows = [[LETTERS.index(letter) + 1 for letter in text][:STEPS] for text in batch["text"].to_pylist()]
    ids = torch.tensor([row + [0] * (STEPS - len(row)) for row in rows])
    return Examples(ids, torch.where(ids > 0, ids, PADDING))


def tied(*, tied: bool = True) -> Task:
    """A text explains texts: the model is given letters and predicts the next one of each."""
    likelihood = TokenCategorical(WORDS, ignore_index=PADDING, shift=1)
    return Task("small_gpt", build_model=partial(build_model, tied=tied), likelihood=likelihood, read=read)


untied = partial(tied, tied=False)
