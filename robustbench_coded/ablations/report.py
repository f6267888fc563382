"""Writes the tables and figures of studies into the folder of their runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from robustbench_coded.ablations.plot import draw
from robustbench_coded.ablations.point import Point
from robustbench_coded.ablations.results import Result, results_of
from robustbench_coded.ablations.run import Laboratory
from robustbench_coded.ablations.sheet import preamble, section, table_csv
from robustbench_coded.ablations.studies import STUDIES, Study
from robustbench_coded.runs.atomic import write_text


def write_studies(
    laboratory: Laboratory, studies: Iterable[tuple[Study, Sequence[Point]]]
) -> dict[str, list[Result]]:
    """Writes ``STUDY.csv``, ``STUDY.md``, ``figures/STUDY.svg`` and ``report.md``; returns the results.

    The report has the sections of all studies that the folder holds, also of those made by other calls.
    """
    folder, found = laboratory.folder, {}
    for study, points in studies:
        results = results_of(study, points, laboratory)
        write_text(folder / f"{study.name}.csv", table_csv(study, results))
        write_text(folder / f"{study.name}.md", section(study, results, laboratory.settings))
        draw(study, results).write(folder / "figures")
        found[study.name] = results
    sections = [folder / f"{name}.md" for name in STUDIES]
    texts = [path.read_text(encoding="utf-8") for path in sections if path.is_file()]
    write_text(folder / "report.md", "\n".join([preamble(laboratory.settings), *texts]))
    return found
