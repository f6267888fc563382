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
    """

    def __init__(self, classes: int, in_channels: int, stack: str) -> None:
        super().__init__()
        parsed = sequential_names.tokens_of(stack)
        if parsed is None:
            raise ValueError(f"expected the name of a stack of layers, got {stack}")
        size, tokens = parsed
        if (usual := sequential_names.layout(stack)) is None:
            raise ValueError(f"expected strides that lead to the values of {stack}, and there are none")
        places = iter(usual[1])
        width, flat, number = in_channels, False, 0
        for token in tokens:
            module: nn.Module
            if token["planes"]:
                stride, padding = next(places)
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
            elif token["activation"]:
                name = "relu" if token[0] == "a" else token[0]
                module = Activate(layers.ACTIVATIONS[name])
            elif token[0] == "b":
                module = nn.BatchNorm1d(width) if flat else nn.BatchNorm2d(width)
            else:
                module = nn.MaxPool2d(2) if token[0] in ("m", "P") else nn.Identity()
            # Children act in this order; what is in forward has no number.
            unnumbered = token[0][0] in "PF"
            self.add_module(f"{token[0][0]}{number}" if unnumbered else str(number), module)
            number += not unnumbered

    def blocks(self) -> list[Callable[[Tensor], Tensor]]:
        """One function for each layer with weights, with what follows it."""
        groups: list[list[nn.Module]] = []
        for module in self.children():
            if not groups or isinstance(module, nn.Conv2d | nn.Linear):
                groups.append([])
            groups[-1].append(module)
        return [Chain(group) for group in groups]
