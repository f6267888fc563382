"""Every defence of known truth, evaluated with default settings, beside what other toolkits say of it.

    python benchmarks/zoo.py                     writes reports/zoo (a few minutes on two cores)
    python benchmarks/zoo.py coin-flip rounding  prints the lines of these alone

AutoAttack and torchattacks run as they come: they show the defence the batches of their own making, and what
is printed is their own account, not our scoring of what they found.
"""

import csv
import io
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zoo_entries import measured_entries

from robustbench_coded.bench.table import pipes
from robustbench_coded.runs.atomic import write_text
from robustbench_coded.zoo.known import Truth

OUT = Path(__file__).parent.parent / "reports" / "zoo"
# A tenth to a fifth of the package's own lengths, to keep the benchmark short: what it says here follows from
# how it counts, not from how long it searches.
AUTOATTACK = {True: "autoattack:rand+n_iter=10", False: "autoattack:standard+n_iter=20+n_queries=500"}
PGD = {"linf": "torchattacks:PGD+steps=10", "l2": "torchattacks:PGDL2+steps=10"}
EOTPGD = "torchattacks:EOTPGD+steps=10"
# Column -> how the names of its attacks begin.
PEERS = {"AutoAttack": "autoattack:", "PGD": "torchattacks:PGD", "EOTPGD": "torchattacks:EOTPGD"}
FAR = 0.03  # a peer's figure this far outside the truth is marked


@dataclass(frozen=True)
class Line:
    """One entry under one threat model: the truth, our figures (fractions) and our verdict."""

    defence: str
    description: str
    broken: bool
    threat: str
    truth: Truth
    low: float
    estimate: float
    high: float
    verdict: str
    open_checks: tuple[str, ...]
    holds: bool
    fair: bool


@dataclass(frozen=True)
class Measured:
    """One entry: a line for each threat model, and the share that stands by each peer's own account."""

    lines: tuple[Line, ...]
    peers: dict[str, float]


def measure(name: str) -> Measured:
    """Evaluates one entry, and lets the peers evaluate it."""
    from attacks.adapters.third_party import installed
    from robustbench_coded.zoo.evaluate import evaluate_entry

    with tempfile.TemporaryDirectory() as folder:
        evaluated = evaluate_entry(name, Path(folder) / "run", threads=1)
        lines = tuple(
            Line(
                name,
                evaluated.entry.description,
                evaluated.entry.broken,
                found.threat,
                found.truth,
                found.low,
                found.estimate,
                found.high,
                found.judgement.verdict.word,
                found.judgement.verdict.open_checks,
                found.holds,
                found.fair,
            )
            for found in evaluated.findings
        )
        randomised, norm = evaluated.known.defence.randomised, evaluated.entry.norm
        wanted = [AUTOATTACK[randomised], PGD[norm], *([EOTPGD] if norm == "linf" else [])]
        wanted = [attack for attack in wanted if installed(attack.partition(":")[0])]
        peers = {}
        if wanted:
            alone = evaluate_entry(
                name,
                Path(folder) / "peers",
                attacks=wanted,
                standard=False,
                peer_raw=True,
                draws=1,
                selection_draws=1,
                threads=1,
            )
            for row in alone.run.rows:
                counts = alone.run.counts_of(row.key) if row.key.attack in wanted else {}
                if counts.get("peer_inputs"):
                    peers[row.key.attack] = counts["peer_standing"] / counts["peer_inputs"]
    return Measured(lines, peers)


def report(measured: Sequence[Measured]) -> str:
    """The tables in Markdown, and what they come to."""
    lines = [line for found in measured for line in found.lines]
    main = [line for line in lines if line.threat == "batch/unknown"]
    told = [
        "# Defences whose robustness is known",
        f"{len(main)} defences of the zoo (`csrobust list defences`) with default settings, "
        f"{_count(main, False)} really robust and {_count(main, True)} broken. Accuracies in percent with "
        "95% intervals, under `batch/unknown`; `csrobust eval --defence NAME` makes the whole report of one.",
        pipes(
            [
                ("defence", "what it is", "really", "truth", "csrobust", "verdict", *PEERS),
                *(_first_table_cells(found) for found in measured),
            ]
        ),
        f"AutoAttack: {AUTOATTACK[True]} on randomised defences, {AUTOATTACK[False]} on the others. PGD and "
        f"EOTPGD, of torchattacks: {PGD['linf']} ({PGD['l2']} under l2) and {EOTPGD} (linf only). Each by "
        "its own account and with batches as it makes them. Marked: more than "
        f"{100 * FAR:g} points from what the truth allows; 'too low' slanders a defence, for no attack gets "
        "there, and 'too high' is an attack that fell short.",
        _conclusions(lines, measured),
        "## Other threat models",
        pipes(
            [
                ("defence", "threat model", "truth", "csrobust", "verdict", "checks not passed"),
                *(_other_table_cells(line) for line in lines if line.threat != "batch/unknown"),
            ]
        ),
    ]
    return "\n\n".join(told) + "\n"


