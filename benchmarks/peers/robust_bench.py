"""Preset aa beside AutoAttack's standard suite on networks trained to be robust: accuracy, images, seconds.

    python benchmarks/peers/robust_bench.py --shared ../shared --data-dir data [--only NAME ...] [--examples
        1000]

AutoAttack (pyautoattack) runs once at its defaults, the preset with three seeds. Both are scored by us on the
same examples. An example stands where no attack of the set has broken it. Images are those sent forward
through the network and differentiated. Runs are kept in --runs, and the same command goes on with what is
missing; a row is written as soon as both of its sides are there.
"""

import argparse
import json
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from attacks.presets import PRESETS
from benchmarks.bench.table import pipes
from benchmarks.peers.parity import images_of, row_of, seconds_of
from benchmarks.smoke import smoke
from robustbench_coded import evaluate
from robustbench_coded.judge.paired import paired_difference
from robustbench_coded.options.values import radii
from robustbench_coded.run import Run
from robustbench_coded.runs.atomic import write_text

STANDARD = "autoattack:standard"
SEEDS = (0, 1, 2)
CLOSE = 0.2  # points
OUT = Path(__file__).parent / "robust_bench.md"
RUNS = Path(tempfile.gettempdir()) / "csrobust-robust-bench"


@dataclass(frozen=True)
class Entry:
    """A network, a ball that leaves some of its examples standing, and how many examples are measured."""

    network: str
    checkpoint: str
    data: str
    norm: str
    eps: str
    examples: int

    @property
    def name(self) -> str:
        return f"{self.network}-{self.norm}-{self.eps.replace('/', '-')}"


def _digits(network: str, norm: str, eps: str) -> Entry:
    return Entry(network, f"checkpoints/{network}.safetensors", "digits", norm, eps, 640)


ENTRIES = (
    Entry("mnist-pgd-madry", "{shared}/checkpoints/mnist-pgd-madry.pth", "mnist", "linf", "0.3", 1000),
    Entry("mnist-fgsm", "{shared}/checkpoints/mnist-fgsm.pth", "mnist", "linf", "0.3", 1000),
    Entry("kw_mnist", "{shared}/checkpoints/kw_mnist.pth", "mnist", "linf", "0.1", 1000),
    *(
        Entry("cifar10-pgd-at-resnet20", "checkpoints/cifar10-pgd-at-resnet20.safetensors", "cifar10", *ball)
        for ball in (("linf", "8/255", 1000), ("l2", "0.5", 128))
    ),
    _digits("digits-pgd-at", "linf", "0.1"),
    _digits("digits-pgd-at", "linf", "0.2"),
    _digits("digits-pgd-at", "l2", "1"),
    _digits("digits-pgd-at-fast", "linf", "0.2"),
    _digits("digits-trades", "linf", "0.2"),
    _digits("digits-trades", "l2", "1"),
    _digits("digits-pgd-at-0.1", "linf", "0.1"),
)

INTRODUCTION = """# Preset aa beside AutoAttack on robust networks

{answer}

Robust accuracy in percent on the first test images of each data set, scored by the same code. AutoAttack is
pyautoattack's `standard` with its defaults and one seed; `aa` is {preset}, seeds {seeds}. A negative
difference means that `aa` is stronger. It has a paired 95% interval for the first seed and a value for every
seed. *Images* counts forward and backward passes per example, first of `aa`, and *share* is its part of
AutoAttack's. Seconds are those of attack and scoring on one shared core.

"""


def measure(entry: Entry, side: str, runs: Path, shared: str, data_dir: str) -> dict[int, Run]:
    """The runs of one side, ``ours`` or ``theirs``; those that are finished are read."""
    (eps,) = radii([entry.eps], "--eps")
    return {
        seed: evaluate(
            {entry.network: entry.checkpoint.format(shared=shared)},
            data=entry.data,
            data_dir=f"{shared}/data" if entry.data == "mnist" else data_dir,
            attacks=list(PRESETS["aa"]) if side == "ours" else [STANDARD],
            norm=entry.norm,
            eps=eps,
            limit=entry.examples,
            first=True,
            batch_size=({"cifar10": 32, "mnist": 128, "digits": 320}[entry.data],),
            seed=seed,
            threads=1,
            out=runs / f"{entry.name}-{side}-{seed}",
        )
        for seed in (SEEDS if side == "ours" else SEEDS[:1])
    }


