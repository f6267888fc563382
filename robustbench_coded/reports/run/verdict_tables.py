"""The verdicts of a run as tables: a row for each defence and network with what its figure shows, what
attackers of other threat models reach, reasons, and checks.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import itemgetter
from typing import NamedTuple

from robustbench_coded.judge.checks import Check
from robustbench_coded.judge.intervals import Interval
from robustbench_coded.judge.judgements import Judgement
from robustbench_coded.judge.run import RunData
from robustbench_coded.reports.text.attack_names import attack_in_words
from robustbench_coded.reports.text.formatting import (
    PERTURBATION,
    SUBJECT,
    THREAT,
    Columns,
    TextTable,
    attacked_text,
    difference_text,
    inference_text,
    of_part,
    percent,
    pixels,
    rebatched_text,
    series,
    with_interval,
)
from robustbench_coded.schema.case import WHOLE_BATCH, Perturbation, ThreatModel
from robustbench_coded.schema.words import STANDARD, VerdictName


class Measured(NamedTuple):
    """An accuracy as fractions: of one network as attacked, or the mean of several with their range.

    ``low`` and ``high``: of one network its interval, which is that of random batches where a batch is
    answered together; None without an interval. ``text`` says the accuracy in percent.
    """

    estimate: float
    low: float | None
    high: float | None
    text: str

    @staticmethod
    def of(intervals: Iterable[Interval | None]) -> "Measured | None":
        """None where none of them was measured."""
        known = [ci for ci in intervals if ci is not None]
        if len(known) == 1:
            low, high = (known[0].low, known[0].high) if known[0].kind else (None, None)
            return Measured(known[0].as_attacked, low, high, attacked_text(known[0]))
        values = [ci.as_attacked for ci in known]
        if not values:
            return None
        mean, low, high = sum(values) / len(values), min(values), max(values)
        return Measured(mean, low, high, f"{percent(mean)} ({percent(low)} to {percent(high)})")


class Row(NamedTuple):
    """A defence on a network under one perturbation budget, or on all trainings of a recipe.

    Attributes:
        network: the checkpoint, or what the names of the trainings begin with, and their number.
        judged: one judgement for each training, under the threat model that the report opens with.
        base: those of their base models.
        others: those under other threat models.
    """

    network: str
    judged: tuple[Judgement, ...]
    base: tuple[Judgement, ...]
    others: tuple[Judgement, ...]

    @property
    def robust(self) -> Measured | None:
        """Accuracy in the worst case over all attacks, as attacked."""
        return Measured.of(j.verdict.accuracy for j in self.judged)

    @property
    def again(self) -> Interval | None:
        """Of a single network, the figure of the same inputs in random batches; None without one."""
        figure = self.judged[0].verdict.accuracy if len(self.judged) == 1 else None
        return figure if rebatched_text(figure) else None

    @property
    def bare(self) -> Measured | None:
        """That of the base model."""
        return Measured.of(j.verdict.base for j in self.judged)

    @property
    def budget(self) -> Perturbation:
        """Norm, eps and its space, the same for all trainings."""
        return self.judged[0].perturbation

    @property
    def chance(self) -> float:
        """The chance threshold, up to which it is `broken`; of several trainings the largest."""
        return max(j.verdict.broken_at for j in self.judged)

    @property
    def clean(self) -> str:
        """``92.6 (99.6)``: with that of the base model."""
        clean, base = (Measured.of(j.verdict.clean for j in side) for side in (self.judged, self.base))
        beside = f" ({percent(base.estimate)})" if base else ""
        return "" if clean is None else f"{percent(clean.estimate)}{beside}"

    @property
    def gain(self) -> str:
        """``+0.4 [+0.2, +2.9]†``, or the mean of several with their range."""
        gains = [j.verdict.gain for j in self.judged if j.verdict.gain is not None]
        if len(gains) < 2:
            return "".join(map(difference_text, gains))
        points = [100 * gain.estimate for gain in gains]
        return f"{sum(points) / len(points):+z.1f} ({min(points):+z.1f} to {max(points):+z.1f})"


def rows_of(run: RunData) -> Iterator[Row]:
    """A row for each defence, network and perturbation budget, in the order of the run."""
    trainings = trainings_of(run)
    groups: dict[tuple[object, ...], list[Judgement]] = {}
    for j in run.judgements:
        s = j.subject
        groups.setdefault(
            (trainings.get(s.checkpoint, s.checkpoint), s.defence, s.k, s.n, j.perturbation), []
        ).append(j)
    for (network, *_), group in groups.items():
        claimed = [j for j in group if j.verdict.claim is not None] or group
        main = next((j.threat for j in claimed if j.threat == WHOLE_BATCH), claimed[0].threat)
        judged = tuple(j for j in claimed if j.threat == main)
        others = tuple(j for j in group if j not in judged)
        yield Row(str(network), judged, tuple(base_of(run, judged)), others)


def trainings_of(run: RunData) -> dict[str, str]:
    """``erm-1`` -> ``erm (3 trainings)`` for checkpoints that are numbered from 1 on."""
    found: dict[str, list[str]] = {}
    for name in dict.fromkeys(j.subject.checkpoint for j in run.judgements):
        stem, _, number = name.rpartition("-")
        if stem and number == str(len(found.get(stem, ())) + 1):
            found.setdefault(stem, []).append(name)
    several = {stem: names for stem, names in found.items() if len(names) > 1}
    return {name: f"{stem} ({len(names)} trainings)" for stem, names in several.items() for name in names}


_NAMED: Columns[Row] = {
    "Network": lambda row: row.network,
    "Defence": lambda row: inference_text(row.judged[0].subject),
    "K": lambda row: row.judged[0].subject.k or "",
    "Norm": lambda row: row.budget.norm + ("" if row.budget.eps_space == "pixel" else ", normalised"),
    "Eps": lambda row: pixels(row.budget.eps),
}
NAMES = (*_NAMED, "Images")  # said once where all rows have the same
# Columns that no terminal has room for.
WIDE = ("Strongest attack", "Re-batched under", "Gain (points)", "Claim")
ROBUST = "Robust accuracy"


def row_text_table(rows: Sequence[Row]) -> TextTable:
    """The rows as a table: what was evaluated, its accuracies in percent, and the verdict."""
    figures: Columns[Row] = {
        "Clean (base)": lambda row: row.clean,
        ROBUST: lambda row: row.robust.text if row.robust else "",
        "Re-batched": lambda row: rebatched_text(row.again),
        "Re-batched under": lambda row: attack_in_words(row.again.rebatched) if row.again else "",
        "Base model": lambda row: percent(row.bare.estimate) if row.bare else "",
        "Gain (points)": lambda row: row.gain,
        "Claim": lambda row: percent(claim.value) if (claim := row.judged[0].verdict.claim) else "",
    }
    columns: Columns[Row] = {
        **_NAMED,
        "Images": lambda row: series(list(dict.fromkeys(f"{j.examples:,}" for j in row.judged))),
        **figures,
        "Strongest attack": lambda row: counted_texts(
            attack_in_words(j.attack) for j in row.judged if j.attack
        ),
        "Verdict": lambda row: counted_texts(map(verdict_text, row.judged)),
    }
    numbers = {"K", "Eps", "Images", *figures} - {"Re-batched under"}
    return TextTable.of(rows, columns, numbers).without_empty(columns)


def shown_rows(rows: Sequence[Row]) -> tuple[TextTable, str]:
    """The table of the rows, and what its first columns would say in each of them; a single row keeps its
    defence's name.
    """
    return row_text_table(rows).without_constants([n for n in NAMES if len(rows) > 1 or n != "Defence"])


def other_text_table(rows: Sequence[Row]) -> TextTable:
    """The verdicts under other threat models, a column each."""
    threats = list(dict.fromkeys(j.threat for row in rows for j in row.others))
    columns: Columns[Row] = {
        **_NAMED,
        **{str(threat): _under(threat) for threat in threats},
    }
    return TextTable.of([row for row in rows if row.others], columns).without_constants(_NAMED)[0]


def _under(threat: ThreatModel) -> Callable[[Row], str]:
    def cell(row: Row) -> str:
        judged = [j for j in row.others if j.threat == threat]
        robust = Measured.of(j.verdict.accuracy for j in judged)
        shown = robust and (with_interval(judged[0].verdict.accuracy) if len(judged) == 1 else robust.text)
        return f"{counted_texts(map(verdict_text, judged))}: {shown}" if shown else ""

    return cell


def verdict_text(j: Judgement) -> str:
    """The name of the verdict, and whether outcomes are missing."""
    if not j.examples or j.verdict.accuracy is None:
        return f"{j.verdict.name}: not run yet"
    return f"{j.verdict.name}: outcomes are missing" if j.verdict.missing else str(j.verdict.name)


def counted_texts(texts: Iterable[str]) -> str:
    """``no gain``, or of several ``no gain (2), broken (1)``."""
    counts = Counter(texts)
    return ", ".join(f"{text} ({count})" if len(counts) > 1 else text for text, count in counts.items())


def base_of(run: RunData, judged: Sequence[Judgement]) -> list[Judgement]:
    """The judgements of the networks alone, beside those of their defences."""
    networks = {j.subject.checkpoint for j in judged if j.subject.defence != STANDARD}
    return [
        j
        for j in run.judged
        if j.subject.defence == STANDARD
        and j.subject.checkpoint in networks
        and j.perturbation == judged[0].perturbation
    ]


_JUDGED: Columns[Judgement] = {**SUBJECT, **THREAT, **PERTURBATION}


def reason_text_table(judgements: Sequence[Judgement]) -> TextTable:
    """Why each verdict is what it is."""
    columns: Columns[Judgement] = {"Verdict": lambda j: j.verdict.name, "Why": lambda j: j.verdict.reason}
    return TextTable.of(judgements, {**_JUDGED, **columns})


def check_text_table(judgements: Sequence[Judgement]) -> TextTable:
    """A row per check: of a positive verdict all, of any other those that did not pass."""
    checks = [
        (j, check)
        for j in judgements
        for check in j.checks
        if j.verdict.name == VerdictName.NO_FAILURE_FOUND or not check.passed
    ]
    columns: Columns[tuple[Judgement, Check]] = {
        **of_part(_JUDGED, itemgetter(0)),
        "Check": lambda pair: pair[1].name,
        "Outcome": lambda pair: pair[1].outcome,
        "Finding": lambda pair: pair[1].finding,
        "Next": lambda pair: ", ".join(pair[1].run_next),
    }
    return TextTable.of(checks, columns)
