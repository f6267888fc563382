"""The zoo's verdicts as tables: what was broken and what was good, and what was said of either."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmarks.bench.table import pipes
from zoo.known import Truth
from zoo.registry import ZOO

MAIN = "batch/unknown"
# Column -> how the names of its attacks begin.
THIRD_PARTIES = {"AutoAttack": "autoattack:", "PGD": "torchattacks:PGD", "EOTPGD": "torchattacks:EOTPGD"}
DETAILS = "details.md"
FAR = 0.03  # a third party's figure this far outside the truth is marked
COLUMNS = (
    *("defence", "family", "broken", "threat", "truth_low", "truth_high", "accuracy", "ci_low", "ci_high"),
    *("verdict", "sense", "fair", "open_checks", "third_party", "third_party_accuracy"),
    *("holds", "seconds", "reason"),
)


@dataclass(frozen=True)
class Judged:
    """One entry under one threat model: the truth, our figures (fractions; None if refused), our verdict."""

    defence: str
    family: str
    description: str
    broken: bool
    threat: str
    truth: Truth
    low: float | None
    estimate: float | None
    high: float | None
    verdict: str
    sense: str
    reason: str
    open_checks: tuple[str, ...]
    holds: bool
    fair: bool


@dataclass(frozen=True)
class Measured:
    """One entry: a judgement for each threat model, and the share that stands by third-party accounts.

    Attributes:
        seconds: processor time of the default evaluation; 0 where it was not measured.
    """

    judged: tuple[Judged, ...]
    accounts: dict[str, float]
    seconds: float

    @property
    def main(self) -> Judged:
        """Under batch/unknown, if it was judged there."""
        return next((one for one in self.judged if one.threat == MAIN), self.judged[0])


def report(measured: Sequence[Measured]) -> str:
    """The main tables in Markdown, and what they come to; :func:`details` has the rest."""
    main = [found.main for found in measured]
    every = [one for found in measured for one in found.judged]
    parts = [
        "# Defences whose robustness is known",
        f"{len(main)} defences of the zoo (`csrobust list defences`) with default settings, "
        f"{sum(one.broken for one in main)} broken and {sum(not one.broken for one in main)} good. What a "
        "defence leaves to the best attack is known from its code or in closed form, exactly or within "
        "bounds: the docstrings in `zoo/` derive it. `csrobust eval --defence NAME` makes "
        "the whole report of one.",
        "## What was said of them",
        _matrix(measured),
        _said(every, measured),
        "## Each of them",
        "Accuracies in percent with 95% intervals, under `batch/unknown`. Third parties by their own "
        "account, at their default length, with batches as they make them, as they last ran on 2026-11-25; "
        "csrobust does not run them so any more, and later entries have no figure. Marked: more than "
        f"{100 * FAR:g} points from what the truth allows. 'too low' counts accuracy as lost that no attack "
        "can take; 'too high' is an attack that fell short.",
        *(_family(name, measured) for name in dict.fromkeys(one.family for one in main)),
        f"Why entries were not settled or refused, and the other threat models: [{DETAILS}]({DETAILS}).",
    ]
    return "\n\n".join(parts) + "\n"


def details(measured: Sequence[Measured]) -> str:
    """The reasons of open verdicts, and the other threat models, in Markdown."""
    main = [found.main for found in measured]
    every = [one for found in measured for one in found.judged]
    parts = [
        "# Defences whose robustness is known: details",
        "The figures under `batch/unknown` and what they come to are in [report.md](report.md).",
        "## Not settled, and refused",
        pipes([("defence", "verdict", "why"), *(_why(one) for one in main if _open(one))]),
        "## Other threat models",
        pipes(
            [
                ("defence", "threat model", "truth", "csrobust", "verdict", "checks not passed"),
                *(_other_cells(one) for one in every if one.threat != MAIN),
            ]
        ),
    ]
    return "\n\n".join(parts) + "\n"


def table(measured: Sequence[Measured]) -> str:
    """Every figure as CSV, fractions and seconds: a row for each judgement, one for each third party."""
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for found in measured:
        for one in found.judged:
            writer.writerow(
                {
                    **_about(one),
                    "accuracy": _figure(one.estimate),
                    "ci_low": _figure(one.low),
                    "ci_high": _figure(one.high),
                    "verdict": one.verdict,
                    "sense": one.sense,
                    "fair": one.fair,
                    "open_checks": "; ".join(one.open_checks),
                    "holds": one.holds,
                    "seconds": f"{found.seconds:.1f}",
                    "reason": one.reason,
                }
            )
        for attack, accuracy in found.accounts.items():
            theirs = {"third_party": attack, "third_party_accuracy": _figure(accuracy)}
            writer.writerow({**_about(found.main), **theirs})
    return file.getvalue()


def measured_before(text: str) -> dict[str, Measured]:
    """What `table` wrote, by entry."""
    found: dict[str, Measured] = {}
    for row in csv.DictReader(io.StringIO(text)):
        name = row["defence"]
        before = found.get(name, Measured((), {}, 0.0))
        if row["third_party"]:
            accounts = {**before.accounts, row["third_party"]: float(row["third_party_accuracy"])}
            found[name] = replace(before, accounts=accounts)
            continue
        low, estimate, high = (
            float(row[column]) if row[column] else None for column in ("ci_low", "accuracy", "ci_high")
        )
        judged = Judged(
            name,
            row["family"],
            ZOO[name].description if name in ZOO else "",
            row["broken"] == "True",
            row["threat"],
            Truth(float(row["truth_low"]), float(row["truth_high"])),
            low,
            estimate,
            high,
            row["verdict"],
            row["sense"],
            row["reason"],
            tuple(filter(None, row["open_checks"].split("; "))),
            row["holds"] == "True",
            row["fair"] == "True",
        )
        found[name] = replace(before, judged=(*before.judged, judged), seconds=float(row["seconds"]))
    return found


def _about(one: Judged) -> dict[str, object]:
    truth = {"truth_low": _figure(one.truth.low), "truth_high": _figure(one.truth.high)}
    return {
        "defence": one.defence,
        "family": one.family,
        "broken": one.broken,
        "threat": one.threat,
        **truth,
    }


def _figure(fraction: float | None) -> str:
    return "" if fraction is None else f"{fraction:.6f}"


def _matrix(measured: Sequence[Measured]) -> str:
    """Counts of entries by truth and by what was said under batch/unknown; third parties beside it."""
    main = [found.main for found in measured]
    heads = ["truth", "entries", "no failure found", "judged broken", "of these refused", "not settled"]
    packages = ("autoattack", "torchattacks")
    heads += [f"{package}: {mark}" for package in packages for mark in ("too high", "too low")]
    rows = [heads]
    for broken in (True, False):
        those = [found for found in measured if found.main.broken == broken]
        senses = [found.main.sense for found in those]
        cells = ["broken" if broken else "good", str(len(those))]
        cells += [str(senses.count("positive")), str(senses.count("negative"))]
        cells += [
            str(sum(found.main.verdict == "refused" for found in those)),
            str(senses.count("open")),
        ]
        for package in packages:
            sides = [off(found, package) for found in those]
            cells += [str(sides.count(1)), str(sides.count(-1))]
        rows.append(cells)
    unsettled = sum(one.sense == "open" for one in main)
    share = f"Not settled: {unsettled} of {len(main)}, {100 * unsettled / max(1, len(main)):.0f}%."
    good = [one for found in measured for one in found.judged if one.threat != MAIN and not one.broken]
    negative = sum(one.sense == "negative" for one in good)
    elsewhere = f"Good under another threat model, but judged broken: {negative} of {len(good)} verdicts."
    return f"{pipes(rows)}\n\nThe table counts verdicts under `{MAIN}`. {share} {elsewhere}"


def _said(every: Sequence[Judged], measured: Sequence[Measured]) -> str:
    missed = [f"{one.defence} ({one.threat})" for one in every if one.broken and one.sense == "positive"]
    negative = [one for one in every if not one.broken and one.sense == "negative"]
    wronged, chance = (
        [f"{one.defence} ({one.threat})" for one in negative if one.fair == fair] for fair in (False, True)
    )
    outside = [f"{one.defence} ({one.threat})" for one in every if not one.holds]
    timed = [found.seconds for found in measured if found.seconds]
    open_ones = [f"{one.defence} ({one.verdict})" for one in (found.main for found in measured) if _open(one)]
    sentences = [
        f"Broken, but no failure found, under any threat model: {', '.join(missed) or 'none'}.",
        f"Good, but judged broken, under any threat model: {len(negative)}. A constant answer keeps as much "
        f"(the floor of `broken`): {', '.join(chance) or 'none'}. It keeps less: "
        f"{', '.join(wronged) or 'none'}.",
        f"Not settled or refused: {', '.join(open_ones) or 'none'}.",
        f"Third parties attacked {sum(bool(found.accounts) for found in measured)} of the entries.",
        f"Intervals that miss the truth or lie on the wrong side of a bound: {', '.join(outside) or 'none'} "
        f"of {len(every)}.",
        f"Processor time of our verdicts, where it was measured: {sum(timed) / 60:.1f} minutes.",
    ]
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _family(name: str, measured: Sequence[Measured]) -> str:
    heads = ("defence", "what it is", "really", "truth", "csrobust", "verdict", *THIRD_PARTIES)
    rows = [_cells(found) for found in measured if found.main.family == name]
    return f"### {name.capitalize()}\n\n{pipes([heads, *rows])}"


def _cells(found: Measured) -> tuple[str, ...]:
    one = found.main
    by_column = [
        next((attack for attack in found.accounts if attack.startswith(start)), None)
        for start in THIRD_PARTIES.values()
    ]
    verdict = one.verdict if one.fair else f"**{one.verdict}**"
    return (
        f"`{one.defence}`",
        one.description,
        "broken" if one.broken else "good",
        _truth(one.truth),
        _ours(one),
        verdict,
        *("–" if attack is None else _theirs(found.accounts[attack], one.truth) for attack in by_column),
    )


def _other_cells(one: Judged) -> tuple[str, ...]:
    checks = ", ".join(one.open_checks) or "none"
    verdict = one.verdict if one.fair else f"**{one.verdict}**"
    return f"`{one.defence}`", f"`{one.threat}`", _truth(one.truth), _ours(one), verdict, checks


def _open(one: Judged) -> bool:
    return one.sense == "open" or one.verdict == "refused"


def _why(one: Judged) -> tuple[str, ...]:
    return f"`{one.defence}`", one.verdict, one.reason.replace("|", "/")


def off(found: Measured, package: str) -> int:
    """-1 or 1 where the lowest figure of a package's attacks is too low or too high."""
    figures = [accuracy for name, accuracy in found.accounts.items() if name.startswith(package)]
    truth = found.main.truth
    if not figures:
        return 0
    return (min(figures) > truth.high + FAR) - (min(figures) < truth.low - FAR)


def _theirs(accuracy: float, truth: Truth) -> str:
    if accuracy < truth.low - FAR:
        return f"**{100 * accuracy:.1f}**, too low"
    return f"**{100 * accuracy:.1f}**, too high" if accuracy > truth.high + FAR else f"{100 * accuracy:.1f}"


def _truth(truth: Truth) -> str:
    low, high = f"{100 * truth.low:.1f}", f"{100 * truth.high:.1f}"
    return low if low == high else f"{low} to {high}"


def _ours(one: Judged) -> str:
    if one.estimate is None or one.low is None or one.high is None:
        return "–"
    return f"{100 * one.estimate:.1f} [{100 * one.low:.1f}, {100 * one.high:.1f}]"
