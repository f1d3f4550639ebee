"""Multi-head attention and transformer layers: gradients of each example against torch.func, and what is refused."""

import pytest
import torch
from torch import Tensor, nn

from relatif.pipeline.curvature.coverage import coverage
from relatif.schemas.errors import ModelError
from tests.support.rows import check_rows, ready

torch.set_num_threads(1)

WIDTH = 4


class Encoder(nn.Module):
    """Padded words through transformer layers."""

    def __init__(self, *, batch_first: bool = True, norm_first: bool = False, causal: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, WIDTH, padding_idx=0)
        layer = nn.TransformerEncoderLayer(
            WIDTH, 2, 6, dropout=0.1, batch_first=batch_first, norm_first=norm_first, activation="gelu"
        )
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.batch_first, self.causal = batch_first, causal
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, ids: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(ids.shape[1]).double() if self.causal else None
        hidden = self.layers(self.embed(ids), mask=mask, src_key_padding_mask=ids == 0, is_causal=self.causal)
        return self.head(hidden[:, 0] + hidden[:, 1])


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerDecoderLayer(WIDTH, 2, 6, batch_first=True)
        self.memory = nn.Linear(3, WIDTH)

    def forward(self, inputs: Tensor) -> Tensor:
        target = torch.nn.functional.pad(inputs, (0, 1))
        return self.layer(target, self.memory(inputs[:, :2])).mean(dim=1)


class Attention(nn.Module):
    """Attention whose keys and values may be of other widths, and whose weights are looked at."""

    def __init__(self, *, weights: bool = False, **settings: object) -> None:
        super().__init__()
        self.layer = nn.MultiheadAttention(WIDTH, 2, batch_first=True, **settings)  # type: ignore[arg-type]
        self.weights = weights

    def forward(self, inputs: Tensor) -> Tensor:
        keys = inputs[..., : self.layer.kdim]
        found, weights = self.layer(inputs, keys, inputs[:, :, : self.layer.vdim], need_weights=self.weights)
        return found.mean(dim=1) if weights is None else torch.cat([found.flatten(1), weights.flatten(1)], dim=1)


class Encoded(nn.Module):
    """An encoder whose outputs at padding are used, too."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, inputs: Tensor) -> Tensor:
        padding = torch.zeros(inputs.shape[:2], dtype=torch.bool)
        padding[:, -1] = inputs[:, 0, 0] > 0
        return self.encoder(inputs, src_key_padding_mask=padding).flatten(1)  # type: ignore[no-any-return]


def padded(steps: int) -> Tensor:
    ids = torch.randint(1, 7, (4, steps), generator=torch.Generator().manual_seed(steps))
    ids[1, 2:] = 0
    return ids


@pytest.mark.parametrize("steps", [3, 5])
@pytest.mark.parametrize("settings", [{}, {"norm_first": True}, {"causal": True}])
def test_encoder_layers_of_padded_sequences(settings: dict[str, bool], steps: int) -> None:
    check_rows(ready(Encoder(**settings)), padded(steps))


def test_decoder_layers() -> None:
    check_rows(ready(Decoder()), torch.randn(4, 3, 3, dtype=torch.float64))


@pytest.mark.parametrize(
    "settings", [{}, {"bias": False}, {"kdim": 2}, {"kdim": 3, "vdim": 2, "bias": False}, {"weights": True}]
)
def test_attention(settings: dict[str, object]) -> None:
    check_rows(ready(Attention(**settings)), torch.randn(3, 5, WIDTH, dtype=torch.float64))  # type: ignore[arg-type]


def test_padding_that_torch_fills_up_without_gradients_is_no_mixing() -> None:
    layer = nn.TransformerEncoderLayer(WIDTH, 2, 6, batch_first=True)
    model = ready(Encoded(nn.TransformerEncoder(layer, 1)))
    inputs = torch.randn(4, 3, WIDTH, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    check_rows(model, inputs)


def test_blocks_are_those_of_the_projections() -> None:
    assert coverage(nn.MultiheadAttention(WIDTH, 2)).blocks == {"in_proj": (12, 5), "out_proj": (4, 5)}


@pytest.mark.parametrize("settings", [{"add_bias_kv": True}, {"add_zero_attn": True}])
def test_further_keys_are_refused(settings: dict[str, bool]) -> None:
    with pytest.raises(ModelError, match=r"of MultiheadAttention with add_bias_kv or add_zero_attn; use it without"):
        coverage(nn.MultiheadAttention(WIDTH, 2, **settings))  # type: ignore[arg-type]
