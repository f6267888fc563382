"""Architectures from the user's own code: ``--arch package.module:function``."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from attacks.adapters.user_modules import own_folders_first
from robustbench_coded.errors import InputError, described
from robustbench_coded.models.detect import classes_of
from robustbench_coded.models.fitting import fit
from robustbench_coded.models.plugin import beside, import_function
from robustbench_coded.models.state_dict import StateDict


def load_plugin(spec: str, weights: StateDict) -> tuple[nn.Module, bool]:
    """Builds the user's network and puts the weights into it.

    The function is called with the number of classes where it takes one (as ``classes``, ``num_classes`` or
    its first required argument), else without arguments. Torch's global random state is put back afterwards.

    Args:
        spec: ``package.module:function``.
        weights: of the checkpoint.
    Returns:
        The network in float32, and whether it holds the normalisation that the file stores.
    Raises:
        InputError: the function cannot be imported, fails, or returns no network.
        Refused: the weights are not those of its network.
    """
    function = import_function(spec, "--arch")
    with torch.random.fork_rng(devices=[]), own_folders_first(*beside(spec)):
        torch.manual_seed(0)  # what the weights do not overwrite is the same in every worker
        try:
            network = _call(function, weights.tensors)
        except Exception as error:  # the user's function can fail in any way
            raise InputError(f"--arch {spec}: it raised {described(error)}") from error
    if not isinstance(network, nn.Module):
        raise InputError(f"--arch {spec}: expected a torch.nn.Module, it returned a {type(network).__name__}")
    network = network.float().cpu()
    return network, fit(spec, network, weights).holds_normalisation


def classes_in(tensors: Mapping[str, Tensor]) -> int | None:
    """Number of classes of a network of unknown names: rows of the head, or length of the last bias."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    heads = classes_of(shapes)
    if heads is not None:
        return heads
    # A linear layer, or a 1x1 convolution where a network has no linear one.
    for sides in ((), (1, 1)):
        layers = [name for name, shape in shapes.items() if len(shape) >= 2 and shape[2:] == sides]
        weights = [name for name in layers if name.rpartition(".")[2] == "weight"]
        biases = [name.removesuffix("weight") + "bias" for name in weights]
        lengths = [shapes[bias][0] for bias in biases if len(shapes.get(bias, ())) == 1]
        if lengths:
            return lengths[-1]
    return None


def classes_answered(network: nn.Module, image_shape: Sequence[int]) -> int | None:
    """Number of classes that a network answers images of that shape [C, H, W] with; None where it fails."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]), suppress(Exception):
        answer = network.eval()(torch.zeros(2, *image_shape))
        if isinstance(answer, Tensor) and answer.ndim == 2 and len(answer) == 2:
            return answer.shape[1]
    return None


def channels_in(tensors: Mapping[str, Tensor]) -> int:
    """Channels of a network of unknown names: 1 where a convolution takes 1 and none takes 3, else 3."""
    inputs = {tensor.shape[1] for tensor in tensors.values() if tensor.ndim == 4}
    return 1 if 1 in inputs and 3 not in inputs else 3


def _call(function: Callable[..., Any], tensors: Mapping[str, Tensor]) -> Any:
    classes = classes_in(tensors)
    parameters = inspect.signature(function).parameters
    keyword = next((name for name in ("classes", "num_classes") if name in parameters), None)
    if classes is not None and keyword is not None:
        return function(**{keyword: classes})
    required = [
        parameter
        for parameter in parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    return function(classes) if required else function()
