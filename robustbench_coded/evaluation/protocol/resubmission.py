"""Perturbed inputs that are submitted to a subject: the rule of docs/your-attack.md, 'Resubmission'.

Cross-examination: what broke another subject is shown to this one. 8 bits: the same in pictures that a file
can hold. Levels: the same with pixels that the data could have, where these have fewer levels than 8 bits.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from attacks.attack import EIGHT_BIT_LEVELS, EIGHT_BITS, LEVELS, AnyAttack, Options, Submitted
from robustbench_coded.evaluation.planning.cases import (
    PlannedCase,
    ProbedSubject,
    Submission,
    planned_case,
    sees_queries,
)
from robustbench_coded.evaluation.planning.comparisons import Comparison, comparison_of
from robustbench_coded.evaluation.protocol.plan import EvaluationPlan, Results
from robustbench_coded.schema.case import Case, Perturbation, ThreatModel
from robustbench_coded.schema.words import CONTROLS, STANDARD

# Where the strongest attack leaves no more, there is nothing to find that would be worth it: half a point, as
# in the comparisons of checks.
NOTHING = 0.005
NEAR = 1e-6  # of a level, by which eps may miss it in floating point


@dataclass(frozen=True)
class MeasuredAttack:
    """An attack on whole batches, whose draw is made afterwards, with all of its outcomes.

    Attributes:
        share: what it leaves. digest: equal for equal perturbed inputs; None where a unit has none.
    """

    case: PlannedCase
    share: float
    digest: str | None

    @property
    def kind(self) -> str:
        """The kind of search that found its perturbed inputs: attacks of one kind tend to find the same; the
        strongest of another kind may find something else.
        """
        attack = self.case.made_by
        if attack is None or isinstance(attack, Submitted):
            return "submitted"
        if attack.uses_base:
            return "base"
        return "answers" if attack.declared.asks_answers_alone else attack.declared.kind


Measured = Mapping[tuple[ProbedSubject, Perturbation], Sequence[MeasuredAttack]]


def resubmissions(
    plan: EvaluationPlan, results: Results, comparisons: Sequence[Comparison]
) -> list[PlannedCase]:
    """The cases that submit perturbed inputs so far to these comparisons, and that have not run."""
    measured = _measured(results, plan.size)
    rows: dict[Case, PlannedCase] = {}
    for (subject, perturbation), attacks in measured.items():
        own = [attack.case for attack in attacks if attack.case.submission is None]
        if not own or comparison_of(own[0]) not in comparisons:
            continue
        kinds = _coarse(plan.levels, perturbation)
        at = [case for case in plan.hidden.get(subject, ()) if case.perturbation == perturbation]
        for name, submission in _offers(subject, perturbation, measured, at, kinds):
            row = own[0].of_attack(name, submission=submission)
            if plan.kept.get(row.case, 0) < plan.size:
                rows.setdefault(row.case, row)
    return _not_run(results, rows.values())


def as_victims(results: Results, comparisons: Sequence[Comparison]) -> list[PlannedCase]:
    """The cases that submit to comparisons, one input at a time, perturbed inputs of whole batches."""
    measured = _measured(results, 0)
    rows = []
    for comparison in comparisons:
        subject, perturbation = comparison.subject, comparison.perturbation
        if comparison.inputs != "victim":
            continue
        for attack in _of_each_kind(measured.get((subject, perturbation), ())):
            if attack.kind != "base":  # victims meet the base model's gradients themselves
                name = _name(subject, attack.case.made_by, ())
                case = planned_case(subject, ThreatModel("victim", "unknown"), name, perturbation)
                rows.append(replace(case, submission=Submission((attack.case,))))
    return _not_run(results, rows)


def _not_run(results: Results, rows: Iterable[PlannedCase]) -> list[PlannedCase]:
    known = {case.case for case in results.sizes}
    return [row for row in rows if row.case not in known]


def _measured(results: Results, size: int) -> Measured:
    """The attacks on so many examples by subject and perturbation, the strongest first; those that tie in the
    order in which they ran.
    """
    measured: dict[tuple[ProbedSubject, Perturbation], list[MeasuredAttack]] = {}
    for case in results.sizes:
        if case.attack in CONTROLS or str(case.threat) != "batch/unknown":
            continue
        if sees_queries(case.subject, case.made_by):
            continue  # its inputs follow its queries, which no other attack makes
        if results.sizes[case] >= size and (share := results.share(case)) is not None:
            at = measured.setdefault((case.subject, case.perturbation), [])
            at.append(MeasuredAttack(case, share, results.digests.get(case)))
    return {key: sorted(attacks, key=lambda row: row.share) for key, attacks in measured.items()}


def _of_each_kind(attacks: Sequence[MeasuredAttack]) -> list[MeasuredAttack]:
    """The strongest attack of each kind, the strongest first, without those that found the same inputs."""
    distinct = _distinct(attacks)
    first = {attack.kind: attack for attack in reversed(distinct)}
    return [attack for attack in distinct if first[attack.kind] is attack]


def _distinct(attacks: Sequence[MeasuredAttack]) -> list[MeasuredAttack]:
    """A subject's own attacks, without those that found the same perturbed inputs as one before."""
    own = [attack for attack in attacks if attack.case.submission is None]
    first = {attack.digest or attack.case: attack for attack in reversed(own)}
    return [attack for attack in own if first[attack.digest or attack.case] is attack]


