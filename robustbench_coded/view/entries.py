"""What the page knows of each run: its verdicts and accuracies, read from verdicts.csv and summary.csv."""

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from robustbench_coded.errors import InputError
from robustbench_coded.results.manifest import load_manifest
from robustbench_coded.runs.folder import runs_below
from robustbench_coded.schema.case import BudgetKey, SubjectKey
from robustbench_coded.schema.controls import CLEAN, ENSEMBLE, STRONGEST

NO_VERDICT = "no verdict"
Columns = dict[str, str]


@dataclass(frozen=True)
class Figure:
    """An accuracy or a gain with its interval, as fractions; None where it was not measured."""

    estimate: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Entry:
    """One subject under one threat model and budget.

    Attributes:
        run: path of the run folder.
        data, day, finished: of the run.
        verdict: its word, ``no verdict`` where the run judges none.
        reason: why, in a sentence.
        gain: over the base model, None where there is none.
        strongest: name of the strongest single attack, '' where none has outcomes.
        attacks: attack -> accuracy, with ``clean`` and ``ensemble``.
    """

    run: Path
    data: str
    day: str
    finished: bool
    subject: SubjectKey
    threat: str
    budget: BudgetKey
    verdict: str
    reason: str
    gain: Figure | None
    strongest: str
    attacks: dict[str, Figure] = field(default_factory=dict)


def entries_below(folder: Path) -> tuple[list[Entry], list[str]]:
    """The entries of all runs below a folder, and a sentence for each run that can't be shown.

    Raises:
        InputError: there is no run.
    """
    found: list[Entry] = []
    unread: list[str] = []
    for path in runs_below(folder):
        try:
            found += _entries(path)
        except InputError as error:
            unread.append(str(error))
        except (OSError, ValueError, KeyError) as error:
            unread.append(f"{path}: its tables can't be read ({error}); csrobust report writes them again")
    return found, unread


def _entries(path: Path) -> Iterator[Entry]:
    manifest = load_manifest(path)
    verdicts = {_setting(line): line for line in _lines(path / "verdicts.csv")}
    clean: dict[tuple[str, ...], Figure] = {}
    settings: dict[tuple[str, ...], list[Columns]] = {}
    for line in _lines(path / "summary.csv"):
        figure = _figure(line, "accuracy", "ci_low", "ci_high")
        if line["attack"] == CLEAN:
            if figure is not None:
                clean[_setting(line)[:4]] = figure
        else:
            settings.setdefault(_setting(line), []).append(line)
    for setting, lines in settings.items():
        judged = verdicts.get(setting, {})
        attacks = {
            line["attack"]: figure
            for line in lines
            if (figure := _figure(line, "accuracy", "ci_low", "ci_high")) is not None
        }
        if setting[:4] in clean:
            attacks = {CLEAN: clean[setting[:4]], **attacks}
        checkpoint, defence, k, n, threat, norm, eps, space = setting
        yield Entry(
            run=path,
            data=manifest.data.name or "",
            day=manifest.last.time[:10],
            finished=manifest.finished,
            subject=SubjectKey(checkpoint, defence, int(k) if k else None, int(n) if n else None),
            threat=threat,
            budget=BudgetKey(norm, float(eps), space),
            verdict=judged.get("word", NO_VERDICT),
            reason=judged.get("reason", ""),
            gain=_figure(judged, "gain", "gain_low", "gain_high"),
            strongest=next((x["strongest_attack"] for x in lines if x["attack"] == STRONGEST), ""),
            attacks=attacks,
        )


def _lines(file: Path) -> list[Columns]:
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def _setting(line: Columns) -> tuple[str, ...]:
    """Subject, threat model and budget of a line, as text."""
    k, n = (line[name].removesuffix(".0") for name in ("k", "n"))
    eps = f"{float(line['eps']):.12g}"
    return line["checkpoint"], line["defence"], k, n, line["threat"], line["norm"], eps, line["eps_space"]


def _figure(line: Columns, estimate: str, low: str, high: str) -> Figure | None:
    value, *ends = (_number(line.get(name, "")) for name in (estimate, low, high))
    return None if value is None else Figure(value, *ends)


def _number(text: str) -> float | None:
    return float(text) if text and not math.isnan(float(text)) else None


def shown_first(attacks: dict[str, Figure]) -> list[str]:
    """Names of attacks with unperturbed inputs first and the ensemble last."""
    return sorted(attacks, key=lambda name: (name != CLEAN, name == ENSEMBLE))
