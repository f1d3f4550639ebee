"""The paper's LSTM on surnames: letters one after the other, the language from the state at the last one.

Axes: N examples, L positions (padding included), V characters.
"""

from functools import partial

import torch
from torch import Tensor, nn

from relatif.pipeline.datasets.surnames import VOCABULARY
from relatif.pipeline.tasks.minibatch import adam, train_by_minibatches
from relatif.pipeline.tasks.task import Task, cross_entropy
from relatif.schemas.errors import DataError

CLASSES = 18
HIDDEN = 128


class NameLSTM(nn.Module):
    """One LSTM layer over one-hot characters, and a linear layer that reads its state at a name's last character.

    The state there depends on no later position, so padding, which stands at the end, changes nothing.
    """

    def __init__(self) -> None:
        """Make the layers with PyTorch's default initialization."""
        super().__init__()
        self.lstm = nn.LSTM(len(VOCABULARY), HIDDEN, batch_first=True)
        self.linear = nn.Linear(HIDDEN, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits [N, 18] for one-hot names [N, L, V] whose padding is rows of zeros."""
        lengths = inputs.any(dim=2).sum(dim=1)
        states, _ = self.lstm(inputs[:, : int(lengths.max())])
        rows = torch.arange(len(inputs), device=inputs.device)
        return self.linear(states[rows, lengths - 1])


def names_lstm() -> Task:
    """Return the LSTM on one-hot characters, trained by Adam; it is explained by ``curvature.layers = ["linear"]``."""
    return Task(
        name="names_lstm",
        class_count=CLASSES,
        build_model=NameLSTM,
        model_inputs=one_hot,
        loss=cross_entropy,
        train=partial(train_by_minibatches, optimizer=adam),
    )


def one_hot(inputs: Tensor) -> Tensor:
    """Return codes uint8 [N, L] as float32 [N, L, V]: 1 at the character of a code from 1, all 0 for padding.

    Distances between inputs then count positions that differ, where those between codes would depend on the alphabet.
    Raises DataError for a code beyond the vocabulary, and for padding that does not stand at the end of a name.
    """
    filled = inputs > 0
    bad = (inputs > len(VOCABULARY)).any(dim=1) | ~filled[:, 0] | (filled[:, 1:] & ~filled[:, :-1]).any(dim=1)
    if bool(bad.any()):
        raise DataError(
            f"expected codes from 1 to {len(VOCABULARY)} and then only zeros, found {inputs[bad][0].tolist()}; "
            f"prepare the names with relatif prepare surnames"
        )
    return nn.functional.one_hot(inputs.long(), len(VOCABULARY) + 1)[..., 1:].float()
