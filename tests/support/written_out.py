"""Layers written out as products of matrices for one example, and the Kronecker factors by their definition.

Axes: T positions, O outputs, I inputs of a block (a bias is a last input of constant 1). No hook and no rule is used:
every product with a weight goes through ``Paper``, which notes what it saw and adds zeros to what it sent. The gradient
of a loss by these zeros is that at the layer's outputs.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

Key = tuple[str, bool]
"""A block, and whether the weight is used transposed: as the head that is tied to an embedding."""

State = tuple[Tensor, Tensor]
Step = Callable[[Tensor, Tensor, State], State]


@dataclass
class Paper:
    """The products of one example's pass: what each saw, [T, I], and the zeros that were added to what it sent."""

    seen: dict[Key, list[Tensor]] = field(default_factory=dict)
    zeros: dict[Key, list[Tensor]] = field(default_factory=dict)

    def linear(
        self, block: str, inputs: Tensor, weight: Tensor, bias: Tensor | None = None, *, transposed: bool = False
    ) -> Tensor:
        """Return ``weight inputs + bias`` at every position, [T, O]; only a bias that is given here is an input."""
        sent = inputs @ weight.T if bias is None else inputs @ weight.T + bias
        zero = torch.zeros_like(sent).requires_grad_()
        constant = inputs.new_ones(len(inputs), 0 if bias is None else 1)
        self.seen.setdefault((block, transposed), []).append(torch.cat([inputs, constant], dim=1).detach())
        self.zeros.setdefault((block, transposed), []).append(zero)
        return sent + zero

    def rows(self, block: str, ids: Tensor, table: Tensor) -> Tensor:
        """Return rows of an embedding as a product with one-hot vectors, [T, O]."""
        return self.linear(block, nn.functional.one_hot(ids, len(table)).to(table), table.T)


@dataclass
class Definition:
    """Sums of ``mean_t a a'`` and ``sum_t d d'`` by block and kind of use, and each term's weight and gradient."""

    inputs: dict[Key, Tensor] = field(default_factory=dict)
    outputs: dict[Key, Tensor] = field(default_factory=dict)
    gradients: dict[str, list[tuple[float, Tensor]]] = field(default_factory=dict)

    def see(self, paper: Paper) -> None:
        """Add what an example's layers saw: the mean over the positions of all uses."""
        for key, seen in paper.seen.items():
            positions = torch.cat(seen)
            moment = sum((torch.outer(a, a) for a in positions), torch.zeros(())) / len(positions)
            self.inputs[key] = self.inputs.get(key, torch.zeros(())) + moment

    def add(self, paper: Paper, loss: Tensor, weight: float, exact: Mapping[str, list[Tensor]]) -> None:
        """Add a term of the Fisher: the loss of one target, and its weight."""
        zeros = [zero for some in paper.zeros.values() for zero in some]
        parameters = [each for some in exact.values() for each in some]
        found = iter(torch.autograd.grad(loss, [*zeros, *parameters], retain_graph=True))
        of_blocks: dict[str, Tensor] = {}
        for key, some in paper.zeros.items():
            sent = [next(found) for _ in some]
            moment = sum((torch.outer(d, d) for d in torch.cat(sent)), torch.zeros(()))
            self.outputs[key] = self.outputs.get(key, torch.zeros(())) + weight * moment
            of_uses = [(a.T @ d if key[1] else d.T @ a) for d, a in zip(sent, paper.seen[key], strict=True)]
            of_blocks[key[0]] = sum(of_uses, of_blocks.get(key[0], torch.zeros(())))
        for name, some in exact.items():
            of_blocks[name] = torch.cat([next(found).flatten() for _ in some])
        for name, gradient in of_blocks.items():
            self.gradients.setdefault(name, []).append((weight, gradient))


def attended(
    paper: Paper, name: str, layer: nn.MultiheadAttention, inputs: tuple[Tensor, Tensor], padding: Tensor | None = None
) -> Tensor:
    """Return the attention of queries [L, E] to a memory [S, E], [L, E]; ``padding`` [S] is True where it has none."""
    queries, memory = inputs
    width, size = layer.embed_dim, layer.head_dim
    if layer.in_proj_weight is None:
        biases = layer.in_proj_bias.split(width)
        weights = (layer.q_proj_weight, layer.k_proj_weight, layer.v_proj_weight)
        given = (queries, memory[:, : layer.kdim], memory[:, : layer.vdim])
        query, key, value = (
            paper.linear(f"{name}.{part}_proj", x, weight) + bias
            for part, x, weight, bias in zip("qkv", given, weights, biases, strict=True)
        )
    elif queries is memory:
        sent = paper.linear(f"{name}.in_proj", queries, layer.in_proj_weight, layer.in_proj_bias)
        query, key, value = sent.split(width, dim=1)
    else:
        query = paper.linear(f"{name}.in_proj", queries, layer.in_proj_weight, layer.in_proj_bias)[:, :width]
        sent = paper.linear(f"{name}.in_proj", memory, layer.in_proj_weight, layer.in_proj_bias)
        key, value = sent[:, width : 2 * width], sent[:, 2 * width :]
    found = heads(query, key, value, size, padding)
    return paper.linear(f"{name}.out_proj", found, layer.out_proj.weight, layer.out_proj.bias)


