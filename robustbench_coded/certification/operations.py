"""Which step of a graph a node of a trace is: the table of operations that have bounds."""

import operator
from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import torch
from torch import Tensor, fx, nn

from robustbench_coded.certification.affine import (
    Affine,
    Convolution,
    Difference,
    Gathering,
    Matrix,
    Scale,
)
from robustbench_coded.certification.bends import Bend, Rising

Op = Affine | Bend | Rising
Shapes = tuple[torch.Size, ...]


class NotCertifiable(Exception):
    """Why there is no bound, as a clause."""


def step_of(
    node: fx.Node,
    traced: fx.GraphModule,
    dependent: list[fx.Node],
    given: Mapping[fx.Node, object],
    shapes: Shapes,
) -> Op | None:
    """The step that a node is; None where it hands on its input as it is.

    Args:
        dependent: the nodes among its inputs that depend on the images.
        given: what every node gave for some images.
        shapes: of what each of ``dependent`` gave, without the images' axis.
    Raises:
        NotCertifiable: it has no bounds.
    """
    made = given[node]
    assert isinstance(made, Tensor)
    if node.op == "call_module":
        return _of_module(traced.get_submodule(str(node.target)), shapes, made.shape[1:])
    name = _name(node)
    if name in _SAME:
        return None
    if name in _BENT:
        return Bend(_BENT[name](node))
    if name in _RISING:
        return Rising(_called(node, dependent, given))
    if name in _ARITHMETIC:
        return _arithmetic(name, node, dependent, given, made)
    if name in _RESHAPING:
        return Gathering(_Reshape(made.shape[1:]), shapes, 1)
    if name in _GATHERING and _gathers_soundly(name, node):
        terms = max(1, prod(shapes[0]) // max(1, prod(made.shape[1:])))
        return Gathering(_called(node, dependent, given), shapes, terms + 1)
    raise NotCertifiable(f"its network has {name}, which has no bounds here")


def _of_module(module: nn.Module, shapes: Shapes, made: torch.Size) -> Op | None:
    match module:
        case nn.Identity() | nn.Dropout() | nn.Dropout2d():
            return None
        case nn.ReLU():
            return Bend()
        case nn.LeakyReLU() if module.negative_slope <= 1:
            return Bend(module.negative_slope)
        case nn.Conv2d() if module.padding_mode == "zeros" and isinstance(module.padding, tuple):
            return Convolution(
                module.weight, module.bias, module.stride, module.padding, module.dilation,  # type: ignore[arg-type]
                module.groups, shapes[0],
            )  # fmt: skip
        case nn.Linear():
            return Matrix(module.weight, module.bias)
        case nn.BatchNorm1d() | nn.BatchNorm2d() if module.running_var is not None:
            return _batch_norm(module, len(shapes[0]))
        case nn.MaxPool2d() | nn.AdaptiveMaxPool2d() | nn.Sigmoid() | nn.Tanh() | nn.ReLU6() | nn.Hardtanh():
            return Rising(module)
        case nn.Flatten() | nn.Unflatten():
            return Gathering(_Reshape(made), shapes, 1)
        case nn.AvgPool2d() | nn.AdaptiveAvgPool2d():
            return Gathering(module, shapes, prod(shapes[0]) // max(1, made[0]) + 1)
        case nn.ZeroPad2d():
            return Gathering(module, shapes, 1)
    raise NotCertifiable(f"its network has {type(module).__name__}, which has no bounds here")


def _batch_norm(norm: nn.BatchNorm1d | nn.BatchNorm2d, dims: int) -> Scale:
    assert norm.running_mean is not None and norm.running_var is not None
    scale = 1 / (norm.running_var + norm.eps).sqrt()
    if norm.weight is not None:
        scale = scale * norm.weight
    shift = -norm.running_mean * scale
    if norm.bias is not None:
        shift = shift + norm.bias
    shape = (-1,) + (1,) * (dims - 1)
    return Scale(scale.view(shape), shift.view(shape))


class _Reshape:
    """Values [n, *any] as [n, *shape]."""

    def __init__(self, shape: torch.Size):
        self.shape = shape

    def __call__(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), *self.shape)


class _called:
    """A node's function with everything but its dependent inputs filled in."""

    def __init__(self, node: fx.Node, dependent: list[fx.Node], given: Mapping[fx.Node, object]):
        self.node, self.places = node, {n: i for i, n in enumerate(dependent)}
        self.given = given
        assert node.op in ("call_function", "call_method")

    def __call__(self, *values: Tensor) -> Tensor:
        def filled(n: fx.Node) -> Any:
            return values[self.places[n]] if n in self.places else self.given[n]

        args = fx.map_arg(self.node.args, filled)
        kwargs = fx.map_arg(self.node.kwargs, filled)
        if self.node.op == "call_method":
            return getattr(args[0], str(self.node.target))(*args[1:], **kwargs)
        function = self.node.target
        assert callable(function)
        return function(*args, **kwargs)


def _name(node: fx.Node) -> str:
    """``add``, ``relu``, ``flatten`` ...: functions, methods and operators of one kind have one name."""
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    plain = name.strip("_")
    return _OTHER_NAMES.get(plain, plain)


def _argument(node: fx.Node, place: int, name: str, default: Any) -> Any:
    if name in node.kwargs:
        return node.kwargs[name]
    return node.args[place] if len(node.args) > place else default


def _arithmetic(
    name: str, node: fx.Node, dependent: list[fx.Node], given: Mapping[fx.Node, object], made: Tensor
) -> Op:
    """Sums, differences, and products with constants."""
    if node.kwargs:
        raise NotCertifiable(f"its network has {name} with options, which has no bounds here")
    if name in ("neg", "negative"):
        return Scale(-made.new_ones(()), made.new_zeros(()))
    left, right = node.args[:2]
    if len(node.all_input_nodes) == 2 and len(dependent) == 2:
        both = [given[n] for n in dependent]
        equal = all(isinstance(v, Tensor) and v.shape == made.shape for v in both)
        if name == "add" and equal:
            return Gathering(operator.add, (made.shape[1:],) * 2, 2)
        if name == "sub" and equal:
            return Difference() if dependent == [left, right] else _refuse("a difference of this order")
        _refuse(f"{name} of two values that depend on the image")
    if left is right:
        _refuse(f"{name} of a value with itself")
    first = left in dependent
    other = right if first else left
    constant = given[other] if isinstance(other, fx.Node) else other
    c = torch.as_tensor(constant, dtype=made.dtype, device=made.device)
    shape = _shape_of(given[dependent[0]])
    if name in ("matmul", "linear"):
        if not first or c.ndim not in (1, 2):
            _refuse("a product of matrices of this order")
        return Matrix(c if name == "linear" or c.ndim == 1 else c.T, None)
    # A constant must not tell the images of a batch apart, nor make them larger.
    if c.ndim == len(made.shape) and c.ndim and len(c) != 1:
        _refuse(f"{name} with a constant for each image of a batch")
    c = c.reshape(c.shape[1:]) if c.ndim == len(made.shape) else c
    if c.ndim >= len(made.shape) or made.shape[1:] != shape:
        _refuse(f"{name} with a constant that enlarges its input")
    one, zero = torch.ones_like(c), torch.zeros_like(c)
    match name, first:
        case "add", _:
            return Scale(one, c)
        case "sub", True:
            return Scale(one, -c)
        case "sub", False:
            return Scale(-one, c)
        case "mul", _:
            return Scale(c, zero)
        case "div", True:
            return Scale(1 / c, zero)
    return _refuse(f"{name} of a constant by a value that depends on the image")


def _refuse(what: str) -> Any:
    raise NotCertifiable(f"its network has {what}, which has no bounds here")


def _shape_of(value: object) -> torch.Size:
    assert isinstance(value, Tensor)
    return value.shape[1:]


def _gathers_soundly(name: str, node: fx.Node) -> bool:
    """Whether a function is linear with the options it is called with."""
    if name == "pad":
        mode, value = _argument(node, 2, "mode", "constant"), _argument(node, 3, "value", 0)
        return (mode == "constant" and not value) or mode in ("replicate", "reflect")
    if name == "getitem":
        return isinstance(node.args[1], slice | tuple | int)
    return True


def _leaky(node: fx.Node) -> float:
    slope = _argument(node, 1, "negative_slope", 0.01)
    if not isinstance(slope, int | float) or slope > 1:
        _refuse("a leaky ReLU with a slope above 1")
    return float(slope)


_OTHER_NAMES = {
    "truediv": "div", "true_divide": "div", "itruediv": "div", "multiply": "mul", "imul": "mul",
    "subtract": "sub", "isub": "sub", "iadd": "add",
}  # fmt: skip
_SAME = {"contiguous", "clone", "detach", "dropout", "identity", "to", "type_as"}
_BENT: dict[str, Callable[[fx.Node], float]] = {
    "relu": lambda node: 0.0,
    "leaky_relu": _leaky,
    "abs": lambda node: -1.0,
    "absolute": lambda node: -1.0,
}
_RISING = {
    "max_pool2d", "amax", "adaptive_max_pool2d", "sigmoid", "tanh", "relu6", "hardtanh",
    "clamp", "clip",
}  # fmt: skip
_ARITHMETIC = {"add", "sub", "mul", "div", "neg", "negative", "matmul", "linear"}
_RESHAPING = {"flatten", "view", "reshape", "squeeze", "unsqueeze", "unflatten"}
_GATHERING = {
    "mean", "sum", "avg_pool2d", "adaptive_avg_pool2d", "pad", "getitem", "cat", "concat", "stack", "permute",
    "transpose", "repeat",
}  # fmt: skip
