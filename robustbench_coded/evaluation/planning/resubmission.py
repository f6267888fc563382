"""What the attacks so far left, and which of their perturbed inputs are submitted to which subject:
the rule of docs/later-attacks.md, 'Resubmission'.

Cross-examination: what broke another subject is shown to this one. Shrunk: a defence that only notices the
edge of the ball meets the same perturbations inside it. 8 bits: the same in pictures that a file can
hold. Levels: the same with pixels that the data could have, where these have fewer levels than 8 bits. Slots:
a defence that notices how much of a batch was perturbed meets batches in which some inputs are clean.
"""

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from attacks.attack_name import (
    BITS,
    EIGHT_BITS,
    LEVELS,
    SEVERAL,
    SHRUNK,
    SLOTS,
    AttackName,
    Transforms,
    name_of_submitted,
)
from attacks.catalogue import BLACK_BOX
from attacks.naming import parse
from robustbench_coded.evaluation.planning.cases import AttackCase, Subject, Submission, Unit
from robustbench_coded.evaluation.planning.plan import UnitMaker
from robustbench_coded.runs.adversarials import DIGEST, sum_of
from robustbench_coded.schema.case import BudgetKey, CaseKey
from robustbench_coded.schema.words import CONTROLS, STANDARD


@dataclass(frozen=True)
class MeasuredAttack:
    """An attack on whole batches, whose draw is made afterwards, with all of its outcomes.

    Attributes:
        units: they hold its perturbed inputs.
        share: of right answers on the draws that attacks are chosen by.
        right: right answers on scoring draws.
        digest: equal for equal perturbed inputs; None where an earlier version measured them.
    """

    case: AttackCase
    units: tuple[Unit, ...]
    share: float
    right: int
    digest: str | None

    @property
    def kind(self) -> str:
        """What sort of search found its perturbed inputs."""
        return kind_of(parse(self.case.attack))


def kind_of(name: AttackName) -> str:
    """Attacks of one kind tend to find the same; the strongest of another kind may find something else."""
    if name.is_submitted:
        return "submitted"
    if name.uses_base:
        return "base"
    if name.algorithm.lower() in BLACK_BOX:
        return "answers"
    return "auto-pgd" if name.algorithm.startswith(("aa", "apgd")) or name.third_party else "pgd"


def measured_attacks(
    cases: Sequence[AttackCase], units: Sequence[Unit], metadata: Mapping[str, Mapping[str, Any]]
) -> dict[tuple[Subject, BudgetKey], list[MeasuredAttack]]:
    """The attacks by subject and budget, the strongest first; those that tie in the order of the plan.

    Args:
        metadata: of the units that are committed, by id.
    """
    of_case: dict[AttackCase, list[Unit]] = {case: [] for case in cases}
    for unit in units:
        if unit.row in of_case:
            of_case[unit.row].append(unit)
    found: dict[tuple[Subject, BudgetKey], list[MeasuredAttack]] = {}
    for case, own in of_case.items():
        if case.attack in CONTROLS or case.for_check or str(case.threat) != "batch/unknown":
            continue
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
        found.setdefault((case.subject, case.budget), []).append(attack)
    return {key: sorted(attacks, key=lambda attack: attack.share) for key, attacks in found.items()}


