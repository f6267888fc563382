"""Which attacks of a run may be set against one another, by what their names say."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from attacks.attack_name import AttackName
from attacks.catalogue import BLACK_BOX
from attacks.naming import parse
from attacks.third_party_names import TORCHATTACKS_LINF
from robustbench_coded.schema.case import CaseKey
from robustbench_coded.schema.controls import COMBINED, CONTROLS
from robustbench_coded.statistics.case_results import CaseResult, inherited
from robustbench_coded.statistics.intervals import TAIL
from robustbench_coded.statistics.paired import Difference, NotPaired, paired_difference

FEWEST_STEPS = 10  # of an attack whose figure says what a network keeps

# They raise the cross-entropy unless their name says otherwise; those of other packages do, too, by default.
_CROSS_ENTROPY = frozenset(
    name.lower()
    for name in ("pgd", "fgsm", "apgd-ce", "spsa", *TORCHATTACKS_LINF, "PGDL2")
    if name.upper() != "APGDT"
)


def attacks_under(rows: Sequence[CaseResult], model: CaseKey) -> list[CaseResult]:
    """The attacks with outcomes under one threat model, without nulls and combined rows."""
    return [row for row in rows if row.key.setting == model and _is_attack(row)]


def usable_by(rows: Sequence[CaseResult], ensemble: CaseResult) -> list[CaseResult]:
    """The attacks that this attacker has: his own and those of the attacker who does not know the draw.

    Not those that ran for the table alone, on fewer examples: what they find is not in the ensemble.
    """
    weaker = [row for row in inherited(ensemble.key, rows) if _is_attack(row)]
    return [row for row in attacks_under(rows, ensemble.key.setting) + weaker if not row.table]


def _is_attack(row: CaseResult) -> bool:
    """Whether it is one attack, with outcomes, whose name can be read: those of later versions may not be."""
    if row.cell is None or row.key.attack in (*CONTROLS, *COMBINED):
        return False
    try:
        parse(row.key.attack)
    except ValueError:
        return False
    return True


def name_of(row: CaseResult) -> AttackName:
    """The attack's name, read."""
    return parse(row.key.attack)


def is_black_box(name: AttackName) -> bool:
    """Whether it uses no gradients of the defence; third-party packages write algorithms with a capital."""
    return name.is_submitted or name.estimator == "surrogate" or name.algorithm.lower() in BLACK_BOX


def is_adaptive(name: AttackName) -> bool:
    """Whether its gradients come through the defence itself."""
    return name.estimator != "transfer" and not is_black_box(name)


def informative(name: AttackName) -> bool:
    """Whether an attack's figure says what a network keeps: it follows gradients for ten steps or more.

    FGSM's one step does not, and neither does a search or an attack towards a single target.
    """
    if is_black_box(name) or name.algorithm.lower() == "fgsm" or name.target is not None:
        return False
    return name.steps is None or name.steps >= FEWEST_STEPS


def on_cross_entropy(name: AttackName) -> bool:
    """Whether the attack raises the cross-entropy, by gradients."""
    loss = dict(name.options).get("loss")
    raised = loss not in ("margin", "dlr") and name.algorithm.lower() in _CROSS_ENTROPY
    return raised and not is_black_box(name)


def on_another_loss(name: AttackName) -> bool:
    """Whether the attack is informative and raises a margin; what one of the user's own raises is unknown."""
    return informative(name) and name.third_party != "plugin" and not on_cross_entropy(name)


def differs_only_in(one: AttackName, other: AttackName, *fields: str) -> bool:
    """Whether two attacks are the same but for the named fields."""
    same = {field: getattr(other, field) for field in (*fields, "text")}
    return replace(one, **same) == other


def guesses_draw(ensemble: CaseResult) -> bool:
    """Whether the attacker does not know which draw will answer."""
    return ensemble.randomised and not ensemble.key.threat.draw_known


def lowest(rows: Sequence[CaseResult]) -> CaseResult:
    """The row with the lowest accuracy; the first one of a tie."""
    return min(rows, key=accuracy_of)


def accuracy_of(row: CaseResult) -> float:
    """Its headline accuracy; 1 where there are no outcomes."""
    return 1.0 if row.cell is None else float(np.mean(row.cell.correct))


def difference_of(first: CaseResult, second: CaseResult, tail: float = TAIL) -> Difference | None:
    """`paired_difference`, None where the two rows cannot be paired."""
    try:
        return paired_difference(first, second, tail)
    except NotPaired:
        return None
