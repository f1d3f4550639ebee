"""Recurrent layers and cells: gradients of each example against torch.func, and what is refused."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from relatif.pipeline.curvature.capture import forward_pass
from relatif.pipeline.curvature.coverage import coverage
from relatif.schemas.errors import ModelError
from tests.support.rows import check_rows, ready

torch.set_num_threads(1)


class Tagger(nn.Module):
    """Padded sequences: the last step of each one's own length is read."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.embed, self.layer = nn.Embedding(7, 3, padding_idx=0), layer
        self.head = nn.Linear(layer.hidden_size * (1 + layer.bidirectional), 2)

    def forward(self, ids: Tensor) -> Tensor:
        embedded = self.embed(ids)
        sent, _ = self.layer(embedded if self.layer.batch_first else embedded.transpose(0, 1))
        sent = sent if self.layer.batch_first else sent.transpose(0, 1)
        last = (ids != 0).sum(dim=1) - 1
        return self.head(sent[torch.arange(len(ids)), last])


class Cells(nn.Module):
    def __init__(self, cell: nn.RNNCellBase) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, inputs: Tensor) -> Tensor:
        state = None
        for step in inputs.unbind(1):
            state = self.cell(step, state)
        return state[0] if isinstance(state, tuple) else state  # type: ignore[return-value]


def padded(steps: int) -> Tensor:
    ids = torch.randint(1, 7, (4, steps), generator=torch.Generator().manual_seed(steps))
    for row, length in enumerate((steps, 2, 1, steps - 1)):
        ids[row, length:] = 0
    return ids


@pytest.mark.parametrize("steps", [3, 5])
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (nn.LSTM, {}),
        (nn.LSTM, {"num_layers": 2, "bidirectional": True, "batch_first": True}),
        (nn.LSTM, {"bias": False, "batch_first": True}),
        (nn.GRU, {"num_layers": 2, "batch_first": True}),
        (nn.GRU, {"bidirectional": True}),
        (nn.RNN, {"nonlinearity": "relu", "batch_first": True}),
        (nn.RNN, {}),
    ],
)
def test_layers_of_padded_sequences(kind: type[nn.RNNBase], settings: dict[str, object], steps: int) -> None:
    check_rows(ready(Tagger(kind(3, 4, **settings))), padded(steps))


@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_cells_that_are_called_step_by_step(kind: type[nn.RNNCellBase]) -> None:
    check_rows(ready(Cells(kind(3, 4))), torch.randn(4, 3, 3, dtype=torch.float64))


def test_blocks_are_those_of_the_matrices() -> None:
    covered = coverage(nn.LSTM(3, 4, bidirectional=True))
    assert covered.blocks == {"ih_l0": (16, 4), "hh_l0": (16, 5), "ih_l0_reverse": (16, 4), "hh_l0_reverse": (16, 5)}


class Packed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LSTM(3, 2, batch_first=True)

    def forward(self, inputs: Tensor) -> Tensor:
        packed = pack_padded_sequence(inputs, torch.full((len(inputs),), 2), batch_first=True)
        return self.layer(packed)[1][0][-1]


class Started(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.start = nn.GRU(3, 2, batch_first=True), nn.Parameter(torch.zeros(1, 1, 2))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs, self.start.repeat(1, len(inputs), 1))[1][-1]


@pytest.mark.parametrize(
    ("model", "message"),
    [(Packed(), r"in lstm, on packed sequences; pad them"), (Started(), r"start.* in gru, with an initial state that")],
)
def test_what_is_not_understood_is_refused(model: nn.Module, message: str) -> None:
    model = model.double()
    with pytest.raises(ModelError, match=message):
        forward_pass(model, torch.zeros(4, 2, 3, dtype=torch.float64), coverage(model))


def test_projections_are_refused() -> None:
    with pytest.raises(ModelError, match=r"weight_ih_l0 of LSTM with proj_size; .*curvature\.exclude"):
        coverage(nn.LSTM(3, 4, proj_size=2))
