"""run.json: the rows that were planned, and what the run was made on, its data, checkpoints and defences."""

import math
from functools import cached_property
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct, field

from robustbench_coded.schema.case import BudgetKey, CaseKey, Claim, SubjectKey, ThreatModel, setting_of_claim
from robustbench_coded.schema.words import CLEAN

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


class Identity(Struct, frozen=True, kw_only=True):
    """What may not change within a run folder.

    Attributes:
        subset: ``stratified`` where ``limit`` examples were drawn at random in each class; None where they
            are the first ones, or all.
    """

    data: str | None = None
    data_sha256: str | None = None
    limit: int | None = None
    subset: str | None = None
    seed: int | None = None
    last_batch: str | None = None


class DataFacts(Struct, frozen=True, kw_only=True):
    """The data evaluated: ``examples`` of the ``available`` ones; the shape of an image is [C, H, W]."""

    name: str | None = None
    source: str | None = None
    sha256: str | None = None
    examples: int | None = None
    available: int | None = None
    classes: int | None = None
    image_shape: tuple[int, ...] | None = None


class CheckpointFacts(Struct, frozen=True, kw_only=True):
    """A checkpoint: what it is, and how what its file does not say was settled.

    Attributes:
        guessed: whether ``--guess`` chose its variant or normalisation by labels, which may be wrong.
    """

    name: str
    sha256: str
    path: str | None = None
    arch: str | None = None
    classes: int | None = None
    channels: int | None = None
    metadata: dict[str, Any] = {}
    normalisation: dict[str, Any] = {}
    recognition: dict[str, Any] = {}
    guessed: bool = False
    gradients: dict[str, Any] = {}


class ProbeRecord(Struct, frozen=True, kw_only=True):
    """What the probe of one subject measured before it was attacked.

    Attributes:
        relaxed_gradients: like ``gradients``, with the operators that hide the gradient smoothed.
        hidden_by: those operators: ``operator``, ``calls``, ``cut`` (a share) and ``scale`` of each.
        selftests: the id of its self-tests, the name of their file; None where none were made.
    """

    checkpoint: str = ""
    defence: str = ""
    k: int | None = None
    n: int | None = None
    figures: dict[str, Any] = {}
    gradients: dict[str, Any] = {}
    relaxed_gradients: dict[str, Any] = {}
    hidden_by: tuple[dict[str, Any], ...] = ()
    warnings: tuple[str, ...] = ()
    contradictions: tuple[str, ...] = ()
    selftests: str | None = None

    @property
    def subject(self) -> SubjectKey:
        return SubjectKey(self.checkpoint, self.defence, self.k, self.n)


class Resolved(Struct, frozen=True, kw_only=True):
    """Options after defaults were filled in; threads and group_images decide the last bits of outcomes."""

    eps: tuple[float, ...] = ()
    device: str | None = None
    threads: int | None = None
    group_images: int | None = None


class GitState(Struct, frozen=True, kw_only=True):
    """The checkout that computed: commit, and whether files were changed. None outside a checkout."""

    commit: str | None = None
    dirty: bool | None = None


