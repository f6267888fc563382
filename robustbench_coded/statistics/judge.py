"""The verdict on one threat model of a run: the figures that the rules look at, from the rows of the run; and
several judgements at once, with the chance of any false one kept at the level of a single one.

An interval is given as a function of the probability with which each of its ends may err, because what is
adjusted is that probability. Holm, Scandinavian Journal of Statistics 6, 1979: of m open questions each is
asked at tail / m; those that are settled are taken out, and the rest is asked again at their smaller number.
The chance that any of them is settled wrongly stays at most ``tail`` an end, whatever the dependence between
them.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Generic, NamedTuple, TypeVar

from robustbench_coded.schema.case import Claim
from robustbench_coded.schema.words import STANDARD, CheckName, VerdictWord
from robustbench_coded.statistics.attack_checks import another_loss
from robustbench_coded.statistics.case_results import CaseResult
from robustbench_coded.statistics.check import Check, checkpoints_ensemble, difference_of, in_norm
from robustbench_coded.statistics.intervals import TAIL
from robustbench_coded.statistics.outcomes import broken_below, uninformative
from robustbench_coded.statistics.same_attacks import spared, what_broke_the_base
from robustbench_coded.statistics.verdict import Verdict, decide

MARGIN = 0.03  # a gain that is certainly smaller is none


def judge(
    rows: Sequence[CaseResult],
    ensemble: CaseResult,
    checks: Sequence[Check],
    *,
    margin: float = MARGIN,
    claim: Claim | None = None,
    tail: float = TAIL,
) -> Verdict:
    """Judges one threat model of a run. Attacks with missing outcomes do not count.

    Args:
        rows: all rows of the run.
        ensemble: the defence's `ensemble` row under the threat model.
        checks: those of the threat model and of the self-tests. Those that only praise needs are added where
            the figures leave room for it.
        margin: the gain that counts, a fraction.
        claim: what is claimed for the defence; it says nothing here if it is about another threat model or
            budget.
        tail: with which probability each end of an interval may err.
    """
    base = base_ensemble(rows, ensemble)
    whole, whole_base = _complete(ensemble), _complete(base)
    figures = Verdict(
        VerdictWord.NOT_SETTLED,
        "",
        None,
        margin,
        compared=ensemble.has_base and ensemble.key.defence != STANDARD,
        claim=claim if claim and claim.is_about(ensemble.key.threat, ensemble.key.budget) else None,
        missing=not ensemble.complete or (base is not None and not base.complete),
        checks=in_norm(checks, ensemble.key.norm),
    )
    if whole is None:
        return decide(figures)
    figures = _measured(figures, rows, whole, whole_base, tail)
    if figures.above_the_bar and CheckName.ANOTHER_LOSS not in [check.name for check in checks]:
        asked = [another_loss(rows, whole), *checks]
        if whole_base is not None:
            asked.append(what_broke_the_base(rows, whole, whole_base, margin))
        figures = replace(figures, checks=in_norm(asked, ensemble.key.norm))
    return decide(figures)


def base_ensemble(rows: Sequence[CaseResult], ensemble: CaseResult) -> CaseResult | None:
    """The ensemble of standard inference on the same checkpoint and budget, which serves every threat model.

    None for standard inference itself, for a defence that names no base model, and where it was not run.
    """
    return checkpoints_ensemble(rows, ensemble) if ensemble.has_base else None


def _measured(
    figures: Verdict, rows: Sequence[CaseResult], whole: CaseResult, base: CaseResult | None, tail: float
) -> Verdict:
    """``figures`` with what the outcomes say, ``whole`` and ``base`` having all of theirs."""
    claim, broken_at, clean = figures.claim, broken_below(whole.clean), whole.unattacked.interval(tail)
    if base is not None:
        figures = replace(
            figures,
            gain=difference_of(whole, base, tail),
            clean_loss=difference_of(base.unattacked, whole.unattacked, tail),
            spared=spared(rows, whole, base),
        )
    checkpoint = None if figures.compared else _complete(checkpoints_ensemble(rows, whole))
    return replace(
        figures,
        accuracy=whole.interval(tail),
        bar=figures.bar if figures.compared else broken_at,
        broken_at=broken_at,
        clean=clean,
        claimed=None if claim is None or figures.missing else whole.interval(tail),
        beside=None if checkpoint is None else difference_of(whole, checkpoint),
        constant=whole.clean is not None and clean is not None and uninformative(whole.clean, clean.high),
    )


def _complete(row: CaseResult | None) -> CaseResult | None:
    """An ensemble, or that of its attacks with all of their outcomes; None where there are none."""
    return row if row is None or row.complete else row.of_complete


T = TypeVar("T")


class Answer(NamedTuple, Generic[T]):
    """What one of several questions was answered last, whether that settles it, and at which error."""

    answer: T
    settled: bool
    tail: float


def step_down(
    asked: Sequence[Callable[[float], T]], settled: Callable[[T], bool], tail: float
) -> list[Answer[T]]:
    """Asks every open question at its share of the error until none of them is settled any more.

    Args:
        asked: from the probability of error to an answer; what settles it at one error does at a larger one.
        settled: whether an answer settles its question.
        tail: probability of error for all questions together.
    """
    found: dict[int, Answer[T]] = {}
    while len(found) < len(asked):
        remaining = [index for index in range(len(asked)) if index not in found]
        each = tail / len(remaining)
        answers = {index: asked[index](each) for index in remaining}
        answered = {index: answer for index, answer in answers.items() if settled(answer)}
        for index, answer in (answered or answers).items():
            found[index] = Answer(answer, bool(answered), each)
    return [found[index] for index in range(len(asked))]
