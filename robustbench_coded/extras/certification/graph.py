"""A network as a graph of steps with known bounds: the operations understood, and the tracing of a module."""

import copy
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from robustbench_coded.extras.certification import affine
from robustbench_coded.models.pixel_model import PixelModel

Op = affine.Affine | affine.Bend | affine.Rising
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
        return affine.Bend(_BENT[name](node))
    if name in _RISING:
        return affine.Rising(_called(node, dependent, given))
    if name in _ARITHMETIC:
        return _arithmetic(name, node, dependent, given, made)
    if name in _RESHAPING:
        return _reshaped(made.shape[1:], shapes)
    if name in _GATHERING and _gathers_soundly(name, node):
        return affine.gathering(_called(node, dependent, given), shapes)
    raise NotCertifiable(f"its network has {name}, which has no bounds here")


def _of_module(module: nn.Module, shapes: Shapes, made: torch.Size) -> Op | None:
    match module:
        case nn.Identity() | nn.Dropout() | nn.Dropout2d():
            return None
        case nn.ReLU():
            return affine.Bend()
        case nn.LeakyReLU() if module.negative_slope <= 1:
            return affine.Bend(module.negative_slope)
        case nn.Conv2d() if module.padding_mode == "zeros" and isinstance(module.padding, tuple):
            options = (module.stride, module.padding, module.dilation, module.groups)
            return affine.convolution(module.weight, module.bias, options, shapes[0])
        case nn.Linear():
            return affine.matrix(module.weight, module.bias)
        case nn.BatchNorm1d() | nn.BatchNorm2d() if module.running_var is not None:
            return _elementwise(module, shapes[0], module.running_var)
        case nn.MaxPool2d() | nn.AdaptiveMaxPool2d() | nn.Sigmoid() | nn.Tanh() | nn.ReLU6() | nn.Hardtanh():
            return affine.Rising(module)
        case nn.Flatten() | nn.Unflatten():
            return _reshaped(made, shapes)
        case nn.AvgPool2d() | nn.AdaptiveAvgPool2d() | nn.ZeroPad2d():
            return affine.gathering(module, shapes)
    raise NotCertifiable(f"its network has {type(module).__name__}, which has no bounds here")


def _reshaped(shape: torch.Size, in_shapes: Shapes) -> affine.Affine:
    """Values [n, *any] as [n, *shape]."""
    return affine.gathering(lambda x: x.reshape(len(x), *shape), in_shapes)


def _called(
    node: fx.Node, dependent: list[fx.Node], given: Mapping[fx.Node, object]
) -> Callable[..., Tensor]:
    """A node's function with everything but its dependent inputs filled in."""

    def function(*values: Tensor) -> Tensor:
        known: dict[fx.Node, Any] = {**given, **dict(zip(dependent, values, strict=True))}
        args: Any = fx.map_arg(node.args, lambda n: known[n])
        kwargs: Any = fx.map_arg(node.kwargs, lambda n: known[n])
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        assert callable(node.target)
        return node.target(*args, **kwargs)

    return function


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
) -> affine.Affine:
    """Sums, differences, and products with constants."""
    operands = [*node.args, *node.kwargs.values()]
    if len(dependent) == 2:
        equal = all(_shape(given[n]) == made.shape[1:] for n in dependent)
        if name not in ("add", "sub") or len(operands) > 2 or not equal:
            _refuse(f"{name} of two values that depend on the image")
        if name == "add":
            return affine.gathering(operator.add, (made.shape[1:],) * 2)
        return affine.difference() if dependent == operands else _refuse("a difference of this order")
    first = operands[0] is dependent[0]
    if sum(operand is dependent[0] for operand in operands) > 1:
        _refuse(f"{name} of a value with itself")
    if name == "div" and not first:
        _refuse("div of a constant by a value that depends on the image")
    if name in ("matmul", "linear"):
        weight: Any = given[operands[1]] if isinstance(operands[1], fx.Node) else operands[1]
        if not first or len(operands) > 2 or not isinstance(weight, Tensor) or weight.ndim > 2:
            _refuse("a product of matrices of this order")
        return affine.matrix(weight if name == "linear" or weight.ndim == 1 else weight.T, None)
    return _elementwise(_called(node, dependent, given), _shape(given[dependent[0]]), made)


def _elementwise(function: Callable[[Tensor], Tensor], shape: torch.Size, like: Tensor) -> affine.Affine:
    """A function of each number by itself that is known to be affine, by what it makes of 0 and of 1."""
    zero = like.new_zeros(1, *shape)
    shift = function(zero)
    # A constant must not tell the images of a batch apart, nor make them larger.
    if shift.shape != zero.shape:
        _refuse("arithmetic with a constant that enlarges its input")
    return affine.scale((function(zero + 1) - shift)[0], shift[0])


def _refuse(what: str) -> Any:
    raise NotCertifiable(f"its network has {what}, which has no bounds here")


def _gathers_soundly(name: str, node: fx.Node) -> bool:
    """True if a function is linear with the options it is called with."""
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


AGREEMENT = 1e-4  # of the largest logit: the network in float32 against its steps in float64


@dataclass(frozen=True)
class GraphStep:
    """One operation on earlier values; value 0 is the images, value i + 1 what step i makes."""

    op: Op
    inputs: tuple[int, ...]
    shape: torch.Size  # of what it makes, without the images' axis


