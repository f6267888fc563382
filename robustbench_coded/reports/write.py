"""Writes the reports of a run into its folder, each file whole or not at all."""

import csv
import io
from pathlib import Path
from typing import Any

import pandas as pd

from robustbench_coded.reports.document import document_of
from robustbench_coded.reports.escape import csv_text
from robustbench_coded.reports.load import load_run
from robustbench_coded.reports.markdown import markdown_report
from robustbench_coded.runs.atomic import write_text


def write_reports(path: str | Path) -> None:
    """summary.csv, timings.csv and the reports, made from run.json and the outcomes alone.

    All but timings.csv come out byte-equal when they are written again.

    Raises:
        InputError: not a run folder, or run.json is not usable.
    """
    run = load_run(path)
    write_text(run.path / "summary.csv", csv_table(run.summary))
    write_text(run.path / "timings.csv", csv_table(run.timings))
    document = document_of(run)
    write_text(run.path / "report.md", markdown_report(document))


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
