"""Networks by the name of their architecture, with places for stored weights."""

import inspect
from collections.abc import Container, Mapping
from contextlib import suppress

import torch
from torch import nn

from robustbench_coded.errors import InputError
from robustbench_coded.models.pixel_model import OtherInput
from robustbench_coded.models.refusal import Refused, Shapes
from robustbench_coded.models.registry import INPUT, changed, find, inside, split_variant, unchanged


def with_biases(shapes: Shapes, expected: Shapes) -> dict[str, tuple[int, ...]]:
    """Names and shapes of an architecture, with the biases of convolutions that a file has besides."""
    found: dict[str, tuple[int, ...]] = {}
    for name, shape in expected.items():
        found[name] = shape
        scope, _, last = name.rpartition(".")
        bias = f"{scope}.bias"
        if last == "weight" and len(shape) == 4 and bias in shapes and bias not in expected:
            found[bias] = shape[:1]
    return found


def give_places(network: nn.Module, names: Container[str]) -> int:
    """In place: convolutions get the biases among ``names``, which batch-norms follow; how many got one.

    Raises:
        Refused: this kind of convolution takes none.
    """
    given = 0
    for scope, module in network.named_modules():
        if isinstance(module, nn.Conv2d) and module.bias is None and f"{scope}.bias" in names:
            if type(module) is not nn.Conv2d:
                raise Refused(f"{scope[:80]}.bias has no place: this kind of convolution takes none")
            module.bias = nn.Parameter(torch.empty_like(module.weight[:, 0, 0, 0]), requires_grad=False)
            given += 1
    return given


def construct(
    arch: str,
    classes: int,
    in_channels: int = 3,
    image_size: int | None = None,
    *,
    dropout: float = 0.0,
) -> nn.Module:
    """The network without weights, on torch's meta device: for its names and shapes, or to load weights into.

    Args:
        arch: a name as in :data:`registry.MODELS`.
        classes: number of classes, at least 2.
        in_channels: channels of the image.
        image_size: height and width in pixels, for architectures made for one size; others take any.
        dropout: probability after the second batch-norm of each block.
    Raises:
        InputError: unknown name, or sizes that the architecture does not take.
    """
    architecture, parameters = find(arch)
    if classes < 2:
        raise InputError(f"{arch}: expected at least 2 classes, got {classes}")
    if architecture.takes_image_size:
        if image_size is None:
            raise InputError(f"{arch} is made for one image size; none was given")
        parameters["image_size"] = image_size
    constructor = inside(architecture.constructor)
    if dropout and "dropout" not in inspect.signature(constructor).parameters:
        raise InputError(f"{arch}: dropout has no place in this architecture; leave it at 0")
    if dropout:
        parameters["dropout"] = dropout
    with torch.device("meta"):
        try:
            return constructor(classes=classes, in_channels=in_channels, **parameters)
        except ValueError as error:
            raise InputError(f"{arch}: {error}") from None


class Variants:
    """Networks that share the weights of a trained one, and differ in parts that leave no trace in these.

    Args:
        arch: of the trained network.
        network: in eval mode, its parameters frozen; variants are on its device.
        sizes: its classes, channels and image size.

    Attributes:
        parts: those of the architecture that leave no trace, with their other forms; none of the user's own.
    """

    parts: Mapping[str, tuple[str | int, ...]]

    def __init__(self, arch: str, network: nn.Module, sizes: tuple[int, int, int | None]) -> None:
        self.sizes = sizes
        self._networks = {arch: network}
        self._weights = (network.network if isinstance(network, OtherInput) else network).state_dict()
        try:
            self.parts = find(arch)[0].variants
        except InputError:
            self.parts = {}

    def network(self, arch: str) -> nn.Module:
        """The network of a variant.

        Raises:
            InputError: there is no such variant.
        """
        if arch not in self._networks:
            if (form := split_variant(arch)[1].get(INPUT)) is not None:
                built: nn.Module = OtherInput(self.network(unchanged(arch, INPUT)), form)
            else:
                built = construct(arch, *self.sizes)
                give_places(built, self._weights)
                built.load_state_dict(self._weights, assign=True)
            self._networks[arch] = built.eval().requires_grad_(False)
        return self._networks[arch]

    def forms(self, arch: str, part: str) -> list[str]:
        """``arch`` with that part as usual and in its other forms, as far as there are such networks."""
        found = [unchanged(arch, part)]
        for form in self.parts[part]:
            with suppress(InputError):
                self.network(changed(arch, part, form))
                found.append(changed(arch, part, form))
        return found

    def one_part_away(self, arch: str) -> list[str]:
        """``arch`` with each of its parts in every form."""
        return [form for part in self.parts for form in self.forms(arch, part)]
