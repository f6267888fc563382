"""``csrobust tabular``: coded-smoothing on tables and sequences, beside other regularisers."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from robustbench_coded.cli.common_options import AsJson, Quiet


def tabular_command(
    sets: Annotated[
        str, typer.Option(help="Data sets, comma-separated: breast-cancer, wine, digits, digit-lines.")
    ] = "breast-cancer,wine,digits,digit-lines",
    seeds: Annotated[int, typer.Option(help="Random splits; every setting is trained on each.")] = 10,
    steps: Annotated[int, typer.Option(help="Training steps.")] = 600,
    out: Annotated[Path, typer.Option(help="Folder.")] = Path("reports/tabular"),
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> int:
    """Compare coded training with others on tables and sequences.

    The others are ERM, weight decay and mixup; the data sets come with scikit-learn. A perceptron is trained
    on tables, a small Transformer on digit-lines: digits read line by line.
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
        raise InputError("--sets: name a data set: breast-cancer, wine, digits or digit-lines")
    found = comparisons(run_all(out, tables, seeds=seeds, steps=steps, said=said))
    write_tabular_report(out, found, steps)
    if as_json:
        print(json.dumps([one._asdict() for one in found]))
    else:
        print("\n".join(answer(found)))
        print(f"report: {out / 'report.md'}")
    return 0
