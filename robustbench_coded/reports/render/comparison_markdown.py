"""A comparison of runs as Markdown."""

from robustbench_coded.reports.compare.comparison import LEGEND, Comparison, run_text_table
from robustbench_coded.reports.compare.differences import DIFFERENCES_LEGEND, differences_told
from robustbench_coded.reports.paper.against_paper import (
    INCONSISTENCIES,
    paper_text_table,
    reasons,
    time_text_table,
)
from robustbench_coded.reports.render.markdown import bullets, markdown_table, markdown_text_table
from robustbench_coded.reports.text.escape import markdown


def comparison_markdown(comparison: Comparison, *, paper: bool) -> str:
    """The comparison in GitHub's Markdown; ``paper`` sets every run beside the paper's tables, too."""
    parts = ["# csrobust comparison", f"Baseline: {markdown(comparison.baseline)}.", "## Runs"]
    parts += [markdown_text_table(run_text_table(comparison))]
    parts += [
        "## Differences between the runs",
        bullets(comparison.incompatibilities) or "None that matters here.",
    ]
    for table in comparison.tables:
        parts += [f"## {markdown(table.title)}", markdown_table(table), markdown(LEGEND)]
        told = differences_told(table)
        if told:
            parts += ["### Compared with the baseline", bullets(told), markdown(DIFFERENCES_LEGEND)]
    if comparison.unpaired:
        parts += ["## Differences that could not be computed", bullets(comparison.unpaired)]
    if paper:
        for name, run in comparison.runs.items():
            parts += [
                f"## {markdown(name)} and arXiv 2510.00253",
                markdown_text_table(paper_text_table(run)),
            ]
            parts += [
                "Answering one batch (Table 4, on other hardware):",
                markdown_text_table(time_text_table(run)),
            ]
            parts += ["Known reasons for differences:", bullets(reasons(run))]
        parts += ["## The paper's own inconsistencies", bullets(INCONSISTENCIES)]
    return "\n\n".join(parts) + "\n"
