"""Ours beside the bare network and beside other packages: PGD-10 with everything, then PGD-100.

    python benchmarks/speed/speed.py  writes benchmarks/speed/speed-cpu.md
    python benchmarks/speed/speed.py --steps 10  leaves the part on PGD-100 as it is

About ten minutes on two cores, a third of it for PGD-100. foolbox and the Adversarial Robustness Toolbox are
measured where they are installed.
"""

import argparse
import sys
from pathlib import Path

from benchmarks.bench.run import BenchOptions, BenchReport, bench
from benchmarks.bench.table import cells, pipes, preparation
from benchmarks.bench.timing import in_words
from benchmarks.smoke import smoke
from benchmarks.speed.parts import joined, parts_of
from benchmarks.speed.speed_third_party import third_party
from robustbench_coded.runs.atomic import write_text

HERE = Path(__file__).parent
INTRODUCTION = """# Speed

Random images, for time does not depend on them; every step on every image. The rows of a table were
measured in turns, round after round, in one process: medians, with quartiles in brackets. `cost` is the time
per image over that of another row of the table, compared within each round. `peak MB` is what one call needs
beyond what was in use before it; small numbers of it are noise."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--ckpt", type=Path, help="checkpoint whose network is timed")
    parser.add_argument("--arch", default="resnet20", help="otherwise this one, with random weights")
    parser.add_argument("--device")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--steps", type=int, choices=(10, 100), help="this part alone; both by default")
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    shared = {"checkpoint": given.ckpt, "arch": given.arch, "device": given.device, "threads": given.threads}
    shared["images"] = given.images
    ten = BenchOptions(**shared, rounds=given.rounds)
    hundred = BenchOptions(**shared, steps=100, rounds=3, gradients_only=True)
    name = given.arch if given.ckpt is None else given.ckpt.stem
    for options in (ten, hundred):
        if given.steps not in (None, options.steps):
            continue
        report = bench(options, lambda text: print(f"... {text}", file=sys.stderr), third_party)
        device = str(report.machine["device"]).partition(":")[0]
        out = given.out or HERE / f"speed-{device}.md"
        # Each part is written at once: the first figures are there while the long part runs.
        parts = parts_of(out) | {f"{name}, PGD-{options.steps}": markdown(report)}
        write_text(out, joined(INTRODUCTION, parts))
    print(out)


def markdown(report: BenchReport) -> str:
    """Machine, preparation, sections and notes, without a title."""
    parts = [in_words(report.machine) + ".", "\n".join(f"- {line}" for line in preparation(report))]
    for section in report.sections:
        head, *rows = cells(section)
        parts.append(f"### {section.title[0].upper()}{section.title[1:]}")
        parts.append(pipes([("", "", *head[2:]), *rows]))
    if report.notes:
        parts.append("\n".join(f"- {note}" for note in report.notes))
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    smoke("--arch digits-cnn --images 8 --steps 10 --rounds 1 --out FOLDER/speed.md")
    main()
