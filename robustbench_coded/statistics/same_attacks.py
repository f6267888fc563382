"""Whether the same attacks ran on a defence and on its base model: otherwise neither a gain nor its absence
counts.

    what_broke_the_base(rows, ensemble, base, margin) -> Check    asked before a gain is believed
    not_compared(rows, ensemble, base)                -> str      asked before the lack of one is believed

A gain is the difference of two upper bounds, and an attack that ran on one side only lowers one of them. If
stronger attacks ran on the base model only, the gain is overstated; if on the defence only, understated.

* A gain is believed when what broke the base model ran on the defence, too: adaptively and by transfer.
  Attacks whose loss would leave the base model within half a point of what all of them leave broke nothing.
* It has to hold against each attack that tells (gradients of the base model, ten steps or more) alone. Where
  the defence gains nothing over what one of them leaves the base model, more attacks on the base model must
  not turn that into ``no failure found``.
* The lack of a gain is believed when the base model met an attack that tells, one of them on another loss
  than cross-entropy (a margin, targets), and whatever else ran on the defence: any of it might have left less
  of the base model, and so a larger gain. Attacks on the cross-entropy are excepted, because one on another
  loss ran. Nothing is asked where half a point is left of the base model, or less.
"""

from collections.abc import Sequence

import numpy as np

from attacks.attack_name import AttackName
from attacks.naming import parse
from attacks.submitted import PREFIX, SEVERAL, split_submitted
from robustbench_coded.schema.controls import STANDARD
from robustbench_coded.schema.words import CheckName, CheckOutcome
from robustbench_coded.statistics.another_loss import (
    ASKED,
    FEWEST_STEPS,
    on_cross_entropy,
    past_cross_entropy,
    tells,
)
from robustbench_coded.statistics.case_results import CaseResult
from robustbench_coded.statistics.check import WORTH, Check
from robustbench_coded.statistics.comparisons import (
    accuracy_of,
    attacks_under,
    difference_of,
    is_adaptive,
    is_black_box,
    name_of,
    usable_by,
)
from robustbench_coded.statistics.next_steps import NextStep, run_attacks


def what_broke_the_base(
    rows: Sequence[CaseResult], ensemble: CaseResult, base: CaseResult, margin: float
) -> Check:
    """Whether the defence met what broke its base model, and gains over each attack that tells.

    Args:
        rows: all rows of the run.
        ensemble, base: their `ensemble` rows.
        margin: the gain that counts, a fraction.
    """
    name = CheckName.WHAT_BROKE_THE_BASE
    on_base = _attacks_on(rows, base)
    on_defence = usable_by(rows, ensemble)
    transferred = _transferred(rows, ensemble)
    if base.cell is None or not on_base:
        return Check(
            name, CheckOutcome.NOT_RUN, "The base model has no outcomes.", next_step=NextStep("run it, too")
        )
    forms = {row.key.attack: _missing(name_of(row), on_defence, transferred) for row in on_base}
    gain = difference_of(ensemble, base)
    spare = 0.0 if gain is None else gain.low - margin
    lacking = _lacking(base, on_base, forms, max(min(WORTH, spare), 0.0))
    left = _left(base, on_base)
    if lacking:
        without = _left(base, [row for row in on_base if not forms[row.key.attack]])
        asked = tuple(dict.fromkeys(form for attack in lacking for form in forms[attack]))
        finding = (
            f"{' and '.join(lacking)} took the base model from {without:.1%} to {left:.1%}, and did not run "
            "on the defence both adaptively and by transfer."
        )
        figures = {"base": left, "base_without": without}
        return Check(name, CheckOutcome.NOT_RUN, finding, figures, tuple(lacking), run_attacks(*asked), asked)
    for row in on_base:
        over = difference_of(ensemble, row) if tells(name_of(row)) else None
        if over is not None and over.high < margin:
            finding = (
                f"Over the {accuracy_of(row):.1%} that {row.key.attack} leaves of the base model, the gain "
                f"is {over}: a larger one rests on attacks to which the base model alone fell."
            )
            attacks = (ensemble.strongest_attack, row.key.attack)
            figures = {"base": left, "gain": over.estimate, "low": over.low, "high": over.high}
            return Check(
                name,
                CheckOutcome.FAILED,
                finding,
                figures,
                attacks,
                NextStep("attack the defence in more ways"),
            )
    finding = f"What left the base model {left:.1%} ran on the defence adaptively and by transfer."
    return Check(name, CheckOutcome.PASSED, finding, {"base": left}, tuple(row.key.attack for row in on_base))


