"""The results of a run: every planned attack, and per threat model what an attacker who may choose leaves:
`judge.combined` has who may use what.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from attacks.attack import AnyAttack
from attacks.naming import read_attack
from robustbench_coded.judge.anytime import RandomBatches, mixture_interval
from robustbench_coded.judge.correlation import UNMEASURED, Correlation, Shown, pooled_of, shown
from robustbench_coded.judge.intervals import (
    TAIL,
    Interval,
    accuracy_interval,
    clustered_interval,
    over_draws,
)
from robustbench_coded.judge.outcomes import Cell, majorities
from robustbench_coded.judge.variance import NOT_SHARED, Drawn, SharedDraws, drawn, shared_of
from robustbench_coded.schema.case import Case, Subject
from robustbench_coded.schema.manifest import CaseRecord
from robustbench_coded.schema.words import CLEAN, COMBINED, CONTROLS, ENSEMBLE, IntervalKind

Cells = dict[tuple[Case, str], Cell]

CLOSE = 0.03  # attacks with accuracies this close count as equally strong
# Of the error, what random batches have where a row's own answers, of victims, speak of the same images; the
# tighter end counts.
OF_RANDOM = 0.9


class Combination(NamedTuple):
    """How a row was made of several attacks.

    Attributes:
        strongest_attack: the attack that `strongest` is.
        selection_draws: on how many draws it was chosen; 0 where nothing is random.
        all_near_in_random: True if every attack within `CLOSE` of the strongest was scored in random batches.
        of_complete: of an ensemble with outcomes missing, that of the attacks with all of theirs, if any.
    """

    strongest_attack: str = ""
    selection_draws: int = 0
    all_near_in_random: bool = False
    of_complete: "CaseResult | None" = None


NOT_COMBINED = Combination()


@dataclass(frozen=True)
class CaseResult:
    """The measurements of one row of summary.csv, before it is counted out."""

    case: Case
    cell: Cell | None  # scoring outcomes; None while there are none
    clean: Cell | None  # unperturbed inputs: the same examples and draws
    examples_planned: int
    batch_dependent: bool  # True if outcomes come in batches: not of victims, each of which has its own
    randomised: bool
    complete: bool
    sources: tuple[Case, ...]  # the attacks it was made from, whose costs it bears
    has_base: bool = True  # whether the defence names a base model
    correlation: Correlation = UNMEASURED  # of two outcomes of a batch, by all results of the subject
    shared: SharedDraws = NOT_SHARED  # of outcomes of one draw, by all results of the subject
    # By what the error is divided where it may stop along the way; 0: a number fixed beforehand.
    looks: int = 0
    # Of victims: how many disjoint batches the images make, from which all of their batches are drawn.
    disjoint_batches: int = 0
    # The same perturbed inputs in random batches; of an ensemble, those of each attack that could be played
    # alone.
    random_batches: tuple[RandomBatches, ...] = ()
    clean_random_batches: tuple[RandomBatches, ...] = ()  # the outcomes of ``clean`` in random batches
    # Results of its attacks that were no perturbed inputs: the clean ones were scored in their place.
    faulty: int = 0
    combination: Combination = NOT_COMBINED  # of a row that is made of several attacks

    @property
    def made_by(self) -> AnyAttack:
        """The attack; not of controls and combined rows."""
        return read_attack(self.case.attack)

    @property
    def unattacked(self) -> "CaseResult":
        """The same examples and draws without any attack."""
        case = self.case.of_attack(CLEAN)
        return replace(self, case=case, cell=self.clean, random_batches=self.clean_random_batches)

    def of_majorities(self, votes: int) -> "CaseResult":
        """The same with majorities of so many draws in place of draws; itself where there is one answer.

        Random batches have one draw each, and what rows show of batches is about single answers.
        """
        if votes == 1 or not self.randomised or self.cell is None:
            return self
        cell = majorities(self.cell, votes)
        return replace(self, cell=cell, random_batches=(), correlation=UNMEASURED)

    def interval(self, tail: float = TAIL) -> Interval | None:
        """The accuracy with its interval, each end of which errs with probability ``tail``; None while there
        are no outcomes.
        """
        cell = self.cell
        if cell is None:
            return None
        at_any_look = self.looks and not self.batch_dependent and cell.correct.shape[1] == 1
        tail /= 1 if at_any_look else max(self.looks, 1)
        tail, of_random = shared_error(tail, self)
        if at_any_look:
            right, answers = int(cell.correct.sum()), len(cell.example)
            low, high = mixture_interval(right, answers, tail)
            interval = Interval(right / answers, float(low), float(high))
        else:
            interval = accuracy_interval(
                cell.correct,
                cell.batch,
                batch_dependent=self.batch_dependent,
                correlation=self.correlation,
                shared=self.shared,
                tail=tail,
            )
        interval = self._of_victims(interval, tail)
        if not self.random_batches:
            return interval
        return self.on_these_images(interval, [of.interval for of in self.random_batches], of_random)

    def _of_victims(self, interval: Interval, tail: float) -> Interval:
        """Of victims, in batches that share the evaluated images, ``interval`` speaks of these images alone;
        of the population they say as much as so few disjoint batches.
        """
        if not self.disjoint_batches or self.cell is None:
            return interval
        batch = np.arange(len(self.cell.example)) % self.disjoint_batches
        low, high = clustered_interval(self.cell.correct, batch, tail, self.correlation)
        population = min(low, interval.low), max(high, interval.high)
        return Interval(
            interval.estimate, interval.low, interval.high, IntervalKind.EVALUATED_IMAGES, population
        )

    @property
    def shown(self) -> Interval | None:
        """The accuracy with the interval that every format shows: `interval`, but over draws only for one
        attack on a random defence whose batches matter, without random batches and with two draws or more.

        Such an interval decides nothing: few batches say little of the population, which stands beside it.
        """
        cell, interval = self.cell, self.interval()
        says_more = self.random_batches or self.case.threat.draw_known or self.case.attack in COMBINED
        if cell is None or interval is None or says_more or len(cell.draw) < 2:
            return interval
        if not (self.batch_dependent and self.randomised):
            return interval
        low, high = over_draws(cell.correct, cell.batch, self.shared)
        return Interval(interval.estimate, low, high, IntervalKind.OVER_DRAWS, (interval.low, interval.high))

    def on_these_images(
        self, interval: Interval, ends: Sequence[Callable[[float], tuple[float, float]]], tail: float
    ) -> Interval:
        """``interval``, of the population, with what random batches of the evaluated images show in its
        place; of victims, whose ``interval`` is of these images, too, the tighter ends.

        An attacker who may always play one attack leaves at most what that attack leaves. So random batches
        give an ensemble its upper end: the lowest of its attacks', each of which errs at its share of the
        tail.

        They give it a lower end where every attack that comes near the strongest was scored in them: he
        plays one of these, and what all of them leave at least, he leaves. Inputs that are made together may
        do more in the batch that they were made in than in random ones. So that end does not count where
        random batches leave more than the disjoint ones, in which they are together, by more than `CLOSE`.

        Args:
            ends: of each of ``random_batches``, by its tail.
        """
        played = [end(tail / len(ends)) for end in ends]
        own = self.case.attack != ENSEMBLE
        least = min(end[0] for end in played)
        in_random = min(float(scored.correct.mean()) for scored in self.random_batches)
        holds = own or (self.combination.all_near_in_random and in_random <= interval.estimate + CLOSE)
        low = min(least if holds else interval.low, interval.estimate)
        high = min(end[1] for end in played)
        if interval.kind is IntervalKind.EVALUATED_IMAGES:
            low, high = max(low, interval.low), min(high, interval.high)
        high = max(high, interval.estimate)
        population = interval.population or (interval.low, interval.high)
        return Interval(interval.estimate, low, high, IntervalKind.EVALUATED_IMAGES, population)


def shared_error(tail: float, *rows: CaseResult) -> tuple[float, float]:
    """The error that the rows' own answers have, and that of their random batches: each all of it, but for
    victims, whose answers speak of the same images.
    """
    of_victims = any(row.disjoint_batches for row in rows)
    if not (of_victims and any(row.random_batches for row in rows)):
        return tail, tail
    return tail * (1 - OF_RANDOM), tail * OF_RANDOM


@dataclass(frozen=True)
class Outcomes:
    """All outcomes of a run: by case and purpose, and those in random batches by case."""

    cells: Cells
    random: Mapping[Case, RandomBatches]

    def of(self, case: Case, purpose: str = "scoring") -> Cell | None:
        cell = self.cells.get((case, purpose))
        return cell if cell is not None and cell.correct.size else None

    def in_random(self, cases: Iterable[Case]) -> tuple[RandomBatches, ...]:
        return tuple(self.random[case] for case in cases if case in self.random)

    def clean_in_random(self, case: Case) -> tuple[RandomBatches, ...]:
        """The clean inputs of a case's subject in random batches."""
        return self.in_random([c for c in self.random if c.attack == CLEAN and c.subject == case.subject][:1])

    def clean_like(self, cell: Cell | None, case: Case) -> Cell | None:
        """Clean outcomes of the same examples and, where there are several, the same draws."""
        if cell is None:
            return None
        clean = [
            (other.threat, made)
            for (other, purpose), made in self.cells.items()
            if other.attack == CLEAN and purpose == "scoring" and other.subject == case.subject
        ]
        # Those of the same inputs first, then those of whole batches.
        clean.sort(key=lambda pair: (pair[0].inputs != case.threat.inputs, pair[0].one_victim))
        for _, made in clean:
            if np.isin(cell.example, made.example).all() and np.isin(cell.draw, made.draw).all():
                return made.at_examples(cell.example).at_draws(cell.draw)
        return None


