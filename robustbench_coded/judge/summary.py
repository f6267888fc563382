"""The table of a run: one `SummaryRow` per row of the run, and all of them as a frame, `summary.csv`."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from robustbench_coded.judge import outcomes
from robustbench_coded.judge.case_results import CaseResult
from robustbench_coded.judge.intervals import AsAttacked, Interval, accuracy_interval
from robustbench_coded.schema.case import Case, Perturbation, Subject, ThreatModel
from robustbench_coded.schema.words import COMBINED, CONTROLS, ENSEMBLE, IntervalKind


def reached(result: CaseResult) -> Interval | None:
    """The share of answers that are the attack's target, on examples of other classes; None without a target.

    Fresh draws count as those of the accuracy do.
    """
    if result.cell is None or result.case.attack in (*CONTROLS, *COMBINED):
        return None
    target, cell = result.made_by.target, result.cell
    others = np.flatnonzero(cell.label != target)
    if target is None or not len(others):
        return None
    hit = cell.prediction[others] == target
    tied = result.batch_dependent or result.case.threat.draw_known
    return accuracy_interval(hit, cell.batch[others], batch_dependent=tied, randomised=result.randomised)


class ImagesSpent(NamedTuple):
    """Images through the network in its attack, and seconds of all that it took."""

    forwards: float
    backwards: float
    seconds: float = 0.0

    def plus(self, other: "ImagesSpent") -> "ImagesSpent":
        """The cost of both."""
        return ImagesSpent(*(own + of_other for own, of_other in zip(self, other, strict=True)))


@dataclass(frozen=True)
class SummaryRow:
    """One row of summary.csv. Accuracies are fractions; missing values are None.

    Attributes:
        low, high: confidence limits of the accuracy.
        interval_kind: the images that they are for; None without outcomes.
        batches: number of batches that the accuracy comes from, 0 if predictions are independent. They are
            random batches if there is an interval, and otherwise the disjoint batches of the attack.
        own, rebatched: as of `Interval`.
        lower_member: of combined rows: the attack that leaves less as attacked, because they are chosen on
            other draws; '' if none does.
        forwards, backwards: forward and backward passes per attacked image.
        seconds: total time; no column of the file, so that the same evaluation gives the same bytes.
        done: whether every planned example has its outcomes.
        clean_accuracy, clean_majority, clean_every_draw: of unperturbed inputs, same examples and draws.
        unit: of the interval, ``batch`` or ``example``.
        strongest_attack, selection_draws: of combined rows: the attack that `strongest` is, and the number of
            draws that selected it (0 for deterministic defences).
        faulty: number of invalid results, in whose place clean inputs were scored.
        reached: of a targeted attack: share of predictions that are the target, on examples of other classes.
    """

    case: Case
    examples: int
    examples_planned: int
    draws: int
    accuracy: float | None
    low: float | None
    high: float | None
    interval_kind: IntervalKind | None
    batches: int
    own: AsAttacked | None
    rebatched: str
    majority: float | None
    every_draw: float | None
    forwards: float | None
    backwards: float | None
    seconds: float | None
    done: bool
    clean_accuracy: float | None
    clean_majority: float | None
    clean_every_draw: float | None
    unit: str
    strongest_attack: str
    selection_draws: int
    reached: Interval | None = None
    faulty: int = 0
    lower_member: str = ""

    @property
    def subject(self) -> Subject:
        return self.case.subject

    @property
    def threat(self) -> ThreatModel:
        return self.case.threat

    @property
    def attack(self) -> str:
        return self.case.attack

    @property
    def perturbation(self) -> Perturbation:
        return self.case.perturbation

    @property
    def step_size(self) -> float | None:
        return self.case.step_size

    @property
    def interval(self) -> Interval | None:
        """The accuracy with its interval, as far as it has one; None without outcomes."""
        if self.accuracy is None:
            return None
        ends = (0.0, 1.0) if self.low is None or self.high is None else (self.low, self.high)
        kind, batches = self.interval_kind, self.batches
        return Interval(self.accuracy, *ends, kind, self.examples, batches, self.own, self.rebatched)

    @property
    def measured(self) -> bool:
        """True if the row is one attack's own, not made from several."""
        return self.attack not in COMBINED

    def as_columns(self) -> dict[str, object]:
        """The columns of summary.csv, in their order (design section 7, then further figures)."""
        columns: dict[str, object] = {
            **self.case.as_columns(),
            "examples": self.examples,
            # Random batches may leave out images; what is done rests on as many as were planned.
            "examples_planned": self.examples if self.done else self.examples_planned,
            "draws": self.draws,
            "accuracy": _number(self.accuracy),
            "ci_low": _number(self.low),
            "ci_high": _number(self.high),
            "accuracy_majority": _number(self.majority),
            "accuracy_every_draw": _number(self.every_draw),
            "forwards_per_example": _number(self.forwards),
            "backwards_per_example": _number(self.backwards),
            "status": "done" if self.done else "incomplete",
            "interval_kind": self.interval_kind and str(self.interval_kind),
            "clean_accuracy": _number(self.clean_accuracy),
            "clean_majority": _number(self.clean_majority),
            "clean_every_draw": _number(self.clean_every_draw),
            "batches": self.batches,
            **own_columns(self.interval),
            "unit": self.unit,
            "strongest_attack": self.strongest_attack,
            "selection_draws": self.selection_draws,
        }
        if self.reached is not None:
            columns["reached"] = _number(_rounded(self.reached.estimate))
            columns |= _ends("reached", (self.reached.low, self.reached.high) if self.reached.kind else None)
        if self.faulty:
            columns["faulty"] = self.faulty
        return columns


