"""The first screen of a report: the question; a sentence for each verdict; bars; what other attackers
reach; what the intervals are about; and what would change the answer.

    opening_of(run) -> Opening

It reads judgements, which have every figure, and fills templates: a rule brings its own reason.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from robustbench_coded.judge.intervals import Interval
from robustbench_coded.judge.judgements import Judgement
from robustbench_coded.judge.run import Run
from robustbench_coded.reports.run.next_command import NextCommand, next_command
from robustbench_coded.reports.run.paper import papers_set
from robustbench_coded.reports.run.tables import lowest_of_papers
from robustbench_coded.reports.text.attack_names import attack_in_words
from robustbench_coded.reports.text.escape import shortened
from robustbench_coded.reports.text.formatting import (
    INFERENCE,
    Columns,
    TextTable,
    attacker_text,
    counted,
    inference_text,
    kinds_text,
    percent,
    perturbation_text,
    pixels,
    series,
    with_interval,
)
from robustbench_coded.schema.case import WHOLE_BATCH, Claim, Perturbation, Subject, ThreatModel
from robustbench_coded.schema.words import STANDARD, IntervalKind, VerdictName

NAME_WIDTH = 40
MOST_NAMED = 6  # subjects of a sentence, and attacks; of more it gives the number
NO_VERDICT = "No verdict yet"
ALL_ATTACKS = "all attacks"  # the row that decides

_SENTENCE = "Robust accuracy is {left}{bare}{claim}.{decided}"
_OTHER = "Against an attacker who {does} ({threat}), the verdict is {verdicts}."
_BRACKETS = "Brackets show 95% confidence intervals from {images} images. {kinds}"


class Span(NamedTuple):
    """Accuracies of one or several subjects as fractions: the least and the largest, and of a single one its
    interval. A range over several has none: no statement about coverage holds for it.
    """

    least: float
    most: float
    single: Interval | None = None

    @staticmethod
    def of(intervals: Iterable[Interval | None]) -> "Span | None":
        """None where none of them was measured."""
        known = [ci for ci in intervals if ci is not None]
        if not known:
            return None
        middle = [ci.estimate for ci in known]
        return Span(min(middle), max(middle), known[0] if len(known) == 1 else None)

    @property
    def kind(self) -> IntervalKind | None:
        """The kind of its interval; None without one."""
        return None if self.single is None else self.single.kind

    def __str__(self) -> str:
        """``0.4% [0.1, 0.9]``, ``17.5% in 5 batches``, or ``0.0% to 5.0%``."""
        values = dict.fromkeys(f"{percent(value)}%" for value in (self.least, self.most))
        beside = "" if self.single is None else with_interval(self.single).partition(" ")[2]
        return f"{' to '.join(values)} {beside}".rstrip()


class Answer(NamedTuple):
    """A verdict with those that it is about, and the sentence that states it (empty before any)."""

    verdict: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.verdict}. {self.sentence}".rstrip()


class OpeningBars(NamedTuple):
    """Accuracies of the defences, and the base models beside them."""

    label: str
    settings: Span
    bare: Span | None


@dataclass(frozen=True)
class Opening:
    """The first screen.

    Attributes:
        title: what was evaluated, on which data, against which perturbations.
        question: empty if nothing was judged.
        answers: a sentence for each verdict.
        others: what attackers of other threat models reach.
        certainty: what the intervals are about.
        next: what would change the answer.
        bars: clean accuracy, the paper's strongest attack, all attacks together.
        settings, bare: what the two kinds of bars are called.
        verdicts: the answers' verdicts by name, for labels beside the title.
    """

    title: str
    question: str
    answers: tuple[Answer, ...]
    others: tuple[str, ...]
    certainty: str
    next: NextCommand
    bars: tuple[OpeningBars, ...] = ()
    settings: str = ""
    bare: str = ""
    verdicts: tuple[VerdictName, ...] = ()


def opening_of(run: Run) -> Opening:
    """The first screen of a run."""
    judged = opens_with(run.judgements)
    unsettled = [
        [j for j in group if j.verdict.name == VerdictName.NOT_SETTLED] for group in (judged, run.judgements)
    ]
    following = next_command(run, unsettled[0] or unsettled[1])
    if run.manifest.finished and not unsettled[0] and unsettled[1]:
        threats = {str(judgement.case.threat) for judgement in unsettled[1]}
        following = following._replace(about=threats.pop() if len(threats) == 1 else "other attackers")
    if not judged:
        return Opening(f"Robust accuracy on {_data(run)}", "", (Answer(NO_VERDICT, ""),), (), "", following)
    subjects, networks = [j.subject for j in judged], {j.subject.checkpoint for j in judged}
    groups: dict[VerdictName, list[Judgement]] = {}
    for judgement in sorted(
        judged, key=lambda j: [other.verdict.name for other in judged].count(j.verdict.name)
    ):
        groups.setdefault(judgement.verdict.name, []).append(judgement)
    budget = perturbation_text(judged[0].perturbation).removesuffix(" (pixel)")
    return Opening(
        title=f"{_named(subjects)} on {_data(run)}: {budget}",
        question=_question(subjects, judged[0].perturbation, judged[0].verdict.claim),
        answers=tuple(_answer(run, judged, group) for group in reversed(groups.values())),
        others=tuple(_others(run, judged)),
        certainty=_certainty(run, judged),
        next=following,
        bars=tuple(_bars(run, judged)),
        settings=_named(subjects),
        bare="base model" if len(networks) == 1 else "base models",
        verdicts=tuple(reversed(groups)),
    )


def bars_text_table(opening: Opening) -> TextTable:
    """The bars as a table, where nothing can be drawn."""
    columns: Columns[OpeningBars] = {
        "": lambda group: group.label.replace("\n", " "),
        opening.settings: lambda group: group.settings,
        opening.bare: lambda group: group.bare or "",
    }
    table = TextTable.of(opening.bars, columns, (opening.settings, opening.bare))
    return table.without_empty((opening.bare,))


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
    bare = subjects[0].defence == STANDARD
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


def _listed(judgements: Sequence[Judgement]) -> str:
    """``RCI (K = 128, N = 128) on erm, mixup and coded``; the number of those that are too many."""
    if len(judgements) > MOST_NAMED:
        subjects = [j.subject for j in judgements]
        bare = {subject.defence for subject in subjects} == {STANDARD}
        return _named(subjects) if bare else f"{len(subjects)} pairs of defence and network"
    networks: dict[str, list[str]] = {}
    inferences: dict[str, list[str]] = {}
    for subject in (j.subject for j in judgements):
        inference = shortened(inference_text(subject, with_k=True), NAME_WIDTH)
        networks.setdefault(inference, []).append(shortened(subject.checkpoint, NAME_WIDTH))
    for inference, names in networks.items():
        inferences.setdefault(series(names), []).append(inference)
    return "; ".join(f"{series(methods)} on {names}" for names, methods in inferences.items())


def _answer(run: Run, judged: Sequence[Judgement], group: Sequence[Judgement]) -> Answer:
    """The sentence of one verdict."""
    verdict, subjects = group[0].verdict.name, [j.subject for j in group]
    briefs = series(list(dict.fromkeys(j.verdict.brief for j in group)))
    # A positive verdict is for the batches that were sent.
    sizes = series([f"{k}" for k in sorted({subject.k for subject in subjects if subject.k})])
    at_size = f" at batch size K = {sizes}" if sizes else ""
    thresholds = [j.verdict.broken_at for j in group]
    most = Span(min(thresholds), max(thresholds))
    why = {
        VerdictName.BROKEN: f" (at chance level: at most {most})",
        VerdictName.NOT_SETTLED: f" ({briefs})",
        VerdictName.NO_FAILURE_FOUND: f"{at_size} (not a proof of robustness)",
    }
    who = f": {_named(subjects) if len(group) == len(judged) else _listed(group)}"
    named = f"{verdict[:1].upper()}{verdict[1:]}{who if len(judged) > 1 else ''}{why.get(verdict, '')}"
    robust, bare = (Span.of(j.verdict.accuracy for j in side) for side in (group, _bare(run, group)))
    if robust is None:
        return Answer(named, "")
    attacks = Counter(attack_in_words(j.attack) for j in group if j.attack).most_common()
    share = f" in {attacks[0][1]} of {len(group)} cases" if len(attacks) > 1 else ""
    sentence = _SENTENCE.format(
        left=robust,
        bare=f" (base model {bare})" if bare else "",
        claim=_of_claim(group[0]),
        decided=f" The strongest attack is {attacks[0][0]}{share}." if attacks else "",
    )
    return Answer(named, sentence)


def _of_claim(judgement: Judgement) -> str:
    """Where the claim lies, and what refutes it."""
    verdict = judgement.verdict
    claim, robust = verdict.claim, verdict.claimed or verdict.accuracy
    if claim is None or robust is None:
        return ""
    voted = f"{_of_what(claim)} (measured: {Span.of([robust])})" if claim.votes > 1 else ""
    about = f" {robust.kind.phrase}" if robust.kind else ""
    stands = "lies inside the interval" if robust.low < claim.value else f"stands so far{about}"
    refuted = f"is refuted {verdict.refuted_for}" if verdict.refuted_for else "cannot be tested yet"
    refuted += f"; {verdict.refuted_by}" if verdict.refuted_by else ""
    return f". The claimed {percent(claim.value)}%{voted} {stands if robust.high >= claim.value else refuted}"


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
            f"{name} for {_listed(group)} ({span or 'no outcomes'})"
            for name, group in verdicts.items()
            for span in [Span.of(j.verdict.accuracy for j in group)]
        ]
        text = _OTHER.format(does=attacker_text(threat), threat=threat, verdicts=series(texts))
        yield text + (" All other verdicts are unchanged." if same and number == len(groups) else "")
    if beside and not groups:
        threats = series(list(dict.fromkeys(str(j.threat) for j in beside)))
        yield f"Against other attackers ({threats}), the verdicts are the same."


def _certainty(run: Run, judged: Sequence[Judgement]) -> str:
    """What the intervals are about."""
    sizes = sorted({j.examples for j in run.judgements if j.verdict.accuracy is not None})
    if not sizes:
        return ""
    images = " to ".join(f"{size:,}" for size in dict.fromkeys((sizes[0], sizes[-1])))
    spans = [span for bars in _bars(run, judged) for span in (bars.settings, bars.bare) if span is not None]
    kinds = {span.kind for span in spans} | {row.interval_kind for row in run.rows}
    return _BRACKETS.format(images=images, kinds=kinds_text(kinds))


def _bare(run: Run, judged: Sequence[Judgement]) -> list[Judgement]:
    """The judgements of the networks alone, beside those of their defences."""
    networks = {j.subject.checkpoint for j in judged if j.subject.defence != STANDARD}
    return [
        j
        for j in run.judged
        if j.subject.defence == STANDARD
        and j.subject.checkpoint in networks
        and j.perturbation == judged[0].perturbation
    ]


def _bars(run: Run, judged: Sequence[Judgement]) -> Iterable[OpeningBars]:
    """Three groups of bars; plain FGSM and PGD have none where none of them ran."""

    def papers(j: Judgement) -> Interval | None:
        row = lowest_of_papers(run.rows, j.subject, j.perturbation)
        return None if row is None else row.interval

    figures = {
        "clean images": lambda j: j.verdict.clean,
        "FGSM, PGD-10\nor PGD-100": papers,
        ALL_ATTACKS: lambda j: j.verdict.accuracy,
    }
    for label, of in figures.items():
        settings = Span.of(map(of, judged))
        if settings is not None:
            yield OpeningBars(label, settings, Span.of(map(of, _bare(run, judged))))
