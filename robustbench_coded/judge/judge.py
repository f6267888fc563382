"""The verdict on one threat model of a run: the figures that the rules look at, from the results of the run.

Neither a gain nor its absence counts unless the same attacks ran on a defence and on its base model. A gain
is the difference of two upper bounds, and an attack that ran on one side only lowers one of them. If stronger
attacks ran on the base model only, the gain is overstated; if on the defence only, understated. Attacks with
missing outcomes do not count.

* A gain is believed where it holds over what the base model retains under the attacks that ran on both.
* The lack of a gain is believed when the base model met an attack on another loss than cross-entropy (a
  margin, targets), and whatever else ran on the defence: any of it might have left less of the base model,
  and so a larger gain. Attacks on the cross-entropy are excepted, because one on another loss ran. Nothing is
  asked where half a point is left of the base model, or less.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from attacks import presets
from attacks.attack import AnyAttack, Submitted
from robustbench_coded.judge import checks
from robustbench_coded.judge.attack_checks import another_loss
from robustbench_coded.judge.case_results import CaseResult
from robustbench_coded.judge.checks import Check, advised, checkpoints_ensemble, difference_of
from robustbench_coded.judge.intervals import Interval
from robustbench_coded.judge.outcomes import Cell, broken_below, uninformative
from robustbench_coded.judge.paired import Difference
from robustbench_coded.judge.rules import decide
from robustbench_coded.judge.verdict import Verdict, accuracy_text
from robustbench_coded.schema.case import Claim
from robustbench_coded.schema.words import CLEAN, ENSEMBLE, MARGIN, STANDARD, CheckName, VerdictName


def attacks_on_base_alone(
    results: Sequence[CaseResult], ensemble: CaseResult, base: CaseResult, margin: float
) -> tuple[tuple[str, ...], str]:
    """The attacks to which the base model fell and that a defence with a gain must meet, too, and why, as a
    clause; none where the gain holds over what the attacks that ran on both leave of the base model.

    Args:
        results: all results of the run.
        ensemble, base: their `ensemble` results.
        margin: the gain that counts, a fraction.
    """
    ran = [result.made_by for result in checks.usable_by(results, ensemble) if result.complete]
    on_defence = [attack for attack in ran if attack.knows not in ("transfer", "submitted")]
    on_both, alone = list[CaseResult](), list[CaseResult]()
    for result in _attacks_on(results, base):
        met = any(_at_least(attack, result.made_by) for attack in on_defence)
        (on_both if met else alone).append(result)
    gain = checks.difference_of(ensemble, _under_all(base, on_both))
    if gain is None or gain.low > margin:
        return (), ""
    names = tuple(result.case.attack for result in alone)
    return names, (
        f"over the {gain.second:.1%} of the base model under the attacks that ran on both, the gain is "
        f"{gain}: {' and '.join(names)} ran on the base model alone"
    )


def unmatched_attacks(
    results: Sequence[CaseResult], ensemble: CaseResult, base: CaseResult
) -> tuple[tuple[str, ...], str]:
    """The attacks that should run on the base model, too, and why, as a clause; none where enough did."""
    if checks.accuracy_of(base) <= checks.WORTH:
        return (), ""
    on_base = [result.made_by for result in _attacks_on(results, base)]
    if not any(map(checks.on_another_loss, on_base)):
        (wanted,) = presets.in_norm([presets.ANOTHER_LOSS], ensemble.case.perturbation.norm)
        return (wanted,), f"no attack on a margin or on targets ran on the base model: run {wanted}"
    algorithms = {name.algorithm.lower() for name in on_base}
    alone: dict[str, str] = {}
    for result in checks.usable_by(results, ensemble):
        # What is submitted counts as the attack that made it, on whatever it was made.
        attack = result.made_by
        made_by = attack.attack if isinstance(attack, Submitted) else attack
        if made_by is None or not result.complete:
            continue
        if made_by.algorithm.lower() not in algorithms and not checks.on_cross_entropy(made_by):
            alone.setdefault(made_by.algorithm.lower(), str(made_by))
    names = tuple(alone.values())
    if not names:
        return (), ""
    return names, f"the base model was not attacked with {' and '.join(names)}, which ran on the defence"


def _attacks_on(results: Sequence[CaseResult], base: CaseResult) -> list[CaseResult]:
    """The base model's own attacks; what was submitted to it is compared by where it came from."""
    usable = checks.usable_by(results, base)
    ran = (result for result in usable if result.complete and not result.faulty)
    return [result for result in ran if not isinstance(result.made_by, Submitted)]


