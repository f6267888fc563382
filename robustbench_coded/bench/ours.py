"""The contenders of this project: the bare network, its attacks, coded inference."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from robustbench_coded.bench.scene import SMALL_K, Scene, attack
from robustbench_coded.bench.timing import Contender
from robustbench_coded.coding.sizes import coded_size
from robustbench_coded.defences.coded import Coded
from robustbench_coded.defences.rci import RCI
from robustbench_coded.defences.standard import Standard
from robustbench_coded.models.pixel_model import PixelModel
from robustbench_coded.models.tf32 import tf32

ANSWERS = 10  # in one timed call: a single answer is so short that noise would hide what coding costs


def gradient_contenders(scene: Scene, reference: str) -> list[Contender]:
    """PGD on standard inference, and the forward and backward passes alone that it cannot do without."""
    images = scene.steps * scene.k
    made = [Contender("forward+backward, model as loaded", images, _passes(scene, scene.model), reference)]
    for name, model in scene.gradients.items():
        limit = f"forward+backward, {name}"
        pgd = attack(scene, Standard(model), scene.x[None], f"pgd-{scene.steps}")
        made.append(Contender(limit, images, _passes(scene, model), reference))
        made.append(Contender(f"csrobust pgd-{scene.steps}, {name}", images, pgd, reference))
    if scene.device.type == "cuda":
        limit = "forward+backward, float32, one CUDA graph"
        made.append(Contender(limit, images, _replayed(scene, scene.gradients["float32"]), reference))
    # Auto-PGD asks for one gradient, or value, more than it has steps.
    apgd = attack(scene, Standard(scene.gradients["float32"]), scene.x[None], f"apgd-ce-{scene.steps}")
    made.append(Contender(f"csrobust apgd-ce-{scene.steps}, float32", images + scene.k, apgd, reference))
    return made


def coded_contenders(scene: Scene) -> list[Contender]:
    """A PGD step through RCI against a plain one on as many images, and small batches against large ones."""
    model, k, name = scene.gradients["float32"], scene.k, f"pgd-{scene.steps}"
    made = []
    for n in (k, coded_size("1.5K", k)):
        x = scene.batch(n)
        plain = f"{name}, standard on {n}"
        made.append(Contender(plain, scene.steps * n, attack(scene, Standard(model), x[None], name)))
        coded = attack(scene, RCI(model, k, n), scene.x[None], name)
        made.append(Contender(f"{name}, RCI K={k} N={n}", scene.steps * n, coded, plain))
    small_n = coded_size("1.5K", SMALL_K)
    x = scene.x.unflatten(0, (-1, SMALL_K))
    grouped = attack(scene, RCI(model, SMALL_K, small_n), x, name)
    title = f"{name}, RCI K={SMALL_K} N={small_n}, {len(x)} batches at once"
    made.append(Contender(title, scene.steps * len(x) * small_n, grouped, made[-1].name))
    return made


def inference_contenders(scene: Scene) -> list[Contender]:
    """Plain against coded inference, Table 4 of arXiv 2510.00253: what a batch of K costs to answer."""
    k, plain = scene.k, "standard"
    # As a workbench lays it out: the same numbers, nothing rearranged at each convolution.
    model = copy.deepcopy(scene.model).to(memory_format=torch.channels_last)
    images = ANSWERS * k
    made = [Contender(f"{plain} K={k}", images, _answers(Standard(model), scene.x, None))]
    for n in (k, coded_size("1.5K", k)):
        coded, rci = Coded(model, k, n), RCI(model, k, n)
        draw = rci.sample(torch.Generator().manual_seed(0), k)
        for name, defence, drawn in (("coded", coded, None), ("RCI", rci, draw)):
            answers = _answers(defence, scene.x, drawn)
            made.append(Contender(f"{name} K={k} N={n}", images, answers, made[0].name))
    return made


def _passes(scene: Scene, model: PixelModel) -> Callable[[], None]:
    y = scene.labels(scene.x)

    def run() -> None:
        with tf32(model is not scene.model):
            for _ in range(scene.steps):
                x = scene.x.detach().requires_grad_()
                torch.autograd.grad(F.cross_entropy(model(x), y, reduction="sum"), x)

    return run


def _replayed(scene: Scene, model: PixelModel) -> Callable[[], None]:
    """The same passes recorded once and replayed: no launch costs anything, so this is CUDA's own limit."""
    y, x = scene.labels(scene.x), scene.x.detach().clone().requires_grad_()

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
        for _ in range(scene.steps):
            graph.replay()
        assert grad is not None  # the memory that the graph writes to must live as long as the graph

    return run


def _answers(defence: Standard | Coded | RCI, x: Tensor, draw: Tensor | None) -> Callable[[], None]:
    @torch.no_grad()
    @tf32(False)
    def run() -> None:
        for _ in range(ANSWERS):
            defence.logits(x, draw)  # type: ignore[arg-type]

    return run
