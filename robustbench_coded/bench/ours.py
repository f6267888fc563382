"""The contenders of this project: the bare network, its attacks, coded inference."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from robustbench_coded.bench.timing import Contender
from robustbench_coded.bench.workload import SMALL_K, Workload, attack
from robustbench_coded.coding.sizes import coded_size
from robustbench_coded.defences.coded import Coded
from robustbench_coded.defences.rci import RCI
from robustbench_coded.defences.standard import Standard
from robustbench_coded.models.pixel_model import PixelModel
from robustbench_coded.models.tf32 import tf32

ANSWERS = 10  # in one timed call: the noise of a single short answer would hide the cost of coding


def gradient_contenders(workload: Workload, reference: str) -> list[Contender]:
    """PGD on standard inference, and its forward and backward passes alone."""
    images = workload.steps * workload.k
    made = [
        Contender("forward+backward, model as loaded", images, _passes(workload, workload.model), reference)
    ]
    for name, model in workload.gradients.items():
        limit = f"forward+backward, {name}"
        pgd = attack(workload, Standard(model), workload.x[None], f"pgd-{workload.steps}")
        made.append(Contender(limit, images, _passes(workload, model), reference))
        made.append(Contender(f"csrobust pgd-{workload.steps}, {name}", images, pgd, reference))
    if workload.device.type == "cuda":
        limit = "forward+backward, float32, one CUDA graph"
        made.append(Contender(limit, images, _replayed(workload, workload.gradients["float32"]), reference))
    # Auto-PGD needs one gradient or value more than it has steps.
    apgd = attack(
        workload, Standard(workload.gradients["float32"]), workload.x[None], f"apgd-ce-{workload.steps}"
    )
    made.append(
        Contender(f"csrobust apgd-ce-{workload.steps}, float32", images + workload.k, apgd, reference)
    )
    return made


def coded_contenders(workload: Workload) -> list[Contender]:
    """A PGD step through RCI against a plain one on as many images, and small batches against large ones."""
    model, k, name = workload.gradients["float32"], workload.k, f"pgd-{workload.steps}"
    made = []
    for n in (k, coded_size("1.5K", k)):
        x = workload.batch(n)
        plain = f"{name}, standard on {n}"
        made.append(Contender(plain, workload.steps * n, attack(workload, Standard(model), x[None], name)))
        coded = attack(workload, RCI(model, k, n), workload.x[None], name)
        made.append(Contender(f"{name}, RCI K={k} N={n}", workload.steps * n, coded, plain))
    small_n = coded_size("1.5K", SMALL_K)
    x = workload.x.unflatten(0, (-1, SMALL_K))
    grouped = attack(workload, RCI(model, SMALL_K, small_n), x, name)
    title = f"{name}, RCI K={SMALL_K} N={small_n}, {len(x)} batches at once"
    made.append(Contender(title, workload.steps * len(x) * small_n, grouped, made[-1].name))
    return made


def inference_contenders(workload: Workload) -> list[Contender]:
    """Plain against coded inference, Table 4 of arXiv 2510.00253: what a batch of K costs to answer."""
    k, plain = workload.k, "standard"
    # The memory layout of an evaluation: the same numbers, and no rearrangement at each convolution.
    model = copy.deepcopy(workload.model).to(memory_format=torch.channels_last)
    images = ANSWERS * k
    made = [Contender(f"{plain} K={k}", images, _answers(Standard(model), workload.x, None))]
    for n in (k, coded_size("1.5K", k)):
        coded, rci = Coded(model, k, n), RCI(model, k, n)
        draw = rci.sample(torch.Generator().manual_seed(0), k)
        for name, defence, drawn in (("coded", coded, None), ("RCI", rci, draw)):
            answers = _answers(defence, workload.x, drawn)
            made.append(Contender(f"{name} K={k} N={n}", images, answers, made[0].name))
    return made


def _passes(workload: Workload, model: PixelModel) -> Callable[[], None]:
    y = workload.labels(workload.x)

    def run() -> None:
        with tf32(model is not workload.model):
            for _ in range(workload.steps):
                x = workload.x.detach().requires_grad_()
                torch.autograd.grad(F.cross_entropy(model(x), y, reduction="sum"), x)

    return run


def _replayed(workload: Workload, model: PixelModel) -> Callable[[], None]:
    """The same passes as a replayed CUDA graph: without launch overhead, the limit on this device."""
    y, x = workload.labels(workload.x), workload.x.detach().clone().requires_grad_()

    def once() -> Tensor:
        return torch.autograd.grad(F.cross_entropy(model(x), y, reduction="sum"), x)[0]

    warming_up = torch.cuda.Stream()
    warming_up.wait_stream(torch.cuda.current_stream())
    graph = torch.cuda.CUDAGraph()
    with tf32(True):
        with torch.cuda.stream(warming_up):
            for _ in range(3):
                once()
        torch.cuda.current_stream().wait_stream(warming_up)
        with torch.cuda.graph(graph):
            grad = once()

    def run() -> None:
        for _ in range(workload.steps):
            graph.replay()
        assert grad is not None  # the graph writes to this memory

    return run


def _answers(defence: Standard | Coded | RCI, x: Tensor, draw: Tensor | None) -> Callable[[], None]:
    @torch.no_grad()
    @tf32(False)
    def run() -> None:
        for _ in range(ANSWERS):
            defence.logits(x, draw)  # type: ignore[arg-type]

    return run
