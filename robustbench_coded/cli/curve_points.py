"""The points of a security curve, a line each: a number and its interval are never torn apart."""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from robustbench_coded.reports.text.escape import one_line
from robustbench_coded.reports.text.formatting import (
    accuracy_text,
    is_submitted,
    pixels,
    subject_text,
)
from robustbench_coded.schema.case import CaseKey
from robustbench_coded.schema.controls import COMBINED, CONTROLS, ENSEMBLE
from robustbench_coded.statistics.case_results import CaseResult
from robustbench_coded.statistics.intervals import Interval
from robustbench_coded.statistics.submissions import survival
from robustbench_coded.statistics.summary import SummaryRow

# A curve's attacks differ in one number: what stays of the name, and where the number stands.
_NAMES = {
    "steps": re.compile(r"(?P<family>(?:transfer-)?pgd)-(?P<x>\d+)"),
    "draws": re.compile(r"(?:eot(?P<x>\d+)-)?(?P<family>pgd-20)"),
}


def curve_lines(rows: Iterable[SummaryRow], over: str) -> Iterator[str]:
    """For each curve of at least two points its name, and a line a point.

    Args:
        over: ``eps``, ``steps`` or ``draws``.
    """
    curves: dict[tuple, dict[float, str]] = {}
    for row in rows:
        place = _place(row, over)
        if place is None or row.accuracy is None:
            continue
        family, x = place
        shown = pixels(x) if over == "eps" else f"{x:g}"
        point = f"  {shown}: {accuracy_text(row.accuracy, row.low, row.high)}"
        where = "" if over == "eps" else f", eps {pixels(row.key.eps)}"
        title = f"{subject_text(row.key.subject, with_k=True)}, {row.key.threat}, {family}{where}"
        curves.setdefault((title,), {})[x] = point
    for (title,), points in curves.items():
        if len(points) > 1:
            yield one_line(f"{title} over {over}:")
            yield from (points[x] for x in sorted(points))


class SubmissionPoint(NamedTuple):
    """What is left of one row where the attacker submits each perturbed input so many times."""

    key: CaseKey
    submissions: int
    left: Interval


def submission_points(results: Iterable[CaseResult], submissions: Iterable[int]) -> list[SubmissionPoint]:
    """A point for each attack and number of submissions for which there are draws."""
    tries = tuple(submissions)
    return [
        SubmissionPoint(row.key, times, left)
        for row in results
        if _on_curve(row.key.attack)
        for times in tries
        if (left := survival(row, times)) is not None
    ]


def submission_lines(points: Iterable[SubmissionPoint]) -> Iterator[str]:
    """For each row its name, and a line for each number of submissions."""
    rows: dict[CaseKey, list[str]] = {}
    for key, times, left in points:
        point = f"  {times}: {accuracy_text(left.estimate, left.low, left.high)}"
        rows.setdefault(key, []).append(point)
    for key, shown in rows.items():
        title = f"{subject_text(key.subject, with_k=True)}, {key.threat}, {key.attack}, eps {pixels(key.eps)}"
        yield one_line(f"{title} over submissions:")
        yield from shown


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