def share_left(
    case: AttackCase, units: Sequence[Unit], metadata: Mapping[str, Mapping[str, Any]]
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
    answers = _total(facts, f"answers_{purpose}")  # none: of an earlier version
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
# Of what the attacks planned on a subject cost: the most that inputs of other subjects may cost, beyond the
# strongest of each subject of the same checkpoint.
SHARE = 16
# Where the strongest attack leaves no more, there is nothing to find that would be worth it: half a point, as
# in the comparisons of checks.
NOTHING = 0.005
EIGHT_BIT_LEVELS = 255
NEAR = 1e-6  # of a level, by which eps may miss it in floating point

Measured = Mapping[tuple[Subject, BudgetKey], Sequence[MeasuredAttack]]


@dataclass(frozen=True)
class Offer:
    """Perturbed inputs that may be submitted.

    Attributes:
        needed: whether they are submitted whatever it costs.
    """

    name: str
    submission: Submission
    needed: bool


def resubmissions(
    measured: Measured,
    hidden: Mapping[Subject, Sequence[AttackCase]],
    maker: UnitMaker,
    levels: int | None = None,
) -> tuple[list[AttackCase], list[str]]:
    """The rows that submit what was found so far, and sentences on what was left out for its cost.

    Args:
        measured: the attacks so far, the strongest first.
        hidden: attacks on a plug-in's checkpoint that the plug-in meets although they are no rows.
        levels: of the data's pixels, as ``data.levels.levels_of`` has them.
    """
    rows: dict[CaseKey, AttackCase] = {}
    left_out: list[str] = []
    for (subject, budget), attacks in measured.items():
        own = [attack for attack in attacks if attack.case.submission is None]
        if not own:
            continue
        known = {attack.case.key for attack in attacks}
        allowed = sum(unit.images for attack in own for unit in attack.units) // SHARE
        spent = late = 0
        kinds = [*_coarse(levels, budget), *_in_some_slots(subject)]
        for offer in _offers(subject, budget, measured, hidden.get(subject, ()), maker, kinds):
            row = _row(own[0].case, offer)
            cost = maker.images(row)
            if row.key in known:
                spent += 0 if offer.needed else cost
            elif row.key in rows:
                continue
            elif not offer.needed and spent + cost > allowed:
                late += 1
            else:
                spent += 0 if offer.needed else cost
                rows[row.key] = row
        if late:
            left_out.append(
                f"Perturbed inputs of {late} more attacks on other subjects were not submitted to "
                f"{subject.label} on {subject.checkpoint}: with them, all would cost more than 1/{SHARE} of "
                "its own attacks."
            )
    return list(rows.values()), left_out


def _row(like: AttackCase, offer: Offer) -> AttackCase:
    return replace(like, attack=offer.name, step_size=None, submission=offer.submission)


def _offers(
    subject: Subject,
    budget: BudgetKey,
    measured: Measured,
    hidden: Sequence[AttackCase],
    maker: UnitMaker,
    kinds: Sequence[Transforms],
) -> Iterator[Offer]:
    """What may be submitted to a subject, in the order of its worth.

    Args:
        kinds: transforms of a subject's own inputs, of those of ``standard`` and of ``hidden``.
    """
    attacks = measured[subject, budget]
    own = of_each_kind(attacks)
    if subject.independent:  # a forward pass for each of them is next to nothing
        own = distinct(attacks)
    yield from _rounded(subject, attacks[0], own)
    if not attacks[0].right or attacks[0].share <= NOTHING:
        return
    seen = {attack.digest for attack in attacks}
    others = _other_subjects(subject, budget, measured)
    for other in [one for one in others if one.checkpoint == subject.checkpoint]:
        offered = _new(measured[other, budget], seen)[:2]
        for place, attack in enumerate(offered):
            seen.add(attack.digest)
            needed = place == 0 or other.spec == STANDARD
            yield Offer(_name(other, subject, attack.case.attack), _submission(attack), needed)
            for transforms in kinds if other.spec == STANDARD else ():
                name = _name(other, subject, attack.case.attack, transforms)
                yield Offer(name, _submission(attack, transforms), needed)
    for case in hidden:
        if case.budget == budget:
            made = (tuple(maker.units(case)),)
            for transforms in ((), *kinds):
                name = _name(case.subject, subject, case.attack, transforms)
                yield Offer(name, Submission(made, transforms), needed=True)
    for length in LENGTHS:
        yield _of_own(subject, own, ((SHRUNK, length),))
    for transforms in kinds:
        yield _of_own(subject, own, transforms)
    for other in [one for one in others if one.checkpoint != subject.checkpoint]:
        offered = _new(measured[other, budget], seen)[:1]
        for attack in offered:
            seen.add(attack.digest)
            yield Offer(_name(other, subject, attack.case.attack), _submission(attack), needed=False)


def _coarse(levels: int | None, budget: BudgetKey) -> list[Transforms]:
    """Rounding to the data's levels, where these are fewer than 8 bits have and eps reaches the next one."""
    if levels is None or levels >= EIGHT_BIT_LEVELS:
        return []
    reaches = budget.norm != "linf" or budget.eps_space != "pixel" or budget.eps * levels >= 1 - NEAR
    return [((LEVELS, str(levels)),)] if reaches else []


def _in_some_slots(subject: Subject) -> list[Transforms]:
    """Not for coded inputs: they mix those of a batch in fixed shares, and fewer perturbed ones do less."""
    if not subject.batch_dependent or subject.n is not None:
        return []
    return [((SLOTS, share),) for share in SHARES_OF_SLOTS]


def _new(attacks: Sequence[MeasuredAttack], seen: Container[str | None]) -> list[MeasuredAttack]:
    """The strongest of each kind, without perturbed inputs that were met before."""
    return [one for one in of_each_kind(attacks) if one.digest is None or one.digest not in seen]


def _rounded(subject: Subject, strongest: MeasuredAttack, own: Sequence[MeasuredAttack]) -> Iterator[Offer]:
    """The strongest attack at 8 bits, and the worst of all."""
    if (BITS, "8") not in _transforms(strongest):
        yield _moved(subject, strongest, EIGHT_BITS)
    if strongest.right and strongest.share > NOTHING and len(own) > 1:
        yield _of_own(subject, own, (EIGHT_BITS,))


def _transforms(attack: MeasuredAttack) -> Transforms:
    return () if attack.case.submission is None else attack.case.submission.transforms


def _moved(subject: Subject, attack: MeasuredAttack, transform: tuple[str, str]) -> Offer:
    """One attack's inputs with one more transform."""
    before = attack.case.submission
    if before is None:
        name = _name(subject, subject, attack.case.attack, (transform,))
        return Offer(name, _submission(attack, (transform,)), needed=True)
    name = f"{attack.case.attack}+{transform[0]}={transform[1]}"
    return Offer(name, replace(before, transforms=(*before.transforms, transform)), needed=True)


def _of_own(subject: Subject, own: Sequence[MeasuredAttack], transforms: Transforms) -> Offer:
    """A subject's own perturbed inputs, transformed: the worst of them."""
    attack = own[0].case.attack if len(own) == 1 else SEVERAL
    submission = Submission(tuple(attack.units for attack in own), transforms)
    return Offer(_name(subject, subject, attack, transforms), submission, needed=True)


def _submission(attack: MeasuredAttack, transforms: Transforms = ()) -> Submission:
    return Submission((attack.units,), transforms)


def _name(source: Subject, target: Subject, attack: str, transforms: Transforms = ()) -> str:
    size = "" if source.n is None else f":N={source.n}"
    checkpoint = "" if source.checkpoint == target.checkpoint else f"@{source.checkpoint}"
    return name_of_submitted(f"{source.label}{size}{checkpoint}", attack, transforms)


def _other_subjects(subject: Subject, budget: BudgetKey, measured: Measured) -> list[Subject]:
    """Those whose perturbed inputs fit this one's batches, standard inference first."""
    others = [
        other
        for other, at in measured
        if at == budget
        and other != subject
        and not (other.batch_dependent and subject.batch_dependent and other.k != subject.k)
    ]
    return sorted(others, key=lambda other: other.spec != STANDARD)
