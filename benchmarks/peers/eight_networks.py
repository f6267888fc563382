"""A randomised defence that transfer does not break: our attacks and third-party ones of about one cost.

    python benchmarks/peers/eight_networks.py               writes reports/eight-networks
    python benchmarks/peers/eight_networks.py --scan        transfer and EOT over eps, to the terminal alone

Every draw picks one of eight digits networks and answers through RCI; the attacker's base model is a ninth.
The nine are trained here and differ in their seeds alone. Lengths are chosen so that an attack forwards and
differentiates about ``BUDGET`` images for each example; what costs more is not compared. Third-party attacks
run averaged over draws, too, where the package can do that.
"""

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attacks.adapters.third_party import installed
from attacks.naming import read_runnable
from attacks.presets import PRESETS
from benchmarks.bench.table import pipes
from robustbench_coded import evaluate
from robustbench_coded.data.registry import load_data
from robustbench_coded.defences.rci import RCI
from robustbench_coded.evaluation.setup.checkpoints import with_normalisation
from robustbench_coded.judge.case_results import CaseResult
from robustbench_coded.judge.intervals import Interval
from robustbench_coded.judge.paired import Difference, paired_difference
from robustbench_coded.judge.run import Run
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.models.pixel_model import PixelModel
from robustbench_coded.paper.training.config import read_recipe
from robustbench_coded.paper.training.loop import train_seeds
from robustbench_coded.runs.atomic import write_text

ROOT = Path(__file__).parents[2]
OUT = ROOT / "reports" / "eight-networks"
RECIPE = ROOT / "recipes" / "digits-erm.toml"
NETWORKS = 8
K, N, LIMIT = 64, "1.5K", 320
RATE = 1.5  # images through the network for an answered one
EPS = 0.15
BUDGET = 600  # images for one example: 200 steps through RCI with N = 1.5 K
MOST = 1.1 * BUDGET  # first and last looks come on top
WANTED = 10.0  # points by which transfer is to be weaker than EOT

TRANSFER, EOT = "transfer-pgd-100", "eot10-pgd-20"
# Without those that know the draw, which no third-party attack does; and with what the presets lack, Auto-PGD
# averaged over draws in lengths that the budget pays for in full.
OURS = (
    *(name for name in PRESETS["full"] if not name.startswith("aware")),
    *(TRANSFER, "eot10-apgd-ce-20", "eot10-apgd-dlr-20", "eot4-pgd-50", "pgd-200", "pgd-200+momentum=1"),
)
TORCHATTACKS = (
    "FGSM", "FFGSM", "RFGSM+steps=100", "BIM+steps=200", "PGD+steps=200", "TPGD+steps=200", "UPGD+steps=200",
    "EOTPGD+steps=20+eot_iter=10", "EOTPGD+steps=50+eot_iter=4", "MIFGSM+steps=200", "NIFGSM+steps=200",
    "VMIFGSM+steps=30", "VNIFGSM+steps=20", "Jitter+steps=200", "APGD+steps=200",
    "APGD+steps=20+eot_iter=10", "APGDT+steps=22", "FAB+steps=30", "Square+n_queries=400", "SPSA",
)  # fmt: skip
AUTOATTACK = (
    "rand+n_iter=9+eot_iter=10", "apgd-ce+n_iter=200+n_restarts=1", "apgd-t+n_iter=22",
    "apgd-ce+n_iter=20+eot_iter=10+n_restarts=1", "apgd-dlr+n_iter=200+n_restarts=1",
    "apgd-dlr+n_iter=20+eot_iter=10+n_restarts=1", "square+n_queries=400",
)  # fmt: skip
THIRD_PARTY = (
    *(f"torchattacks:{name}" for name in TORCHATTACKS),
    *(f"autoattack:{name}" for name in AUTOATTACK),
)


class OneOfEight:
    """Answers each batch through RCI around one of several networks, drawn anew.

    A draw is (network, permutation). The base model is the one that it is built around, none of these.
    """

    name = "one-of-eight"
    randomised = True
    batch_dependent = True

    def __init__(self, networks: Sequence[nn.Module], base: nn.Module):
        self.base = base
        self._paths = [RCI(network, K, N) for network in networks]

    def images(self, k: int) -> int:
        """Images through a network for a batch of ``k``."""
        return self._paths[0].images(k)

    def sample(self, generator: torch.Generator, k: int) -> tuple[int, Tensor]:
        """One of the networks, and a permutation of the ``k`` slots."""
        network = int(torch.randint(len(self._paths), (), generator=generator))
        return network, self._paths[network].sample(generator, k)

    def logits(self, x: Tensor, draw: tuple[int, Tensor]) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        network, permutation = draw
        return self._paths[network].logits(x, permutation)


class OneOfEightBuilder:
    """Builds `OneOfEight` around a base model; can be sent to another process."""

    name = OneOfEight.name

    def __init__(self, networks: Sequence[nn.Module]):
        self.networks = networks

    def __call__(self, base: nn.Module) -> OneOfEight:
        return OneOfEight(self.networks, base)


def trained(folder: Path) -> list[PixelModel]:
    """The nine networks; the last one is the attacker's."""
    config = read_recipe(RECIPE, device="cpu", validation=0.2)
    runs = train_seeds(config, folder / "digits.safetensors", NETWORKS + 1)
    x, y = load_data("digits").batch(range(1))
    return [with_normalisation(load_checkpoint(run.checkpoint), x, y) for run in runs]


