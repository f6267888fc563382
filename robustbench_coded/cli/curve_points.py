"""The points of a security curve as lines of text, each with its interval."""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from robustbench_coded.reports.text.escape import one_line
from robustbench_coded.reports.text.formatting import (
    interval,
    is_submitted,
    percent,
    pixels,
    subject_text,
)
from robustbench_coded.schema.case import CaseKey
from robustbench_coded.schema.controls import COMBINED, CONTROLS, ENSEMBLE
from robustbench_coded.statistics.case_results import CaseResult
from robustbench_coded.statistics.intervals import Interval
from robustbench_coded.statistics.queries import queries_interval
from robustbench_coded.statistics.summary import SummaryRow

# A curve's attacks differ in one number: what stays of the name, and where the number stands.
_NAMES = {
    "steps": re.compile(r"(?P<family>(?:transfer-)?pgd)-(?P<x>\d+)"),
    "draws": re.compile(r"(?:eot(?P<x>\d+)-)?(?P<family>pgd-20)"),
}


def curve_lines(rows: Iterable[SummaryRow], over: str) -> Iterator[str]:
    """A line for each curve of at least two points: accuracy over ``eps``, ``steps`` or ``draws``."""
    curves: dict[tuple, dict[float, str]] = {}
    for row in rows:
        place = _place(row, over)
        if place is None or row.accuracy is None:
            continue
        family, x = place
        shown = pixels(x) if over == "eps" else f"{x:g}"
        point = f"{shown}: {percent(row.accuracy)} {interval(row.low, row.high)}".rstrip()
        where = "" if over == "eps" else f", eps {pixels(row.key.eps)}"
        title = f"{subject_text(row.key.subject, with_k=True)}, {row.key.threat}, {family}{where}"
        curves.setdefault((title,), {})[x] = point
    for (title,), points in curves.items():
        if len(points) > 1:
            yield one_line(f"{title} over {over}: " + "; ".join(points[x] for x in sorted(points)))


class QueryPoint(NamedTuple):
    """What is left of one row where the attacker submits each perturbed input ``queries`` times."""

    key: CaseKey
    queries: int
    left: Interval


def query_points(results: Iterable[CaseResult], queries: Iterable[int]) -> list[QueryPoint]:
    """A point for each attack and number of queries for which there are draws."""
    queries = tuple(queries)
    return [
        QueryPoint(row.key, tries, queries_interval(row.cell, tries, batch_dependent=row.unit_is_batch))
        for row in results
        if row.cell is not None and _on_curve(row.key.attack)
        for tries in queries
        if tries <= row.cell.correct.shape[1]
    ]


def query_lines(points: Iterable[QueryPoint]) -> Iterator[str]:
    """A line for each row: accuracy over the number of queries."""
    rows: dict[CaseKey, list[str]] = {}
    for key, queries, left in points:
        point = f"{queries}: {percent(left.estimate)} {interval(left.low, left.high)}"
        rows.setdefault(key, []).append(point)
    for key, shown in rows.items():
        title = f"{subject_text(key.subject, with_k=True)}, {key.threat}, {key.attack}, eps {pixels(key.eps)}"
        yield one_line(f"{title} over queries: {'; '.join(shown)}")


def _on_curve(attack: str) -> bool:
    """Attacks that were asked for, and the ensemble of all; the report has the rest."""
    return attack == ENSEMBLE or not (attack in (*CONTROLS, *COMBINED) or is_submitted(attack))


def _place(row: SummaryRow, over: str) -> tuple[str, float] | None:
    """The family of a row's attack, and where on the curve it stands; None for a row of no curve."""
    if not _on_curve(row.attack):
        return None
    if over == "eps":
        return row.attack, row.key.eps
    match = _NAMES[over].fullmatch(row.attack)
    return None if match is None else (match["family"], float(match["x"] or 1))
