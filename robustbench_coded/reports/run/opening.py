"""The first screen of a report: the question with its answer in a word; a sentence for each verdict; a row
for each defence and network; what other attackers reach; what would change the answer.

    opening_of(run) -> Opening

It reads judgements, which have every figure, and fills templates: a rule brings its own reason.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from robustbench_coded.judge.judgements import Judgement
from robustbench_coded.judge.run import Run
from robustbench_coded.reports.run.next_command import NextCommand, next_command
from robustbench_coded.reports.run.verdict_tables import Row, rows_of
from robustbench_coded.reports.text.attack_names import attack_in_words
from robustbench_coded.reports.text.escape import shortened
from robustbench_coded.reports.text.formatting import (
    INFERENCE,
    attacker_text,
    counted,
    inference_text,
    kinds_text,
    papers_set,
    percent,
    perturbation_text,
    pixels,
    series,
    with_interval,
)
from robustbench_coded.schema.case import WHOLE_BATCH, Claim, Perturbation, Subject, ThreatModel
from robustbench_coded.schema.words import STANDARD, VerdictName

NAME_WIDTH = 40
MOST_NAMED = 6  # subjects of a sentence, and attacks; of more it gives the number
NO_VERDICT = "No verdict yet"
POSITIVE, OPEN = VerdictName.NO_FAILURE_FOUND, VerdictName.NOT_SETTLED

_OTHER = "Against an attacker who {does} ({threat}), the verdict is {verdicts}."
_BRACKETS = "Brackets show 95% confidence intervals from {images} images. {kinds}"


class Answer(NamedTuple):
    """A verdict with those that it is about, and the sentence that states it (empty before any)."""

    verdict: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.verdict}. {self.sentence}".rstrip()


@dataclass(frozen=True)
class Opening:
    """The first screen.

    Attributes:
        title: what was evaluated, on which data, against which perturbations.
        question: with its answer in a word; empty if nothing was judged.
        answers: a sentence for each verdict.
        others: what attackers of other threat models reach.
        certainty: what the intervals are about.
        next: what would change the answer.
        rows: whatever was judged.
    """

    title: str
    question: str
    answers: tuple[Answer, ...]
    others: tuple[str, ...]
    certainty: str
    next: NextCommand
    rows: tuple[Row, ...] = ()


def opening_of(run: Run) -> Opening:
    """The first screen of a run."""
    judged = opens_with(run.judgements)
    unsettled = [[j for j in group if j.verdict.name == OPEN] for group in (judged, run.judgements)]
    following = next_command(run, unsettled[0] or unsettled[1])
    if run.manifest.finished and not unsettled[0] and unsettled[1]:
        threats = {str(judgement.case.threat) for judgement in unsettled[1]}
        following = following._replace(about=threats.pop() if len(threats) == 1 else "other attackers")
    if not judged:
        return Opening(f"Robust accuracy on {_data(run)}", "", (Answer(NO_VERDICT, ""),), (), "", following)
    subjects, names = [j.subject for j in judged], [j.verdict.name for j in judged]
    groups: dict[VerdictName, list[Judgement]] = {}
    for judgement in sorted(judged, key=lambda j: -names.count(j.verdict.name)):
        groups.setdefault(judgement.verdict.name, []).append(judgement)
    budget = perturbation_text(judged[0].perturbation).removesuffix(" (pixel)")
    question = _question(subjects, judged[0].perturbation, judged[0].verdict.claim)
    word = "" if {POSITIVE, OPEN} & {*groups} else " No" + (":" if len(groups) == 1 else ".")
    return Opening(
        title=f"{_named(subjects)} on {_data(run)}: {budget}",
        question=question + word,
        answers=tuple(_answer(judged, group, within=word == " No:") for group in groups.values()),
        others=tuple(_others(run, judged)),
        certainty=_certainty(run),
        next=following,
        rows=tuple(rows_of(run)),
    )


def opens_with(judgements: Sequence[Judgement]) -> list[Judgement]:
    """The judgements that a report opens with: those of a claim, else one for each defended subject."""
    claimed = [j for j in judgements if j.verdict.claim is not None]
    judged = claimed or [j for j in judgements if j.subject.defence != STANDARD] or list(judgements)
    perturbations = [j.perturbation for j in judged]
    perturbation = max(perturbations, key=lambda b: (perturbations.count(b), b.eps), default=None)
    by_subject: dict[Subject, Judgement] = {}
    for judgement in sorted(judged, key=lambda j: j.threat != WHOLE_BATCH):
        if judgement.perturbation == perturbation:
            by_subject.setdefault(judgement.subject, judgement)
    return [j for j in judged if by_subject.get(j.subject) is j]


def _data(run: Run) -> str:
    """What the data are called, without the way to them."""
    name = run.manifest.data.name or "data in memory"
    return papers_set(name) or re.split(r"[/\\:]", name.rstrip("/\\"))[-1]


def _question(subjects: Sequence[Subject], perturbation: Perturbation, claim: Claim | None) -> str:
    """The question: whether a defence protects, a network withstands, or a claim holds."""
    named = _named(subjects)
    verb = "Do " if re.match(r"\d+ ", named) else "Does "
    # A program without a checkpoint is called like its defence.
    bare = subjects[0].defence == STANDARD or _networks(subjects) == named
    if claim is not None:
        under = "" if claim.attack is None else f" under {claim.attack}"
        eps = "" if claim.perturbation is None else f" at eps {pixels(claim.perturbation.eps)}"
        on = "" if bare else f" on {_networks(subjects)}"
        return f"{verb}{named}{on} keep the claimed {percent(claim.value)}%{_of_what(claim)}{under}{eps}?"
    does = f"{verb}{named} withstand" if bare else f"{verb}{named} protect {_networks(subjects)} against"
    return f"{does} {_perturbations(perturbation.norm, perturbation.eps, perturbation.eps_space)}?"


def _perturbations(norm: str, eps: float, eps_space: str) -> str:
    """``linf perturbations of at most 8/255``."""
    if norm == "l0":
        return f"changes of {counted(round(eps), 'pixel')}"
    most = pixels(eps) if norm == "linf" else f"{eps:g}"
    normalised = "" if eps_space == "pixel" else " (normalised)"
    return f"{norm} perturbations of at most {most}{normalised}"


def _named(subjects: Sequence[Subject]) -> str:
    """``RCI``, ``RCI (2 settings)``, ``12 defences``, or the name of a network that has none."""
    kinds = {subject.defence.partition("[")[0] for subject in subjects}
    if kinds == {STANDARD}:
        return _networks(subjects)
    if (settings := len({inference_text(subject, with_k=True) for subject in subjects})) > 1:
        own = INFERENCE.get(min(kinds)) if len(kinds) == 1 else None
        return f"{own} ({settings} settings)" if own else f"{settings} defences"
    kind, bracket, options = subjects[0].defence.partition("[")
    return shortened(f"{INFERENCE.get(kind, kind)}{bracket}{options}", NAME_WIDTH)


def _networks(subjects: Sequence[Subject]) -> str:
    names = list(dict.fromkeys(subject.checkpoint for subject in subjects))
    return shortened(names[0], NAME_WIDTH) if len(names) == 1 else f"{len(names)} networks"


def _listed(judgements: Sequence[Judgement], among: Sequence[Judgement]) -> str:
    """``RCI (N = 128) on erm, mixup and coded``; the number of those that are too many."""
    if len(judgements) > MOST_NAMED:
        subjects = [j.subject for j in judgements]
        bare = {subject.defence for subject in subjects} == {STANDARD}
        return _named(subjects) if bare else f"{len(subjects)} pairs of defence and network"
    with_k = len({j.subject.k for j in among}) > 1
    networks: dict[str, list[str]] = {}
    inferences: dict[str, list[str]] = {}
    for subject in (j.subject for j in judgements):
        inference = shortened(inference_text(subject, with_k=with_k), NAME_WIDTH)
        networks.setdefault(inference, []).append(shortened(subject.checkpoint, NAME_WIDTH))
    for inference, names in networks.items():
        inferences.setdefault(series(names), []).append(inference)
    return "; ".join(f"{series(methods)} on {names}" for names, methods in inferences.items())


def _answer(judged: Sequence[Judgement], group: Sequence[Judgement], *, within: bool) -> Answer:
    """The sentence of one verdict; figures of several subjects stand in their rows.

    Args:
        within: whether the sentence goes on with the question's answer.
    """
    verdict, first = group[0].verdict, group[0]
    # A positive verdict is for the batches that were sent.
    sizes = sorted({j.subject.k for j in group if j.subject.k})
    at_size = f" at batch size K = {series([str(k) for k in sizes])}" if sizes else ""
    chance = percent(max(j.verdict.broken_at for j in group))
    why = {
        VerdictName.BROKEN: f" (at chance level: at most {chance}%)",
        OPEN: f" ({series(list(dict.fromkeys(j.verdict.brief for j in group)))})",
        POSITIVE: f"{at_size} (not a proof of robustness)",
    }.get(verdict.name, "")
    who = f": {_named([j.subject for j in group]) if len(group) == len(judged) else _listed(group, judged)}"
    name = str(verdict.name) if within else f"{verdict.name[:1].upper()}{verdict.name[1:]}"
    named = f"{name}{why}{who if len(judged) > 1 else ''}"
    if verdict.accuracy is None or len(group) > 1:
        return Answer(named, "")
    bare = f" (base model {with_interval(verdict.base, percent_sign=True)})" if verdict.base else ""
    decided = f" The strongest attack is {attack_in_words(first.attack)}." if first.attack else ""
    sentence = f"Robust accuracy is {with_interval(verdict.accuracy, percent_sign=True)}{bare}"
    return Answer(named, f"{sentence}{_of_claim(first)}.{decided}")


def _of_claim(judgement: Judgement) -> str:
    """Where the claim lies, and what refutes it."""
    verdict = judgement.verdict
    claim, robust = verdict.claim, verdict.claimed or verdict.accuracy
    if claim is None or robust is None:
        return ""
    measured = f" (measured: {with_interval(robust, percent_sign=True)})"
    voted = f"{_of_what(claim)}{measured}" if claim.votes > 1 else ""
    about = f" {robust.kind.phrase}" if robust.kind else ""
    stands = "lies inside the interval" if robust.low < claim.value else f"stands so far{about}"
    refuted = f"is refuted {verdict.refuted_for}" if verdict.refuted_for else "cannot be tested yet"
    refuted += f"; {verdict.refuted_by}" if verdict.refuted_by else ""
    says = stands if robust.kind and robust.high >= claim.value else refuted
    return f". The claimed {percent(claim.value)}%{voted} {says}"


def _of_what(claim: Claim) -> str:
    return "" if claim.votes == 1 else f" {claim.of_what}"


def _others(run: Run, judged: Sequence[Judgement]) -> Iterable[str]:
    """A sentence for each threat model with another verdict than that of the answer."""
    about = {j.subject: j for j in judged if j.verdict.claim is None}
    beside = [j for j in run.judgements if (shown := about.get(j.subject)) and j.threat != shown.threat]
    beside = [j for j in beside if j.perturbation == about[j.subject].perturbation]
    groups: dict[ThreatModel, dict[VerdictName, list[Judgement]]] = {}
    for j in beside:
        if j.verdict.name != about[j.subject].verdict.name:
            groups.setdefault(j.threat, {}).setdefault(j.verdict.name, []).append(j)
    same = sum(j.verdict.name == about[j.subject].verdict.name for j in beside)
    for number, (threat, verdicts) in enumerate(groups.items(), 1):
        texts = [
            f"{name} for {_listed(group, judged)}{_in_brackets(group)}" for name, group in verdicts.items()
        ]
        text = _OTHER.format(does=attacker_text(threat), threat=threat, verdicts=series(texts))
        yield text + (" All other verdicts are unchanged." if same and number == len(groups) else "")
    if beside and not groups:
        threats = series(list(dict.fromkeys(str(j.threat) for j in beside)))
        yield f"Against other attackers ({threats}), the verdicts are the same."


def _in_brackets(group: Sequence[Judgement]) -> str:
    """The accuracy of a single one."""
    if len(group) > 1:
        return ""
    accuracy = group[0].verdict.accuracy
    return f" ({with_interval(accuracy, percent_sign=True) if accuracy else 'no outcomes'})"


def _certainty(run: Run) -> str:
    """What the intervals are about."""
    judged = [j for j in run.judgements if j.verdict.accuracy is not None]
    if not judged:
        return ""
    sizes = [j.examples for j in judged]
    images = " to ".join(f"{size:,}" for size in dict.fromkeys((min(sizes), max(sizes))))
    shown = [figure for j in judged for figure in (j.verdict.accuracy, j.verdict.clean) if figure]
    kinds = {figure.kind for figure in shown} | {row.interval_kind for row in run.rows}
    return _BRACKETS.format(images=images, kinds=kinds_text(kinds))
