"""Our interval and linear bounds beside auto_LiRPA's (arXiv 2002.12920), where both use the same rule.

    python benchmarks/peers/certified_parity.py --shared DIR     prints the table; needs auto_LiRPA

Lower bounds on all margins of MNIST's first test images, over the same boxes, in float64: of `kw_mnist.pth`
(arXiv 1711.00851) in DIR, and of a small network with weights as torch draws them. The linear bounds have the
lower line of an unstable ReLU at its nearer branch, on every value before a ReLU, too; neither side takes
rounding off. auto_LiRPA bounds every such value by lines alone, and so does ours in the second line of each
network; in a run ours also knows the intervals, which may only be tighter (third line). auto_LiRPA 0.3 wants
an older torch.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from auto_LiRPA import BoundedModule, BoundedTensor, PerturbationLpNorm
from torch import Tensor, nn

from robustbench_coded.data.registry import load_data
from robustbench_coded.extras.certification import bounds as linear_bounds
from robustbench_coded.extras.certification.affine import Affine
from robustbench_coded.extras.certification.bounds import Region, intervals
from robustbench_coded.extras.certification.graph import Graph, graph_of
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.models.pixel_model import PixelModel

IMAGES, EPS = 8, {"kw_mnist": 0.1, "small": 0.02}


def small() -> nn.Module:
    """Two convolutions and two linear layers on 1 x 28 x 28, weights as torch draws them."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 4, stride=4), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Flatten(),
        nn.Linear(392, 32), nn.ReLU(), nn.Linear(32, 10),
    )  # fmt: skip


def layers(network: nn.Module) -> nn.Sequential:
    """The leaf modules of a network that is a sequence of them, in float64."""
    found = [module for module in network.modules() if not list(module.children())]
    return nn.Sequential(*found).double().eval()


def theirs(network: nn.Module, region: Region, y: Tensor, method: str) -> Tensor:
    """auto_LiRPA's lower bounds [n, classes] on the leads of class y."""
    ball = PerturbationLpNorm(norm=torch.inf, eps=0.0, x_L=region.low, x_U=region.high)
    bounded = BoundedModule(network, region.centre[:1], device="cpu")
    low, _ = bounded.compute_bounds(
        x=(BoundedTensor(region.centre, ball),),
        C=linear_bounds.ahead(y, 10),
        method=method,
        bound_upper=False,
    )
    return low


def ours(graph: Graph, region: Region, y: Tensor, method: str) -> Tensor:
    """Likewise ours: linear bounds by the nearer branch, or intervals with the last layer's differences."""
    last, leads = len(graph.steps), linear_bounds.ahead(y, 10)
    if method != "IBP":
        alone = method == "CROWN, lines alone"
        bounds = by_lines(graph, region) if alone else linear_bounds.refined(graph, region)
        bound = linear_bounds.backward(graph, bounds, last, leads)
        return region.least(bound.a) + bound.constant
    low, high = intervals(graph, region)[last - 1]
    op = graph.steps[last - 1].op
    assert isinstance(op, Affine)  # the last layer
    (a,) = op.transpose(leads.flatten(0, 1))
    a, constant = a.unflatten(0, leads.shape[:2]), op.forward(torch.zeros_like(low[:1]))
    middle, radius = (high + low) / 2, (high - low) / 2
    return (a @ middle[:, :, None] - a.abs() @ radius[:, :, None])[:, :, 0] + (leads @ constant[0])


def by_lines(graph: Graph, region: Region) -> list[tuple[Tensor, Tensor]]:
    """Bounds on every value before a ReLU from lines alone, every number of it followed back."""
    found = intervals(graph, region)
    for value in graph.bent:
        shape = graph.shape(value)
        rows = torch.eye(shape.numel(), dtype=torch.float64).unflatten(1, shape).split(256)
        ends = [
            linear_bounds._both_ends(graph, region, found, value, part.expand(len(region), *part.shape))
            for part in rows
        ]
        low, high = (torch.cat(end, dim=1).unflatten(1, shape) for end in zip(*ends, strict=True))
        found[value] = low, high
    return found


def lines(shared: Path) -> Iterator[str]:
    """Markdown, a line a network and method."""
    data = load_data("mnist", data_dir=str(shared / "data" / "mnist"))
    x, y = data.batch(range(IMAGES))
    kw = load_checkpoint(str(shared / "checkpoints" / "kw_mnist.pth"), arch=None, normalize="none", name="kw")
    columns = (
        "network",
        "eps",
        "bounds",
        "theirs, mean",
        "ours, mean",
        "largest difference",
        "ours lower by at most",
    )
    yield f"| {' | '.join(columns)} |"
    yield "| --- | ---: | --- | ---: | ---: | ---: | ---: |"
    for name, network in (("kw_mnist", layers(kw.network)), ("small", layers(small()))):
        region = Region.around(x, "linf", EPS[name])
        graph = graph_of(PixelModel(network.float(), (0.0,), (1.0,), classes=10, arch=name), x)
        network.double()
        for method in ("IBP", "CROWN, lines alone", "CROWN, as in a run"):
            with torch.no_grad():
                one, other = theirs(network, region, y, method[:5]), ours(graph, region, y, method)
            apart = other - one
            yield (
                f"| {name} | {EPS[name]:g} | {method} | {float(one.mean()):.6f} | {float(other.mean()):.6f} "
                f"| {float(apart.abs().max()):.1e} | {max(float(-apart.min()), 0.0):.1e} |"
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shared", type=Path, required=True, help="folder with checkpoints and data")
    print("\n".join(lines(parser.parse_args().shared)))


if __name__ == "__main__":
    main()
