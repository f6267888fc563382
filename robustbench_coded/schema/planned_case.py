"""Numbers as run.json may hold them."""

from functools import cached_property
from typing import Annotated

from msgspec import Meta, Struct

from robustbench_coded.schema.case import BudgetKey, CaseKey, SubjectKey, ThreatModel

Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Number = Annotated[float, Meta(ge=-1e9, le=1e9)]  # leaves out NaN and infinities, too


class UnitEntry(Struct, frozen=True):
    """A unit of work of a case: its id is the name of its files.

    Attributes:
        replicate: 0; others are repetitions of earlier versions, which are not counted.
    """

    id: str
    replicate: Count = 0


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


class Stop(Struct, frozen=True, kw_only=True):
    """A subject under one threat model and budget whose word nothing can change any more.

    Attributes:
        word: the verdict; examples, batches: on how many it fell.
        attack: the attack that leaves least.
        planned: examples that may be attacked.
        images: image gradients that its attacks cost until then; images_planned: that all would cost.
        seconds: forecast of what ran until then.
        attacks: those that ran until then; spared: those that did not run at all.
    """

    checkpoint: str = ""
    defence: str = ""
    k: int | None = None
    n: int | None = None
    threat: str = ""
    norm: str = ""
    eps: float = 0.0
    eps_space: str = ""
    word: str = ""
    attack: str = ""
    examples: int = 0
    planned: int = 0
    batches: int = 0
    images: int = 0
    images_planned: int = 0
    attacks: tuple[str, ...] = ()
    spared: tuple[str, ...] = ()

    @property
    def subject(self) -> SubjectKey:
        return SubjectKey(self.checkpoint, self.defence, self.k, self.n)

    @property
    def budget(self) -> BudgetKey:
        return BudgetKey(self.norm, self.eps, self.eps_space)


class Sequential(Struct, frozen=True, kw_only=True):
    """How an evaluation chose the number of examples of each row.

    Everything that a machine's speed decided follows from ``rates`` and the two limits: the same folder is
    completed in the same way on any machine.

    Attributes:
        until: ``settled`` or ``claim`` where nothing else was asked for.
        rounds: numbers of examples that a row could run on.
        questions: of runs of earlier versions.
        verdict_seconds, table_seconds: forecast time for attacks on open verdicts, and for these and the
            table; None for no limit.
        rates: seconds for one image, by what is forwarded or differentiated.
    """

    until: str = ""
    rounds: tuple[int, ...] = ()
    questions: Count = 1
    verdict_seconds: Number | None = None
    table_seconds: Number | None = None
    rates: dict[str, Number] = {}
    stops: tuple[Stop, ...] = ()


class Outlook(Struct, frozen=True, kw_only=True):
    """What a further command would do.

    Attributes:
        purpose: ``all``, to run every row on every example, or ``settle``, to settle open verdicts.
        option: what to add to the command.
        seconds: how long that takes, about.
    """

    purpose: str = ""
    option: str = ""
    seconds: Number = 0.0
