"""Minimal-norm attacks beside adversarial-library's: how far the nearest wrong answer is that each finds.

    python benchmarks/peers/nearest_parity.py [--examples 128]

Writes benchmarks/peers/nearest_parity.md. adv-lib is no dependency: `benchmarks/peers/league.sh` installs it
in an environment of its own, in which this runs.
"""

import argparse
from collections.abc import Callable
from importlib.metadata import version
from math import inf
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

from attacks.perturbation_budget import Norm
from benchmarks.bench.table import pipes
from benchmarks.peers.league_networks import Network, Sources
from robustbench_coded import attack
from robustbench_coded.runs.atomic import write_text

ROOT = Path(__file__).parents[2]
OUT = Path(__file__).with_suffix(".md")
NETWORK = Network("digits-pgd-at", "checkpoints/digits-pgd-at.safetensors", "digits", 0.2)
ORDERS: dict[Norm, float] = {"linf": inf, "l2": 2.0, "l1": 1.0}
WHOLE_BOX = {"linf": 1.0, "l2": 8.0, "l1": 64.0}  # of 64 pixels
# Attack, norm and steps; DDN knows l2 alone.
RUNS: tuple[tuple[str, Norm, int], ...] = (
    *(("pdpgd", norm, steps) for norm in ORDERS for steps in (100, 300)),
    *(("fmn", norm, 100) for norm in ("linf", "l2")),
    ("ddn", "l2", 100),
)
ABOUT = """# Minimal-norm attacks beside adversarial-library's

digits-pgd-at, the {count} of the first {examples} test images that it answers correctly; adv-lib {version},
both at its defaults and as many steps. The median distance of the wrong answer found, in each norm; the
median, over images, of ours divided by theirs; and the share of images on which ours is the nearer one.
Inputs without a wrong answer count as infinitely far; there were {none} in all rows together.

"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--examples", type=int, default=128)
    given = parser.parse_args()
    torch.set_num_threads(1)
    network, x, y = NETWORK.plain(Sources(examples=given.examples))
    right = network(x).argmax(1) == y
    x, y = x[right], y[right]
    table, none = [("attack", "norm", "steps", "adv-lib", "ours", "ours / theirs", "ours nearer")], 0
    for name, norm, steps in RUNS:
        ours = attack(network, x, y, f"{name}-{steps}", WHOLE_BOX[norm], norm=norm, seed=0)
        theirs = _theirs(name)(network, x, y, norm, steps)
        mine, yours = (_distances(network, x, y, found, norm) for found in (ours, theirs))
        none += sum(d == inf for d in (*mine, *yours))
        ratios = [a / b for a, b in zip(mine, yours, strict=True) if b < inf]
        nearer = sum(a < b * (1 - 1e-6) for a, b in zip(mine, yours, strict=True)) / len(mine)
        cells = f"{median(yours):.4f}", f"{median(mine):.4f}", f"{median(ratios):.3f}", f"{100 * nearer:.0f}%"
        table.append((name, norm, str(steps), *cells))
        print(table[-1], flush=True)
    about = ABOUT.format(
        count=len(x), examples=given.examples, version=version("adv-lib"), none=none or "none"
    )
    write_text(OUT, f"{about}{pipes(table)}\n")


def _theirs(name: str) -> Callable[[nn.Module, Tensor, Tensor, Norm, int], Tensor]:
    def run(network: nn.Module, x: Tensor, y: Tensor, norm: Norm, steps: int) -> Tensor:
        from adv_lib import attacks

        torch.manual_seed(0)
        if name == "pdpgd":
            found = attacks.pdpgd(network, x, y, norm=ORDERS[norm], num_steps=steps)
        elif name == "fmn":
            found = attacks.fmn(network, x, y, norm=ORDERS[norm], steps=steps)
        else:
            found = attacks.ddn(network, x, y, steps=steps)
        return found.detach()

    return run


def _distances(network: nn.Module, x: Tensor, y: Tensor, found: Tensor, norm: Norm) -> list[float]:
    """Of each example's wrong answer; inf where the answer is right."""
    with torch.no_grad():
        wrong = network(found).argmax(1) != y
    length = torch.linalg.vector_norm((found - x).flatten(1), ord=ORDERS[norm], dim=1)
    return torch.where(wrong, length, inf).tolist()


if __name__ == "__main__":
    main()