def heads(query: Tensor, key: Tensor, value: Tensor, size: int, padding: Tensor | None = None) -> Tensor:
    """Return what heads of ``size`` read, side by side; ``padding`` [S] or [L, S] is True where they may not."""
    found = []
    for start in range(0, query.shape[1], size):
        own = slice(start, start + size)
        logits = query[:, own] @ key[:, own].T / math.sqrt(size)
        if padding is not None:
            logits = torch.where(padding, -torch.inf, logits)
        found.append((logits.exp() / logits.exp().sum(dim=1, keepdim=True)) @ value[:, own])
    return torch.cat(found, dim=1)


def normalized(values: Tensor, norm: nn.LayerNorm) -> Tensor:
    """Return a layer norm of rows [T, D]."""
    centred = values - values.mean(dim=1, keepdim=True)
    return centred / (centred.square().mean(dim=1, keepdim=True) + norm.eps).sqrt() * norm.weight + norm.bias


def encoded(paper: Paper, name: str, layer: nn.TransformerEncoderLayer, values: Tensor, padding: Tensor) -> Tensor:
    """Return a transformer layer of rows [T, D]."""

    def attention(x: Tensor) -> Tensor:
        return attended(paper, f"{name}.self_attn", layer.self_attn, (x, x), padding)

    def wide(x: Tensor) -> Tensor:
        hidden = paper.linear(f"{name}.linear1", x, layer.linear1.weight, layer.linear1.bias)
        return paper.linear(f"{name}.linear2", hidden.clamp(min=0), layer.linear2.weight, layer.linear2.bias)

    if layer.norm_first:
        values = values + attention(normalized(values, layer.norm1))
        return values + wide(normalized(values, layer.norm2))
    values = normalized(values + attention(values), layer.norm1)
    return normalized(values + wide(values), layer.norm2)


def sigmoid(values: Tensor) -> Tensor:
    """Return ``1 / (1 + exp(-values))``."""
    return 1 / (1 + (-values).exp())


def lstm_step(of_inputs: Tensor, of_hidden: Tensor, state: State) -> State:
    """Return the next hidden and cell state [1, H] of an LSTM."""
    enter, forget, new, leave = (of_inputs + of_hidden).split(of_inputs.shape[1] // 4, dim=1)
    cell = sigmoid(forget) * state[1] + sigmoid(enter) * new.tanh()
    return sigmoid(leave) * cell.tanh(), cell


def gru_step(of_inputs: Tensor, of_hidden: Tensor, state: State) -> State:
    """Return the next hidden state [1, H] of a GRU, twice."""
    size = of_inputs.shape[1] // 3
    reset, update = sigmoid((of_inputs + of_hidden)[:, : 2 * size]).split(size, dim=1)
    new = (of_inputs[:, 2 * size :] + reset * of_hidden[:, 2 * size :]).tanh()
    hidden = (1 - update) * new + update * state[0]
    return hidden, hidden


def recurrent(paper: Paper, name: str, layer: nn.RNNBase, values: Tensor) -> Tensor:
    """Return what an LSTM or GRU sends for rows [T, I]: of each layer, and of both directions side by side."""
    step = lstm_step if isinstance(layer, nn.LSTM) else gru_step
    for depth in range(layer.num_layers):
        ways = [walked(paper, (name, f"_l{depth}"), layer, step, values)]
        if layer.bidirectional:
            back = walked(paper, (name, f"_l{depth}_reverse"), layer, step, values.flip(0))
            ways.append(back.flip(0))
        values = torch.cat(ways, dim=1)
    return values


def walked(paper: Paper, names: tuple[str, str], layer: nn.Module, step: Step, values: Tensor) -> Tensor:
    """Return one layer's hidden states, [T, H]: its two products at every step."""
    name, part = names
    state = (values.new_zeros(1, layer.hidden_size),) * 2  # type: ignore[arg-type]
    found = []
    for row in values.split(1):
        sent = []
        for kind, seen in (("ih", row), ("hh", state[0])):
            weight, bias = (getattr(layer, f"{what}_{kind}{part}") for what in ("weight", "bias"))
            sent.append(paper.linear(f"{name}.{kind}{part}", seen, weight, bias))
        state = step(sent[0], sent[1], state)
        found.append(state[0])
    return torch.cat(found)


def exact_blocks(model: nn.Module, blocks: Iterable[str]) -> dict[str, list[Tensor]]:
    """Return the parameters of blocks that no product has: of a module, or a parameter alone."""
    named = [(name, each) for name, each in model.named_parameters() if each.requires_grad]
    return {block: [each for name, each in named if block in (name, name.rpartition(".")[0])] for block in blocks}
