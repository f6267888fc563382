"""The tables of a run as Parquet and as LaTeX with figures."""

import io
from collections.abc import Sequence
from pathlib import Path

from robustbench_coded.judge.run import RunData
from robustbench_coded.reports.figures.curves import draw_answer
from robustbench_coded.reports.figures.style import COLUMN, Drawing, styled
from robustbench_coded.reports.render.latex import PACKAGES, latex_table
from robustbench_coded.reports.run.opening import opening_of
from robustbench_coded.reports.run.tables import tables_of
from robustbench_coded.reports.write import figures_of
from robustbench_coded.runs.atomic import write_bytes, write_text


def parquet_tables(run: RunData, out: Path) -> list[Path]:
    """summary, verdicts and all outcomes; the columns of docs/run-folder.md, accuracies as fractions."""
    frames = {"summary": run.summary, "verdicts": run.verdicts, "outcomes": run.outcomes}
    files = [out / f"{name}.parquet" for name in frames]
    for file, frame in zip(files, frames.values(), strict=True):
        frame.to_parquet(file, index=False)
    return files


def latex_tables(run: RunData, out: Path, attacks: Sequence[str] = ()) -> list[Path]:
    """A table environment for each perturbation and sweep of batch sizes, which fits a column of two; and the
    figures of the report, as PDF of a column's width where that has room.

    Args:
        attacks: the columns, as `latex_table` has them.

    Raises:
        InputError: a table has no column of that name.
    """
    file = out / "tables.tex"
    write_text(file, "\n".join([PACKAGES, *(latex_table(table, attacks) for table in tables_of(run))]))
    with styled(COLUMN):
        answer = draw_answer(opening_of(run).rows)
    return [file, *(_pdf(figure, out) for figure in (answer, *figures_of(run, COLUMN)) if figure)]


def _pdf(drawing: Drawing, folder: Path) -> Path:
    """Writes NAME.pdf, for a paper. Returns its path."""
    pdf, path = io.BytesIO(), folder / f"{drawing.name}.pdf"
    with styled():
        drawing.figure.savefig(pdf, format="pdf", transparent=True, metadata={"CreationDate": None})
    write_bytes(path, pdf.getvalue(), synced=False)
    return path
