"""What the attacks that have run so far left, by what their units say of themselves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from attacks.attack_name import AttackName
from attacks.catalogue import BLACK_BOX
from attacks.naming import parse
from robustbench_coded.evaluation.planning.cases import AttackCase, Subject, Unit
from robustbench_coded.runs.perturbed_digest import NAME, sum_of
from robustbench_coded.schema.case import BudgetKey
from robustbench_coded.schema.controls import CONTROLS


@dataclass(frozen=True)
class MeasuredAttack:
    """An attack on whole batches, whose draw is made afterwards, with all of its outcomes.

    Attributes:
        units: of the first replicate: they hold its perturbed inputs.
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
        if unit.replicate == 0 and unit.row in of_case:
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
            sum_of(one.get(NAME) for one in facts),
        )
        found.setdefault((case.subject, case.budget), []).append(attack)
    return {key: sorted(attacks, key=lambda attack: attack.share) for key, attacks in found.items()}


def share_left(
    case: AttackCase, units: Sequence[Unit], metadata: Mapping[str, Mapping[str, Any]]
) -> float | None:
    """The share of right answers on the draws that attacks are chosen by; None while units are missing.

    Args:
        units: of the first replicate of the case.
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
