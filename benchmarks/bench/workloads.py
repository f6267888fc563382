"""What the bench times: attacks and inference, on the same batches."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from attacks import estimators, solver
from attacks.attack import read_attack
from attacks.perturbation_budget import PerturbationBudget
from attacks.presets import AUTO_OF_LENGTH, OF_LENGTH
from benchmarks.bench.timing import TimedContender
from robustbench_coded.coding.sizes import coded_size
from robustbench_coded.defences.inferences import Standard
from robustbench_coded.defences.protocol import Defence
from robustbench_coded.defences.rci import RCI, Coded
from robustbench_coded.evaluation.execution.target import Target
from robustbench_coded.evaluation.planning.streams import stream
from robustbench_coded.models.pixel_model import PixelModel
from robustbench_coded.models.prepare import tf32

EPS = 8 / 255
SMALL_K = 8


@dataclass(frozen=True)
class Workload:
    """Attributes:
    model: the original.
    gradients: copies that attacks differentiate, by their name in the report: ``float32``, ``bfloat16`` ...
    x: images [n, C, H, W] in [0, 1], on the model's device; n is K, a multiple of ``SMALL_K``.
    steps: of every PGD.
    """

    model: PixelModel
    gradients: dict[str, PixelModel]
    x: Tensor
    steps: int

    @property
    def k(self) -> int:
        return len(self.x)

    @property
    def device(self) -> torch.device:
        return self.x.device

    def labels(self, x: Tensor) -> Tensor:
        """The model's own predictions: an attack that skips what is misclassified then skips nothing."""
        with torch.no_grad():
            return self.model(x).argmax(1)

    def batch(self, n: int) -> Tensor:
        """n of the images, repeated where there are fewer."""
        return self.x[torch.arange(n, device=self.device) % len(self.x)]


def attack(workload: Workload, defence: Defence, x: Tensor, name: str) -> Callable[[], Tensor]:
    """An attack as an evaluation runs it on G batches ``x`` [G, K, C, H, W], without early stops."""
    groups, k = x.shape[:2]
    y = workload.labels(x.flatten(0, 1)).unflatten(0, (groups, k))
    parsed, budget = read_attack(name), PerturbationBudget("linf", EPS)

    def run() -> Tensor:
        target = Target(defence, k, 0, range(groups))
        with tf32(True):
            estimator = estimators.estimator_for(parsed, target, max_images=target.images(x))
            generators = [stream(0, batch, "start") for batch in range(groups)]
            return solver.solver_for(parsed).perturb(x, y, estimator, budget, generators)

    return run


AS_LOADED = "forward+backward, model as loaded"
ANSWERS = 10  # in one timed call: the noise of a single short answer would hide the cost of coding


def gradient_contenders(workload: Workload, reference: str) -> list[TimedContender]:
    """PGD on standard inference, and its forward and backward passes alone."""
    images = workload.steps * workload.k
    against = None if reference == AS_LOADED else reference
    made = [TimedContender(AS_LOADED, images, _passes(workload, workload.model), against)]
    for name, model in workload.gradients.items():
        limit = f"forward+backward, {name}"
        pgd = attack(workload, Standard(model), workload.x[None], OF_LENGTH.format(workload.steps))
        made.append(TimedContender(limit, images, _passes(workload, model), reference))
        made.append(
            TimedContender(f"csrobust {OF_LENGTH.format(workload.steps)}, {name}", images, pgd, reference)
        )
    # Auto-PGD needs one gradient or value more than it has steps.
    auto = AUTO_OF_LENGTH.format(workload.steps)
    apgd = attack(workload, Standard(workload.gradients["float32"]), workload.x[None], auto)
    made.append(TimedContender(f"csrobust {auto}, float32", images + workload.k, apgd, reference))
    return made


def coded_contenders(workload: Workload) -> list[TimedContender]:
    """A PGD step through RCI against a plain one on as many images, and small batches against large ones."""
    model, k, name = workload.gradients["float32"], workload.k, OF_LENGTH.format(workload.steps)
    made = []
    for n in (k, coded_size("1.5K", k)):
        x = workload.batch(n)
        plain = f"{name}, standard on {n}"
        made.append(
            TimedContender(plain, workload.steps * n, attack(workload, Standard(model), x[None], name))
        )
        coded = attack(workload, RCI(model, k, n), workload.x[None], name)
        made.append(TimedContender(f"{name}, RCI K={k} N={n}", workload.steps * n, coded, plain))
    small_n = coded_size("1.5K", SMALL_K)
    x = workload.x.unflatten(0, (-1, SMALL_K))
    grouped = attack(workload, RCI(model, SMALL_K, small_n), x, name)
    title = f"{name}, RCI K={SMALL_K} N={small_n}, {len(x)} batches at once"
    made.append(TimedContender(title, workload.steps * len(x) * small_n, grouped, made[-1].name))
    return made


def inference_contenders(workload: Workload) -> list[TimedContender]:
    """Plain against coded inference, Table 4 of arXiv 2510.00253: what a batch of K costs to answer."""
    k, plain = workload.k, "standard"
    # The memory layout of an evaluation: the same numbers, and no rearrangement at each convolution.
    model = copy.deepcopy(workload.model).to(memory_format=torch.channels_last)
    images = ANSWERS * k
    made = [TimedContender(f"{plain} K={k}", images, _answers(Standard(model), workload.x, None))]
    for n in (k, coded_size("1.5K", k)):
        coded, rci = Coded(model, k, n), RCI(model, k, n)
        draw = rci.sample(torch.Generator().manual_seed(0), k)
        for name, defence, drawn in (("coded", coded, None), ("RCI", rci, draw)):
            answers = _answers(defence, workload.x, drawn)
            made.append(TimedContender(f"{name} K={k} N={n}", images, answers, made[0].name))
    return made


def _passes(workload: Workload, model: PixelModel) -> Callable[[], None]:
    y = workload.labels(workload.x)

    def run() -> None:
        with tf32(model is not workload.model):
            for _ in range(workload.steps):
                x = workload.x.detach().requires_grad_()
                torch.autograd.grad(F.cross_entropy(model(x), y, reduction="sum"), x)

    return run


def _answers(defence: Standard | Coded | RCI, x: Tensor, draw: Tensor | None) -> Callable[[], None]:
    @torch.no_grad()
    @tf32(False)
    def run() -> None:
        for _ in range(ANSWERS):
            defence.logits(x, draw)  # type: ignore[arg-type]

    return run
