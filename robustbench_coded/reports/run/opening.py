"""The first screen of a report: a line of answer for each setting, a row for each defence and network, the
facts behind them, and the next step.

    opening_of(run) -> Opening

It reads judgements, which have every figure: a rule brings its own reason.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from robustbench_coded.judge.intervals import Interval
from robustbench_coded.judge.judgements import Judgement
from robustbench_coded.judge.run import RunData
from robustbench_coded.reports.run.next_command import NextCommand, next_command
from robustbench_coded.reports.run.verdict_tables import Row, counted_texts, rows_of, verdict_text
from robustbench_coded.reports.text.attack_names import attack_in_words
from robustbench_coded.reports.text.escape import shortened
from robustbench_coded.reports.text.formatting import (
    batches_text,
    counted,
    inference_text,
    interval,
    kinds_text,
    papers_set,
    percent,
    series,
    short_perturbation_text,
    subject_text,
)
from robustbench_coded.schema.case import WHOLE_BATCH, Subject
from robustbench_coded.schema.words import CONTROLS, ENSEMBLE, STANDARD, VerdictName

NAME_WIDTH = 40
MOST_ANSWERS = 4  # settings that have a line each; of more it counts the verdicts
NO_VERDICT = "No verdict yet"


class Answer(NamedTuple):
    """A setting (empty before any was judged), its verdict, and the figures behind it."""

    setting: str
    verdict: str
    figures: str = ""

    def __str__(self) -> str:
        return f"{self.setting}{': ' * bool(self.setting)}{self.verdict}. {self.figures}".rstrip()


@dataclass(frozen=True)
class Opening:
    """The first screen.

    Attributes:
        title: what was evaluated, on which data, against which perturbations.
        answers: a line for each setting.
        facts: what the answers rest on.
        next: what would change the answer.
        rows: whatever was judged.
    """

    title: str
    answers: tuple[Answer, ...]
    facts: dict[str, str]
    next: NextCommand
    rows: tuple[Row, ...] = ()


def opening_of(run: RunData) -> Opening:
    """The first screen of a run."""
    judged = opens_with(run.judgements)
    open_ = [[j for j in of if j.verdict.name == VerdictName.NOT_SETTLED] for of in (judged, run.judgements)]
    following = next_command(run, open_[0] or open_[1])
    if not judged:
        title = f"Robust accuracy on {_data(run)}"
        return Opening(title, (Answer("", NO_VERDICT),), _intervals(run), following)
    answers = tuple(map(_answer, judged))
    if len(judged) > MOST_ANSWERS:
        answers = (Answer(counted(len(judged), "setting"), counted_texts(map(verdict_text, judged))),)
    return Opening(_title(run, judged), answers, _facts(run, judged), following, tuple(rows_of(run)))


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


def _data(run: RunData) -> str:
    """What the data are called, without the way to them."""
    name = run.manifest.data.name or "data in memory"
    return papers_set(name) or re.split(r"[/\\:]", name.rstrip("/\\"))[-1]


def _title(run: RunData, judged: Sequence[Judgement]) -> str:
    """``RCI (N = 190) on digits-erm (digits), linf 0.3``; of several defences or networks the number."""
    subjects = [judgement.subject for judgement in judged]
    with_k = len({subject.k for subject in subjects}) > 1
    defences = list(dict.fromkeys(inference_text(subject, with_k=with_k) for subject in subjects))
    networks = list(dict.fromkeys(subject.checkpoint for subject in subjects))
    named = [
        shortened(names[0], NAME_WIDTH) if len(names) == 1 else f"{len(names)} {nouns}"
        for names, nouns in ((defences, "defences"), (networks, "networks"))
    ]
    return f"{' on '.join(named)} ({_data(run)}), {short_perturbation_text(judged[0].perturbation)}"


def _answer(judgement: Judgement) -> Answer:
    """A setting's verdict with its meaning, and the figures or, of a claim, the reason."""
    verdict = judgement.verdict
    threat = "" if judgement.threat == WHOLE_BATCH else f" ({judgement.threat})"
    setting = f"{shortened(subject_text(judgement.subject), 2 * NAME_WIDTH)}{threat}"
    size = f" at batch size K = {judgement.subject.k}" if judgement.subject.k else ""
    meaning = {
        VerdictName.BROKEN: f" ({verdict.meaning})",
        VerdictName.NOT_SETTLED: f" ({verdict.brief})",
        VerdictName.NO_FAILURE_FOUND: f"{size} (not a proof of robustness)",
    }.get(verdict.name, "")
    answer = Answer(setting, f"{verdict.name}{meaning}")
    if verdict.claim is not None:
        return answer._replace(figures=verdict.reason)
    if verdict.accuracy is None:
        return answer
    bare = "base model" if verdict.compared else "checkpoint alone"
    base = f" ({bare} {_stated(verdict.base)})" if verdict.base else ""
    strongest = f" The strongest attack is {attack_in_words(judgement.attack)}." if judgement.attack else ""
    return answer._replace(figures=f"Robust accuracy is {_stated(verdict.accuracy)}{base}.{strongest}")


def _stated(figure: Interval) -> str:
    """``28.7% [25.1, 32.4]``; ``6.0% as attacked (5 batches); re-batched 10.9% [0.0, 13.0]† under FGSM``."""
    ends = interval(figure.low, figure.high, figure.kind)
    if figure.own is None:
        return f"{percent(figure.estimate)}% {ends}".rstrip()
    attacked = f"{percent(figure.as_attacked)}% as attacked ({batches_text(figure.own[1])})"
    under = f"{ends} under {attack_in_words(figure.rebatched)}"
    return f"{attacked}; re-batched {percent(figure.estimate)}% {under}" if figure.kind else attacked


def _facts(run: RunData, judged: Sequence[Judgement]) -> dict[str, str]:
    """What the answers rest on."""
    checks = [check for judgement in judged for check in judgement.checks]
    open_ = sorted({str(check.name) for check in checks if not check.passed})
    passed = f"{sum(check.passed for check in checks)} of {len(checks)} passed"
    looks = run.manifest.sequential.sample_sizes if run.manifest.sequential else ()
    early = max(j.examples for j in judged) < max(looks, default=0)
    settled = "yes, once the verdicts were settled" if early else "no"
    settings = {judgement.case.setting for judgement in judged}
    rows = [row for row in run.rows if row.case.setting in settings and row.accuracy is not None]
    attacks = {row.attack for row in rows if row.measured} - {*CONTROLS}
    of_all = [row for row in rows if row.attack == ENSEMBLE]  # a forward is a third of an evaluation
    costs = [(2 * (row.backwards or 0) + (row.forwards or 0)) / 3 for row in of_all]
    return {
        "Threat model": series(list(dict.fromkeys(str(j.threat) for j in judged))),
        "Attacks": str(len(attacks)),
        "Gradient evaluations per image, at most": f"{max(costs, default=0):,.0f}",
        "Checks": passed + (f"; open: {series(open_)}" if open_ else ""),
        "Stopped early": settled if run.manifest.finished else "yes; the same command resumes the run",
        **_intervals(run),
    }


def _intervals(run: RunData) -> dict[str, str]:
    """How to read every interval of the report."""
    return {"Intervals": f"95%. {kinds_text({row.interval_kind for row in run.rows})}".rstrip()}
