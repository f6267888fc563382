"""The results of a run: every planned attack, and per threat model what an attacker who may choose leaves:
`judge.combined` has who may use what.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from attacks.attack import AnyAttack, read_attack
from robustbench_coded.judge.anytime import RandomBatches
from robustbench_coded.judge.intervals import TAIL, AsAttacked, Interval, accuracy_interval
from robustbench_coded.judge.outcomes import Cell, majorities
from robustbench_coded.schema.case import Case, Subject
from robustbench_coded.schema.manifest import CaseRecord
from robustbench_coded.schema.words import CLEAN, CONTROLS, ENSEMBLE, MARGIN, IntervalKind

Cells = dict[tuple[Case, str], Cell]

CLOSE = MARGIN  # attacks with accuracies this close count as equally strong


class Combination(NamedTuple):
    """How a row was made of several attacks.

    Attributes:
        strongest_attack: the attack that `strongest` is.
        selection_draws: on how many draws it was chosen; 0 where nothing is random.
        near: the attacks within `CLOSE` of the strongest.
        unscored: those of them that were not scored in random batches; and if they leave over `CLOSE` more
            there than in their own, every attack within `CLOSE` of that which was not.
        of_complete: of an ensemble with outcomes missing, that of the attacks with all of theirs, if any.
        lower: the attack that leaves least as attacked, of the images that all have, if less than this row,
            which was chosen on other draws; else ''.
    """

    strongest_attack: str = ""
    selection_draws: int = 0
    near: tuple[Case, ...] = ()
    unscored: tuple[Case, ...] = ()
    of_complete: "CaseResult | None" = None
    lower: str = ""

    @property
    def all_near_in_random(self) -> bool:
        """True if every attack that comes near the strongest was scored in random batches."""
        return bool(self.near) and not self.unscored


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
    # By what the error is divided where it may stop along the way; 0: a number fixed beforehand.
    looks: int = 0
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
    def _knows_draw(self) -> bool:
        return self.case.threat.draw_known and self.case.attack not in CONTROLS

    @property
    def in_random_batches(self) -> bool:
        """True if figures come from random batches: of victims, if more were scored in them. An attacker who
        knows the draw made his inputs for another one.
        """
        if self._knows_draw:
            return False
        own = 0 if self.cell is None else len(self.cell.example)
        fewest = own + 1 if self.case.threat.one_victim else 1
        return any(scored.batches >= fewest for scored in self.random_batches)

    def of_majorities(self, votes: int) -> "CaseResult":
        """The result of majority votes over so many draws; unchanged for deterministic defences.

        Random batches have one draw each. Majorities that a batch shares look independent more often than
        its single draws do, so that only several of them show that they are.
        """
        if votes == 1 or not self.randomised or self.cell is None:
            return self
        return replace(self, cell=majorities(self.cell, votes), random_batches=())

    def interval(self, tail: float = TAIL) -> Interval | None:
        """The accuracy with its interval, each end of which errs with probability ``tail``, all from the same
        outcomes; None while there are no outcomes.

        In random batches where there are any. The figure has no interval where an attack knows the draw, nor
        where answers that depend on their batches come from disjoint batches alone.
        """
        cell = self.cell
        if cell is None:
            return None
        if self.in_random_batches:
            return self.played(tail)[0]
        interval = accuracy_interval(
            cell.correct,
            cell.example if self.case.threat.one_victim else cell.batch,  # each victim has its own batch
            batch_dependent=self.batch_dependent or self._knows_draw,
            randomised=self.randomised,
            tail=tail / max(self.looks, 1),
        )
        interval = replace(interval, own=self.as_attacked)
        if self.case.threat.one_victim and interval.kind is not None:
            return replace(interval, kind=IntervalKind.EVALUATED_IMAGES)
        return interval

    @property
    def as_attacked(self) -> AsAttacked | None:
        """The figure as attacked; None without outcomes, and where each input is answered on its own."""
        if self.cell is None or not self.batch_dependent:
            return None
        return AsAttacked(float(self.cell.correct.mean()), len(np.unique(self.cell.batch)))

    def played(self, tail: float) -> tuple[Interval, RandomBatches]:
        """Of what is in random batches, the accuracy that an attacker leaves who always plays one of the
        attacks that were scored in them, each at its share of the error: the one with the lowest upper end.
        And this one's outcomes.

        The lower end is the lowest of theirs if every attack that comes near the strongest was scored: he
        plays one of these, and what all of them leave at least, he leaves. Else it is 0.
        """
        share = tail / max(self.looks, 1) / len(self.random_batches)
        ends = [scored.interval(share) for scored in self.random_batches]
        played = min(range(len(ends)), key=lambda i: ends[i][1])
        scored = self.random_batches[played]
        near = self.case.attack != ENSEMBLE or self.combination.all_near_in_random
        low = min(end[0] for end in ends) if near else 0.0
        interval = Interval(
            scored.accuracy,
            low,
            ends[played][1],
            IntervalKind.EVALUATED_IMAGES,
            len(scored.images),
            scored.batches,
            self.as_attacked,
            scored.attack,
        )
        return interval, scored


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
    """One result for each attack and control, in the order of the plan.

    Args:
        faulty: results of each attack that were no perturbed inputs, where there were any.
    """
    records = list(planned)
    looks: dict[Subject, int] = {}
    for record in records:
        looks[record.case.subject] = max(looks.get(record.case.subject, 0), record.looks)
    return [
        CaseResult(
            case=record.case,
            cell=cell,
            clean=outcomes.clean_like(cell, record.case),
            examples_planned=record.examples_planned,
            batch_dependent=record.batch_dependent and not record.case.threat.one_victim,
            randomised=record.randomised,
            complete=cell is not None and len(cell.example) >= record.examples_planned,
            sources=(record.case,),
            has_base=record.has_base,
            # Unperturbed inputs are as many as the attacks that made the run stop.
            looks=looks[record.case.subject] if record.case.attack in CONTROLS else record.looks,
            random_batches=outcomes.in_random([record.case]),
            clean_random_batches=outcomes.clean_in_random(record.case),
            faulty=faulty.get(record.case, 0),
        )
        for record, cell in ((record, outcomes.of(record.case)) for record in records)
    ]


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
