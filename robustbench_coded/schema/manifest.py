"""run.json: the cases that were planned, and what the run was made on, its data, checkpoints and defences."""

import math
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Struct, ValidationError, convert, field

from robustbench_coded.schema.case import (
    Case,
    Claim,
    Count,
    Perturbation,
    StatedClaim,
    Subject,
    ThreatModel,
)
from robustbench_coded.schema.words import CLEAN


class CaseRecord(Struct, frozen=True, kw_only=True):
    """A planned case as run.json has it: a subject under attack, or a control.

    Attributes:
        spec: the defence as it was given.
        batch_size: inputs that are answered together, for every defence.
        sequence: batches over which its memory is kept, ``batch_size`` inputs in all; 0: emptied before each.
        examples_planned: examples that are scored (victims, where each has a batch of its own).
        draws: scoring draws; 1 where the answer is not random.
        looks: where a run may stop at several numbers of examples, by what the error of its verdict at this
            one is divided; 0 where the number was fixed beforehand.
        units: ids of the units that attack it, or score it in its own batches: names of their files.
        random_batches: ids of the units that score its perturbed inputs in random batches.
        kept: on how many examples it ran when a later command of the folder began; 0 where none has.
    """

    case: Case
    spec: str = ""
    batch_size: Count | None = None
    sequence: Count = 0
    randomised: bool
    batch_dependent: bool
    has_base: bool = True
    examples_planned: Count
    draws: Count
    looks: Count = 0
    units: tuple[str, ...] = ()
    kept: Count = 0
    random_batches: tuple[str, ...] = ()

    @property
    def all_units(self) -> tuple[str, ...]:
        """Those that attack or score it in its own batches, and those that score it in random ones."""
        return (*self.units, *self.random_batches)


class SampleSizes(Struct, frozen=True, kw_only=True):
    """How an evaluation chose the number of examples of each case.

    Attributes:
        until: ``settled`` by default.
        sample_sizes: numbers of examples that a case could run on.
    """

    until: str = ""
    sample_sizes: tuple[int, ...] = ()


class Protocol(Struct, frozen=True, kw_only=True):
    """The protocol that decided which attacks ran (docs/protocol.md).

    Attributes:
        version: of the table. rungs: those that ran, in the order in which they began.
        stopped: True until every rung has run: no verdict is positive before.
    """

    version: str = ""
    rungs: tuple[str, ...] = ()
    stopped: bool = False


