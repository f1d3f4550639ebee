"""A small residual network with batch normalization, as it was trained elsewhere: nothing here knows of relatif."""

from torch import Tensor, nn
from torch.nn import functional

CLASSES = 4


class Block(nn.Module):
    """Two convolutions with batch normalization around a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x))))))


class ResNet(nn.Module):
    """Images of bytes, [N, 3, rows, columns], to scores of classes, [N, CLASSES]."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.blocks = nn.Sequential(Block(width), Block(width))
        self.fc = nn.Linear(width, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        x = images.to(self.fc.weight.dtype) / 127.5 - 1
        return self.fc(self.blocks(functional.relu(self.bn(self.stem(x)))).mean(dim=(2, 3)))
