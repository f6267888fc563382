"""Whether the same attacks ran on a defence and on its base model: otherwise neither a gain nor its absence
counts.

A gain is the difference of two upper bounds, and an attack that ran on one side only lowers one of them. If
stronger attacks ran on the base model only, the gain is overstated; if on the defence only, understated.
Attacks with missing outcomes do not count.

* A gain is believed when what broke the base model ran on the defence, too: adaptively and by transfer.
  Attacks whose loss would leave the base model within half a point of what all of them leave broke nothing.
* It has to hold against each informative attack (gradients of the base model, ten steps or more) alone.
  Where the defence gains nothing over what one of them leaves the base model, more attacks on the base model
  must not turn that into ``no failure found``.
* The lack of a gain is believed when the base model met an attack on another loss than cross-entropy (a
  margin, targets), and whatever else ran on the defence: any of it might have left less of the base model,
  and so a larger gain. Attacks on the cross-entropy are excepted, because one on another loss ran. Nothing is
  asked where half a point is left of the base model, or less.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from attacks.attack_name import PREFIX, SEVERAL, AttackName, split_submitted
from attacks.naming import parse, suited
from robustbench_coded.schema.words import STANDARD, CheckName, CheckOutcome
from robustbench_coded.statistics.attack_checks import ANOTHER_LOSS
from robustbench_coded.statistics.case_results import CaseResult
from robustbench_coded.statistics.check import (
    WORTH,
    Check,
    NextStep,
    accuracy_of,
    difference_of,
    informative,
    is_adaptive,
    is_black_box,
    name_of,
    not_run,
    on_another_loss,
    on_cross_entropy,
    passed,
    run_attacks,
    usable_by,
)


def what_broke_the_base(
    rows: Sequence[CaseResult], ensemble: CaseResult, base: CaseResult, margin: float
) -> Check:
    """Whether the defence met what broke its base model, and gains over each informative attack.

    Args:
        rows: all rows of the run.
        ensemble, base: their `ensemble` rows.
        margin: the gain that counts, a fraction.
    """
    name = CheckName.WHAT_BROKE_THE_BASE
    on_base = _attacks_on(rows, base)
    if not on_base:
        return not_run(name, "No attack made on the base model has all of its outcomes.", ANOTHER_LOSS)
    on_defence = [name_of(row) for row in usable_by(rows, ensemble) if row.complete]
    transferred = _transferred(rows, ensemble)
    forms = {row.key.attack: _missing(name_of(row), on_defence, transferred) for row in on_base}
    gain = difference_of(ensemble, base)
    spare = 0.0 if gain is None else gain.low - margin
    lacking = _lacking(base, on_base, forms, max(min(WORTH, spare), 0.0))
    left = _left(base, on_base)
    if lacking:
        without = _left(base, [row for row in on_base if not forms[row.key.attack]])
        finding = (
            f"{' and '.join(lacking)} took the base model from {without:.1%} to {left:.1%}, and did not run "
            "on the defence both adaptively and by transfer."
        )
        step = run_attacks(*(form for attack in lacking for form in forms[attack]))
        figures = {"base": left, "base_without": without}
        return Check(name, CheckOutcome.NOT_RUN, finding, figures, tuple(lacking), step)
    for row in on_base:
        over = difference_of(ensemble, row) if informative(name_of(row)) else None
        if over is not None and over.high < margin:
            finding = (
                f"Over the {accuracy_of(row):.1%} that {row.key.attack} leaves of the base model, the gain "
                f"is {over}: a larger one rests on attacks to which the base model alone fell."
            )
            figures = {"base": left, "gain": over.estimate, "low": over.low, "high": over.high}
            attacks = (ensemble.strongest_attack, row.key.attack)
            step = NextStep("attack the defence in more ways")
            return Check(name, CheckOutcome.FAILED, finding, figures, attacks, step)
    finding = f"What left the base model {left:.1%} ran on the defence adaptively and by transfer."
    return passed(name, finding, *(row.key.attack for row in on_base), base=left)


def spared(rows: Sequence[CaseResult], ensemble: CaseResult, base: CaseResult) -> str:
    """What the base model did not meet, as a clause with the attacks to run; '' where it met enough."""
    if accuracy_of(base) <= WORTH:
        return ""
    on_base = [name_of(row) for row in _attacks_on(rows, base)]
    if not any(map(on_another_loss, on_base)):
        wanted = run_attacks(suited(ANOTHER_LOSS, ensemble.key.norm))
        return f"no attack on a margin or on targets ran on the base model: {wanted}"
    algorithms = {name.algorithm.lower() for name in on_base}
    alone: dict[str, str] = {}
    for row in usable_by(rows, ensemble):
        # What is submitted counts as the attack that made it, on whatever it was made.
        text = row.key.attack
        made_by = split_submitted(text)[1] if text.startswith(PREFIX) else text
        if made_by == SEVERAL or not row.complete:
            continue
        name = parse(made_by)
        if name.algorithm.lower() not in algorithms and not on_cross_entropy(name):
            alone.setdefault(name.algorithm.lower(), made_by)
    if not alone:
        return ""
    names = tuple(alone.values())
    return (
        f"the base model did not meet {' and '.join(names)}, which ran on the defence: {run_attacks(*names)}"
    )


def _lacking(
    base: CaseResult, on_base: Sequence[CaseResult], forms: Mapping[str, Sequence[str]], worth: float
) -> list[str]:
    """The fewest attacks that the defence did not meet in all forms and that took the base model down.

    Args:
        forms: what is missing of each attack.
        worth: what attacks that are left out may take from the base model.
    """
    met = [row for row in on_base if not forms[row.key.attack]]
    unmet = [row for row in on_base if forms[row.key.attack]]
    left, lacking = _left(base, on_base), []
    while unmet and _left(base, met) - left > worth:
        worst = min(range(len(unmet)), key=lambda index: _left(base, [*met, unmet[index]]))
        met.append(unmet.pop(worst))
        lacking.append(met[-1].key.attack)
    return lacking


def _attacks_on(rows: Sequence[CaseResult], base: CaseResult) -> list[CaseResult]:
    """The base model's own attacks; what was submitted to it is compared by where it came from."""
    found = usable_by(rows, base)
    return [row for row in found if not row.key.attack.startswith(PREFIX) and row.complete]


