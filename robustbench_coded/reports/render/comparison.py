"""A comparison of runs in every format, and its sections."""

from collections.abc import Iterator, Sequence

from robustbench_coded.reports.compare.comparison import LEGEND, RunComparison, comparison_csv, run_text_table
from robustbench_coded.reports.render import html, latex, markdown
from robustbench_coded.reports.render.sections import Bullets, Legend, Section

TITLE = "csrobust comparison"


def comparison_document(comparison: RunComparison, name: str, beside: Sequence[Section] = ()) -> str:
    """The comparison as ``md``, ``html``, ``csv`` or ``latex``; the last has a table environment a
    perturbation.

    Args:
        beside: sections that stand behind its own, in ``md`` and ``html``.
    """
    if name == "csv":
        return comparison_csv(comparison)
    if name == "latex":
        return "\n".join([latex.PACKAGES, *map(latex.latex_table, comparison.tables)])
    notes, sections = [comparison.answer], [*_sections(comparison), *beside]
    if name == "md":
        return markdown.plain_markdown(TITLE, notes, sections)
    return html.plain_html(TITLE, notes, sections)


def _sections(comparison: RunComparison) -> Iterator[Section]:
    yield Section("runs", "Runs", (run_text_table(comparison),))
    if apart := comparison.incompatibilities:
        yield Section("apart", "Differences between the runs", (Bullets(apart),))
    elif not comparison.unpaired:
        yield Section("apart", "Differences between the runs", (Legend("None that matters here."),))
    for table in comparison.tables:
        yield Section("accuracies", table.title, (table, Legend(f"{LEGEND} {table.legend}")))
    if comparison.unpaired:
        unpaired = Bullets(comparison.unpaired)
        yield Section("unpaired", "Differences that could not be computed", (unpaired,))
