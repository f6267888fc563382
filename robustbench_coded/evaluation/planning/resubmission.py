"""What the attacks so far left, and which of their perturbed inputs are submitted to which subject:
the rule of docs/your-attack.md, 'Resubmission'.

Cross-examination: what broke another subject is shown to this one. Shrunk: a defence that only notices the
edge of the ball meets the same perturbations inside it. 8 bits: the same in pictures that a file can
hold. Levels: the same with pixels that the data could have, where these have fewer levels than 8 bits. Slots:
a defence that notices how much of a batch was perturbed meets batches in which some inputs are clean.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from attacks import attack_name, naming
from robustbench_coded.evaluation.planning.cases import (
    PlannedCase,
    ProbedSubject,
    Submission,
    Unit,
    sees_queries,
)
from robustbench_coded.evaluation.planning.plan import UnitMaker
from robustbench_coded.runs.adversarials import DIGEST, sum_of
from robustbench_coded.schema.case import Case, Perturbation
from robustbench_coded.schema.words import CONTROLS, STANDARD


@dataclass(frozen=True)
class MeasuredAttack:
    """An attack on whole batches, whose draw is made afterwards, with all of its outcomes.

    Attributes:
        units: they hold its perturbed inputs.
        share: of right answers on the draws that attacks are chosen by.
        right: right answers on scoring draws.
        digest: equal for equal perturbed inputs; None where a unit has none.
    """

    case: PlannedCase
    units: tuple[Unit, ...]
    share: float
    right: int
    digest: str | None

    @property
    def kind(self) -> str:
        """What sort of search found its perturbed inputs."""
        return kind_of(naming.parse(self.case.attack))


def kind_of(name: attack_name.AttackName) -> str:
    """Attacks of one kind tend to find the same; the strongest of another kind may find something else."""
    if name.estimator == "submitted":
        return "submitted"
    if name.uses_base:
        return "base"
    return "answers" if name.asks_answers_alone else name.traits.kind


def measured_attacks(
    cases: Sequence[PlannedCase], units: Sequence[Unit], metadata: Mapping[str, Mapping[str, Any]]
) -> dict[tuple[ProbedSubject, Perturbation], list[MeasuredAttack]]:
    """The attacks by subject and perturbation, the strongest first; those that tie in the order of the plan.

    Args:
        metadata: of the units that are committed, by id.
    """
    of_case: dict[PlannedCase, list[Unit]] = {case: [] for case in cases}
    for unit in units:
        if unit.case in of_case:
            of_case[unit.case].append(unit)
    found: dict[tuple[ProbedSubject, Perturbation], list[MeasuredAttack]] = {}
    for case, own in of_case.items():
        if case.attack in CONTROLS or case.for_check or str(case.threat) != "batch/unknown":
            continue
        if case.submission is None and sees_queries(case.subject, naming.parse(case.attack)):
            continue  # its inputs follow its queries, which nobody else has asked
        share = share_left(case, own, metadata)
        if share is None:
            continue
        facts = [metadata[unit.id] for unit in own]
        attack = MeasuredAttack(
            case,
            tuple(own),
            share,
            _total(facts, "right_scoring"),
            sum_of(one.get(DIGEST) for one in facts),
        )
        found.setdefault((case.subject, case.perturbation), []).append(attack)
    return {key: sorted(attacks, key=lambda attack: attack.share) for key, attacks in found.items()}


def share_left(
    case: PlannedCase, units: Sequence[Unit], metadata: Mapping[str, Mapping[str, Any]]
) -> float | None:
    """The share of right answers on the draws that attacks are chosen by; None while units are missing.

    Args:
        units: of the case.
        metadata: of the units that are committed, by id.
    """
    if not units or any(unit.id not in metadata for unit in units):
        return None
    facts = [metadata[unit.id] for unit in units]
    seen = case.subject.randomised and not case.threat.draw_known
    purpose = "selection" if seen else "scoring"
    answers = _total(facts, f"answers_{purpose}")
    return _total(facts, f"right_{purpose}") / answers if answers else None


def of_each_kind(attacks: Sequence[MeasuredAttack]) -> list[MeasuredAttack]:
    """The strongest attack of each kind, the strongest first, without those that found the same inputs."""
    kinds: set[str] = set()
    found = []
    for attack in distinct(attacks):
        if attack.kind not in kinds:
            kinds.add(attack.kind)
            found.append(attack)
    return found


def distinct(attacks: Sequence[MeasuredAttack]) -> list[MeasuredAttack]:
    """Attacks of this run's own, without those that found the same perturbed inputs as one before."""
    seen: set[str] = set()
    found = []
    for attack in attacks:
        if attack.case.submission is None and attack.digest not in seen:
            found.append(attack)
            if attack.digest is not None:
                seen.add(attack.digest)
    return found


def _total(facts: Sequence[Mapping[str, Any]], name: str) -> int:
    return sum(int(one.get(name, 0)) for one in facts)


LENGTHS = ("0.9", "0.75", "0.5")
SHARES_OF_SLOTS = ("0.75", "0.5")
# Where the strongest attack leaves no more, there is nothing to find that would be worth it: half a point, as
# in the comparisons of checks.
NOTHING = 0.005
EIGHT_BIT_LEVELS = 255
NEAR = 1e-6  # of a level, by which eps may miss it in floating point