def _at_least(own: AnyAttack, wanted: AnyAttack) -> bool:
    """True if it is the same algorithm with as many gradients or queries."""
    same = own.algorithm.lower() == wanted.algorithm.lower() and own.package == wanted.package
    return same and (wanted.steps is None or (own.steps or 0) * own.draws >= wanted.steps)


def _under_all(base: CaseResult, attacks: Sequence[CaseResult]) -> CaseResult:
    """The base model under the worst of these attacks for each example, and on clean inputs."""
    assert base.cell is not None
    prediction = base.cell.prediction.copy()
    stands = np.ones(len(prediction), dtype=bool)
    for cell in [*(result.cell for result in attacks), base.clean]:
        if cell is not None:
            stands &= cell.at_examples(base.cell.example).correct.all(axis=1)
    prediction[stands] = base.cell.label[stands, None]
    return replace(base, cell=replace(base.cell, prediction=prediction))


Figure = TypeVar("Figure", Interval, Difference)


def judge(
    results: Sequence[CaseResult],
    ensemble: CaseResult,
    checks: Sequence[Check],
    *,
    margin: float = MARGIN,
    claim: Claim | None = None,
    stopped: bool = False,
) -> Verdict:
    """Judges one threat model of a run. Attacks with missing outcomes do not count.

    Args:
        results: all results of the run.
        ensemble: the defence's `ensemble` result under the threat model.
        checks: those of the threat model and of the self-tests. Those that only a positive verdict needs
            are added where the figures leave room for it.
        margin: the gain that counts, a fraction.
        claim: what is claimed for the defence; it says nothing here if it is about another threat model or
            perturbation.
        stopped: True if the run was stopped before every rung of the protocol had run.
    """
    base = base_ensemble(results, ensemble)
    whole, whole_base = _complete(ensemble), _complete(base)
    norm, setting, threat = ensemble.case.perturbation.norm, ensemble.case.setting, ensemble.case.threat
    ran = {result.case.attack for result in results if result.case.setting == setting and result.complete}
    figures = Verdict(
        VerdictName.NOT_SETTLED,
        "",
        None,
        margin,
        compared=ensemble.has_base and ensemble.case.subject.defence != STANDARD,
        claim=claim if claim and claim.is_about(ensemble.case) else None,
        missing=not ensemble.complete or (base is not None and not base.complete),
        stopped=stopped,
        faulty=ensemble.faulty + (0 if base is None else base.faulty),
        checks=advised(checks, norm, ran),
        unknown_draw=str(threat.with_draw("unknown")) if threat.draw_known else "",
    )
    if whole is None:
        return decide(figures)
    figures = _measured(figures, results, whole, whole_base)
    if figures.above_the_bar and CheckName.ANOTHER_LOSS not in [check.name for check in checks]:
        figures = replace(figures, checks=advised([another_loss(results, whole), *checks], norm, ran))
    return decide(figures)


def base_ensemble(results: Sequence[CaseResult], ensemble: CaseResult) -> CaseResult | None:
    """The ensemble of standard inference on the same checkpoint and perturbation, which serves every threat
    model.

    None for standard inference itself, for a defence that names no base model, and where it was not run.
    """
    return checkpoints_ensemble(results, ensemble) if ensemble.has_base else None


