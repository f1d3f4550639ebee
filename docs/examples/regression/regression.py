"""A perceptron with one output, as it was trained elsewhere: nothing here knows of relatif."""

from torch import Tensor, nn

FEATURES = 6


class Regressor(nn.Module):
    """Measurements [N, FEATURES] to one number for each, [N]."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(FEATURES, width), nn.Tanh(), nn.Linear(width, 1))

    def forward(self, measurements: Tensor) -> Tensor:
        return self.layers(measurements).squeeze(1)
