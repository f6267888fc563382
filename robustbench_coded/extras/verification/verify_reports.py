"""Figures and verdicts of a run's reports, compared with those that its outcomes give.

A report is cut into cells: those of its tables, and each other line. All cells with figures or verdicts must
be those that this csrobust makes of the outcomes, at the same place, with the same words. In a run of this
very csrobust nothing else may differ but drawings, which other versions of their library round otherwise.
A report whose places another csrobust chose does not hold: nobody can tell it from one that was changed.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from itertools import takewhile, zip_longest
from pathlib import Path

from robustbench_coded.code_identity import own_code
from robustbench_coded.evaluation.session.manifest import git_state
from robustbench_coded.judge.run import RunData
from robustbench_coded.reports.text.escape import shortened
from robustbench_coded.reports.text.formatting import counted
from robustbench_coded.reports.write import reports_of
from robustbench_coded.runs.log import read_log
from robustbench_coded.schema.manifest import RunManifest
from robustbench_coded.schema.words import VerdictName
from robustbench_coded.version import __version__

SHOWN, WIDTH = 3, 60  # differences that a line names, and characters of each part of one
_VERDICT = re.compile("|".join(VerdictName), re.IGNORECASE)
_FIGURE = re.compile(rf"{_VERDICT.pattern}|[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?", re.IGNORECASE)
_MEASURED = re.compile(rf"{_VERDICT.pattern}|\d\.\d", re.IGNORECASE)  # names and sizes have none
_DRAWING = re.compile(r"(?<=base64,)[\w+/=]*")
_UNSEEN = re.compile(r"</?(?:style|script)\b[^<>]*>")
_TAG = re.compile(r"</?[a-z][^<>]*>")
# Tags of HTML that begin lines, as lines of Markdown begin.
_LINES = {
    r"<tr\b[^<>]*>": "\n| ",
    r"</t[dh]>": " | ",
    r"<h\d[^<>]*>": "\n# ",
    r"</?(?:p|li|d[ltd]|[uo]l|div|section|header|table|t(?:r|head|body)|h\d|pre|fig\w+)\b[^<>]*>": "\n",
}

Cells = dict[tuple[str, ...], str]  # by section, row, column, words, and which of that place it is


@dataclass(frozen=True)
class VerifiedReport:
    """A file of a run's reports, compared with what the outcomes give.

    Attributes:
        file: its name in the run folder.
        cells: number of cells with figures or verdicts.
        differences: a clause for each cell that differs, is missing, or should not be there.
        missing: True if there is no such file.
    """

    file: str
    cells: int
    differences: tuple[str, ...]
    missing: bool = False

    @property
    def holds(self) -> bool:
        """True if nothing differs."""
        return not self.differences

    def __str__(self) -> str:
        """A line: which file it is, and whether it holds or where it differs."""
        if self.missing:
            return f"{self.file}: not there, so not compared"
        if self.holds:
            return f"{self.file}: holds ({counted(self.cells, 'cell')} equal)"
        more = f"; and {len(self.differences) - SHOWN} more" if len(self.differences) > SHOWN else ""
        return f"{self.file} is not what its outcomes give: {'; '.join(self.differences[:SHOWN])}{more}"


def verify_reports(run: RunData) -> list[VerifiedReport]:
    """Compares each report in a run folder with the one that today's code makes of its outcomes, and the
    units that run.json names with those of the log.
    """
    exact, made = _is_ours(run.manifest), reports_of(run, title=_title(run.path / "report.md"))
    reports = [_verified(run.path / name, text, exact=exact) for name, text in made.items()]
    if left_out := read_log(run.path).done.keys() - {*run.manifest.unit_ids, *run.manifest.superseded}:
        units = f"{counted(len(left_out), 'unit')} of log.jsonl, which it does not name"
        reports.append(VerifiedReport("run.json", 0, (units,)))
    return reports


def _is_ours(manifest: RunManifest) -> bool:
    """True if the csrobust of the run's last command is this one, and no changed checkout."""
    here, last = git_state(), manifest.last
    ours = (own_code(), __version__, here)
    return (manifest.identity.csrobust, last.versions.get("csrobust"), last.git) == ours and not here.dirty