class Stage(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A part of the protocol without which a verdict is not positive, by whatever command its attacks ran.

    Attributes:
        case: the setting of the verdict. name: of the rung, or of what is evaluated beside a defence.
        attacks: all of them. within: the setting in which they run; None for that of the verdict.
    """

    case: Case
    name: str
    attacks: tuple[str, ...]
    within: Case | None = None


class Outlook(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The effect of a further command.

    Attributes:
        purpose: ``all``, to run every row on every example, or ``settle``, what an open verdict needs next.
        case: the subject, threat model and perturbation of that verdict.
        rung: of the protocol. attacks: that run next, or are scored in ``batches`` random batches of
            ``examples`` images.
        option: what to add to the command.
        images: image gradients that it costs, about.
    """

    purpose: str = ""
    case: Case | str | None = None
    rung: str = ""
    attacks: tuple[str, ...] = ()
    batches: int = 0
    examples: int = 0
    option: str = ""
    images: int = 0


class NotRun(Struct, frozen=True):
    """An attack that was asked for and left out; under which threat model ('' for any), why (a clause)."""

    attack: str
    subject: str
    threat: str
    why: str


def as_sentences(remarks: Iterable[str | NotRun]) -> list[str]:
    """One for each; attacks left out for one reason share one, and so do subjects that lack the same ones."""
    attacks: dict[tuple[str, str], list[str]] = {}
    for remark in remarks:
        if isinstance(remark, str):
            attacks[remark, ""] = []
        else:
            where = f"{remark.subject}{remark.threat and f' ({remark.threat})'}"
            attacks.setdefault((f": left out; {remark.why}", where), []).append(remark.attack)
    subjects: dict[tuple[str, ...], list[str]] = {}
    for (reason, where), names in attacks.items():
        subjects.setdefault((reason, *names), []).append(where)
    return [
        f"{', '.join(names)} on {'; '.join(wheres)}{reason}" if names else reason
        for (reason, *names), wheres in subjects.items()
    ]


class Identity(Struct, frozen=True, kw_only=True):
    """Facts that may not change within a run folder.

    Attributes:
        subset: ``stratified`` where ``limit`` examples were drawn at random in each class; None where they
            are the first ones, or all.
        state: ``persistent over B batches``; None where it is reset before each.
        subnormals: ``flushed`` where the processor took numbers below 1.2e-38 for 0; None where it did not.
        csrobust: digest of the code of csrobust that decides outcomes; None in runs of before there was one.
    """

    data: str | None = None
    data_sha256: str | None = None
    limit: int | None = None
    subset: str | None = None
    seed: int | None = None
    state: str | None = None
    subnormals: str | None = None
    csrobust: str | None = None


class DataFacts(Struct, frozen=True, kw_only=True):
    """The data evaluated: ``examples`` of the ``available`` ones; the shape of an image is [C, H, W].

    Attributes:
        images: 8 hexadecimal digits for each image with its label, in their order.
    """

    name: str | None = None
    source: str | None = None
    sha256: str | None = None
    examples: int | None = None
    available: int | None = None
    classes: int | None = None
    image_shape: tuple[int, ...] | None = None
    images: str | None = None


class CheckpointFacts(Struct, frozen=True, kw_only=True):
    """A checkpoint: what it is, and how what its file does not say was settled."""

    name: str
    sha256: str
    path: str | None = None
    arch: str | None = None
    classes: int | None = None
    channels: int | None = None
    metadata: dict[str, Any] = {}
    normalisation: dict[str, Any] = {}
    recognition: dict[str, Any] = {}
    gradients: dict[str, Any] = {}


class ProbeRecord(Struct, frozen=True, kw_only=True):
    """Measurements of the probe of one subject before it was attacked.

    Attributes:
        hidden_by: those operators: ``operator``, ``calls``, ``cut`` (a share) and ``scale`` of each.
        selftests: the id of its self-tests, the name of their file; None where none were made.
    """

    subject: Subject
    figures: dict[str, Any] = {}
    gradients: dict[str, Any] = {}
    hidden_by: tuple[dict[str, Any], ...] = ()
    warnings: tuple[str, ...] = ()
    contradictions: tuple[str, ...] = ()
    selftests: str | None = None


class CodeFacts(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Code of the user's that was evaluated.

    Attributes:
        digest: of all of it, as it was when the first outcomes were computed.
        parts: files, packages, functions and objects, by name -> a hash or a version; and the ``identity``
            that a defence declares.
        after: parts as the last command left them where they changed while they ran: counters, caches.
        unknown: why it cannot be compared as a whole, so that each new command computes it anew.
    """

    digest: str
    parts: dict[str, str] = {}
    after: dict[str, str] = {}
    unknown: str = ""


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
    """The machine that computed."""

    system: str | None = None
    processor: str | None = None
    device: str | None = None
    gpu: str | None = None


class Invocation(Struct, frozen=True, kw_only=True):
    """One command or call that brought the folder up to date. ``options`` are those of the command."""

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
        """The names of the requested attacks, those of presets one by one."""
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
        """The claim, with defaults filled in."""
        stated, inputs = self.options.get("claim"), self.options.get("inputs")
        listed = inputs if isinstance(inputs, list | tuple) else ()
        try:
            claim = convert({"value": stated} if isinstance(stated, float) else stated, StatedClaim)
            threat, eps = claim.setting(listed, self.resolved.eps)
            known = ThreatModel.parse(threat)
        except (ValidationError, ValueError):
            return None
        norm, space = (self.options.get(name, default) for name, default in _PERTURBATION)
        perturbation = None if eps is None else Perturbation(str(norm), eps, str(space))
        return Claim(claim.value, known, perturbation, claim.attack, max(claim.votes, 1))


_PERTURBATION = (("norm", "linf"), ("eps_space", "pixel"))


def _finite(value: Any) -> float | None:
    """A stranger's number; None unless it is one."""
    usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if usable else None


class ManifestError(ValueError):
    """A fault of run.json, in one line, without its path."""


class RunManifest(Struct, frozen=True, kw_only=True):
    """The content of run.json.

    Attributes:
        cases: every planned case, in the order in which tables show them.
        code: of the user's models, defences and attacks, by name.
        notes: sentences for the reader of the report.
        not_run: attacks that were skipped before anything ran.
        finished: whether the last command completed.
        superseded: ids of units of earlier invocations whose cases now have other units.
        sequential: sample sizes of the last command and their reasons, if they differ.
        protocol: that of the last invocation; None before there was one.
        stages: of every verdict that the protocol can make positive.
        outlook: further commands and their costs.
    """

    identity: Identity
    data: DataFacts
    checkpoints: tuple[CheckpointFacts, ...]
    cases: tuple[CaseRecord, ...]
    probes: tuple[ProbeRecord, ...] = ()
    code: dict[str, CodeFacts] = {}
    notes: tuple[str, ...]
    not_run: tuple[NotRun, ...] = ()
    invocations: tuple[Invocation, ...]
    finished: bool = False
    superseded: tuple[str, ...] = ()
    sequential: SampleSizes | None = None
    protocol: Protocol | None = None
    stages: tuple[Stage, ...] = ()
    outlook: tuple[Outlook, ...] = ()

    @property
    def unit_ids(self) -> list[str]:
        """The ids of all planned units, in the order of the cases, each once."""
        return list(dict.fromkeys(unit for record in self.cases for unit in record.all_units))

    @property
    def last(self) -> Invocation:
        """The last invocation; an empty one where none is recorded."""
        return self.invocations[-1] if self.invocations else Invocation()

    @property
    def judged_perturbations(self) -> frozenset[Perturbation]:
        """Those of the attacks."""
        return frozenset(r.case.perturbation for r in self.cases if r.case.attack != CLEAN)

    def checkpoint(self, name: str) -> CheckpointFacts | None:
        """The facts about a checkpoint, if the run has one of that name."""
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