def _transferred(rows: Sequence[CaseResult], ensemble: CaseResult) -> set[str]:
    """The base model's attacks whose perturbed inputs were submitted to the defence as they are."""
    settings = (ensemble.key.setting, ensemble.key.under(ensemble.key.threat.with_draw("unknown")))
    submitted = (
        split_submitted(row.key.attack)
        for row in rows
        if row.complete and row.key.setting in settings and row.key.attack.startswith(PREFIX)
    )
    return {attack for subject, attack, changes in submitted if subject == STANDARD and not changes}


def _missing(name: AttackName, on_defence: Sequence[AttackName], transferred: set[str]) -> list[str]:
    """The forms of a base model's attack that did not run on the defence, by name."""
    like = [found for found in on_defence if _at_least(found, name)]
    missing = []
    if not any(
        is_adaptive(found) or (is_black_box(found) and found.estimator != "transfer") for found in like
    ):
        missing.append(name.text)
    by_transfer = any(found.estimator == "transfer" for found in like) or transferred & {name.text, SEVERAL}
    if not by_transfer and name.third_party is None and name.estimator == "fresh":
        plain = name.text.removeprefix("relaxed-").removeprefix(f"eot{name.draws}-")
        missing.append(f"transfer-{plain}")
    return missing


def _at_least(found: AttackName, wanted: AttackName) -> bool:
    """Whether it is the same algorithm with as many gradients or queries."""
    if found.algorithm.lower() != wanted.algorithm.lower() or found.third_party != wanted.third_party:
        return False
    return wanted.steps is None or (found.steps or 0) * found.draws >= wanted.steps


def _left(base: CaseResult, attacks: Sequence[CaseResult]) -> float:
    """Accuracy of the base model under the worst of these attacks for each example, and on clean inputs."""
    assert base.cell is not None
    example = base.cell.example
    stands = np.ones(len(example), dtype=bool)
    for cell in [*(row.cell for row in attacks), base.clean]:
        if cell is not None:
            stands &= cell.at_examples(example).correct.all(axis=1)
    return float(stands.mean())