def table(measured: Sequence[Measured]) -> str:
    """Every figure as CSV, fractions."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(
        ("defence", "broken", "threat", "truth_low", "truth_high", "accuracy", "ci_low", "ci_high", "verdict",
         "open_checks", "peer", "peer_accuracy")
    )  # fmt: skip
    for found in measured:
        for line in found.lines:
            figures = (line.truth.low, line.truth.high, line.estimate, line.low, line.high)
            ours = (line.defence, line.broken, line.threat, *(f"{value:.6f}" for value in figures))
            writer.writerow((*ours, line.verdict, "; ".join(line.open_checks), "", ""))
            for peer, accuracy in found.peers.items() if line.threat == "batch/unknown" else ():
                writer.writerow((*ours[:5], "", "", "", "", "", peer, f"{accuracy:.6f}"))
    return file.getvalue()


def _first_table_cells(found: Measured) -> tuple[str, ...]:
    line = found.lines[0]
    by_column = [
        next((name for name in found.peers if name.startswith(start)), None) for start in PEERS.values()
    ]
    return (
        f"`{line.defence}`",
        line.description,
        "broken" if line.broken else "robust",
        _truth(line.truth),
        _ours(line),
        line.verdict,
        *("–" if name is None else _peer(found.peers[name], line.truth) for name in by_column),
    )


def _other_table_cells(line: Line) -> tuple[str, ...]:
    checks = ", ".join(line.open_checks) or "none"
    return f"`{line.defence}`", f"`{line.threat}`", _truth(line.truth), _ours(line), line.verdict, checks


def _conclusions(lines: Sequence[Line], measured: Sequence[Measured]) -> str:
    unfair = [f"{line.defence} ({line.threat})" for line in lines if not line.fair]
    outside = [f"{line.defence} ({line.threat})" for line in lines if not line.holds]
    said = [
        f"Verdicts that the truth forbids: {', '.join(unfair) or 'none'} of {len(lines)}.",
        f"Intervals that miss the truth or lie on the wrong side of a bound: {', '.join(outside) or 'none'}.",
    ]
    for package in ("autoattack", "torchattacks"):
        low = sum(_off(found, package) < 0 for found in measured)
        high = sum(_off(found, package) > 0 for found in measured)
        if any(name.startswith(package) for found in measured for name in found.peers):
            said.append(f"{package}: too low for {low}, too high for {high} of {len(measured)} defences.")
    return "\n".join(f"- {sentence}" for sentence in said)


def _off(found: Measured, package: str) -> int:
    """-1 or 1 where the lowest figure of a package's attacks is too low or too high."""
    figures = [accuracy for name, accuracy in found.peers.items() if name.startswith(package)]
    truth = found.lines[0].truth
    if not figures:
        return 0
    return (min(figures) > truth.high + FAR) - (min(figures) < truth.low - FAR)


def _peer(accuracy: float, truth: Truth) -> str:
    if accuracy < truth.low - FAR:
        return f"**{100 * accuracy:.1f}**, too low"
    return f"**{100 * accuracy:.1f}**, too high" if accuracy > truth.high + FAR else f"{100 * accuracy:.1f}"


def _truth(truth: Truth) -> str:
    low, high = f"{100 * truth.low:.1f}", f"{100 * truth.high:.1f}"
    return low if low == high else f"{low} to {high}"


def _ours(line: Line) -> str:
    return f"{100 * line.estimate:.1f} [{100 * line.low:.1f}, {100 * line.high:.1f}]"


def _count(lines: Sequence[Line], broken: bool) -> int:
    return sum(line.broken == broken for line in lines)


def main() -> None:
    measured, everything = measured_entries(measure, __doc__ or "")
    if not everything:
        print(report(measured))
        return
    write_text(OUT / "report.md", report(measured))
    write_text(OUT / "zoo.csv", table(measured))
    print(f"written to {OUT}")


if __name__ == "__main__":
    main()
