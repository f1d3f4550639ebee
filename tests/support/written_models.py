"""Small models of attention, recurrence and shared weights, each beside the same model written out for one example."""

import os
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.support.written_out import (
    Paper,
    attended,
    encoded,
    gru_step,
    heads,
    lstm_step,
    normalized,
    recurrent,
    walked,
)

os.environ.setdefault("HF_HUB_OFFLINE", "1")

WORDS, WIDTH, CLASSES = 6, 4, 3

Write = Callable[[nn.Module, Paper, Tensor], Tensor]
"""The outputs of a model for one example, without an axis of examples."""


@dataclass(frozen=True)
class Written:
    """A model, and the same written out. With ``tokens`` its outputs are words at every place, else classes."""

    build: Callable[[], nn.Module]
    write: Write
    tokens: bool = False


class Sequences(nn.Module):
    """Padded words, a layer of some kind, and a head on the sum over the words that are there."""

    def __init__(self, layer: nn.Module, call: Callable[[nn.Module, Tensor, Tensor], Tensor], width: int) -> None:
        super().__init__()
        self.embed, self.layer, self.head = nn.Embedding(WORDS, WIDTH, padding_idx=0), layer, nn.Linear(width, CLASSES)
        self.call = call

    def forward(self, ids: Tensor) -> Tensor:
        sent = self.call(self.layer, self.embed(ids), ids == 0)
        return self.head((sent * (ids != 0)[..., None]).sum(dim=1))


def sequences(
    make: Callable[[], nn.Module],
    call: Callable[[nn.Module, Tensor, Tensor], Tensor],
    write: Callable[[Paper, nn.Module, Tensor, Tensor], Tensor],
    width: int = WIDTH,
) -> Written:
    """Return a model of padded words whose layer is called, and written out, by the given functions."""

    def written(model: nn.Module, paper: Paper, ids: Tensor) -> Tensor:
        # The padding's row is a constant: as an input of the embedding it is a vector of zeros.
        there, table = (ids != 0)[:, None], model.embed.weight
        constant = torch.where(there, 0, table[0].detach())
        embedded = paper.linear("embed", functional.one_hot(ids, WORDS) * there.double(), table.T) + constant
        sent = write(paper, model.layer, embedded, ids == 0)
        summed = (sent * (ids != 0)[:, None]).sum(dim=0, keepdim=True)
        return paper.linear("head", summed, model.head.weight, model.head.bias)[0]

    return Written(lambda: Sequences(make(), call, width), written)


def transformer(*, norm_first: bool) -> Written:
    return sequences(
        lambda: nn.TransformerEncoderLayer(WIDTH, 2, 5, batch_first=True, norm_first=norm_first),
        lambda layer, x, padding: layer(x, src_key_padding_mask=padding),
        lambda paper, layer, x, padding: encoded(paper, "layer", layer, x, padding),  # type: ignore[arg-type]
    )


def attention(**widths: int) -> Written:
    """Return attention of all words to the first two, which may be other tensors, of other widths."""

    def call(layer: nn.Module, x: Tensor, padding: Tensor) -> Tensor:
        memory = x[:, :2]
        alike = layer.kdim == layer.vdim == WIDTH
        return layer(x, *(memory, memory) if alike else (memory[..., : layer.kdim], memory[..., : layer.vdim]))[0]

    def write(paper: Paper, layer: nn.Module, x: Tensor, padding: Tensor) -> Tensor:
        assert isinstance(layer, nn.MultiheadAttention)
        return attended(paper, "layer", layer, (x, x[:2]))

    return sequences(lambda: nn.MultiheadAttention(WIDTH, 2, batch_first=True, **widths), call, write)


def recurrence(kind: type[nn.RNNBase], **settings: int) -> Written:
    return sequences(
        lambda: kind(WIDTH, 3, batch_first=True, **settings),
        lambda layer, x, padding: layer(x)[0],
        lambda paper, layer, x, padding: recurrent(paper, "layer", layer, x),  # type: ignore[arg-type]
        6 if settings.get("bidirectional") else 3,
    )


def cell(kind: type[nn.RNNCellBase]) -> Written:
    def call(layer: nn.Module, x: Tensor, padding: Tensor) -> Tensor:
        state, found = None, []
        for step in x.unbind(1):
            state = layer(step, state)
            found.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(found, dim=1)

    step = lstm_step if kind is nn.LSTMCell else gru_step
    return sequences(
        lambda: kind(WIDTH, 3), call, lambda paper, layer, x, padding: walked(paper, ("layer", ""), layer, step, x), 3
    )


