"""Plain stacks of layers, as ``nn.Sequential`` numbers them, and the small network for digits."""

from collections.abc import Callable

from torch import Tensor, nn

from robustbench_coded.models.architectures import layers, sequential_names
from robustbench_coded.models.pixel_model import BlockNetwork, Chain


class Activate(nn.Module):
    """An activation as a module."""

    def __init__(self, function: layers.Activation):
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Sequential(BlockNetwork):
    """The network that a name of ``sequential_names`` describes.

    Args:
        classes: number of classes.
        in_channels: channels of the image.
        stack: the name.
        layout: one of ``sequential_names.layouts``; empty for the usual one.
        activation: a name of ``activations.ACTIVATIONS``.
        pooling: one of ``sequential_names.POOLINGS``, over 2x2 pixels.
    """

    def __init__(
        self,
        classes: int,
        in_channels: int,
        stack: str,
        layout: str = "",
        activation: str = "relu",
        pooling: str = "max",
    ) -> None:
        super().__init__()
        if pooling not in sequential_names.POOLINGS:
            raise ValueError(f"expected pooling {', '.join(sequential_names.POOLINGS)}, got {pooling}")
        parsed = sequential_names.tokens_of(stack)
        if parsed is None:
            raise ValueError(f"expected the name of a stack of layers, got {stack}")
        size, tokens = parsed
        possible = sequential_names.layouts(stack)
        if layout and layout not in possible:
            raise ValueError(f"expected a layout of {', '.join(possible) or 'nothing'}, got {layout}")
        layout = layout or next(iter(possible), "")
        places = iter(place.split(".") for place in layout.split("/"))
        width, flat = in_channels, False
        for number, token in enumerate(tokens):
            module: nn.Module
            if token["planes"]:
                stride, padding = map(int, next(places))
                planes, kernel, bias = int(token["planes"]), int(token["kernel"]), not token["bare"]
                module = nn.Conv2d(width, planes, kernel, stride=stride, padding=padding, bias=bias)
                width = planes
            elif token["linear"]:
                wider = int(token["width"] or classes)
                module, width = nn.Linear(width, wider, bias=not token["bare_linear"]), wider
            elif token["values"]:
                values = int(token["values"])
                if number == 0 and values != in_channels * size * size:
                    raise ValueError(f"expected {in_channels * size * size} values, got {stack}")
                module, width, flat = nn.Flatten(), values, True
            elif token[0] == "b":
                module = nn.BatchNorm1d(width) if flat else nn.BatchNorm2d(width)
            elif token[0] == "a":
                module = Activate(layers.activation_named(activation))
            elif token[0] == "m":
                module = nn.MaxPool2d(2) if pooling == "max" else nn.AvgPool2d(2)
            else:
                module = nn.Identity()
            self.add_module(str(number), module)  # children act in this order

    def blocks(self) -> list[Callable[[Tensor], Tensor]]:
        """One function for each layer with weights, with what follows it."""
        groups: list[list[nn.Module]] = []
        for module in self.children():
            if not groups or isinstance(module, nn.Conv2d | nn.Linear):
                groups.append([])
            groups[-1].append(module)
        return [Chain(group) for group in groups]


class DigitsCNN(BlockNetwork):
    """Three 3x3 convolutions with batch-norm, each but the first halving the image, then a global mean.

    Args:
        classes: number of classes.
        in_channels: channels of the image.
        width: channels after the first convolution; doubled by each further one.
        dropout: probability after the second batch-norm.
        activation: one of ``activations.ACTIVATIONS``.
        pooling: ``mean`` or ``max``, before the linear layer.
    """

    def __init__(
        self,
        classes: int = 10,
        in_channels: int = 1,
        width: int = 16,
        dropout: float = 0.0,
        activation: str = "relu",
        pooling: str = "mean",
    ) -> None:
        super().__init__()
        if pooling not in ("mean", "max"):
            raise ValueError(f"expected pooling mean or max, got {pooling}")
        self.activation = layers.activation_named(activation)
        self.pooling = pooling
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(2 * width)
        self.dropout = layers.Dropout(dropout)
        self.conv3 = nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.linear = nn.Linear(4 * width, classes)

    def _first(self, x: Tensor) -> Tensor:
        return self.activation(self.bn1(self.conv1(x)))

    def _second(self, x: Tensor) -> Tensor:
        return self.activation(self.dropout(self.bn2(self.conv2(x))))

    def _last(self, x: Tensor) -> Tensor:
        x = self.activation(self.bn3(self.conv3(x)))
        return self.linear(x.mean((2, 3)) if self.pooling == "mean" else x.amax((2, 3)))

    def blocks(self) -> list[Callable[[Tensor], Tensor]]:
        """Three functions whose composition is the network."""
        return [self._first, self._second, self._last]
