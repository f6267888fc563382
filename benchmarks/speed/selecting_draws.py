"""How many selecting draws choose as well as ten: the committed runs judged again on their first 1, 2, 3, 5.

    python benchmarks/speed/selecting_draws.py reports/*/

Each run kept the answers under all of its selecting draws, so fewer are tried without attacking anything. For
every ensemble of a random defence: the accuracy that it leaves on the scoring draws, less what the most
draws leave, in points; the mean over settings, the worst, and the spread.
"""

import sys
from pathlib import Path

import numpy as np

from benchmarks.bench.table import pipes
from robustbench_coded.judge.case_results import CaseResult, case_results
from robustbench_coded.judge.run import load_run
from robustbench_coded.runs.folder import MANIFEST
from robustbench_coded.schema.case import Case
from robustbench_coded.schema.words import ENSEMBLE

DRAWS = (1, 2, 3, 5)
MOST = 10


def ensembles(path: Path, draws: int) -> dict[Case, tuple[CaseResult, float]]:
    """The ensembles of random defences, chosen on the first so many selecting draws, and what they leave."""
    run = load_run(path)
    outcomes = run.outcomes
    kept = outcomes[(outcomes["purpose"] != "selection") | (outcomes["draw"] < draws)]
    return {
        result.case: (result, float(result.cell.correct.mean()))
        for result in case_results(kept, run.manifest.cases)
        if result.case.attack == ENSEMBLE and result.selection_draws and result.cell is not None
    }


def main(paths: list[Path]) -> None:
    more: dict[tuple[str, int], list[float]] = {}
    for path in paths:
        best = {case: of for case, of in ensembles(path, MOST).items() if of[0].selection_draws == MOST}
        for draws in DRAWS if best else ():
            found = ensembles(path, draws)
            for case, (result, least) in best.items():
                kind = "batch" if result.batch_dependent and not case.threat.one_victim else "input"
                more.setdefault((kind, draws), []).append(100 * (found[case][1] - least))
    heads = ("an attack is chosen for each", "settings", "selecting draws", "mean", "worst", "deviation")
    rows = [
        (kind, str(len(d)), str(draws), f"{np.mean(d):+.2f}", f"{max(d):+.1f}", f"{np.std(d):.2f}")
        for (kind, draws), d in sorted(more.items())
    ]
    print(pipes([heads, *rows]))


if __name__ == "__main__":
    main([path for path in map(Path, sys.argv[1:]) if (path / MANIFEST).exists()])