class Machine(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What computed."""

    system: str | None = None
    processor: str | None = None
    device: str | None = None
    gpu: str | None = None


class Invocation(Struct, frozen=True, kw_only=True):
    """One command or call that brought the folder up to date. ``options`` are those of EvalConfig."""

    time: str = ""
    command: tuple[str, ...] = ()
    options: dict[str, Any] = {}
    resolved: Resolved = field(default_factory=Resolved)
    versions: dict[str, Any] = {}
    git: GitState = field(default_factory=GitState)
    machine: Machine = field(default_factory=Machine)

    def count(self, option: str) -> int | None:
        """An option that is a count of at least 1, if it was stored as one."""
        value = self.options.get(option)
        return value if type(value) is int and value > 0 else None

    @property
    def attacks(self) -> tuple[str, ...]:
        """The names of the attacks that were asked for, those of presets one by one."""
        names = self.options.get("attacks")
        listed = names if isinstance(names, list | tuple) else ()
        return tuple(name for name in listed if isinstance(name, str))

    @property
    def margin(self) -> float | None:
        """The gain that counts, a fraction; None where it was not stored."""
        value = _finite(self.options.get("margin"))
        return None if value is None or not 0 <= value <= 100 else value / 100

    @property
    def claim(self) -> Claim | None:
        """What was claimed, with the defaults of what it did not say filled in."""
        value = _finite(self.options.get("claim"))
        # Earlier versions weighed claims about other accuracies than the mean over draws.
        about = self.options.get("claim_accuracy", "mean")
        if value is None or not 0 <= value <= 1 or about != "mean":
            return None
        inputs = self.options.get("inputs")
        threat, eps = setting_of_claim(
            self.options.get("claim_threat"),
            _finite(self.options.get("claim_eps")),
            inputs if isinstance(inputs, list | tuple) else (),
            self.resolved.eps,
        )
        norm, space = (self.options.get(name, default) for name, default in _BUDGET)
        try:
            parsed = ThreatModel.parse(str(threat))
        except ValueError:
            return None
        budget = None if eps is None else BudgetKey(str(norm), eps, str(space))
        attack = self.options.get("claim_attack")
        return Claim(value, parsed, budget, attack if isinstance(attack, str) else None)


_BUDGET = (("norm", "linf"), ("eps_space", "pixel"))


def _finite(value: Any) -> float | None:
    """A stranger's number; None unless it is one."""
    usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if usable else None


class ManifestError(ValueError):
    """What is wrong with run.json, in one line, without its path."""


class RunManifest(Struct, frozen=True, kw_only=True):
    """The content of run.json.

    Attributes:
        rows: every planned row, in the order in which tables show them.
        matched: of runs of earlier versions: baselines whose setting was chosen by clean accuracy.
        notes: sentences for the reader of the report.
        finished: whether the last invocation came to its end.
        waiting: rows of earlier invocations that the last one, which has not finished, may come to again.
        superseded: ids of units of earlier invocations whose rows now have other units.
        sequential: how far rows of the last invocation ran and why, where not all ran on all examples.
        outlook: what further commands would do, and how long they would take.
    """

    identity: Identity
    data: DataFacts
    checkpoints: tuple[CheckpointFacts, ...]
    rows: tuple[PlannedCase, ...]
    probes: tuple[ProbeRecord, ...] = ()
    matched: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...]
    invocations: tuple[Invocation, ...]
    finished: bool = False
    waiting: tuple[PlannedCase, ...] = ()
    superseded: tuple[str, ...] = ()
    sequential: Sequential | None = None
    outlook: tuple[Outlook, ...] = ()

    @property
    def unit_ids(self) -> list[str]:
        """The ids of all planned units, in the order of the rows, each once."""
        return list(dict.fromkeys(unit.id for row in self.rows for unit in row.all_units))

    @property
    def last(self) -> Invocation:
        """The last invocation; an empty one where none is recorded."""
        return self.invocations[-1] if self.invocations else Invocation()

    @property
    def judged_budgets(self) -> frozenset[BudgetKey]:
        """Budgets that were asked for; a check may measure at another, which is not judged."""
        return frozenset(row.bound for row in self.rows if not row.for_check and row.attack != CLEAN)

    def checkpoint(self, name: str) -> CheckpointFacts | None:
        """What is known about a checkpoint, if the run has one of that name."""
        return next((c for c in self.checkpoints if c.name == name), None)


def manifest_from(data: Any) -> RunManifest:
    """run.json, checked.

    Raises:
        ManifestError: a part is of the wrong kind, or one that figures are counted from is missing.
    """
    try:
        return msgspec.convert(data, RunManifest)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at ")
        place = where.strip("`").removeprefix("$").removeprefix(".")
        what = what[:1].lower() + what[1:]
        raise ManifestError(f"{place}: {what}" if place else what) from error


def manifest_data(manifest: RunManifest) -> dict[str, Any]:
    """The manifest as JSON data, fields in their order."""
    return msgspec.to_builtins(manifest)
