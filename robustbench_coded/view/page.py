"""The page: one self-contained file below 1 MB that asks the network for nothing."""

import json
import os
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup

from robustbench_coded.reports.render.html import page
from robustbench_coded.reports.text.escape import one_line, shell
from robustbench_coded.reports.text.formatting import inference_text, interval, pixels
from robustbench_coded.schema.controls import CLEAN, ENSEMBLE, STRONGEST
from robustbench_coded.view.entries import Entry, Figure, entries_below, shown_first

LARGEST = 1_000_000  # bytes
TOO_MANY = "There are too many accuracies for one page: attacks other than the strongest are left out."
FILTERS = ("Run", "Data", "Checkpoint", "Inference", "Threat", "Verdict")
STYLE = """
a { color: var(--mark); }
#rows td { min-width: 0; }
#rows td.number, #rows td.threat { white-space: nowrap; }
#rows td.inference { min-width: 10rem; }
#compare .number { white-space: nowrap; }
.pick { white-space: nowrap; }
@media screen and (max-width: 40rem) { #rows td small { flex-basis: 100%; } }
"""


def view_page(folder: Path, out: Path) -> str:
    """The page of all runs below a folder.

    Args:
        out: the file that it is written to; links to reports are relative to it.

    Raises:
        InputError: the folder holds no run.
    """
    entries, unread = entries_below(folder)
    text = _page(folder, out, entries, unread, _measured(entries, keep=None))
    if len(text.encode()) > LARGEST:
        unread = [*unread, TOO_MANY]
        text = _page(folder, out, entries, unread, _measured(entries, keep=(CLEAN, ENSEMBLE)))
    return text


def _page(folder: Path, out: Path, entries: Sequence[Entry], unread: Sequence[str], measured: Markup) -> str:
    chosen = [{name: _choice(folder, entry, name) for name in FILTERS} for entry in entries]
    attacks = {name for entry in entries for name in entry.attacks} - {CLEAN, ENSEMBLE, STRONGEST}
    return page(
        "view.html.j2",
        more_style=STYLE,
        more_script="view.js",
        title=f"csrobust runs: {folder.resolve().name}",
        runs=len({entry.run for entry in entries}),
        entries=list(zip(entries, chosen, strict=True)),
        unread=unread,
        choices={
            **{name: sorted({row[name] for row in chosen}) for name in FILTERS},
            "Attack": sorted(map(one_line, attacks)),
        },
        measured=measured,
        report=lambda entry: _link(entry, out),
        examples=lambda entry: _link(entry, out, "worst"),
        budget=lambda entry: (
            f"{entry.budget.norm} {pixels(entry.budget.eps)}"
            + ("" if entry.budget.eps_space == "pixel" else f" ({entry.budget.eps_space})")
        ),
        between=lambda figure: interval(figure.low, figure.high),
        signed=_signed,
        inference=lambda entry: inference_text(entry.subject, with_k=True),
        command=lambda entry: shell([str(entry.run)]),
    )


def _choice(folder: Path, entry: Entry, name: str) -> str:
    run = entry.run.resolve().name if entry.run == folder else entry.run.relative_to(folder).as_posix()
    shown = {
        "Run": run,
        "Data": entry.data,
        "Checkpoint": entry.subject.checkpoint,
        "Inference": inference_text(entry.subject, with_k=True),
        "Threat": entry.threat,
        "Verdict": entry.verdict,
    }
    return one_line(shown[name])


def _measured(entries: Sequence[Entry], keep: Sequence[str] | None) -> Markup:
    """The accuracies as compact JSON: the names of attacks, and for each entry [name, accuracy, low, high]
    in tenths of a percent. ``<`` is escaped, so that no name ends the element that holds it.
    """
    names: dict[str, int] = {}
    rows = []
    for entry in entries:
        shown = [x for x in shown_first(entry.attacks) if keep is None or x in (*keep, entry.strongest)]
        rows.append(
            [
                [names.setdefault(one_line(x), len(names)), *_tenths(entry.attacks[x])]
                for x in shown
                if x != STRONGEST
            ]
        )
    text = json.dumps({"names": list(names), "rows": rows}, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c"))


def _tenths(figure: Figure) -> list[int | None]:
    ends = (figure.estimate, figure.low, figure.high)
    return [None if value is None else round(1000 * value) for value in ends]


def _signed(figure: Figure) -> str:
    return f"{100 * figure.estimate:+.1f}"


def _link(entry: Entry, out: Path, section: str = "") -> str:
    """The relative address of the run's report, '' where there is none or it lacks the section."""
    file = entry.run / "report.html"
    if not file.is_file() or (section and section not in _sections(file)):
        return ""
    relative = os.path.relpath(file.resolve(), out.resolve().parent)
    return quote(Path(relative).as_posix()) + (f"#{section}" if section else "")


@cache
def _sections(file: Path) -> frozenset[str]:
    return frozenset(re.findall(r'<section id="([a-z-]+)">', file.read_text(errors="replace")))
