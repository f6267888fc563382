"""What a step of coded training costs, beside a step of ERM.

    python benchmarks/speed/coded_step.py        writes coded_step.md (two minutes on two cores)

The path that is coded costs N more images through the network than the K of ERM: 1 + N/K is the limit. One
process, steps in turns, random images: time does not depend on them.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.bench.table import pipes
from benchmarks.bench.timing import TimedContender, in_words, interleaved, machine
from robustbench_coded.models.normalisation import KNOWN
from robustbench_coded.paper.training.fresh import build
from robustbench_coded.paper.training.recipes import CodedRecipe, Erm, Moment, Recipe
from robustbench_coded.paper.training.stages import TrainingStages
from robustbench_coded.runs.atomic import write_text

OUT = Path(__file__).parent / "coded_step.md"
K = 128
STEPS = 5  # in one timed call
RECIPES: dict[str, tuple[Recipe, float]] = {
    "ERM": (Erm(), 1.0),
    "coded, N = K": (CodedRecipe(n_start=1.0, n_end=1.0), 2.0),
    "coded, N = 1.5 K": (CodedRecipe(n_start=1.5, n_end=1.5), 2.5),
}


def steps(recipe: Recipe, arch: str, device: torch.device, precision: torch.dtype) -> Callable[[], None]:
    """Some steps of SGD on a batch of CIFAR's shape, as training takes them."""
    generator = torch.Generator().manual_seed(0)
    known = KNOWN[3]["cifar10"]
    network = build(arch, 10, 3, 32, generator=generator)
    stages = (
        TrainingStages(network, known.mean, known.std, precision)
        .to(device)
        .to(memory_format=torch.channels_last)
    )
    stages.train()
    optimizer = torch.optim.SGD(stages.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    x = torch.rand(K, 3, 32, 32, generator=generator).to(device)
    y = torch.randint(10, (K,), generator=generator).to(device)
    moment = Moment(0, 1, generator)

    def run() -> None:
        for _ in range(STEPS):
            optimizer.zero_grad(set_to_none=True)
            recipe(stages, x, y, moment).backward()
            optimizer.step()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--arch", default="resnet20")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    device = torch.device(given.device)
    parts = ["# A step of coded training beside one of ERM"]
    parts.append(
        f"{given.arch}, batches of {K}, forward, backward and SGD. Medians and quartiles of {given.rounds} "
        "rounds; the cost is compared within each round. The limit counts images through the network."
    )
    for precision in (torch.float32, torch.bfloat16):
        contenders = [
            TimedContender(
                name, STEPS * K, steps(recipe, given.arch, device, precision), None if limit == 1 else "ERM"
            )
            for name, (recipe, limit) in RECIPES.items()
        ]
        rows = [("step", "ms", "of ERM", "limit")]
        for timing in interleaved(contenders, given.rounds, device):
            ms, cost = 1000 * K * timing.per_image.median, timing.cost
            said = "" if cost is None else f"{cost.median:.3f} [{cost.low:.3f}, {cost.high:.3f}]"
            rows.append((timing.name, f"{ms:.1f}", said, f"{RECIPES[timing.name][1]:g}"))
        parts += [f"## {str(precision).removeprefix('torch.')}", pipes(rows)]
    parts.append(in_words(machine(device)) + ".")
    write_text(given.out, "\n\n".join(parts) + "\n")
    print(given.out)


if __name__ == "__main__":
    main()
