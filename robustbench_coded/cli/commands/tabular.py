"""``csrobust tabular``: coded-smoothing on tables of measurements, beside other regularisers."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from robustbench_coded.cli.common_options import AsJson, Quiet


def tabular_command(
    sets: Annotated[
        str, typer.Option(help="Tables, comma-separated: breast-cancer, wine, digits.")
    ] = "breast-cancer,wine,digits",
    seeds: Annotated[int, typer.Option(help="Random splits; every setting is trained on each.")] = 10,
    steps: Annotated[int, typer.Option(help="Training steps.")] = 600,
    out: Annotated[Path, typer.Option(help="Folder.")] = Path("reports/tabular"),
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> int:
    """Compare coded training with others on tabular data.

    The others are ERM, weight decay and mixup; the data sets come with scikit-learn.
    """
    from robustbench_coded.errors import InputError
    from robustbench_coded.tabular.report import answer, write_tabular_report
    from robustbench_coded.tabular.study import comparisons, run_all

    if steps < 1:
        raise InputError(f"--steps {steps}: give 1 or more")

    def said(text: str) -> None:
        if not quiet:
            print(text, file=sys.stderr)

    tables = list(dict.fromkeys(part.strip() for part in sets.split(",") if part.strip()))
    if not tables:
        raise InputError("--sets: name a table: breast-cancer, wine or digits")
    found = comparisons(run_all(out, tables, seeds=seeds, steps=steps, said=said))
    write_tabular_report(out, found, steps)
    if as_json:
        print(json.dumps([one._asdict() for one in found]))
    else:
        print("\n".join(answer(found)))
        print(f"report: {out / 'report.md'}")
    return 0
