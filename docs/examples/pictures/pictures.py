"""A small convolutional network, as it was trained elsewhere: nothing here knows of relatif."""

from torch import Tensor, nn

CLASSES = 3


class ConvNet(nn.Module):
    """Normalized pictures [N, 3, rows, columns] to scores of classes, [N, CLASSES]."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(width, CLASSES)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.classifier(self.features(pictures).mean(dim=(2, 3)))
