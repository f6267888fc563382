"""The small network for digits."""

from collections.abc import Callable

from torch import Tensor, nn

from robustbench_coded.models.architectures import layers
from robustbench_coded.models.pixel_model import BlockNetwork


class DigitsCNN(BlockNetwork):
    """Three 3x3 convolutions with batch-norm, each but the first halving the image, then a global mean.

    Args:
        classes: number of classes.
        in_channels: channels of the image.
        dropout: probability after the second batch-norm.
    """

    def __init__(self, classes: int = 10, in_channels: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(32)
        self.dropout = layers.Dropout(dropout)
        self.conv3 = nn.Conv2d(32, 64, 3, stride=2, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(64)
        self.linear = nn.Linear(64, classes)

    def _first(self, x: Tensor) -> Tensor:
        return self.bn1(self.conv1(x)).relu()

    def _second(self, x: Tensor) -> Tensor:
        return self.dropout(self.bn2(self.conv2(x))).relu()

    def _last(self, x: Tensor) -> Tensor:
        return self.linear(self.bn3(self.conv3(x)).relu().mean((2, 3)))

    def blocks(self) -> list[Callable[[Tensor], Tensor]]:
        """Three functions whose composition is the network."""
        return [self._first, self._second, self._last]