def own_columns(figure: Interval | None) -> dict[str, object]:
    """The columns of a figure as attacked, empty where it has none of its own."""
    own = None if figure is None else figure.own
    return {
        "own_accuracy": _number(_rounded(own and own.accuracy)),
        "own_batches": own and own.batches,
    }


def _ends(of: str, ends: tuple[float, float] | None) -> dict[str, object]:
    """The columns of an interval, empty where there is none."""
    low, high = ends or (None, None)
    return {f"ci_low_{of}": _number(_rounded(low)), f"ci_high_{of}": _number(_rounded(high))}


def summary_rows(results: Iterable[CaseResult], costs: Mapping[Case, ImagesSpent]) -> list[SummaryRow]:
    """Counts a run out: a row per planned attack and control, and the combined rows of each setting.

    Args:
        results: from `case_results`.
        costs: of the planned attacks; a combined row bears those of all it was made from.
    """
    return [_summary_row(result, costs) for result in results]


def summary_frame(rows: Sequence[SummaryRow]) -> pd.DataFrame:
    """The rows as a frame; figures that do not exist (yet) are null."""
    table = pd.DataFrame([row.as_columns() for row in rows])
    return table.astype(
        {name: "Int64" for name in ("k", "n", "own_batches", "selection_draws", "faulty") if name in table}
    )


def _summary_row(result: CaseResult, costs: Mapping[Case, ImagesSpent]) -> SummaryRow:
    if result.case.attack == ENSEMBLE and all(source.attack in CONTROLS for source in result.sources):
        result = replace(result, cell=None)  # what clean inputs leave is no robust accuracy
    interval = result.interval()
    examples, attacked = (interval.images, len(result.cell.example)) if interval and result.cell else (0, 0)
    # Random batches have other victims than those that were attacked, and one draw each.
    others = result.case.threat.one_victim and result.in_random_batches
    cell, clean = (None, None) if others else (result.cell, result.clean)
    unknown = ImagesSpent(math.nan, math.nan, math.nan)
    spent = [costs.get(key, unknown) for key in result.sources]
    return SummaryRow(
        case=result.case,
        examples=examples,
        examples_planned=result.examples_planned,
        draws=0 if result.cell is None else len(result.cell.draw),
        accuracy=_rounded(interval.estimate if interval else None),
        low=_rounded(interval.low if interval and interval.kind else None),
        high=_rounded(interval.high if interval and interval.kind else None),
        interval_kind=interval.kind if interval else None,
        batches=interval.batches if interval else 0,
        own=interval.own if interval else None,
        rebatched=interval.rebatched if interval else "",
        majority=_figure(outcomes.accuracy_majority, cell),
        every_draw=_figure(outcomes.accuracy_every_draw, cell),
        forwards=_rounded(sum(cost.forwards for cost in spent) / attacked if attacked else None),
        backwards=_rounded(sum(cost.backwards for cost in spent) / attacked if attacked else None),
        seconds=round(sum(cost.seconds for cost in spent), 3) if examples else None,
        done=result.complete,
        clean_accuracy=_figure(outcomes.accuracy, clean),
        clean_majority=_figure(outcomes.accuracy_majority, clean),
        clean_every_draw=_figure(outcomes.accuracy_every_draw, clean),
        unit="batch" if result.batch_dependent else "example",
        strongest_attack=result.combination.strongest_attack,
        selection_draws=result.combination.selection_draws,
        reached=reached(result),
        faulty=result.faulty,
        lower_member=result.combination.lower,
    )


def _figure(count: Callable[[outcomes.Cell], float], cell: outcomes.Cell | None) -> float | None:
    return _rounded(None if cell is None else count(cell))


def _rounded(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else round(value, outcomes.DIGITS)


def _number(value: float | None) -> float:
    return math.nan if value is None else value
