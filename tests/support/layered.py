"""Small models of every covered layer type, and their gradients by one backward pass for each example and label."""

import torch
from torch import Tensor, nn

from relatif.pipeline.curvature.coverage import coverage
from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.curvature.fisher import Fisher, fisher_terms
from relatif.pipeline.curvature.likelihood import Categorical
from relatif.pipeline.curvature.model import CoveredModel

CLASSES = 3


class Tokens(nn.Module):
    """Embedding, a layer at every position, normalization: the parts of a small sequence model."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.mix = nn.Embedding(7, 4, padding_idx=0), nn.Linear(4, 5)
        self.norm, self.head = nn.LayerNorm(5), nn.Linear(5, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.norm(self.mix(self.embedding(inputs.long())).tanh()).mean(dim=1))


def images() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 2, bias=False),
        nn.GroupNorm(2, 4),
        nn.Flatten(),
        nn.Linear(16, CLASSES),
    )


def series() -> nn.Module:
    return nn.Sequential(nn.Conv1d(2, 3, 3, dilation=2), nn.BatchNorm1d(3), nn.Flatten(), nn.Linear(12, CLASSES))


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.LayerNorm(5), nn.Linear(5, CLASSES))


def biases() -> nn.Module:
    """Train biases alone, of every layer that may be covered so, one of them with a composed weight."""
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, groups=2),
        nn.GroupNorm(2, 4),
        nn.Flatten(2),
        nn.Linear(9, 5),
        nn.LayerNorm((4, 5)),
        nn.Flatten(),
        nn.utils.parametrizations.weight_norm(nn.Linear(20, CLASSES)),
    )
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.endswith("bias"))
    return model


CASES = {
    "images": (images, lambda count: torch.randn(count, 2, 5, 5, dtype=torch.float64)),
    "series": (series, lambda count: torch.randn(count, 2, 8, dtype=torch.float64)),
    "tokens": (Tokens, lambda count: torch.randint(0, 7, (count, 6)).double()),
    "biases": (biases, lambda count: torch.randn(count, 2, 5, 5, dtype=torch.float64)),
    "perceptron": (perceptron, lambda count: torch.randn(count, 6, dtype=torch.float64)),
}


def subject_and_examples(name: str, kind: str, count: int) -> tuple[CoveredModel, Examples]:
    """Return a model with random parameters and statistics, and random examples of it from row 40 on."""
    torch.manual_seed(3)
    build, draw = CASES[name]
    model = build().double()
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand_like(value) + 0.2)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.7)
    fisher = Fisher(kind, samples=3, seed=5)  # type: ignore[arg-type]
    examples = Examples(draw(count), torch.randint(0, CLASSES, (count,)), 40)
    return CoveredModel(model.eval(), coverage(model), Categorical(CLASSES), fisher), examples


def weighted_gradients(subject: CoveredModel, examples: Examples) -> list[tuple[float, dict[str, Tensor]]]:
    """Return weight and parameter gradients of every example and term, by one backward pass each."""
    model, found = subject.model, []
    with torch.no_grad():
        outputs = model(examples.inputs)
    first = examples.first_index
    terms = fisher_terms(subject.fisher, subject.likelihood, outputs, examples.targets, first_index=first)
    trained = ((name, each) for name, each in model.named_parameters() if each.requires_grad)
    names, parameters = zip(*trained, strict=True)
    for targets, weights in terms:
        for row in range(len(examples.inputs)):
            loss = closely(model(examples.inputs[row : row + 1])[0], int(targets[row]))
            found.append((float(weights[row]), dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))))
    return found


def closely(logits: Tensor, label: int) -> Tensor:
    """Return ``-log softmax(logits)[label]`` of logits [C], whose gradient has all digits where it is tiny too."""
    others = torch.arange(len(logits)) != label
    return torch.log1p((logits[others] - logits[label]).exp().sum())
