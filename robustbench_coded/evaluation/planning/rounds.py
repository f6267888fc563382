"""How much of the examples a sequential evaluation looks at before it decides: fixed before anything runs.

rounds_of(examples, batch)               -> (end, ...)      examples at the end of each round
looks_of(ends, k, batch_dependent)       -> (number, ...)   the rounds after which a subject is judged
lane_of(row)                             -> Lane            the rows that go through the rounds together
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from attacks.presets import PRESETS
from robustbench_coded.evaluation.options.config import IMAGES_PER_UNIT, EvalConfig
from robustbench_coded.evaluation.planning.batches import Batch, Victim
from robustbench_coded.evaluation.planning.cases import AttackCase, Subject
from robustbench_coded.evaluation.planning.plan import UnitMaker
from robustbench_coded.schema.case import BudgetKey, CaseKey
from robustbench_coded.schema.controls import CONTROLS
from robustbench_coded.schema.stops import Sequential
from robustbench_coded.schema.threat_model import WHOLE_BATCH

FEWEST_BATCHES = 5  # that an interval from the spread of batches rests on (docs/numbers.md)


def rounds_of(examples: int, batch: int) -> tuple[int, ...]:
    """The number of examples at the end of each round: a batch, twice as many each time, then all.

    The last round at least doubles, too, so that the looks stay few: 128, 256, 640 for 640 examples in
    batches of 128.

    Args:
        examples: all that may be evaluated.
        batch: the largest batch; ends of rounds are multiples of it, but for the last one.
    """
    ends, end = [], batch
    while 2 * end <= examples:
        ends.append(end)
        end *= 2
    return (*ends, examples)


def rounds_for(config: EvalConfig, examples: int) -> "Rounds":
    """The rounds of an evaluation, none of them begun."""
    return Rounds(examples, rounds_of(examples, min(max(config.batch_sizes), examples)))


def looks_of(ends: Sequence[int], k: int, *, batch_dependent: bool) -> tuple[int, ...]:
    """The rounds, from 1 on, after which a subject is judged.

    Where the batch is the unit, not before there are five: with fewer, the batches that were seen say too
    little about those that were not.

    Args:
        ends: from `rounds_of`. k: examples of a batch.
    """
    enough = FEWEST_BATCHES * k if batch_dependent else 0
    return tuple(number for number, end in enumerate(ends, 1) if end >= enough or number == len(ends))


class Lane(NamedTuple):
    """Rows that go through the rounds together, whether the draw is known or not.

    An attacker who knows the draw also has the perturbations of one who does not: their rows need the same
    examples.
    """

    subject: Subject
    budget: BudgetKey
    inputs: str


def lane_of(row: AttackCase) -> Lane:
    """The lane of an attack."""
    return Lane(row.subject, row.budget, row.threat.inputs)


@dataclass
class Rounds:
    """How far each lane has come.

    Attributes:
        examples: all that may be evaluated.
        ends: examples at the end of each round, from `rounds_of`.
        reached: rounds that a lane may use, by lane; all of them where it is not named.
        completing: whether the rows of the paper's attacks go on to the end where their lane has stopped.
        open: lanes that have not stopped.
        record: what run.json says of it.
        planned: keys of all rows that may run.
    """

    examples: int
    ends: tuple[int, ...]
    reached: dict[Lane, int] = field(default_factory=dict)
    completing: bool = False
    open: set[Lane] = field(default_factory=set)
    record: Sequential | None = None
    planned: frozenset[CaseKey] = frozenset()

    def completes(self, row: AttackCase) -> bool:
        """Whether a row runs on all examples, whatever becomes of its lane."""
        return row.attack in CONTROLS or (self.completing and row.attack in PRESETS["paper"])

    def open_ones(self, rows: Sequence[AttackCase]) -> list[AttackCase]:
        """Those of the rows that belong to a subject and to inputs that have not stopped."""
        open_to = {(lane.subject, lane.inputs) for lane in self.open}
        return [row for row in rows if (row.subject, row.threat.inputs) in open_to]

    def whole(self, rows: Sequence[AttackCase]) -> list[AttackCase]:
        """Those of the rows that run on all examples."""
        return [row for row in rows if self.of(row) == len(self.ends)]

    def of(self, row: AttackCase) -> int:
        """The number of rounds that a row runs in."""
        if self.completes(row):
            return len(self.ends)
        return self.reached.get(lane_of(row), len(self.ends))

    def looks(self, row: AttackCase) -> int:
        """How often the row's lane may be judged, all attacks at the end included; 0 for rows run in full."""
        return 0 if self.completes(row) else len(self.looks_at(lane_of(row))) + 1

    def looks_at(self, lane: Lane) -> tuple[int, ...]:
        """The rounds after which a lane is judged: of victims, after one of each batch and after all."""
        subject, last = lane.subject, len(self.ends)
        if lane.inputs != WHOLE_BATCH.inputs:
            return (1, last) if last > 1 and self.examples >= FEWEST_BATCHES * subject.k else (last,)
        return looks_of(self.ends, subject.k, batch_dependent=subject.batch_dependent)

    def parts(self, row: AttackCase, batches: Sequence[Batch]) -> list[list[Batch]]:
        """The batches of each round that a row runs in, of rounds that have any."""
        if row.attack in CONTROLS:
            return [list(batches)] if batches else []
        starts = (0, *self.ends)
        parts = [
            [batch for batch in batches if starts[number] < self._end(batch, row.subject.k) <= end]
            for number, end in enumerate(self.ends[: self.of(row)])
        ]
        return [part for part in parts if part]

    def reached_by(self, row: AttackCase, batches: Sequence[Batch]) -> list[Batch]:
        """All of these batches."""
        return [batch for part in self.parts(row, batches) for batch in part]

    def victim_parts(self, row: AttackCase, victims: Sequence[Victim]) -> list[list[Victim]]:
        """The victims of each round that a row runs in; no list is empty.

        In the first round one of each batch is attacked: each costs as much as a batch, and those in other
        batches say most.
        """
        if len(self.looks_at(lane_of(row))) == 1:
            return [list(victims)]
        first = list({victim.batch: victim for victim in reversed(victims)}.values())[::-1]
        others = [victim for victim in victims if victim not in first]
        return [first, others] if others and self.of(row) == len(self.ends) else [first]

    def _end(self, batch: Batch, k: int) -> int:
        return min((batch.index + 1) * k, self.examples)


class RoundUnitMaker(UnitMaker):
    """Cuts rows into units that no two rounds share, as far as each row's lane has come."""

    # Each round waits for the last of its units: small ones keep all workers busy.
    images_per_unit = IMAGES_PER_UNIT // 20

    def __init__(
        self, config: EvalConfig, examples: int, group_images: int, fixed: dict, rounds: Rounds
    ) -> None:
        super().__init__(config, examples, group_images, fixed)
        self.rounds = rounds

    def parts(self, row: AttackCase, batches: list[Batch]) -> list[list[Batch]]:
        return self.rounds.parts(row, batches)

    def victim_parts(self, row: AttackCase, victims: list[Victim]) -> list[list[Victim]]:
        return self.rounds.victim_parts(row, victims)
