"""Writes the reports of a run into its folder, each file whole or not at all."""

from pathlib import Path

from matplotlib.axes import Axes

from robustbench_coded.errors import InputError
from robustbench_coded.judge.run import RunData, run_data
from robustbench_coded.reports.compare.batch_sizes import sweeps_of
from robustbench_coded.reports.figures import curves, style
from robustbench_coded.reports.render import markdown
from robustbench_coded.reports.render.html import html_report
from robustbench_coded.reports.render.sections import report_of
from robustbench_coded.reports.run.opening import opening_of
from robustbench_coded.reports.run.tables import tables_of
from robustbench_coded.reports.text.escape import csv_table
from robustbench_coded.runs.atomic import write_text


def write_reports(path: str | Path, title: str = "") -> None:
    """Writes summary.csv, verdicts.csv and the reports from run.json and the outcomes.

    Writing them again gives the same bytes.

    Args:
        title: of the reports, in place of the folder's name.

    Raises:
        InputError: not a run folder, or run.json is not usable.
    """
    write_reports_of(run_data(path), title=title)


def write_reports_of(run: RunData, *, title: str = "") -> None:
    """`write_reports` for a run that is loaded already.

    Args:
        title: of the reports, in place of the folder's name.
    """
    # Not synced to the disk, which takes longer than writing: all of it follows from the outcomes, which are.
    for name, text in reports_of(run, title=title).items():
        write_text(run.path / name, text, synced=False)


def reports_of(run: RunData, *, title: str = "") -> dict[str, str]:
    """The text of each file that `write_reports_of` writes, by its name."""
    report = report_of(run, opening_of(run), figures_of(run), title)
    return {
        "summary.csv": csv_table(run.summary),
        "verdicts.csv": csv_table(run.verdicts),
        "report.md": markdown.markdown_report(report),
        "report.html": html_report(report),
    }


def figures_of(run: RunData, width: float = style.WIDTH) -> list[style.Drawing]:
    """The figures of a run, drawn anew; the same run gives the same bytes.

    Args:
        width: in inches, of a page or of a column (``style.COLUMN``).
    """
    tables = tables_of(run)
    with style.styled(width):
        drawn = [*curves.draw_curves(tables, sweeps_of(run)), *map(curves.draw_attacks, tables[:1])]
    return [figure for figure in drawn if figure is not None]


def plot(run: RunData, axes: Axes | None = None) -> Axes:
    """`Run.plot`."""
    opening = opening_of(run)
    if not opening.rows:
        raise InputError(
            f"{run.path} has no verdict yet, so there is nothing to plot; run its evaluation first"
        )
    with style.styled():
        if axes is None:
            from matplotlib import pyplot  # which a notebook shows

            _, axes = pyplot.subplots(figsize=curves.answer_size(opening.rows), layout="constrained")
        curves.draw_rows(axes, opening.rows)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize=curves.LETTERS)
    return axes
