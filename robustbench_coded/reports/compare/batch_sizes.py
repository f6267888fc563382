"""The question of a sweep, whether accuracy depends on the batch size: the worst case of one defence at each
size, and its difference from that at the first.

The larger batches are, the fewer of them an attacker made, and their accuracy has no interval. So sizes are
compared by the same inputs in random batches.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from robustbench_coded.judge.intervals import Interval
from robustbench_coded.judge.paired import Difference
from robustbench_coded.judge.run import RunData
from robustbench_coded.judge.summary import SummaryRow
from robustbench_coded.reports.compare.pairing import Contender, Pairing
from robustbench_coded.reports.text.formatting import (
    MARKS,
    Columns,
    TextTable,
    attacked_text,
    difference_text,
    inference_text,
    percent,
    perturbation_text,
    rebatched_text,
    series,
)
from robustbench_coded.schema.case import WHOLE_BATCH, Subject
from robustbench_coded.schema.words import CLEAN, ENSEMBLE

QUESTION = "Does accuracy depend on the batch size?"


@dataclass(frozen=True)
class Size:
    """One batch size.

    Attributes:
        worst, clean: the summary's rows of the worst case and of unperturbed inputs.
        difference: of the worst case to that at the first size; None there, and without an interval.
    """

    worst: SummaryRow
    clean: SummaryRow | None
    difference: Difference | None

    @property
    def k(self) -> str:
        return f"K = {self.worst.subject.k}"

    @property
    def figure(self) -> Interval:
        """The worst case as attacked and re-batched."""
        assert self.worst.interval is not None  # as `sweeps_of` takes them
        return self.worst.interval


@dataclass(frozen=True)
class Sweep:
    """One defence on one network under one perturbation budget at several batch sizes, the smallest first."""

    title: str
    sizes: tuple[Size, ...]

    @property
    def sentence(self) -> str:
        """The answer."""
        first, *others = self.sizes
        compared = {size.k: size.difference for size in others if size.difference}
        sentences = [
            f"Worst-case accuracy at {k} differs from that at {first.k} by {difference_text(found)} points."
            for k, found in compared.items()
            if found.low > 0 or found.high < 0
        ]
        if compared and not sentences:
            reach = max(max(-found.low, found.high) for found in compared.values())
            mark = MARKS[next(iter(compared.values())).kind]
            about = f"({series([first.k, *compared])}, re-batched, 95% intervals{mark})"
            sentences = [f"Worst-case accuracy does not depend on K within {percent(reach)} points {about}."]
        if missing := [size.k for size in others if size.difference is None]:
            sentences.append(f"No interval compares {series(missing)} with {first.k}.")
        return " ".join(sentences)

    @property
    def text_table(self) -> TextTable:
        """A row for each batch size, accuracies in percent."""
        columns: Columns[Size] = {
            "K": lambda size: size.worst.subject.k,
            "N": lambda size: size.worst.subject.n or "",
            "As attacked": lambda size: attacked_text(size.figure),
            "Re-batched": lambda size: rebatched_text(size.figure),
            f"Difference from {self.sizes[0].k}": lambda size: difference_text(size.difference),
        }
        return TextTable.of(self.sizes, columns, columns).without_empty(("N",))

    @property
    def curves(self) -> dict[str, list[SummaryRow]]:
        """Rows over batch sizes, by what they show."""
        return {
            "Clean": [size.clean for size in self.sizes if size.clean],
            "Worst case, as attacked": [
                replace(size.worst, accuracy=size.figure.as_attacked, low=None, high=None, interval_kind=None)
                for size in self.sizes
            ],
            "Worst case, re-batched": [size.worst for size in self.sizes if size.worst.low is not None],
        }


def sweeps_of(run: RunData) -> Iterator[Sweep]:
    """The defences of a run at several batch sizes, under each perturbation."""
    specs = {record.case.subject: record.spec for record in run.manifest.cases}
    clean = {row.subject: row for row in reversed(run.rows) if row.attack == CLEAN}
    groups: dict[tuple[object, ...], dict[Subject, SummaryRow]] = {}
    for row in run.rows:
        subject = row.subject
        if row.attack == ENSEMBLE and row.threat == WHOLE_BATCH and subject.k and row.accuracy is not None:
            key = subject.checkpoint, specs[subject], row.perturbation
            groups.setdefault(key, {})[subject] = row
    pairing = Pairing({run.name: run}) if any(len(group) > 1 for group in groups.values()) else None
    for group in groups.values():
        first, *others = sorted(group, key=lambda subject: subject.k or 0)
        if not others or pairing is None:
            continue
        beside = Contender(run.name, first)
        sizes = [Size(group[first], clean.get(first), None)]
        for subject in others:
            found = pairing.difference(Contender(run.name, subject), beside, group[subject])
            sizes.append(Size(group[subject], clean.get(subject), found if found and found.kind else None))
        n = f" ({specs[first].partition(':')[2]})" if first.n else ""
        about = f"{inference_text(first.at_any_size)}{n} on {first.checkpoint}"
        about += f", {perturbation_text(group[first].perturbation)}"
        yield Sweep(f"{QUESTION} {about}", tuple(sizes))
