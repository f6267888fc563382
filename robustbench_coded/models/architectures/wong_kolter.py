"""Wong and Kolter's networks of certified training (arXiv 1711.00851, 1805.12514).

Convolutions and linear layers with ReLUs between them, under the names that an ``nn.Sequential`` gives them.
"""

from collections.abc import Callable

from torch import Tensor, nn

from robustbench_coded.models.pixel_model import BlockNetwork, Chain

# By size: channels, kernel and stride of the convolutions, all padded by 1; and widths of the hidden layers.
SIZES: dict[str, tuple[tuple[tuple[int, int, int], ...], tuple[int, ...]]] = {
    "small": (((16, 4, 2), (32, 4, 2)), (100,)),
    "large": (((32, 3, 1), (32, 4, 2), (64, 3, 1), (64, 4, 2)), (512, 512)),
}


class WongKolter(BlockNetwork):
    """Convolutions that halve the image twice, a flattening, linear layers.

    Args:
        classes: number of classes.
        in_channels: channels of the image.
        size: a name of :data:`SIZES`.
        side: height and width of the image in pixels, a multiple of 4.
    """

    def __init__(self, classes: int = 10, in_channels: int = 1, size: str = "small", side: int = 28) -> None:
        super().__init__()
        convolutions, hidden = SIZES[size]
        layers: list[nn.Module] = []
        for planes, kernel, stride in convolutions:
            layers += [nn.Conv2d(in_channels, planes, kernel, stride=stride, padding=1), nn.ReLU()]
            in_channels = planes
        layers.append(nn.Flatten())
        width = in_channels * (side // 4) ** 2
        for wider in hidden:
            layers += [nn.Linear(width, wider), nn.ReLU()]
            width = wider
        layers.append(nn.Linear(width, classes))
        for number, layer in enumerate(layers):
            self.add_module(str(number), layer)

    def blocks(self) -> list[Callable[[Tensor], Tensor]]:
        """One function for each layer with weights, with what follows it."""
        groups: list[list[nn.Module]] = []
        for module in self.children():
            if isinstance(module, nn.Conv2d | nn.Linear):
                groups.append([])
            groups[-1].append(module)
        return [Chain(group) for group in groups]