Measured = Mapping[tuple[ProbedSubject, Perturbation], Sequence[MeasuredAttack]]


def resubmissions(
    measured: Measured,
    hidden: Mapping[ProbedSubject, Sequence[PlannedCase]],
    maker: UnitMaker,
    levels: int | None = None,
) -> list[PlannedCase]:
    """The rows that submit what was found so far.

    Args:
        measured: the attacks so far, the strongest first.
        hidden: attacks on a user defence's checkpoint that the user defence meets although they are no rows.
        levels: of the data's pixels, as ``data.levels.levels_of`` has them.
    """
    rows: dict[Case, PlannedCase] = {}
    for (subject, perturbation), attacks in measured.items():
        own = [attack.case for attack in attacks if attack.case.submission is None]
        known = {attack.case.case for attack in attacks}
        kinds = [*_coarse(levels, perturbation), *_in_some_slots(subject)]
        at = [case for case in hidden.get(subject, ()) if case.perturbation == perturbation]
        for name, submission in _offers(subject, perturbation, measured, at, maker, kinds) if own else ():
            row = own[0].of_attack(name, submission=submission)
            if row.case not in known:
                rows.setdefault(row.case, row)
    return list(rows.values())


def _offers(
    subject: ProbedSubject,
    perturbation: Perturbation,
    measured: Measured,
    hidden: Sequence[PlannedCase],
    maker: UnitMaker,
    kinds: Sequence[attack_name.Transforms],
) -> Iterator[tuple[str, Submission]]:
    """What is submitted to a subject, by name.

    Args:
        kinds: transforms of a subject's own inputs, of those of ``standard`` and of ``hidden``.
    """
    attacks = measured[subject, perturbation]
    strongest = attacks[0]
    # A forward pass for each of them is next to nothing where inputs are answered one by one.
    own = distinct(attacks) if subject.independent else of_each_kind(attacks)

    def of_own(transforms: attack_name.Transforms) -> tuple[str, Submission]:
        """The worst of a subject's own perturbed inputs, transformed."""
        attack = own[0].case.attack if len(own) == 1 else attack_name.SEVERAL
        return _name(subject, attack, transforms), Submission(tuple(a.units for a in own), transforms)

    before = strongest.case.submission
    if before is None:
        yield (
            _name(subject, strongest.case.attack, (attack_name.EIGHT_BITS,)),
            Submission((strongest.units,), (attack_name.EIGHT_BITS,)),
        )
    elif attack_name.EIGHT_BITS not in before.transforms:
        name = "{}+{}={}".format(strongest.case.attack, *attack_name.EIGHT_BITS)
        yield name, replace(before, transforms=(*before.transforms, attack_name.EIGHT_BITS))
    if not strongest.right or strongest.share <= NOTHING:
        return
    if len(own) > 1:
        yield of_own((attack_name.EIGHT_BITS,))
    seen = {attack.digest for attack in attacks}
    for other in _other_subjects(subject, perturbation, measured):
        base = other.spec == STANDARD
        found = [
            a for a in of_each_kind(measured[other, perturbation]) if a.digest is None or a.digest not in seen
        ]
        for attack in found[: 2 if base else 1]:
            seen.add(attack.digest)
            for transforms in ((), *kinds) if base else ((),):
                yield _name(other, attack.case.attack, transforms), Submission((attack.units,), transforms)
    for case in hidden:
        made = (tuple(maker.units(case)),)
        for transforms in ((), *kinds):
            yield _name(case.subject, case.attack, transforms), Submission(made, transforms)
    for transforms in (*(((attack_name.SHRUNK, length),) for length in LENGTHS), *kinds):
        yield of_own(transforms)


def _coarse(levels: int | None, perturbation: Perturbation) -> list[attack_name.Transforms]:
    """Rounding to the data's levels, where these are fewer than 8 bits have and eps reaches the next one."""
    if levels is None or levels >= EIGHT_BIT_LEVELS:
        return []
    reaches = (
        perturbation.norm != "linf"
        or perturbation.eps_space != "pixel"
        or perturbation.eps * levels >= 1 - NEAR
    )
    return [((attack_name.LEVELS, str(levels)),)] if reaches else []


def _in_some_slots(subject: ProbedSubject) -> list[attack_name.Transforms]:
    """Not for coded inputs: they mix those of a batch in fixed shares, and fewer perturbed ones do less."""
    if not subject.batch_dependent or subject.subject.n is not None:
        return []
    return [((attack_name.SLOTS, share),) for share in SHARES_OF_SLOTS]


def _name(source: ProbedSubject, attack: str, transforms: attack_name.Transforms) -> str:
    size = "" if source.subject.n is None else f":N={source.subject.n}"
    return attack_name.name_of_submitted(f"{source.label}{size}", attack, transforms)


def _other_subjects(
    subject: ProbedSubject, perturbation: Perturbation, measured: Measured
) -> list[ProbedSubject]:
    """Of the same checkpoint, those whose inputs fit this one's batches, standard inference first."""
    others = [
        other
        for other, at in measured
        if at == perturbation
        and other != subject
        and other.checkpoint == subject.checkpoint
        and not (other.batch_dependent and subject.batch_dependent and other.k != subject.k)
    ]
    return sorted(others, key=lambda other: other.spec != STANDARD)