def _title(file: Path) -> str:
    """The title that its author gave a report; empty where there is none, or one that states a verdict."""
    first = file.read_text("utf-8", "replace").partition("\n")[0] if file.is_file() else ""
    return "" if "%" in first or _VERDICT.search(first) else _plain(first.removeprefix("# "))


def _verified(file: Path, made: str, *, exact: bool) -> VerifiedReport:
    if not file.is_file():
        return VerifiedReport(file.name, 0, (), missing=True)
    stored = file.read_text("utf-8", "replace")
    try:
        theirs, ours = _cells(file.suffix, stored), _cells(file.suffix, made)
    except csv.Error as error:
        return VerifiedReport(file.name, 0, (f"it can't be read as a table ({error})",))
    differing = [
        _difference(place, theirs.get(place), ours.get(place))
        for place in dict.fromkeys([*theirs, *ours])
        if theirs.get(place) != ours.get(place)
    ]
    if exact and not differing and _DRAWING.sub("", stored) != _DRAWING.sub("", made):
        differing = ["words without figures, or its markup"]
    return VerifiedReport(file.name, len(theirs), tuple(differing))


def _difference(place: tuple[str, ...], said: str | None, given: str | None) -> str:
    """``erm RCI (N = 128), FGSM: 91.0 instead of 34.2``."""
    _, row, column, words, _ = place
    where = ", ".join(shortened(part, WIDTH) for part in (row, column) if part) or shortened(words, WIDTH)
    figures = (_FIGURE.findall(text or "") for text in (said, given))
    pairs = [pair for pair in zip_longest(*figures, fillvalue="") if pair[0] != pair[1]]
    sides = (shortened(", ".join(filter(None, side)) or "nothing", WIDTH) for side in zip(*pairs))
    return f"{where}: {' instead of '.join(sides)}"


def _cells(suffix: str, text: str) -> Cells:
    """The cells that have a figure or a verdict."""
    cells, seen, section, heads = Cells(), Counter[tuple[str, ...]](), "", [""]
    for row in _rows(suffix, text):
        if len(row) == 1:
            section, heads = row[0] if row[0].startswith("#") else section, [""]
        elif heads == [""]:
            heads = row
            continue
        label = " ".join(takewhile(lambda cell: not _MEASURED.search(cell), row)) if len(row) > 1 else ""
        for head, cell in zip(heads, row):
            if _FIGURE.search(cell):
                place = (section, label.strip(), head, _FIGURE.sub("#", cell))
                seen[place] += 1
                cells[*place, str(seen[place])] = cell
    return cells


def _rows(suffix: str, text: str) -> Iterator[list[str]]:
    """The rows of tables, heads first, and every other line as a row of one cell."""
    if suffix == ".csv":
        yield from filter(None, csv.reader(io.StringIO(text)))
        return
    if suffix == ".html":
        text = " ".join(" ".join(_UNSEEN.split(text)[::2]).split())
        for tag, mark in _LINES.items():
            text = re.sub(tag, mark, text)
    for line in map(str.strip, text.split("\n")):
        parts = line[2:].removesuffix(" |").split(" | ") if line.startswith("| ") else [line]
        cells = [_plain(part) for part in parts]
        if any(cells) and not all(re.fullmatch(":?-+:?", cell) for cell in cells):
            yield cells


def _plain(text: str) -> str:
    """A cell of Markdown or HTML without markup."""
    text = _TAG.sub(lambda tag: " " if tag[0] == "<br>" else "", text).replace("**", "")
    return " ".join(unescape(re.sub(r"\\([*_\[\]])", r"\1", text)).split())