def _offers(
    subject: ProbedSubject,
    perturbation: Perturbation,
    measured: Measured,
    hidden: Sequence[PlannedCase],
    kinds: Sequence[Options],
) -> Iterator[tuple[str, Submission]]:
    """Submissions to a subject, by name.

    Args:
        hidden: attacks on a user defence's checkpoint that the user defence meets although they are no rows.
        kinds: transforms of a subject's own inputs, of those of ``standard`` and of ``hidden``.
    """
    attacks = measured[subject, perturbation]
    strongest = attacks[0]
    # A forward pass for each of them is next to nothing where inputs are answered one by one.
    own = _distinct(attacks) if subject.independent else _of_each_kind(attacks)

    def of_own(transforms: Options) -> tuple[str, Submission]:
        """The worst of a subject's own perturbed inputs, transformed."""
        attack = own[0].case.made_by if len(own) == 1 else None
        return _name(subject, attack, transforms), Submission(tuple(a.case for a in own), transforms)

    before, rounded = strongest.case.submission, (EIGHT_BITS,)
    if before is None:
        yield _name(subject, strongest.case.made_by, rounded), Submission((strongest.case,), rounded)
    elif EIGHT_BITS not in before.transforms:
        name = "{}+{}={}".format(strongest.case.attack, *EIGHT_BITS)
        yield name, replace(before, transforms=(*before.transforms, *rounded))
    if strongest.share <= NOTHING:
        return
    if len(own) > 1:
        yield of_own(rounded)
    seen = {attack.digest for attack in attacks}
    for other in _other_subjects(subject, perturbation, measured):
        base = other.spec == STANDARD
        offered = [
            attack
            for attack in _of_each_kind(measured[other, perturbation])
            if attack.digest is None or attack.digest not in seen
        ]
        for attack in offered[: 2 if base else 1]:
            seen.add(attack.digest)
            for transforms in ((), *kinds) if base else ((),):
                yield _name(other, attack.case.made_by, transforms), Submission((attack.case,), transforms)
    for case in hidden:
        for transforms in ((), *kinds):
            yield _name(case.subject, case.made_by, transforms), Submission((case,), transforms)
    for transforms in kinds:
        yield of_own(transforms)


def _coarse(levels: int | None, perturbation: Perturbation) -> list[Options]:
    """Rounding to the data's levels, where these are fewer than 8 bits have and eps reaches the next one."""
    if levels is None or levels >= EIGHT_BIT_LEVELS:
        return []
    in_pixels = (perturbation.norm, perturbation.eps_space) == ("linf", "pixel")
    if in_pixels and perturbation.eps * levels < 1 - NEAR:
        return []
    return [((LEVELS, str(levels)),)]


def _name(source: ProbedSubject, attack: AnyAttack | None, transforms: Options) -> str:
    size = "" if source.subject.n is None else f":N={source.subject.n}"
    return str(Submitted(f"{source.label}{size}", attack, transforms))


def _other_subjects(
    subject: ProbedSubject, perturbation: Perturbation, measured: Measured
) -> list[ProbedSubject]:
    """Of the same checkpoint, those whose inputs fit this one's batches, standard inference first."""
    same = [other for other, at in measured if at == perturbation and other.checkpoint == subject.checkpoint]
    alone = not subject.batch_dependent
    others = [o for o in same if o != subject and (alone or not o.batch_dependent or o.k == subject.k)]
    return sorted(others, key=lambda other: other.spec != STANDARD)
