"""A planned row of a run, with its units of work."""

from functools import cached_property

from msgspec import Struct

from robustbench_coded.schema.case import BudgetKey, CaseKey, SubjectKey
from robustbench_coded.schema.numbers import Count, Number
from robustbench_coded.schema.threat_model import ThreatModel


class UnitEntry(Struct, frozen=True):
    """A unit of work of a case: its id is the name of its files."""

    id: str
    replicate: Count


class PlannedCase(Struct, frozen=True, kw_only=True, dict=True):
    """One planned row: a subject under attack, or a control.

    Attributes:
        spec: the defence as it was given.
        batch_size: inputs that are answered together, for every defence.
        for_check: measured at another eps than was asked for, because a check needs it; not judged.
        examples_planned: examples that the row scores (victims, where each has a batch of its own).
        draws: scoring draws; 1 where the answer is not random.
        budget: images per scored example at which the attack was stopped; None for no limit.
        stopped: whether that comes before the end that the attack's name says.
        random_batches: units that score its perturbed inputs in random batches.
        partitions: the same in random partitions into batches, of runs of earlier versions.
        looks: how often its subject may be judged on what it left so far, and then stop; 0 where the number
            of its examples was fixed beforehand.
        table: run for the table, on fewer examples than the verdict rests on: shown, and no part of it.
    """

    checkpoint: str
    defence: str
    spec: str = ""
    k: Count | None
    n: Count | None
    batch_size: Count | None = None
    threat: str
    attack: str
    norm: str
    eps: Number
    eps_space: str
    step_size: Number | None
    randomised: bool
    batch_dependent: bool
    has_base: bool = True
    for_check: bool = False
    examples_planned: Count
    draws: Count
    budget: Count | None = None
    stopped: bool = False
    looks: Count = 0
    units: tuple[UnitEntry, ...] = ()
    table: bool = False
    random_batches: tuple[UnitEntry, ...] = ()
    partitions: tuple[UnitEntry, ...] = ()

    @property
    def all_units(self) -> tuple[UnitEntry, ...]:
        """Those that attack or score it in its own batches, and those that score it in random ones."""
        return (*self.units, *self.random_batches, *self.partitions)

    def __post_init__(self) -> None:
        ThreatModel.parse(self.threat)

    @cached_property
    def key(self) -> CaseKey:
        """Which case this is."""
        threat = ThreatModel.parse(self.threat)
        return CaseKey.of(self.subject, threat, self.attack, self.bound, self.step_size)

    @property
    def subject(self) -> SubjectKey:
        return SubjectKey(self.checkpoint, self.defence, self.k, self.n)

    @property
    def bound(self) -> BudgetKey:
        return BudgetKey(self.norm, self.eps, self.eps_space)

    @property
    def one_victim(self) -> bool:
        """Whether each scored example is the victim of a batch of its own."""
        return self.key.threat.one_victim
