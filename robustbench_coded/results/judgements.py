"""What the statistics say about each threat model of a run: verdict, checks, the design of attackers."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from robustbench_coded.schema.case import BudgetKey, CaseKey, SubjectKey
from robustbench_coded.schema.claim import Claim
from robustbench_coded.schema.controls import ENSEMBLE, STANDARD
from robustbench_coded.schema.manifest import RunManifest
from robustbench_coded.schema.threat_model import ThreatModel
from robustbench_coded.schema.words import BEFORE_NO_FAILURE, DOUBLING, CheckOutcome, VerdictWord
from robustbench_coded.statistics.case_results import CaseResult
from robustbench_coded.statistics.check import Check
from robustbench_coded.statistics.checks import run_checks
from robustbench_coded.statistics.design import Design, design, missing
from robustbench_coded.statistics.holm import step_down
from robustbench_coded.statistics.intervals import TAIL
from robustbench_coded.statistics.judge import judge
from robustbench_coded.statistics.next_steps import NextStep
from robustbench_coded.statistics.relaxed_answers import answered_by_relaxed
from robustbench_coded.statistics.verdict import MARGIN, Verdict
from robustbench_coded.statistics.without_gradients import answered_without_gradients


@dataclass(frozen=True)
class Judgement:
    """One subject under one threat model and budget.

    Attributes:
        key: of its ensemble.
        design: draw known or not, started from the base model's perturbation or not; given once, where the
            draw is unknown, and None where the four attacks did not run.
        to_design: the attacks that it lacks; none where there is no draw to know, or no base model.
        unbounded_eps: the eps from which on any image reaches any other.
    """

    key: CaseKey
    verdict: Verdict
    checks: tuple[Check, ...]
    design: Design | None
    unbounded_eps: float
    to_design: tuple[str, ...] = ()

    @property
    def subject(self) -> SubjectKey:
        return self.key.subject

    @property
    def budget(self) -> BudgetKey:
        return self.key.budget

    @property
    def threat(self) -> ThreatModel:
        return self.key.threat


def judgements_of(
    rows: Sequence[CaseResult],
    manifest: RunManifest,
    selftests: Mapping[SubjectKey, tuple[Check, ...]] = MappingProxyType({}),
) -> Iterator[Judgement]:
    """A judgement for every ensemble of a run, in its order.

    Not for collateral damage: there the base model, which answers inputs one by one, has nothing to lose.

    Args:
        selftests: the checks of each subject that came of its self-tests.
    """
    asked = manifest.judged_budgets
    defended = any(row.key.defence != STANDARD for row in rows)
    for row in rows:
        if row.key.attack != ENSEMBLE or row.key.budget not in asked or row.key.threat.collateral:
            continue
        unbounded = _unbounded(row.key.budget, row.key.checkpoint, manifest)
        relaxed = any(_is_relaxed(other) and other.key.subject == row.key.subject for other in rows)
        measured = _gradients(manifest, row.key.subject, relaxed=relaxed)
        checks = tuple(run_checks(rows, row, measured, unbounded))
        checks = tuple(_if_not_stopped(check, row.key.subject, manifest) for check in checks)
        checks += selftests.get(row.key.subject, ())
        stopped = {case.attack for case in manifest.rows if case.stopped and case.subject == row.key.subject}
        network = selftests.get(row.key.subject._replace(defence=STANDARD, k=None, n=None), ())
        passed = bool(network) and all(check.outcome == CheckOutcome.PASSED for check in network)
        checks = answered_by_relaxed(checks, rows, row, stopped)
        checks = answered_without_gradients(checks, rows, row, stopped, network_passed=passed)
        # A claim is about a defence; on a run without one it is about the model itself.
        claim = claim_of(manifest) if row.key.defence != STANDARD or not defended else None
        asked_here = row.randomised and row.has_base and row.key.threat.whole_batch
        asked_here = asked_here and not row.key.threat.draw_known
        made = design(rows, row) if asked_here else None
        lacking = missing(rows, row) if asked_here and made is None else ()
        found, checks = judge(
            rows, row, checks, margin=_margin(manifest), claim=claim, tail=TAIL / _questions(manifest)
        )
        yield Judgement(row.key, found, checks, made, unbounded, lacking)


def words_together(
    judgements: Sequence[Judgement], rows: Sequence[CaseResult], manifest: RunManifest
) -> list[VerdictWord]:
    """The words of several judgements with the error adjusted for their number (Holm), as counts need them.

    A word that needs more certainty than is left becomes ``not settled``. Checks keep their own levels.
    """
    ensembles = {row.key: row for row in rows if row.key.attack == ENSEMBLE}

    def ask(judgement: Judgement) -> Callable[[float], VerdictWord]:
        if judgement.verdict.word == VerdictWord.NOT_SETTLED:
            return lambda tail: VerdictWord.NOT_SETTLED
        checks = [check for check in judgement.checks if check.name not in BEFORE_NO_FAILURE]
        row, margin, claim = ensembles[judgement.key], _margin(manifest), judgement.verdict.claim
        return lambda tail: judge(rows, row, checks, margin=margin, claim=claim, tail=tail)[0].word

    asked = [ask(judgement) for judgement in judgements]
    answers = step_down(asked, lambda word: word != VerdictWord.NOT_SETTLED, TAIL)
    return [answer.answer for answer in answers]


def _is_relaxed(row: CaseResult) -> bool:
    """Whether its attack smooths what hides the gradient; its gradients are then the ones to judge."""
    return row.cell is not None and row.key.attack.startswith("relaxed-")


def _if_not_stopped(check: Check, subject: SubjectKey, manifest: RunManifest) -> Check:
    """The check; not run where it compares lengths that a budget of images made equal."""
    if check.name not in DOUBLING or len(check.attacks) < 2 or check.outcome != CheckOutcome.PASSED:
        return check
    stopped = {case.attack for case in manifest.rows if case.stopped and case.subject == subject}
    if not stopped & set(check.attacks):
        return check
    finding = f"{' and '.join(check.attacks)} were stopped at one cost, short of what their names say."
    return replace(
        check,
        outcome=CheckOutcome.NOT_RUN,
        finding=finding,
        next_step=NextStep("give more images (--budget)"),
    )


def _questions(manifest: RunManifest) -> int:
    """Between how many words the error is divided: those of a run that stops where a word has fallen."""
    return 1 if manifest.sequential is None else max(manifest.sequential.questions, 1)


def claim_of(manifest: RunManifest) -> Claim | None:
    """What the last invocation with a claim claims."""
    claims = [i.claim for i in reversed(manifest.invocations) if i.claim is not None]
    return claims[0] if claims else None


def _margin(manifest: RunManifest) -> float:
    """The margin of the last invocation."""
    margin = manifest.last.margin
    return MARGIN if margin is None else margin


def _unbounded(budget: BudgetKey, checkpoint: str, manifest: RunManifest) -> float:
    """The eps from which on any image reaches any other."""
    values = math.prod(manifest.data.image_shape or (1,))
    reach = {"linf": 1.0, "l2": math.sqrt(values), "l1": float(values)}[budget.norm]
    if budget.eps_space != "normalized":
        return reach
    facts = manifest.checkpoint(checkpoint)
    deviations = facts.normalisation.get("std") if facts is not None else None
    usable = [d for d in deviations if type(d) is float and d > 0] if isinstance(deviations, list) else []
    return reach / min(usable, default=1.0)


def _gradients(
    manifest: RunManifest, subject: SubjectKey, *, relaxed: bool = False
) -> dict[str, float] | None:
    """What the probe measured on the gradients of a subject, or on the relaxed ones, if it ran."""
    for probe in manifest.probes:
        if probe.subject == subject:
            measured = probe.relaxed_gradients if relaxed else probe.gradients
            return {k: float(v) for k, v in measured.items() if type(v) in (int, float)}
    return None