class Shared(nn.Module):
    """A layer that is called under two lengths, and a second one that has its weight."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, WIDTH)
        self.first, self.second = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.third, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, CLASSES)
        self.third.weight = self.second.weight

    def forward(self, ids: Tensor) -> Tensor:
        hidden = self.first(self.first(self.embed(ids)).tanh().sum(dim=1)).tanh()
        return self.head(self.third(self.second(hidden).tanh()).tanh())


def write_shared(model: nn.Module, paper: Paper, ids: Tensor) -> Tensor:
    first, second = model.first, model.second
    embedded = paper.rows("embed", ids, model.embed.weight)
    summed = paper.linear("first", embedded, first.weight, first.bias).tanh().sum(dim=0, keepdim=True)
    hidden = paper.linear("first", summed, first.weight, first.bias).tanh()
    # A weight of two layers has no bias for its block.
    hidden = (paper.linear("second", hidden, second.weight) + second.bias).tanh()
    hidden = (paper.linear("second", hidden, second.weight) + model.third.bias).tanh()
    return paper.linear("head", hidden, model.head.weight, model.head.bias)[0]


class Positioned(nn.Module):
    """Words with positions that are looked up once for all examples, and kinds that are looked up for each alike."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.places, self.kinds = nn.Embedding(WORDS, WIDTH), nn.Embedding(9, WIDTH), nn.Embedding(2, WIDTH)
        self.head = nn.Linear(WIDTH, CLASSES)
        self.register_buffer("steps", torch.arange(9)[None])

    def forward(self, ids: Tensor) -> Tensor:
        steps = self.steps[:, : ids.shape[1]]  # type: ignore[index]
        kinds = self.kinds((steps // 2).clamp(max=1).expand(len(ids), -1))
        return self.head((self.embed(ids) + self.places(steps) + kinds).tanh().mean(dim=1))


def write_positioned(model: nn.Module, paper: Paper, ids: Tensor) -> Tensor:
    steps = torch.arange(len(ids))
    whole = paper.rows("embed", ids, model.embed.weight) + paper.rows("places", steps, model.places.weight)
    kinds = torch.tensor([0, 0, 1, 1, 1][: len(ids)])
    mean = (whole + paper.rows("kinds", kinds, model.kinds.weight)).tanh().mean(dim=0, keepdim=True)
    return paper.linear("head", mean, model.head.weight, model.head.bias)[0]


def gpt(*, tied: bool) -> nn.Module:
    """Return Hugging Face's GPT-2 with one block."""
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"vocab_size": WORDS, "n_positions": 8, "n_embd": WIDTH, "n_layer": 1, "n_head": 2}
    return GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=None, eos_token_id=None, tie_word_embeddings=tied))


def adapted() -> nn.Module:
    """Return it with LoRA adapters in the attention, which alone are trained."""
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(r=2, lora_alpha=6, target_modules=["c_attn"], fan_in_fan_out=True, lora_dropout=0.0)
    return get_peft_model(gpt(tied=True), settings)


def write_gpt(model: nn.Module, paper: Paper, ids: Tensor) -> Tensor:
    """Write out GPT-2 with one block: ``Conv1D`` has its inputs as first axis of the weight."""
    inside, own = model.transformer, model.transformer.h[0]
    prefix, steps = "transformer.h.0", len(ids)

    def turned(name: str, layer: nn.Module, x: Tensor) -> Tensor:
        return paper.linear(f"{prefix}.{name}", x, layer.weight.T, layer.bias)

    places = paper.rows("transformer.wpe", torch.arange(steps), inside.wpe.weight)
    states = paper.rows("transformer.wte", ids, inside.wte.weight) + places
    sent = turned("attn.c_attn", own.attn.c_attn, normalized(states, own.ln_1))
    states = states + turned("attn.c_proj", own.attn.c_proj, causal(sent))
    wide = turned("mlp.c_fc", own.mlp.c_fc, normalized(states, own.ln_2))
    states = states + turned("mlp.c_proj", own.mlp.c_proj, gelu(wide))
    states = normalized(states, inside.ln_f)
    if model.lm_head.weight is inside.wte.weight:
        return paper.linear("transformer.wte", states, inside.wte.weight, transposed=True)
    return paper.linear("lm_head", states, model.lm_head.weight)


def write_adapted(model: nn.Module, paper: Paper, ids: Tensor) -> Tensor:
    """Write out GPT-2 with adapters; what is frozen is computed by the layers themselves."""
    inside, own = model.base_model.model.transformer, model.base_model.model.transformer.h[0]
    adapter, name = own.attn.c_attn, "base_model.model.transformer.h.0.attn.c_attn"
    down, up = adapter.lora_A["default"].weight, adapter.lora_B["default"].weight
    states = inside.wte.weight[ids] + inside.wpe.weight[: len(ids)]
    seen = normalized(states, own.ln_1)
    added = paper.linear(f"{name}.lora_B.default", paper.linear(f"{name}.lora_A.default", seen, down), up)
    states = states + own.attn.c_proj(causal(adapter.base_layer(seen) + 3 * added))
    states = states + own.mlp.c_proj(gelu(own.mlp.c_fc(normalized(states, own.ln_2))))
    return normalized(states, inside.ln_f) @ inside.wte.weight.T


def causal(sent: Tensor) -> Tensor:
    """Return what two heads read of the words before, [T, WIDTH], from what c_attn sent."""
    later = torch.ones(len(sent), len(sent), dtype=torch.bool).triu(1)
    query, key, value = sent.split(WIDTH, dim=1)
    return heads(query, key, value, WIDTH // 2, later)


def gelu(values: Tensor) -> Tensor:
    """Return GPT-2's approximation of the Gaussian error linear unit."""
    return values / 2 * (1 + ((2 / torch.pi) ** 0.5 * (values + 0.044715 * values**3)).tanh())


MODELS: dict[str, Written] = {
    "transformer layer": transformer(norm_first=False),
    "transformer layer, norm first": transformer(norm_first=True),
    "attention to a memory": attention(),
    "attention of other widths": attention(kdim=2, vdim=3),
    "lstm": recurrence(nn.LSTM, bidirectional=True, num_layers=2),
    "gru": recurrence(nn.GRU, bidirectional=True),
    "lstm cell": cell(nn.LSTMCell),
    "gru cell": cell(nn.GRUCell),
    "called twice, one weight of two layers": Written(Shared, write_shared),
    "positions": Written(Positioned, write_positioned),
    "gpt, tied": Written(lambda: gpt(tied=True), write_gpt, tokens=True),
    "gpt, untied": Written(lambda: gpt(tied=False), write_gpt, tokens=True),
    "adapters": Written(adapted, write_adapted, tokens=True),
}
