"""How many selection draws choose as well as ten: the committed runs judged again on their first 1, 2, 4.

    python benchmarks/speed/selecting_draws.py reports/*/            prints the table
    python benchmarks/speed/selecting_draws.py --write reports/*/    and writes selecting_draws.md

Each run kept the answers under all of its selection draws, so fewer are tried without attacking anything. For
every ensemble of a random defence: the accuracy that it leaves on the scoring draws, less what the most
draws leave, in points; the mean over settings, the worst, and the spread; and how much wider its interval is.
"""

import sys
from pathlib import Path

import numpy as np

from benchmarks.bench.table import pipes
from robustbench_coded.judge.case_results import CaseResult
from robustbench_coded.judge.combined import case_results
from robustbench_coded.judge.run import load_run
from robustbench_coded.runs.folder import MANIFEST
from robustbench_coded.schema.case import Case
from robustbench_coded.schema.words import ENSEMBLE

DRAWS = (1, 2, 4)
MOST = 10
TABLE = Path(__file__).with_suffix(".md")
ABOUT = """# Selection draws

Ensembles of random defences in the committed runs with ten selection draws, chosen again on the first 1, 2
and 4 of them (`benchmarks/speed/selecting_draws.py`). In points: how much more accuracy the choice leaves on
the scoring draws than the choice on all ten (mean over settings, worst, standard deviation), and how much
wider the interval is. The scoring draws are the same."""
ANSWER = """With one draw a choice cannot be validated, and everything gets the strongest attack. Two, of
which one chooses and one validates, choose as well as four, and are the default everywhere
(`--selection-draws`)."""


def ensembles(path: Path, draws: int) -> dict[Case, tuple[CaseResult, float]]:
    """The ensembles of random defences, chosen on the first so many selecting draws, and what they leave."""
    run = load_run(path)
    outcomes = run.outcomes
    kept = outcomes[(outcomes["purpose"] != "selection") | (outcomes["draw"] < draws)]
    return {
        result.case: (result, float(result.cell.correct.mean()))
        for result in case_results(kept, run.manifest.cases)
        if result.case.attack == ENSEMBLE and result.combination.selection_draws and result.cell is not None
    }


def table(paths: list[Path]) -> str:
    """A row for each kind of choice and number of draws, in Markdown."""
    more: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for path in paths:
        best = {
            case: of
            for case, of in ensembles(path, MOST).items()
            if of[0].combination.selection_draws == MOST
        }
        for draws in DRAWS if best else ():
            found = ensembles(path, draws)
            for case, (result, least) in best.items():
                kind = "batch" if result.batch_dependent and not case.threat.one_victim else "input"
                wider = _width(found[case][0]) - _width(result)
                more.setdefault((kind, draws), []).append((100 * (found[case][1] - least), wider))
    heads = ("an attack is chosen for each", "settings", "selection draws", "mean", "worst", "deviation")
    rows = [
        (kind, str(len(of)), str(draws), f"{worse.mean():+.2f}", f"{worse.max():+.1f}", f"{worse.std():.2f}",
         f"{wider.mean():+.2f}", f"{wider.max():+.1f}")
        for (kind, draws), of in sorted(more.items())
        for worse, wider in [np.array(of).T]
    ]  # fmt: skip
    return pipes([(*heads, "interval wider, mean", "interval wider, worst"), *rows])


def _width(result: CaseResult) -> float:
    """Of the interval, in points."""
    interval = result.interval()
    assert interval is not None  # ensembles here have outcomes
    return 100 * (interval.high - interval.low)


def main(arguments: list[str]) -> None:
    paths = [path for path in map(Path, arguments) if (path / MANIFEST).exists()]
    made = table(paths)
    print(made)
    if "--write" in arguments:
        TABLE.write_text(f"{ABOUT}\n\n{made}\n\n{ANSWER}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
