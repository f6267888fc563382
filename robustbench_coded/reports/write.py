"""Writes the reports of a run into its folder, each file whole or not at all."""

import csv
import io
from pathlib import Path
from typing import Any

import pandas as pd

from robustbench_coded.reports.figures.draw import figures_of
from robustbench_coded.reports.render.html import html_report
from robustbench_coded.reports.render.markdown import markdown_details, markdown_report
from robustbench_coded.reports.render.sections import report_of
from robustbench_coded.reports.run.opening import opening_of
from robustbench_coded.reports.run.worst import pictures_of, remove_unshown, worst_examples
from robustbench_coded.reports.text.escape import csv_text
from robustbench_coded.results.certified import certified_frame
from robustbench_coded.results.run import Run, load_run
from robustbench_coded.runs.atomic import replace_text


def write_reports(path: str | Path) -> None:
    """summary.csv, timings.csv, verdicts.csv and the reports, made from run.json and the outcomes alone.

    All but timings.csv come out byte-equal when they are written again.

    Raises:
        InputError: not a run folder, or run.json is not usable.
        CertificateContradicted: an attack did what a certified bound rules out; nothing is written.
    """
    write_reports_of(load_run(path))


def write_reports_of(run: Run, *, final: bool = False) -> None:
    """`write_reports` for a run that is loaded already.

    Args:
        final: the run is finished; pictures that the reports do not show are removed.

    Raises:
        CertificateContradicted: an attack did what a certified bound rules out; nothing is written.
    """
    certified = run.certified
    # Not synced to the disk, which takes longer than writing: all of it follows from the outcomes, which are.
    replace_text(run.path / "summary.csv", csv_table(run.summary))
    replace_text(run.path / "timings.csv", csv_table(run.timings))
    replace_text(run.path / "verdicts.csv", csv_table(run.verdicts))
    if certified:
        replace_text(run.path / "certified.csv", csv_table(certified_frame(certified)))
    opening, worst = opening_of(run), worst_examples(run)
    figures = figures_of(run, opening)
    report = report_of(run, opening, figures, worst, pictures_of(run, worst))
    replace_text(run.path / "report.md", markdown_report(report))
    replace_text(run.path / "details.md", markdown_details(report))
    replace_text(run.path / "report.html", html_report(report))
    for figure in figures:
        figure.write(run.path / "figures")
    _remove_others(run.path / "figures", {figure.name for figure in figures})
    if final:
        remove_unshown(run, worst)


def _remove_others(folder: Path, names: set[str]) -> None:
    """Figures that the run once had data for and has no more."""
    for path in folder.glob("*") if folder.is_dir() else ():
        if path.suffix in (".svg", ".png") and path.stem not in names:
            path.unlink()


def csv_table(table: pd.DataFrame) -> str:
    """A frame as CSV: nulls empty, numbers read back unchanged, texts that no spreadsheet runs."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(table.columns)
    for line in table.itertuples(index=False):
        writer.writerow([_field(value) for value in line])
    return file.getvalue()


def _field(value: Any) -> object:
    if pd.isna(value):
        return ""
    return csv_text(value) if isinstance(value, str) else value
