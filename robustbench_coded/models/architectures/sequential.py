"""Plain stacks of layers, as ``nn.Sequential`` numbers them."""

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
        inactive: one of ``sequential_names.inactive``: which activations are left out; empty for none.
    """

    def __init__(
        self,
        classes: int,
        in_channels: int,
        stack: str,
        layout: str = "",
        activation: str = "relu",
        pooling: str = "max",
        inactive: str = "",
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
        left_out = sequential_names.inactive(tokens)
        if inactive and inactive not in left_out:
            raise ValueError(f"expected inactive {', '.join(left_out) or 'nothing'}, got {inactive}")
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
            elif token[0] == "a" and number not in left_out.get(inactive, ()):
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
