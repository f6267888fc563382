"""A network as a list of steps, each affine or with a bend, read off its own trace."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from robustbench_coded.certification.affine import Affine, Scale
from robustbench_coded.certification.bends import Bend, Rising
from robustbench_coded.certification.operations import NotCertifiable, step_of
from robustbench_coded.models.pixel_model import PixelModel

AGREEMENT = 1e-4  # of the largest logit: the network in float32 against its steps in float64


@dataclass(frozen=True)
class Step:
    """One operation on earlier values; value 0 is the images, value i + 1 what step i makes."""

    op: Affine | Bend | Rising
    inputs: tuple[int, ...]
    shape: torch.Size  # of what it makes, without the images' axis


@dataclass(frozen=True)
class Graph:
    """Pixels [n, C, H, W] in [0, 1] -> logits [n, classes], in float64.

    Attributes:
        steps: in an order in which they can be computed; the last makes the logits.
        in_shape: [C, H, W].
    """

    steps: tuple[Step, ...]
    in_shape: torch.Size

    def shape(self, value: int) -> torch.Size:
        """Of a value, without the images' axis."""
        return self.steps[value - 1].shape if value else self.in_shape

    def values(self, x: Tensor) -> list[Tensor]:
        """The images and what every step makes of them."""
        found = [x]
        for step in self.steps:
            found.append(step.op.forward(*(found[i] for i in step.inputs)))
        return found

    def logits(self, x: Tensor) -> Tensor:
        return self.values(x)[-1]

    @property
    def bent(self) -> list[int]:
        """The values that functions with a bend are applied to, in order."""
        return list(dict.fromkeys(s.inputs[0] for s in self.steps if isinstance(s.op, Bend)))


@torch.no_grad()
def graph_of(model: nn.Module, images: Tensor) -> Graph:
    """The steps of a model; a `PixelModel` or any module from pixels to logits.

    What was read is compared with the model's own answers: a trace that missed something is refused.

    Args:
        images: two or more [n, C, H, W] in [0, 1], on the model's device.

    Raises:
        NotCertifiable: the network can't be traced, or has an operation without bounds.
    """
    try:
        network = copy.deepcopy(model.network if isinstance(model, PixelModel) else model).double().eval()
    except Exception as error:  # a network from outside can refuse in any way
        reason = " ".join(str(error).split())[:120]
        raise NotCertifiable(f"its network can't be copied ({type(error).__name__}: {reason})") from error
    x = images[:2].double()
    steps: list[Step] = []
    first: Tensor = x
    if isinstance(model, PixelModel):
        mean, std = model.mean.double().squeeze(0), model.std.double().squeeze(0)
        scale = Scale(1 / std, -mean / std)
        steps.append(Step(scale, (0,), x.shape[1:]))
        first = scale.forward(x)
    try:
        traced = fx.GraphModule(network, fx.Tracer().trace(network))
    except Exception as error:  # a network from outside can refuse in any way
        reason = " ".join(str(error).split())[:120]
        raise NotCertifiable(f"its network can't be traced ({type(error).__name__}: {reason})") from error
    graph = Graph((*steps, *_steps(traced, first, len(steps))), x.shape[1:])
    _check(graph, model, images)
    return graph


def _check(graph: Graph, model: nn.Module, images: Tensor) -> None:
    """Raises NotCertifiable where the steps answer otherwise than the network, or mix images."""
    # Others than those it was read with: what the trace took for a constant would be right on those.
    x = torch.rand(3, *images.shape[1:], generator=torch.Generator().manual_seed(0)).to(images)
    try:
        expected, found = model(x).double(), graph.logits(x.double())
        alone = graph.logits(x[1:2].double())
    except Exception as error:
        raise NotCertifiable(f"its trace holds for no other images ({type(error).__name__})") from error
    if found.ndim != 2 or found.shape != expected.shape:
        raise NotCertifiable(f"its trace answers {list(found.shape)}, not {list(expected.shape)}")
    difference = torch.maximum((found - expected).abs().max(), (found[1:2] - alone).abs().max())
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


def _steps(traced: fx.GraphModule, x: Tensor, made: int) -> Sequence[Step]:
    """The steps of a traced network whose input is value ``made``."""
    reader = _Reader(traced)
    try:
        reader.run(x)
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        raise NotCertifiable(f"its trace can't be run ({type(error).__name__}: {reason})") from error
    numbers: dict[fx.Node, int] = {}  # of the nodes that depend on the images
    sizes: set[fx.Node] = set()  # what depends on their shape alone
    steps: list[Step] = []
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
        steps.append(Step(step, tuple(numbers[n] for n in dependent), given.shape[1:]))
        numbers[node] = made + len(steps)
    if numbers[last] != made + len(steps):
        raise NotCertifiable("its network has no last operation")
    return steps


def _shape(value: object) -> torch.Size:
    assert isinstance(value, Tensor)
    return value.shape[1:]
