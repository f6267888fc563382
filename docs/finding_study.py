"""The study behind docs/finding.md: what RCI gains over its base model, by perturbation budget.

python docs/finding_study.py          runs every cell in runs/rci, or goes on where it stopped (`make study`)
python docs/finding_study.py table    writes the table of docs/finding.md from the runs (`make study-table`)
"""

import csv
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.bench.table import pipes

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "finding.md"
BEGIN, END = "<!-- gains: begin -->", "<!-- gains: end -->"
NETWORKS = ("erm", "coded")
# In the order of what the study most needs to know, with images: 1,280 where the gain is near the margin.
# 8/255 of pixels is a floor for every undefended network.
BUDGETS = (
    ("2/255", "pixel", 1280),
    ("8/255", "normalized", 1280),
    ("1/255", "pixel", 640),
    ("4/255", "pixel", 640),
    ("8/255", "pixel", 640),
)
# In place of the named rows. The last one begins where the strongest cheap attack ends.
ATTACKS = ("pgd-10", "transfer-pgd-20", "pgd-100+init=transfer-pgd-20+loss=margin+momentum=1")
# Earlier runs with other attacks, where the study has no run yet.
OTHERS = ("cifar10-normalized", "cifar10-recipes")


def main() -> None:
    if sys.argv[1:] == ["table"]:
        PAGE.write_text(with_table(PAGE.read_text()))
        return
    for network in NETWORKS:
        for eps, space, images in BUDGETS:
            options = cell_options(network, eps, space, images)
            out = f"runs/rci/{network}-{space}-{eps.replace('/', '-')}"
            subprocess.run(["csrobust", "plan", *options], check=True, cwd=ROOT)
            subprocess.run(["csrobust", "eval", *options, "--out", out], check=True, cwd=ROOT)


def cell_options(network: str, eps: str, space: str, images: int) -> list[str]:
    checkpoint = f"{network}=checkpoints/cifar10-{network}-resnet20.safetensors"
    return [
        *("--ckpt", checkpoint, "--data", "npz:data/cifar10_test.npz", "--rci", "N=190"),
        *("--limit", str(images), "--eps", eps, "--eps-space", space, "--attacks", ",".join(ATTACKS)),
        *("--until", "settled", "--threads", "1"),
    ]


def with_table(text: str) -> str:
    """The page with the table between its markers written anew."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{rest.split(END)[1]}"


def table() -> str:
    """What RCI gains, in points, by network and budget, the smallest budget first."""
    rows = sorted(
        gains(), key=lambda row: (row["eps_space"] == "pixel", float(row["eps"]), row["checkpoint"])
    )
    lines: list[Sequence[str]] = [
        ("network", "eps", "base model", "RCI, N = 190", "gain, points", "verdict", "run")
    ]
    for row in rows:
        mark = "\u2020" if row["gain_interval_kind"] == "evaluated images" else ""
        lines.append(
            (
                row["checkpoint"],
                f"{255 * float(row['eps']):g}/255, {row['eps_space']}",
                percent(row["base_accuracy"]),
                f"{interval(row, 'accuracy', 'ci')}{mark}",
                f"{interval(row, 'gain', 'gain')}{mark}",
                row["verdict"],
                f"[{row['run']}](../reports/{row['run']}/report.md)",
            )
        )
    return pipes(lines)


def gains() -> Iterator[dict[str, str]]:
    """The rows of RCI, N = 190, K = 128, with unknown draws, in the verdicts of the committed runs."""
    names = [*(f"rci/{path.name}" for path in sorted((ROOT / "reports" / "rci").iterdir())), *OTHERS]
    for name in names:
        with (ROOT / "reports" / name / "verdicts.csv").open() as file:
            for row in csv.DictReader(file):
                if row["checkpoint"] in NETWORKS and (row["k"], row["n"], row["threat"]) == SUBJECT:
                    yield {**row, "run": name}


SUBJECT = ("128", "190", "batch/unknown")


def interval(row: dict[str, str], middle: str, ends: str) -> str:
    return f"{percent(row[middle])} [{percent(row[f'{ends}_low'])}, {percent(row[f'{ends}_high'])}]"


def percent(value: str) -> str:
    return f"{100 * float(value):.1f}"


if __name__ == "__main__":
    main()