def attacked(models: Sequence[PixelModel], attacks: Sequence[str], eps: Sequence[float], out: Path) -> Run:
    """Evaluates the defence alone."""
    defence: Any = OneOfEightBuilder(models[:NETWORKS])
    return evaluate(
        {"ninth": models[NETWORKS]},
        "digits",
        defences=[defence],
        attacks=list(attacks),
        standard=False,
        eps=tuple(eps),
        limit=LIMIT,
        first=True,
        batch_size=K,
        threads=1,
        workers=2,
        out=out,
        overwrite=True,
    )


def row_of(run: Run, attack: str, eps: float) -> CaseResult:
    """The row of an attack under ``batch/unknown``; unperturbed inputs have neither eps nor threat model."""
    for row in run.results:
        if row.case.attack == attack and (
            attack == "clean" or (str(row.case.threat), row.case.perturbation.eps) == ("batch/unknown", eps)
        ):
            return row
    raise RuntimeError(f"the run has no row of {attack}")


def scan(models: Sequence[PixelModel], folder: Path) -> None:
    """Prints what transfer and EOT leave over eps."""
    radii = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
    run = attacked(models, (TRANSFER, EOT), radii, folder / "scan")
    for eps in radii:
        clean, transfer, eot = (_percent(row_of(run, name, eps)) for name in ("clean", TRANSFER, EOT))
        print(f"eps {eps}: clean {clean}, transfer {transfer}, EOT {eot}")


def report(ours: Run, theirs: Run, third_party: Sequence[str]) -> str:
    """Transfer beside EOT, and every third-party attack beside the strongest of ours, in Markdown."""
    strongest, transfer, eot = (row_of(ours, name, EPS) for name in ("strongest", TRANSFER, EOT))
    gap = paired_difference(transfer, eot)
    fair = [name for name in third_party if _cost(theirs, name) <= MOST]
    compared = [(name, paired_difference(strongest, row_of(theirs, name, EPS))) for name in fair]
    compared.sort(key=lambda pair: pair[1].second)
    dearer = [name for name in third_party if name not in fair]
    stronger = [name for name, difference in compared if difference.low > 0]
    own = sorted((row_of(ours, name, EPS) for name in ours_affordable()), key=_left)
    lines = [
        "# One of eight networks behind RCI",
        f"Every draw picks one of {NETWORKS} digits networks and a permutation (RCI, K={K}, N={N}); a ninth "
        f"is the attacker's base model. The first {LIMIT} images, eps {EPS} (linf, pixels), at most "
        f"{MOST:g} images forwarded and differentiated for an example by every attack, ours and theirs. "
        "Accuracy left in percent over 10 fresh draws, 95% intervals; differences are paired over batches "
        "and draws. The strongest of ours is chosen on draws of its own.",
        f"- Clean: {_percent(row_of(ours, 'clean', EPS))}.\n"
        f"- `{TRANSFER}` leaves {_percent(transfer)}, `{EOT}` {_percent(eot)}: transfer is weaker by {gap}"
        + (".\n" if 100 * gap.estimate >= WANTED else f", which is less than {WANTED:g}.\n")
        + f"- The strongest of ours, `{strongest.combination.strongest_attack}`, "
        + f"leaves {_percent(strongest)}.\n"
        f"- Not compared, as they cost more: {', '.join(dearer) or 'none'}.\n"
        f"- Attacks of theirs that are stronger, by the paired interval: {', '.join(stronger) or 'none'} of "
        f"{len(compared)}.",
        "## Ours",
        pipes([("attack", "accuracy left"), *((f"`{row.case.attack}`", _percent(row)) for row in own)]),
        "## Theirs",
        pipes(
            [
                ("attack", "accuracy left", "strongest of ours less this, points"),
                *(
                    (f"`{name}`", _percent(row_of(theirs, name, EPS)), _points(difference))
                    for name, difference in compared
                ),
            ]
        ),
    ]
    return "\n\n".join(lines) + "\n"


def _cost(run: Run, attack: str) -> float:
    row = next(row for row in run.rows if row.attack == attack)
    return (row.forwards or 0.0) + (row.backwards or 0.0)


def ours_affordable() -> list[str]:
    """The attacks of ours that cost no more than the budget, by their names."""

    def cost(text: str) -> float:
        attack = read_runnable(text)
        rate = 1.0 if attack.knows == "transfer" else RATE
        return rate * sum(attack.queries(randomised=True))

    return [text for text in dict.fromkeys(OURS) if cost(text) <= BUDGET]


def _left(row: CaseResult) -> float:
    return _interval(row).estimate


def _interval(row: CaseResult) -> Interval:
    interval = row.interval()
    if interval is None:
        raise RuntimeError(f"{row.case.attack} has no outcomes")
    return interval


def _percent(row: CaseResult) -> str:
    a = _interval(row)
    return f"{100 * a.estimate:.1f} [{100 * a.low:.1f}, {100 * a.high:.1f}]"


def _points(difference: Difference) -> str:
    low, high = 100 * difference.low, 100 * difference.high
    return f"{100 * difference.estimate:+.1f} [{low:+.1f}, {high:+.1f}]"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scan", action="store_true")
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # two workers share the cores
    torch.set_num_threads(1)
    third_party = [name for name in THIRD_PARTY if installed(name.partition(":")[0])]
    with tempfile.TemporaryDirectory() as folder:
        models = trained(Path(folder))
        if given.scan:
            scan(models, Path(folder))
            return
        ours = attacked(models, ours_affordable(), (EPS,), Path(folder) / "ours")
        theirs = attacked(models, third_party, (EPS,), Path(folder) / "theirs")
        write_text(OUT / "report.md", report(ours, theirs, third_party))
    print(f"written to {OUT}")


if __name__ == "__main__":
    main()
