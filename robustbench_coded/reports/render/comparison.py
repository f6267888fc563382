"""A comparison of runs in every format, and its sections."""

from collections.abc import Iterator, Sequence

from robustbench_coded.reports.compare.comparison import RunComparison, comparison_csv
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
    notes, sections = [comparison.answer, *comparison.unpaired], [*_sections(comparison), *beside]
    if name == "md":
        return markdown.plain_markdown(TITLE, notes, sections)
    return html.plain_html(TITLE, notes, sections)


def _sections(comparison: RunComparison) -> Iterator[Section]:
    for table in comparison.tables:
        yield Section("accuracies", table.title, (table, Legend(f"{table.legend} {comparison.legend}")))
    apart = Bullets(comparison.incompatibilities or ("None that matters here.",))
    yield Section("apart", "Differences between the runs", (apart,))
