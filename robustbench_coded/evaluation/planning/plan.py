"""The units of work of an evaluation, all known before anything runs, and what their attacks will cost."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from msgspec import structs

from attacks import presets
from attacks.attack import Runnable, Submitted, read_runnable
from attacks.presets import Request
from robustbench_coded.evaluation.options.config import AWARE_ATTACKS, IMAGES_PER_UNIT, EvalConfig
from robustbench_coded.evaluation.planning import cases
from robustbench_coded.evaluation.planning.batches import (
    Batch,
    batches_at,
    partition,
    victims_at,
    victims_batch,
)
from robustbench_coded.evaluation.planning.cases import PlannedCase, Unit
from robustbench_coded.schema.case import WHOLE_BATCH, Perturbation, ThreatModel
from robustbench_coded.schema.manifest import NotRun
from robustbench_coded.schema.words import CLEAN, RANDOM_SIGN, STANDARD


@dataclass(frozen=True)
class Plan:
    """Cases and their units, in the order in which they run; what runs otherwise than requested, or not."""

    cases: tuple[PlannedCase, ...]
    units: tuple[Unit, ...]
    notes: tuple[str | NotRun, ...]


def batches_for(subject: cases.ProbedSubject, examples: int) -> list[Batch]:
    """The partition a subject is evaluated on. Input-by-input defences need no full batches."""
    return partition(examples, subject.k, full=subject.batch_dependent)


def cases_for(
    config: EvalConfig, perturbations: Sequence[Perturbation], subjects: Sequence[cases.ProbedSubject]
) -> tuple[list[PlannedCase], list[str | NotRun]]:
    """The rows that these subjects, attacks and perturbations give, and what is left out."""
    requests = config.requests
    rows: list[PlannedCase] = []
    notes: dict[str | NotRun, None] = {}
    for subject in subjects:
        unmoved = structs.replace(perturbations[0], eps=0.0)
        rows.append(cases.planned_case(subject, WHOLE_BATCH, CLEAN, unmoved))
        rows += [cases.planned_case(subject, WHOLE_BATCH, RANDOM_SIGN, p) for p in perturbations if p.eps]
        attacks: list[PlannedCase] = []
        for text in dict.fromkeys((*requests, *_in_their_place(config, subject, notes))):
            attack, request = read_runnable(text), requests.get(text, Request())
            attacks += [
                cases.planned_case(subject, threat, attack, perturbation)
                for threat in _threats(config, subject, attack, request, notes)
                for perturbation in perturbations
            ]
        # A victim sits in a batch of its own, clean and perturbed.
        inputs = dict.fromkeys(case.threat.inputs for case in attacks if case.threat.one_victim)
        rows += [cases.planned_case(subject, ThreatModel(i, "unknown"), CLEAN, unmoved) for i in inputs]
        rows += attacks
    return list(dict.fromkeys(rows)), list(notes)


def _in_their_place(
    config: EvalConfig, subject: cases.ProbedSubject, notes: dict[str | NotRun, None]
) -> list[str]:
    """Attacks for a subject if all requested ones follow a gradient that it does not have."""
    attacks = [*map(read_runnable, config.attack_names)]
    if not attacks or any(not each.differentiates or subject.has_gradient_for(each) for each in attacks):
        return []
    instead = [presets.RELAXED[0] if subject.relaxable else presets.LAST_RESORT[0]]
    if subject.has_base:
        instead.append(presets.TRANSFER)
    instead = [*presets.in_norm(instead, config.norm)]
    notes[f"{subject.label} cannot be differentiated, so {' and '.join(instead)} attacked it instead."] = None
    return instead


def _threats(
    config: EvalConfig,
    subject: cases.ProbedSubject,
    attack: Runnable,
    request: Request,
    notes: dict[str | NotRun, None],
) -> list[ThreatModel]:
    """Under which threat models an attack runs against a subject."""
    # Where an attack of an adaptive preset makes no sense, nothing is missed; one that was named is.
    named = not any(each.on_victims for each in config.requests.values())
    name = str(attack)
    if attack.uses_base and not subject.has_base:
        why = "it is the base model" if subject.spec == STANDARD else "it names no base model"
        if subject.spec != STANDARD or named:
            notes[NotRun(name, subject.label, "", why)] = None
        return []
    if request.if_hidden and (
        not subject.hides_gradient  # torch's own gradients are what they would be
        or (name in presets.LAST_RESORT and subject.relaxable)
    ):
        return []
    if request.if_open and not _suits(name, subject):
        return []
    # What others wrote is tried: it may need no gradient of the defence, and says so if it does.
    if attack.differentiates and attack.package is None and not subject.has_gradient_for(attack):
        notes[NotRun(name, subject.label, "", "it has no gradient")] = None
        return []
    all_inputs = ["batch"] if request.on_batches else []
    if all_inputs and subject.batch_dependent:
        all_inputs = list(dict.fromkeys(config.inputs))
    randomness = "known" if attack.knows == "aware" else "unknown"
    if randomness == "known" and not subject.randomised:
        if named:
            notes[NotRun(name, subject.label, "", "nothing in it is random")] = None
        return []  # nothing is unknown in a deterministic defence: its rows would repeat those of `unknown`
    if subject.batch_dependent and request.on_victims and "victim" not in all_inputs:
        all_inputs.append("victim")
    threats = []
    for threat in (ThreatModel(inputs, randomness) for inputs in all_inputs):
        if note := _no_sense(subject, attack, threat):
            notes[note] = None
        else:
            threats.append(threat)
    if not threats and attack.package is not None:
        threats = [ThreatModel("batch", randomness)]
    return threats


def _suits(attack: str, subject: cases.ProbedSubject) -> bool:
    """True if a preset's attack can find more on a subject than those that run anyway."""
    if attack in presets.COUPLED:  # elsewhere each input's step follows its own loss
        return subject.batch_dependent
    return attack not in presets.JOINT or (subject.randomised and not subject.batch_dependent)


