"""``csrobust compare``: runs under attack, or under shift, side by side, with paired differences."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from robustbench_coded.cli.common_options import AsJson, RunFolders
from robustbench_coded.errors import InputError
from robustbench_coded.reports.text.escape import one_line

ENDINGS = {"md": "md", "html": "html", "csv": "csv", "latex": "tex"}


def compare_command(
    runs: RunFolders,
    baseline: Annotated[
        str | None,
        typer.Option(
            "--baseline",
            help="Run, checkpoint or defence to compare with; default: the first run.",
        ),
    ] = None,
    formats: Annotated[
        str | None, typer.Option("--format", help=f"{', '.join(ENDINGS)}; several with --out.")
    ] = None,
    paper: Annotated[
        bool, typer.Option("--paper", help="Also compare with the numbers of arXiv 2510.00253.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Folder to write comparison.md ... to.")] = None,
    as_json: AsJson = False,
) -> int:
    """Compare runs by paired differences.

    All of csrobust eval, or all of csrobust shift. Differences are paired where runs share batches and draws;
    runs under shift have to share their images. Settings that differ between runs are listed.
    """
    from robustbench_coded.shift.compare import are_shift_runs, compare_shift

    chosen = _formats(formats, out)
    if are_shift_runs(runs):
        comparison: Any = compare_shift(runs, baseline)
    else:
        from robustbench_coded.reports.compare.comparison import compare

        comparison = compare(runs, baseline)
    if out is not None:
        from robustbench_coded.runs.atomic import write_text

        for name in chosen or ["md", "html"]:
            write_text(out / f"comparison.{ENDINGS[name]}", _document(comparison, name, paper))
    if as_json:
        print(json.dumps(comparison.as_data()))
    elif out is not None:
        print(one_line(f"comparison: {out}"))
    elif chosen:
        print(_document(comparison, chosen[0], paper), end="")
    else:
        _show(comparison, paper)
    return 0


def _formats(text: str | None, out: Path | None) -> list[str]:
    chosen = list(dict.fromkeys(part.strip() for part in text.split(","))) if text is not None else []
    for name in chosen:
        if name not in ENDINGS:
            raise InputError(f"--format {name!r} is not known; choose from {', '.join(ENDINGS)}")
    if len(chosen) > 1 and out is None:
        raise InputError(f"--format {text} is several files; say where to with --out")
    if out is not None and out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; give a folder")
    return chosen


def _document(comparison: Any, name: str, paper: bool) -> str:
    from robustbench_coded.shift.compare import ShiftComparison

    if isinstance(comparison, ShiftComparison):
        from robustbench_coded.shift.comparison_document import shift_document

        return shift_document(comparison, name, paper=paper)
    if name == "md":
        from robustbench_coded.reports.render.comparison_markdown import comparison_markdown

        return comparison_markdown(comparison, paper=paper)
    if name == "csv":
        from robustbench_coded.reports.render.comparison_csv import comparison_csv

        return comparison_csv(comparison)
    if name == "latex":
        from robustbench_coded.reports.render.latex import comparison_latex

        return comparison_latex(comparison)
    from robustbench_coded.reports.render.html import comparison_html

    return comparison_html(comparison, paper=paper)


def _show(comparison: Any, paper: bool) -> None:
    from rich.console import Console

    from robustbench_coded.reports.render.terminal import PlainTable, comparison_table
    from robustbench_coded.shift.compare import ShiftComparison

    if not isinstance(comparison, ShiftComparison):
        Console().print(comparison_table(comparison, paper=paper))
        return
    from robustbench_coded.shift.tables import means_of_runs, tables_of_means

    print(one_line(f"baseline: {comparison.baseline}"))
    for images, over, table in tables_of_means(means_of_runs(comparison.rows, paper=paper)):
        Console().print(PlainTable(f"Accuracy under shift: {images}, {over}", table))
    for text in (*comparison.apart, *comparison.unpaired):
        print(one_line(text))
