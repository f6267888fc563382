"""Memory and seconds of a gradient through a defence that descends a loss before it answers.

    python benchmarks/speed/inner_steps.py      writes inner_steps.md (a minute on two cores)

Each step moves 8 images of 3x32x32 along the gradient of their energy under ResNet-20, as `published:et3`
does. *cut* leaves out `create_graph`: its gradient is that of another function. *loop* and *recompute* are
exact, of second order.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.bench.table import pipes
from benchmarks.bench.timing import in_words, machine
from benchmarks.speed.recompute import loop, measured, prepared
from robustbench_coded import recompute
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.runs.atomic import write_text

OUT = Path(__file__).parent / "inner_steps.md"
STEPS = (1, 5, 10)
IMAGES = 8
STEP = 0.1


def main() -> None:
    given = prepared(__doc__, OUT, rounds=2)
    device = given.device
    network = load_checkpoint("cifar10-erm-resnet20").network.eval().to(device).requires_grad_(False)
    x = torch.rand(IMAGES, 3, 32, 32, device=device)

    def descended(exact: bool, x: Tensor, t: int) -> Tensor:
        energy = -network(x).logsumexp(-1).sum()
        (slope,) = torch.autograd.grad(energy, x, create_graph=exact, retain_graph=True)
        return x - STEP * slope

    def gradient(chain: Callable[..., Tensor], exact: bool, times: int) -> Tensor:
        leaf = x.clone().requires_grad_()
        answer = network(chain(partial(descended, exact), leaf, times))
        return torch.autograd.grad(answer.square().sum(), leaf)[0]

    ways: list[tuple[Callable[..., Tensor], bool]] = [(loop, False), (loop, True), (recompute, True)]
    rows: list[tuple[str, ...]] = [
        ("steps", "cut, MB", "loop, MB", "recompute, MB", "cut, s", "loop, s", "recompute, s", "gradient")
    ]
    for times in STEPS:
        equal = torch.equal(gradient(loop, True, times), gradient(recompute, True, times))
        memory, seconds = zip(*(measured(partial(gradient, *way, times), given) for way in ways), strict=True)
        said = "equal to the last bit" if equal else "differs"
        rows.append((str(times), *memory, *(f"{taken:.3f}" for taken in seconds), said))
    parts = [
        "# Gradients through inner steps",
        f"A defence that descends the energy of {IMAGES} images of 3x32x32 under ResNet-20 before it "
        "answers. Cut: the inner gradients are constants. Loop and recompute: exact gradients of second "
        "order. MB: peak above what is in use before the gradient. s: processor seconds on one thread, the "
        f"least of {given.rounds}.",
        pipes(rows),
        in_words(machine(device)) + ".",
    ]
    write_text(given.out, "\n\n".join(parts) + "\n")
    print(given.out)


if __name__ == "__main__":
    main()
