"""A page to browse all runs of a folder: filter, compare two, open their reports."""

import csv
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup

from robustbench_coded.errors import InputError
from robustbench_coded.judge.run import load_manifest
from robustbench_coded.reports.render.html import page
from robustbench_coded.reports.text import escape, formatting
from robustbench_coded.runs.folder import runs_below
from robustbench_coded.schema.case import Perturbation, Subject
from robustbench_coded.schema.words import CLEAN, ENSEMBLE, STRONGEST, IntervalKind

NO_VERDICT = "no verdict"
Columns = dict[str, str]
ACCURACY = ("accuracy", "ci_low", "ci_high", "interval_kind")


@dataclass(frozen=True)
class ViewFigure:
    """An accuracy or a gain with its interval, as fractions; None where it was not measured."""

    estimate: float
    low: float | None
    high: float | None
    kind: IntervalKind


@dataclass(frozen=True)
class Entry:
    """One subject under one threat model and perturbation.

    Attributes:
        run: path of the run folder.
        data, day, finished: of the run.
        verdict: its name, ``no verdict`` where the run judges none.
        reason: why, in a sentence.
        gain: over the base model, None where there is none.
        strongest: name of the strongest single attack, '' where none has outcomes.
        attacks: attack -> accuracy, with ``clean`` and ``ensemble``.
    """

    run: Path
    data: str
    day: str
    finished: bool
    subject: Subject
    threat: str
    perturbation: Perturbation
    verdict: str
    reason: str
    gain: ViewFigure | None
    strongest: str
    attacks: dict[str, ViewFigure] = field(default_factory=dict)


def entries_below(folder: Path) -> tuple[list[Entry], list[str]]:
    """The entries of all runs below a folder, and a sentence for each run that can't be shown.

    Raises:
        InputError: there is no run.
    """
    entries: list[Entry] = []
    unread: list[str] = []
    for path in runs_below(folder):
        try:
            entries += _entries(path)
        except InputError as error:
            unread.append(str(error))
        except (OSError, ValueError, KeyError) as error:
            unread.append(f"{path}: its tables can't be read ({error}); csrobust report writes them again")
    return entries, unread


def _entries(path: Path) -> Iterator[Entry]:
    manifest = load_manifest(path)
    verdicts = {_setting(line): line for line in _lines(path / "verdicts.csv")}
    clean: dict[tuple[str, ...], ViewFigure] = {}
    settings: dict[tuple[str, ...], list[Columns]] = {}
    for line in _lines(path / "summary.csv"):
        figure = _figure(line, *ACCURACY)
        if line["attack"] == CLEAN:
            if figure is not None:
                clean[_setting(line)[:4]] = figure
        else:
            settings.setdefault(_setting(line), []).append(line)
    for setting, lines in settings.items():
        judged = verdicts.get(setting, {})
        attacks = {
            line["attack"]: figure for line in lines if (figure := _figure(line, *ACCURACY)) is not None
        }
        if setting[:4] in clean:
            attacks = {CLEAN: clean[setting[:4]], **attacks}
        checkpoint, defence, k, n, threat, norm, eps, space = setting
        yield Entry(
            run=path,
            data=manifest.data.name or "",
            day=manifest.last.time[:10],
            finished=manifest.finished,
            subject=Subject(checkpoint, defence, int(k) if k else None, int(n) if n else None),
            threat=threat,
            perturbation=Perturbation(norm, float(eps), space),
            verdict=judged.get("verdict", NO_VERDICT),
            reason=judged.get("reason", ""),
            gain=_figure(judged, "gain", "gain_low", "gain_high", "gain_interval_kind"),
            strongest=next((x["strongest_attack"] for x in lines if x["attack"] == STRONGEST), ""),
            attacks=attacks,
        )


def _lines(file: Path) -> list[Columns]:
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def _setting(line: Columns) -> tuple[str, ...]:
    """Subject, threat model and perturbation of a line, as text."""
    k, n = (line[name].removesuffix(".0") for name in ("k", "n"))
    eps = f"{float(line['eps']):.12g}"
    return line["checkpoint"], line["defence"], k, n, line["threat"], line["norm"], eps, line["eps_space"]


def _figure(line: Columns, estimate: str, low: str, high: str, kind: str) -> ViewFigure | None:
    value, begin, end = (_number(line.get(name, "")) for name in (estimate, low, high))
    return None if value is None else ViewFigure(value, begin, end, IntervalKind(line[kind]))


def _number(text: str) -> float | None:
    return float(text) if text and not math.isnan(float(text)) else None


def shown_first(attacks: dict[str, ViewFigure]) -> list[str]:
    """Names of attacks with unperturbed inputs first and the ensemble last."""
    return sorted(attacks, key=lambda name: (name != CLEAN, name == ENSEMBLE))


FILTERS = ("Run", "Data", "Checkpoint", "Inference", "Threat model", "Verdict")
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
            "Attack": sorted(map(escape.one_line, attacks)),
        },
        measured=_measured(entries),
        report=lambda entry: _link(entry, out),
        perturbation=lambda entry: formatting.short_perturbation_text(entry.perturbation),
        between=lambda figure: formatting.interval(figure.low, figure.high, figure.kind),
        kinds=formatting.kinds_text(tuple(IntervalKind)),
        signed=lambda figure: f"{100 * figure.estimate:+z.1f}",
        inference=lambda entry: formatting.inference_text(entry.subject, with_k=True),
        command=lambda entry: escape.shell([str(entry.run)]),
    )


def _choice(folder: Path, entry: Entry, name: str) -> str:
    run = entry.run.resolve().name if entry.run == folder else entry.run.relative_to(folder).as_posix()
    shown = {
        "Run": run,
        "Data": entry.data,
        "Checkpoint": entry.subject.checkpoint,
        "Inference": formatting.inference_text(entry.subject, with_k=True),
        "Threat model": entry.threat,
        "Verdict": entry.verdict,
    }
    return escape.one_line(shown[name])


def _measured(entries: Sequence[Entry]) -> Markup:
    """The accuracies as compact JSON: the names of attacks, and for each entry [name, accuracy, low, high,
    mark], figures in tenths of a percent. ``<`` is escaped, so that no name ends the element that holds it.
    """
    names: dict[str, int] = {}
    rows = []
    for entry in entries:
        rows.append(
            [
                [names.setdefault(escape.one_line(x), len(names)), *_tenths(entry.attacks[x])]
                for x in shown_first(entry.attacks)
                if x != STRONGEST
            ]
        )
    text = json.dumps({"names": list(names), "rows": rows}, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c"))


def _tenths(figure: ViewFigure) -> list[int | str | None]:
    ends = (figure.estimate, figure.low, figure.high)
    return [
        *(None if value is None else round(1000 * value) for value in ends),
        formatting.MARKS[figure.kind],
    ]


def _link(entry: Entry, out: Path) -> str:
    """The relative address of the run's report, '' where there is none."""
    file = entry.run / "report.html"
    if not file.is_file():
        return ""
    return quote(Path(os.path.relpath(file.resolve(), out.resolve().parent)).as_posix())