@dataclass(frozen=True)
class Graph:
    """Pixels [n, C, H, W] in [0, 1] -> logits [n, classes], in float64.

    Attributes:
        steps: in an order in which they can be computed; the last makes the logits.
        in_shape: [C, H, W].
    """

    steps: tuple[GraphStep, ...]
    in_shape: torch.Size

    def shape(self, value: int) -> torch.Size:
        """Of a value, without the images' axis."""
        return self.steps[value - 1].shape if value else self.in_shape

    def values(self, x: Tensor) -> list[Tensor]:
        """The images and what every step makes of them."""
        values = [x]
        for step in self.steps:
            values.append(step.op.forward(*(values[i] for i in step.inputs)))
        return values

    def logits(self, x: Tensor) -> Tensor:
        return self.values(x)[-1]

    @property
    def bent(self) -> list[int]:
        """The values that functions with a bend are applied to, in order."""
        return list(dict.fromkeys(s.inputs[0] for s in self.steps if isinstance(s.op, affine.Bend)))


@torch.no_grad()
def graph_of(model: nn.Module, images: Tensor) -> Graph:
    """The steps of a model; a `PixelModel` or any module from pixels to logits.

    What was read is compared with the model's own answers: a trace that missed something is refused.

    Args:
        images: two or more [n, C, H, W] in [0, 1], on the model's device.

    Raises:
        NotCertifiable: the network can't be traced, or has an operation without bounds.
    """
    with _refused("its network can't be copied"):
        network = copy.deepcopy(model.network if isinstance(model, PixelModel) else model).double().eval()
    x = images[:2].double()
    steps: list[GraphStep] = []
    first: Tensor = x
    if isinstance(model, PixelModel):
        mean, std = model.mean.double().squeeze(0), model.std.double().squeeze(0)
        scale = affine.scale(1 / std, -mean / std)
        steps.append(GraphStep(scale, (0,), x.shape[1:]))
        first = scale.forward(x)
    with _refused("its network can't be traced"):
        traced = fx.GraphModule(network, fx.Tracer().trace(network))
    graph = Graph((*steps, *_steps(traced, first, len(steps))), x.shape[1:])
    _check(graph, model, images)
    return graph


@contextmanager
def _refused(what: str) -> Iterator[None]:
    """A network from outside can fail in any way: NotCertifiable, whatever it raises inside."""
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        raise NotCertifiable(f"{what} ({type(error).__name__}: {reason})") from error


def _check(graph: Graph, model: nn.Module, images: Tensor) -> None:
    """Raises NotCertifiable where the steps answer otherwise than the network, or mix images."""
    # Others than those it was read with: what the trace took for a constant would be right on those.
    x = torch.rand(3, *images.shape[1:], generator=torch.Generator().manual_seed(0)).to(images)
    with _refused("its trace holds for no other images"):
        expected, logits = model(x).double(), graph.logits(x.double())
        alone = graph.logits(x[1:2].double())
    if logits.ndim != 2 or logits.shape != expected.shape:
        raise NotCertifiable(f"its trace answers {list(logits.shape)}, not {list(expected.shape)}")
    difference = torch.maximum((logits - expected).abs().max(), (logits[1:2] - alone).abs().max())
    if not bool(difference <= AGREEMENT * expected.abs().max() + 1e-6):  # NaN doesn't pass
        raise NotCertifiable(
            f"the trace of its network answers otherwise than the network, by up to {float(difference):.2g}"
        )


class _Reader(fx.Interpreter):
    """Runs a traced network on a few images and notes what each node gave."""

    def __init__(self, module: fx.GraphModule):
        super().__init__(module)
        self.given: dict[fx.Node, object] = {}

    def run_node(self, n: fx.Node) -> object:
        self.given[n] = super().run_node(n)
        return self.given[n]


def _steps(traced: fx.GraphModule, x: Tensor, made: int) -> Sequence[GraphStep]:
    """The steps of a traced network whose input is value ``made``."""
    reader = _Reader(traced)
    with _refused("its trace can't be run"):
        reader.run(x)
    numbers: dict[fx.Node, int] = {}  # of the nodes that depend on the images
    sizes: set[fx.Node] = set()  # what depends on their shape alone
    steps: list[GraphStep] = []
    for node in traced.graph.nodes:
        if node.op == "placeholder":
            numbers[node] = made
            continue
        if node.op == "output":
            last = node.args[0]
            if not isinstance(last, fx.Node) or last not in numbers:
                raise NotCertifiable("its network answers something else than one tensor")
            break
        dependent = [n for n in node.all_input_nodes if n in numbers]
        given = reader.given[node]
        if node.target in ("to", "type_as") and node.args[0] not in numbers:
            continue  # a constant, told which type to have
        if dependent and isinstance(given, int | torch.Size):
            sizes.add(node)
            continue
        if not dependent and not (sizes & set(node.all_input_nodes) and isinstance(given, Tensor)):
            sizes |= {node} if sizes & set(node.all_input_nodes) else set()
            continue
        if not dependent or not isinstance(given, Tensor):
            raise NotCertifiable(f"its network has {node.target}, which has no bounds here")
        if given.ndim == 0 or len(given) != len(x):
            raise NotCertifiable(f"{node.target} mixes the images of a batch")
        shapes = tuple(_shape(reader.given[n]) for n in dependent)
        step = step_of(node, traced, dependent, reader.given, shapes)
        if step is None:  # hands its input on
            numbers[node] = numbers[dependent[0]]
            continue
        steps.append(GraphStep(step, tuple(numbers[n] for n in dependent), given.shape[1:]))
        numbers[node] = made + len(steps)
    if numbers[last] != made + len(steps):
        raise NotCertifiable("its network has no last operation")
    return steps


def _shape(value: object) -> torch.Size:
    assert isinstance(value, Tensor)
    return value.shape[1:]
