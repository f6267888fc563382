"""Tables of csrobust's verdicts on the zoo, defences of known robust accuracy."""

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
        "# Verdicts on the zoo, defences of known robust accuracy",
        _answer(main),
        "csrobust was developed on these defences (`csrobust list defences`), so the table shows what its "
        "rules were made for. The docstrings in `zoo/` derive each robust accuracy from the defence's code, "
        "exactly or within bounds. `csrobust eval --defence NAME` writes the report of one.",
        "## Verdicts",
        _matrix(measured),
        _said(every, measured),
        "## Every defence",
        "Robust accuracy in percent with 95% intervals, under `batch/unknown`. The third-party packages ran "
        "with their default settings and batches on 2026-11-25; defences that are newer have no figure. "
        f"Bold: more than {100 * FAR:g} points from the known accuracy. *Too low* counts accuracy as lost "
        "that no attack can take. *Too high* is an attack that fell short.",
        *(_family(name, measured) for name in dict.fromkeys(one.family for one in main)),
        f"[{DETAILS}]({DETAILS}) has the reasons of open and refused verdicts, and other threat models.",
    ]
    return "\n\n".join(parts) + "\n"


def _answer(main: Sequence[Judged]) -> str:
    """The result in two sentences."""
    broken, robust = ([one.sense for one in main if one.broken == broken] for broken in (True, False))
    return (
        f"Of {len(broken)} broken defences, csrobust gives {broken.count('positive')} a positive verdict, "
        f"{broken.count('negative')} a negative one and leaves {broken.count('open')} open. Of {len(robust)} "
        f"robust ones, it gives {robust.count('positive')} a positive verdict, {robust.count('negative')} a "
        f"negative one and leaves {robust.count('open')} open."
    )


def details(measured: Sequence[Measured]) -> str:
    """The reasons of open verdicts, and the other threat models, in Markdown."""
    main = [found.main for found in measured]
    every = [one for found in measured for one in found.judged]
    parts = [
        "# Verdicts on the zoo: reasons and other threat models",
        "[report.md](report.md) has the verdicts under `batch/unknown`.",
        "## Open and refused verdicts",
        pipes([("defence", "verdict", "reason"), *(_why(one) for one in main if _open(one))]),
        "## Other threat models",
        pipes(
            [
                ("defence", "threat model", "known accuracy", "csrobust", "verdict", "checks not passed"),
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
    heads = ["truth", "defences", "positive", "negative", "of these refused", "open"]
    packages = ("autoattack", "torchattacks")
    heads += [f"{package} {mark}" for package in packages for mark in ("too high", "too low")]
    rows = [heads]
    for broken in (True, False):
        those = [found for found in measured if found.main.broken == broken]
        senses = [found.main.sense for found in those]
        cells = ["broken" if broken else "robust", str(len(those))]
        cells += [str(senses.count("positive")), str(senses.count("negative"))]
        cells += [
            str(sum(found.main.verdict == "refused" for found in those)),
            str(senses.count("open")),
        ]
        for package in packages:
            sides = [off(found, package) for found in those]
            cells += [str(sides.count(1)), str(sides.count(-1))]
        rows.append(cells)
    return f"{pipes(rows)}\n\nThe table counts verdicts under `{MAIN}`."


def _said(every: Sequence[Judged], measured: Sequence[Measured]) -> str:
    missed = [f"{one.defence} ({one.threat})" for one in every if one.broken and one.sense == "positive"]
    negative = [one for one in every if not one.broken and one.sense == "negative"]
    wronged, chance = (
        [f"{one.defence} ({one.threat})" for one in negative if one.fair == fair] for fair in (False, True)
    )
    outside = [f"{one.defence} ({one.threat})" for one in every if not one.holds]
    open_ones = [f"{one.defence} ({one.verdict})" for one in (found.main for found in measured) if _open(one)]
    sentences = [
        f"Broken with a positive verdict, under any threat model: {', '.join(missed) or 'none'}.",
        f"Robust with a negative verdict, under any threat model: {len(negative)}. At chance level, which is "
        f"`broken` by definition: {', '.join(chance) or 'none'}. Above chance level: "
        f"{', '.join(wronged) or 'none'}.",
        f"Open or refused: {', '.join(open_ones) or 'none'}.",
        f"Third-party packages attacked {sum(bool(found.accounts) for found in measured)} of the defences.",
        f"{len(outside)} of {len(every)} intervals miss the known accuracy or lie on the wrong side of a "
        f"bound: {', '.join(outside) or 'none'}.",
    ]
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _family(name: str, measured: Sequence[Measured]) -> str:
    heads = ("defence", "what it is", "truth", "known accuracy", "csrobust", "verdict", *THIRD_PARTIES)
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
        "broken" if one.broken else "robust",
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
