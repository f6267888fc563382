"""How often an attack waits for the device in each step: synchronisations of host and device.

    python benchmarks/speed/synchronisations.py [--before FILE] [--write]

Counted on the imitation of an accelerator (tests/imitation_accelerator.py): answers that the host asks for,
and operators whose answer has a shape that the host must learn. An attack runs with two numbers of steps, and
the difference is divided by that of the steps, so that what it does once an attack is not in it.
``--write`` writes benchmarks/speed/synchronisations.md; ``--before`` takes the columns of an earlier state
from a file that this script printed.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[2]
OUT = Path(__file__).with_suffix(".md")
sys.path[:0] = [str(ROOT / "tests")]

from imitation_accelerator import State, register  # noqa: E402

from attacks.catalogue import CATALOGUE  # noqa: E402
from benchmarks.bench.table import pipes  # noqa: E402
from robustbench_coded import attack  # noqa: E402
from robustbench_coded.data.named_sets import load_digits  # noqa: E402
from robustbench_coded.runs.atomic import write_text  # noqa: E402

MORE = 8  # steps
NORMS = ("linf", "l2", "l1")
ABOUT = f"""# Synchronisations per step

How often an attack waits for the device in each of its steps, counted on the imitation of an
accelerator: the difference that {MORE} more steps make on 16 images of digits, divided by {MORE}. `random`
is a defence that adds noise, so that no attack stops early; `fixed` is a network alone, where attacks look
at every step for images that need no more of them. `once` is what an attack waits for besides, against
`random`. Written by `python benchmarks/speed/synchronisations.py --write`.

"""


class Noisy(torch.nn.Module):
    """A network of digits behind noise that is drawn on the device."""

    def __init__(self, network: torch.nn.Module, size: float):
        super().__init__()
        self.network, self.size = network, size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x + self.size * torch.randn_like(x) if self.size else x)


def waits(size: float, name: str, norm: Any) -> int:
    """Synchronisations of one attack on 16 images."""
    data = load_digits("test")
    x, y = data.batch(range(16))
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    y = network(x).argmax(1)
    model = Noisy(network, size).eval().requires_grad_(False).to("imitation")
    x, y = x.to("imitation"), y.to("imitation")
    State.waits.clear()
    attack(model, x, y, name, {"linf": 0.1, "l2": 1.0, "l1": 3.0}[norm], norm=norm)
    return sum(State.waits.values())


def measured() -> dict[str, dict[str, float]]:
    """Per step, by attack and norm."""
    found = {}
    for name, algorithm in CATALOGUE.items():
        for norm in NORMS:
            if norm not in algorithm.norms:
                continue
            least = max(8, algorithm.fewest_steps)
            few, many = (name if name == "fgsm" else f"{name}-{n}" for n in (least, least + MORE))
            try:
                random, fixed = waits(0.05, few, norm), waits(0.0, few, norm)
                row = {
                    "random": (waits(0.05, many, norm) - random) / MORE,
                    "fixed": (waits(0.0, many, norm) - fixed) / MORE,
                }
            except ValueError as error:
                print(f"{name} {norm}: {error}", file=sys.stderr)
                continue
            found[f"{name} {norm}"] = {**row, "once": random - row["random"] * least}
            print(f"{name} {norm}", row, file=sys.stderr, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    register()
    State.present = True
    now = measured()
    if not asked.write:
        print(json.dumps(now, indent=1))
        return
    before = json.loads(asked.before.read_text()) if asked.before else {}
    columns = [f"{kind}{when}" for kind in ("random", "fixed", "once") for when in (", before", "")]
    rows = [["attack", "norm", *(columns if before else [c for c in columns if "before" not in c])]]
    for key, row in now.items():
        cells = []
        for kind in ("random", "fixed", "once"):
            cells += [f"{before[key][kind]:.1f}"] if key in before else ["-"] * bool(before)
            cells += [f"{row[kind]:.1f}"]
        rows.append([*key.split(), *cells])
    write_text(OUT, ABOUT + pipes(rows) + "\n")


if __name__ == "__main__":
    main()