def _no_sense(subject: cases.ProbedSubject, attack: Runnable, threat: ThreatModel) -> str | None:
    """Why an attack is not run under a threat model; None where it is."""
    if threat.inputs != "batch" and attack.package is not None:
        return f"{attack} knows no threat model but batch, so it was run under that alone."
    if threat.inputs != "batch" and cases.sees_queries(subject, attack):
        return f"{attack} on {subject.label} was run under batch alone: every query is remembered."
    return None


_Part = list[tuple[Batch, int]]  # each with its image gradients


@dataclass(frozen=True)
class UnitMaker:
    """Cuts cases into units; two makers with the same fields give the same units with the same ids.

    Attributes:
        group_images: images that may go through the network in one forward.
        fixed: what else decides outcomes (hashes of checkpoints and data, precision ...), as JSON data.
        sizes: sample sizes, between which units are cut; the last one is all examples.
        size: the one that cases are cut for.
    """

    options: EvalConfig
    group_images: int
    fixed: dict[str, Any]
    sizes: tuple[int, ...]
    size: int
    _made: dict[PlannedCase, list[Unit]] = field(default_factory=dict, init=False, compare=False, repr=False)

    def units(self, case: PlannedCase) -> list[Unit]:
        """The units of one case."""
        if case not in self._made:
            self._made[case] = self._units(case)
        return self._made[case]

    def _units(self, case: PlannedCase) -> list[Unit]:
        # A defence that keeps its memory over a sequence answers one sequence after the other.
        per_group = 1 if case.subject.sequence else max(1, self.group_images // case.subject.images)
        return [unit for part in self._parts(case) for unit in self._cut(case, part, per_group)]

    def images(self, case: PlannedCase) -> int:
        """Image gradients of one case, scoring included."""
        return sum(images for part in self._parts(case) for _, images in part)

    def _parts(self, case: PlannedCase) -> list[_Part]:
        """The batches that each sample size adds."""
        whole = self._images_per_batch(case)
        if case.threat.one_victim:
            most, seed = self.options.victims, self.options.seed
            counts = [victims_at(self.sizes, size, most) for size in self.sizes if size <= self.size]
            made = [victims_batch(v, self.sizes[-1], case.subject.k, seed) for v in range(counts[-1])]
            added = [[(batch, whole) for batch in made[slice(*ends)]] for ends in pairwise((0, *counts))]
            return [part for part in added if part]
        batches = batches_for(case.subject, self.sizes[-1])
        return [
            [(batch, max(1, whole * batch.k // case.subject.k)) for batch in part]
            for part in batches_at(batches, self.sizes, self.size)
        ]

    def _cut(self, case: PlannedCase, part: _Part, per_group: int) -> Iterator[Unit]:
        """Units of whole groups of equally large batches."""
        groups: list[_Part] = []
        for item, images in part:
            if groups and len(groups[-1]) < per_group and groups[-1][-1][0].k == item.k:
                groups[-1].append((item, images))
            else:
                groups.append([(item, images)])
        # A step waits for the last of its units: small ones keep all workers busy.
        most = IMAGES_PER_UNIT if len(self.sizes) == 1 else IMAGES_PER_UNIT // 20
        piece: list[_Part] = []
        total = 0
        for group in [*groups, []]:
            cost = sum(images for _, images in group)
            if piece and (not group or total + cost > most):
                indices = tuple(tuple(batch.index for batch, _ in own) for own in piece)
                yield self.identified(Unit(case, indices, total, ""))
                piece, total = [], 0
            piece.append(group)
            total += cost

    def _images_per_batch(self, case: PlannedCase) -> int:
        """Image gradients for one batch (or one victim), scoring included: a forward is a third of one."""
        subject, options = case.subject, self.options
        separate = AWARE_ATTACKS if case.threat.draw_known else 1
        draws = options.draws + options.selection_draws if subject.randomised else 1
        images = subject.images * draws // 3
        if case.submission is not None:
            images += subject.images * case.submission.questions // 3
        elif (attack := case.made_by) is not None and not isinstance(attack, Submitted):
            forwards, backwards = attack.queries(randomised=subject.randomised)
            inputs = 1 if case.threat.one_victim else subject.k
            per_query = inputs if attack.knows == "transfer" else case.images_per_query
            images += separate * per_query * (forwards + 2 * backwards) // 3
        return max(images, 1)

    def identified(self, unit: Unit) -> Unit:
        """The unit under the id that belongs to it, with the units that made what it submits."""
        if unit.case.submission is not None:
            count = None
            if unit.case.threat.one_victim:
                count = victims_at(self.sizes, self.size, self.options.victims)
            made = (self.units_of_first(source, count) for source in unit.case.submission.sources)
            unit = replace(unit, sources=tuple(made))
        return replace(unit, id=cases.unit_id(unit, self.fixed))

    def units_of_first(self, case: PlannedCase, count: int | None) -> tuple[Unit, ...]:
        """The units of a case on whole batches that hold the first so many examples; None for all."""
        k, units = case.subject.k, self.units(case)
        if count is None:
            return tuple(units)
        return tuple(unit for unit in units if any(i * k < count for group in unit.groups for i in group))
