"""Whether preset adaptive is long enough: what is left by it, and by it together with 20 times its budget.

    python benchmarks/errors/convergence.py  honest defences of the zoo: writes convergence.md
    python benchmarks/errors/convergence.py coin-flip rounding  prints the lines of these alone

Twenty times: as many steps for the attacks that know the draw, the base model or one surrogate draw, and for
the one that averages over draws four times the draws and five times the steps. Under each threat model both
ensembles score the same draws, so that the difference is paired.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bench.table import pipes
from benchmarks.errors.zoo_entries import entries_parser, measured_entries
from robustbench_coded.judge.case_results import CaseResult
from robustbench_coded.judge.run import Run
from robustbench_coded.runs.atomic import write_text
from zoo.registry import ZOO

OUT = Path(__file__).parent / "convergence.md"
WITHIN = 0.5  # points
DECEIVING = ("stateful", "lying", "attack-aware")  # families whose fault is none of the attacks' length
LONG = (
    "eot40-pgd-100",
    "pgd-2000+momentum=1",
    "fixed-pgd-200",
    "aware-pgd-200",
    "transfer-pgd-400",
    "aware-pgd-400+init=transfer-pgd-400",
)


@dataclass(frozen=True)
class Line:
    """One defence under one threat model: accuracies of the ensembles (fractions) and images an example."""

    defence: str
    threat: str
    short: float
    long: float
    gap: str
    images: tuple[float, float]

    @property
    def converged(self) -> bool:
        return 100 * (self.short - self.long) <= WITHIN


def measure(name: str) -> list[Line]:
    """Evaluates one entry of the zoo twice."""
    from benchmarks.errors.zoo_judged import evaluate_entry
    from robustbench_coded.judge.paired import paired_difference

    with tempfile.TemporaryDirectory() as folder:
        # The defence alone: what a base model without it keeps is no question here.
        short, long = (
            evaluate_entry(
                name, Path(folder) / str(len(attacks)), attacks=attacks, standard=False, threads=1
            ).run
            for attacks in (("adaptive",), ("adaptive", *LONG))
        )
        after = {row.case: row for row in long.results}
        lines = []
        for row in short.results:
            # Rows at another eps are those of a check.
            if row.case.attack != "ensemble" or row.case.perturbation.eps != ZOO[name].eps:
                continue
            gap = paired_difference(row, after[row.case])
            images = _images(short, row), _images(long, row)
            lines.append(Line(name, str(row.case.threat), gap.first, gap.second, str(gap), images))
    return lines


def _images(run: Run, row: CaseResult) -> float:
    """Images forwarded and differentiated for each example."""
    line = next(line for line in run.rows if line.case == row.case)
    return (line.forwards or 0.0) + (line.backwards or 0.0)


def report(lines: Sequence[Line]) -> str:
    """The table in Markdown, and how many lines are further apart."""
    apart = [f"{line.defence} ({line.threat})" for line in lines if not line.converged]
    heads = (
        "defence",
        "threat model",
        "adaptive",
        "and 20 times its budget",
        "difference",
        "images",
        "images",
    )
    rows = [
        (
            f"`{line.defence}`",
            f"`{line.threat}`",
            f"{100 * line.short:.1f}",
            f"{100 * line.long:.1f}",
            line.gap,
            *(f"{images:,.0f}" for images in line.images),
        )
        for line in lines
    ]
    return (
        "# Convergence of preset adaptive\n\n"
        "Accuracy that the ensemble leaves, in percent; paired 95% intervals; images forwarded and "
        f"differentiated for each example by its attacks. Twenty times: {', '.join(LONG)}.\n\n"
        f"More than {WITHIN:g} points apart: {', '.join(apart) or 'none'} of {len(lines)}.\n\n"
        f"{pipes([heads, *rows])}\n"
    )


def main() -> None:
    parser = entries_parser(__doc__ or "")
    options = parser.parse_args()
    honest = [name for name, entry in ZOO.items() if entry.family not in DECEIVING]
    measured = measured_entries(measure, options, parser, honest)
    text = report([line for found in measured for line in found])
    if options.names:
        print(text)
        return
    write_text(OUT, text)
    print(OUT)


if __name__ == "__main__":
    main()
