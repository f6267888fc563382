"""Our Auto-PGD beside pyautoattack's, on standard inference: accuracy left, difference, time.

    python benchmarks/peers/parity.py --ckpt resnet20.th --data-dir data --limit 1000

The same steps, restarts and targets, the same prepared model, the same batches, our scoring. Preset aa is
compared in robust_bench.py. Times are those of the attacks with their
scoring, one after the other, or the sum over --workers; nothing else should run beside them. Runs are kept in
--runs, and the same command goes on with what is missing. --only measures a pair again; the others stay in
the result.
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.bench.table import pipes
from benchmarks.smoke import smoke
from benchmarks.speed.parts import joined, parts_of
from robustbench_coded import evaluate
from robustbench_coded.judge.case_results import CaseResult
from robustbench_coded.judge.paired import Difference, paired_difference
from robustbench_coded.options.values import radii
from robustbench_coded.run import Run
from robustbench_coded.runs.atomic import write_text

INTRODUCTION = """# Parity with pyautoattack

{about}

Robust accuracy in percent, scored by csrobust, with paired 95% intervals. A negative difference means that
csrobust's attack is stronger. Seconds include scoring, *share* is csrobust's part of them, and
*images* counts forward and backward passes per example."""
OUT = Path(__file__).parent / "parity.md"
RUNS = Path(tempfile.gettempdir()) / "csrobust-parity"
STEPS = 20


@dataclass(frozen=True)
class Pair:
    """What is compared: attacks of ours and the package's attack."""

    title: str
    ours: tuple[str, ...]
    theirs: str


PAIRS = (
    Pair(
        f"APGD-CE, {STEPS} steps",
        (f"apgd-ce-{STEPS}",),
        f"autoattack:apgd-ce+n_iter={STEPS}+n_restarts=1",
    ),
    Pair(
        f"APGD-T, {STEPS} steps, 9 targets",
        (f"apgd-t-{STEPS}",),
        f"autoattack:apgd-t+n_iter={STEPS}",
    ),
)


@dataclass(frozen=True)
class Line:
    """One pair at one eps: ours less theirs, seconds of each, and images forwarded and differentiated."""

    eps: str
    difference: Difference
    ours: float
    theirs: float
    images: tuple[float, float]  # for each example, ours and theirs


def measure(pair: Pair, eps: Sequence[str], runs: Path, **options: Any) -> list[Line]:
    """Runs both sides in folders of their own, for an ensemble is made of all attacks in a folder."""
    found = []
    for side, attacks in (("ours", pair.ours), ("theirs", (pair.theirs,))):
        name = "".join(c if c.isalnum() else "-" for c in f"{pair.title} {side}")
        sizes = radii(list(eps), "--eps")
        found.append(evaluate(attacks=list(attacks), eps=sizes, out=runs / name, **options))
    return [_line(pair, text, *found) for text in eps]


def _line(pair: Pair, eps: str, ours: Run, theirs: Run) -> Line:
    (size,) = radii([eps], "--eps")
    (name,) = pair.ours
    difference = paired_difference(row_of(ours, size, name), row_of(theirs, size, pair.theirs))
    mine, yours = seconds_of(ours, size, pair.ours), seconds_of(theirs, size, (pair.theirs,))
    images = images_of(ours, size, pair.ours), images_of(theirs, size, (pair.theirs,))
    return Line(eps, difference, mine, yours, images)


def row_of(run: Run, eps: float, attack: str) -> CaseResult:
    return next(row for row in run.results if row.case.attack == attack and row.case.perturbation.eps == eps)


def seconds_of(run: Run, eps: float, attacks: Sequence[str]) -> float:
    table = run.timings
    return float(table[table.attack.isin(attacks) & (table.eps == eps)].seconds.sum())


def images_of(run: Run, eps: float, attacks: Sequence[str]) -> float:
    table = run.summary
    rows = table[table.attack.isin(attacks) & (table.eps == eps)]
    return float((rows.forwards_per_example + rows.backwards_per_example).sum())


def cells(lines: Sequence[Line]) -> list[tuple[str, ...]]:
    """The table of one pair, a line an eps."""
    head = (
        "eps",
        "ours",
        "theirs",
        "ours less theirs, points",
        "seconds",
        "theirs",
        "share",
        "images",
        "theirs",
    )
    rows = [
        (
            line.eps,
            f"{100 * line.difference.first:.1f}",
            f"{100 * line.difference.second:.1f}",
            f"{100 * line.difference.estimate:+.1f} [{100 * line.difference.low:+.1f}, "
            f"{100 * line.difference.high:+.1f}]",
            f"{line.ours:.1f}",
            f"{line.theirs:.1f}",
            f"{100 * line.ours / line.theirs:.0f}%" if line.theirs else "–",
            *(f"{images:.0f}" for images in line.images),
        )
        for line in lines
    ]
    return [head, *rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--ckpt", required=True, help="checkpoint")
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--data-dir")
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--eps", default="0.25/255,0.5/255,0.75/255")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--only", type=int, nargs="*", help="numbers of the pairs, from 0")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--workers", type=int, help="processes; times are the sum of theirs")
    parser.add_argument("--device")
    parser.add_argument("--runs", type=Path, default=RUNS)
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    about = f"{Path(given.ckpt).name} on the first {given.limit} images of {given.data}."
    for number, pair in enumerate(PAIRS):
        if given.only is not None and number not in given.only:
            continue
        lines = measure(
            pair,
            given.eps.split(","),
            given.runs,
            models=given.ckpt,
            data=given.data,
            data_dir=given.data_dir,
            limit=given.limit,
            first=True,
            batch_size=(given.batch_size,),
            threads=given.threads,
            workers=given.workers,
            device=given.device,
        )
        parts = parts_of(given.out) | {pair.title: pipes(cells(lines))}
        write_text(given.out, joined(INTRODUCTION.format(about=about), parts))
        print(f"{pair.title}\n\n{pipes(cells(lines))}\n")


if __name__ == "__main__":
    smoke(
        "--ckpt checkpoints/digits-erm.safetensors --data digits --limit 16 --eps 0.1 --batch-size 16 "
        "--only 0 --runs FOLDER --out FOLDER/parity.md"
    )
    main()