def compared(entry: Entry, runs: dict[int, Run], theirs: Run) -> dict[str, Any]:
    """One row of the table; ``runs`` are ours by seed."""
    (eps,) = radii([entry.eps], "--eps")
    ours = PRESETS["aa"]
    standard = row_of(theirs, eps, STANDARD)
    differences = [paired_difference(row_of(run, eps, "ensemble"), standard) for run in runs.values()]
    images = [images_of(run, eps, ours) for run in runs.values()], images_of(theirs, eps, (STANDARD,))
    return {
        "entry": asdict(entry),
        "ours": [100 * d.first for d in differences],
        "theirs": 100 * differences[0].second,
        "differences": [100 * d.estimate for d in differences],
        "interval": [100 * differences[0].low, 100 * differences[0].high],
        "images": [sum(images[0]) / len(images[0]), images[1]],
        "seconds": [seconds_of(runs[0], eps, ours), seconds_of(theirs, eps, (STANDARD,))],
    }


def page(rows: list[dict[str, Any]]) -> str:
    head = (
        *("network", "ball", "examples", "AutoAttack", "aa", "aa less AutoAttack, points", "by seed"),
        *("images", "theirs", "share", "seconds", "theirs"),
    )
    table: list[tuple[str, ...]] = [head]
    for row in rows:
        entry, (low, high), (mine, yours) = Entry(**row["entry"]), row["interval"], row["images"]
        table.append(
            (
                entry.network,
                f"{entry.norm} {entry.eps}",
                str(entry.examples),
                f"{row['theirs']:.1f}",
                f"{row['ours'][0]:.1f}",
                f"{row['differences'][0]:+.1f} [{low:+.1f}, {high:+.1f}]",
                ", ".join(f"{d:+.1f}" for d in row["differences"]),
                f"{mine:,.0f}",
                f"{yours:,.0f}",
                f"{100 * mine / yours:.0f}%",
                *(f"{seconds:,.0f}" for seconds in row["seconds"]),
            )
        )
    missing = [entry.name for entry in ENTRIES if entry.name not in {row["name"] for row in rows}]
    close = sum(round(max(row["differences"]), 6) <= CLOSE for row in rows)  # 0.2 is not a binary number
    shares = [100 * row["images"][0] / row["images"][1] for row in rows]
    about = INTRODUCTION.format(
        answer=f"Robust accuracy under `aa` is at most {CLOSE} points above AutoAttack's with every seed in "
        f"{close} of {len(rows)} rows, for {median(shares):.0f}% of its passes in the median.",
        preset=", ".join(f"`{a}`" for a in PRESETS["aa"]),
        seeds=", ".join(map(str, SEEDS)),
    )
    return (
        f"{about}{pipes(table)}\n\nOne of 1,000 examples is 0.1 points, of 640 0.16, of 128 0.8."
        f"\n\nNot measured yet: {', '.join(missing) or 'none'}.\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--shared", default="../shared", help="folder of the MNIST networks and their data")
    parser.add_argument("--data-dir", default="data", help="folder of CIFAR-10")
    parser.add_argument("--only", nargs="*", help="names of entries, as they are printed")
    parser.add_argument("--examples", type=int, help="of every network, in place of those in ENTRIES")
    parser.add_argument("--side", choices=("ours", "theirs"), help="run one side and compare nothing")
    parser.add_argument("--runs", type=Path, default=RUNS)
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    figures = given.out.with_suffix(".json")
    rows = {row["name"]: row for row in json.loads(figures.read_text())} if figures.exists() else {}
    for entry in ENTRIES:
        if given.only and entry.name not in given.only:
            continue
        entry = replace(entry, examples=given.examples or entry.examples)
        runs = {
            side: measure(entry, side, given.runs, given.shared, given.data_dir)
            for side in ((given.side,) if given.side else ("ours", "theirs"))
        }
        print(entry.name, flush=True)
        if not given.side:
            rows[entry.name] = {"name": entry.name, **compared(entry, runs["ours"], runs["theirs"][0])}
            ordered = [rows[e.name] for e in ENTRIES if e.name in rows]
            write_text(figures, json.dumps(ordered, indent=1) + "\n")
            write_text(given.out, page(ordered))


if __name__ == "__main__":
    smoke(needs="--shared DIR with the networks of ENTRIES")
    main()