def _measured(
    figures: Verdict, results: Sequence[CaseResult], whole: CaseResult, base: CaseResult | None
) -> Verdict:
    """``figures`` with what the outcomes say, ``whole`` and ``base`` having all of theirs."""
    claim, answers = figures.claim, _clean_answers(results, whole)
    clean = replace(
        whole, case=whole.case.of_attack(CLEAN), cell=whole.clean, random_batches=whole.clean_random_batches
    ).interval()
    broken_at = broken_below(answers)
    weaker = _of_unknown_draw(results, whole)
    if base is not None:
        gain = _bounded(lambda row: difference_of(row, base), whole, weaker)
        missing_here, missing_on_base, unmatched = tuple[str, ...](), tuple[str, ...](), ""
        if gain is not None and gain.low > figures.bar:
            missing_here, unmatched = attacks_on_base_alone(results, whole, base, figures.bar)
        else:
            missing_on_base, unmatched = unmatched_attacks(results, whole, base)
        figures = replace(
            figures,
            gain=gain,
            unmatched_attacks=unmatched,
            missing_on_base=missing_on_base,
            missing_here=missing_here,
        )
    claimed = None
    if claim is not None and not figures.missing:
        votes = claim.votes
        claimed = _bounded(lambda row: row.of_majorities(votes).interval(), whole, weaker)
    checkpoint = _complete(checkpoints_ensemble(results, whole))
    figures = replace(figures, claimed=claimed)
    return replace(
        figures,
        accuracy=_bounded(CaseResult.interval, whole, weaker),
        bar=figures.bar if figures.compared else broken_at,
        broken_at=broken_at,
        clean=clean,
        refuted_by=_refuted_by(results, whole, claim) if claim and figures.refuted_for else "",
        base=None if checkpoint is None else checkpoint.interval(),
        beside=None if figures.compared or checkpoint is None else difference_of(whole, checkpoint),
        constant=answers is not None and clean is not None and uninformative(answers, clean.high),
    )


def _clean_answers(results: Sequence[CaseResult], whole: CaseResult) -> Cell | None:
    """The clean answers that shares of classes come from: of all images where few of them are victims."""
    rows = (row for row in results if row.case.attack == CLEAN and row.case.subject == whole.case.subject)
    alone = whole.case.threat.one_victim
    return next((row.cell for row in rows if alone and not row.case.threat.one_victim), whole.clean)


def _of_unknown_draw(results: Sequence[CaseResult], whole: CaseResult) -> CaseResult | None:
    """The ensemble of the attacker who differs only in not knowing the draw; None where it knows none, or
    where no such attack is complete.
    """
    if not whole.case.threat.draw_known:
        return None
    case = whole.case.under(whole.case.threat.with_draw("unknown")).of_attack(ENSEMBLE)
    return _complete(next((result for result in results if result.case == case), None))


def _bounded(
    of: Callable[[CaseResult], Figure | None], whole: CaseResult, weaker: CaseResult | None
) -> Figure | None:
    """A figure of an attacker who may know the draw: he leaves at most what ``weaker`` has, who does not."""
    figure, bound = of(whole), None if weaker is None else of(weaker)
    if figure is None or bound is None or bound.kind is None:
        return figure
    return replace(figure, high=bound.high)


def _refuted_by(results: Sequence[CaseResult], whole: CaseResult, claim: Claim) -> str:
    """What the strongest attack leaves, and the one under which the claim was made, as a clause."""
    accuracies = {
        result.case.attack: interval
        for result in results
        if result.case in whole.sources
        and (interval := result.of_majorities(claim.votes).interval()) is not None
    }
    clauses = []
    if strongest := accuracies.get(whole.combination.strongest_attack):
        how = "refutes it alone and" if strongest.high < claim.value else "does not refute it alone and"
        clauses.append(f"{whole.combination.strongest_attack} {how} leaves {accuracy_text(strongest)}")
    if claim.attack is not None and claim.attack != whole.combination.strongest_attack:
        named = accuracies.get(claim.attack)
        clause = "did not run here" if named is None else f"leaves {accuracy_text(named)}"
        clauses.append(f"{claim.attack}, under which it was claimed, {clause}")
    return "; ".join(clauses)


def _complete(result: CaseResult | None) -> CaseResult | None:
    """An ensemble, or that of its attacks with all of their outcomes; None where there are none."""
    return result if result is None or result.complete else result.combination.of_complete