def _lacking(
    base: CaseResult, on_base: Sequence[CaseResult], forms: dict[str, list[str]], worth: float
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


def not_compared(rows: Sequence[CaseResult], ensemble: CaseResult, base: CaseResult) -> str:
    """Why a gain below the margin cannot be believed, as a clause; '' where it can be."""
    if accuracy_of(base) <= WORTH:
        return ""
    on_base = _attacks_on(rows, base)
    if not any(tells(name_of(row)) for row in on_base):
        asked: tuple[str, ...] = ("pgd-20",)
        met = f"no attack with gradients and {FEWEST_STEPS} steps or more ran on the base model"
    elif not any(past_cross_entropy(name_of(row)) for row in on_base):
        asked = (ASKED,)
        met = "no attack on another loss than cross-entropy ran on the base model"
    else:
        asked = _spared(usable_by(rows, ensemble), on_base)
        met = f"the base model did not meet {' and '.join(asked)}, which ran on the defence"
    return f"{met}: {run_attacks(*asked)}" if asked else ""


def _spared(on_defence: Sequence[CaseResult], on_base: Sequence[CaseResult]) -> tuple[str, ...]:
    """Attacks that the defence met and the base model did not, each algorithm once.

    What is submitted counts as the attack that made it, on whatever it was made.
    """
    algorithms = {name_of(row).algorithm.lower() for row in on_base}
    spared: dict[str, str] = {}
    for row in on_defence:
        text = row.key.attack
        made_by = split_submitted(text)[1] if text.startswith(PREFIX) else text
        if made_by == SEVERAL:
            continue
        name = parse(made_by)
        if name.algorithm.lower() not in algorithms and not on_cross_entropy(name):
            spared.setdefault(name.algorithm.lower(), made_by)
    return tuple(spared.values())


def _attacks_on(rows: Sequence[CaseResult], base: CaseResult) -> list[CaseResult]:
    """The base model's own attacks; what was submitted to it is compared by where it came from."""
    found = attacks_under(rows, base.key.setting)
    return [row for row in found if not row.key.attack.startswith(PREFIX) and row.complete]


def _transferred(rows: Sequence[CaseResult], ensemble: CaseResult) -> set[str]:
    """The base model's attacks whose perturbed inputs were submitted to the defence as they are."""
    settings = (ensemble.key.setting, ensemble.key.under(ensemble.key.threat.with_draw("unknown")))
    found = set()
    for row in rows:
        if row.cell is None or row.key.setting not in settings or not row.key.attack.startswith(PREFIX):
            continue
        subject, attack, transforms = split_submitted(row.key.attack)
        if subject == STANDARD and not transforms:
            found.add(attack)
    return found


def _missing(name: AttackName, on_defence: Sequence[CaseResult], transferred: set[str]) -> list[str]:
    """The forms of a base model's attack that did not run on the defence, by name."""
    like = [found for row in on_defence if _at_least(found := name_of(row), name)]
    missing = []
    if not any(is_adaptive(one) or (is_black_box(one) and one.estimator != "transfer") for one in like):
        missing.append(name.text)
    by_transfer = any(one.estimator == "transfer" for one in like) or transferred & {name.text, SEVERAL}
    if not by_transfer and name.third_party is None and name.estimator == "fresh":
        missing.append(f"transfer-{_plain(name)}")
    return missing


def _at_least(found: AttackName, wanted: AttackName) -> bool:
    """Whether it is the same algorithm with as many gradients or queries."""
    if found.algorithm.lower() != wanted.algorithm.lower() or found.third_party != wanted.third_party:
        return False
    return wanted.steps is None or (found.steps or 0) * found.draws >= wanted.steps


def _plain(name: AttackName) -> str:
    return name.text.removeprefix("relaxed-").removeprefix(f"eot{name.draws}-")


def _left(base: CaseResult, attacks: Sequence[CaseResult]) -> float:
    """Accuracy of the base model under the worst of these attacks for each example, and on clean inputs."""
    assert base.cell is not None
    example = base.cell.example
    cells = [row.cell for row in attacks] + [base.clean]
    stands = np.ones(len(example), dtype=bool)
    for cell in cells:
        if cell is not None:
            stands &= cell.at_examples(example).correct.all(axis=1)
    return float(stands.mean())