def measured_results(
    outcomes: Outcomes, planned: Iterable[CaseRecord], faulty: Mapping[Case, int] = MappingProxyType({})
) -> list[CaseResult]:
    """A result for each attack and control of the plan, in its order.

    Args:
        faulty: results of each attack that were no perturbed inputs, where there were any.
    """
    results, records = [], list(planned)
    examples = {r.case.subject: r.examples_planned for r in sorted(records, key=lambda r: r.examples_planned)}
    for record in records:
        cell = outcomes.of(record.case)
        k, most = record.case.subject.k, examples[record.case.subject]
        alone = record.case.threat.one_victim
        result = CaseResult(
            case=record.case,
            cell=cell,
            clean=outcomes.clean_like(cell, record.case),
            examples_planned=record.examples_planned,
            batch_dependent=record.batch_dependent and not alone,
            disjoint_batches=max(most // (k or 1), 1) if alone else 0,
            randomised=record.randomised,
            complete=cell is not None and len(cell.example) >= record.examples_planned,
            sources=(record.case,),
            has_base=record.has_base,
            looks=record.looks,
            random_batches=outcomes.in_random([record.case]),
            clean_random_batches=outcomes.clean_in_random(record.case),
            faulty=faulty.get(record.case, 0),
        )
        results.append(result)
    return results


def correlations(results: Sequence[CaseResult]) -> dict[tuple[Subject, str], Correlation]:
    """By subject and kind of attacked inputs, what its results say of how alike the outcomes of a batch are.

    Whole batches speak for all kinds. Results with fewer than half of the most examples say too little.
    """
    shows: dict[tuple[Subject, str], list[tuple[int, Shown]]] = defaultdict(list)
    for result in results:
        if result.cell is not None and result.batch_dependent and result.cell.correct.size:
            row = shown(result.cell.correct, result.cell.batch, attacked=result.case.attack not in CONTROLS)
            shows[result.case.subject, result.case.threat.inputs].append((len(result.cell.example), row))
    pooled = {}
    for (subject, inputs), of in shows.items():
        whole = [] if inputs == "batch" else shows.get((subject, "batch"), [])
        most = max(examples for examples, _ in of)
        own = [row for examples, row in of if 2 * examples >= most]
        pooled[subject, inputs] = pooled_of(own + [row for _, row in whole])
    return pooled


def shared_draws(results: Sequence[CaseResult], outcomes: Outcomes) -> dict[Subject, SharedDraws]:
    """By subject that draws, what its attacked results say of shared draws.

    The draws on which attacks were chosen say it as well as those on which they are scored.
    """
    shows: dict[Subject, list[Drawn | None]] = defaultdict(list)
    for result in results:
        if not result.randomised or result.cell is None:
            continue
        own = shows[result.case.subject]
        if result.case.attack not in CONTROLS:
            seen = (result.cell, outcomes.of(result.case, "selection"))
            own += [drawn(cell.correct, cell.batch) for cell in seen if cell is not None]
    return {subject: shared_of(of) for subject, of in shows.items()}


def inherited(key: Case, everything: Sequence[CaseResult]) -> list[CaseResult]:
    """Attacks of the attacker who differs only in not knowing the draw."""
    if not key.threat.draw_known:
        return []
    weaker = key.under(key.threat.with_draw("unknown"))
    return [
        result
        for result in everything
        if result.case.setting == weaker and result.case.attack not in CONTROLS
    ]
