"""The settings that a report opens with, and the figures of each.

    settings_of(run) -> [Setting, ...]

One for each subject, at the largest perturbation, where the attacker perturbs whole batches and does not know
the draw; where something is claimed, those that the claim is about.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from robustbench_coded.judge.case_results import CaseResult
from robustbench_coded.judge.checks import WORTH
from robustbench_coded.judge.intervals import TAIL, Interval
from robustbench_coded.judge.judgements import Judgement
from robustbench_coded.judge.run import Run
from robustbench_coded.judge.verdict import CONDEMNED
from robustbench_coded.reports.run.tables import cost, find, is_attacked, lowest_of_papers
from robustbench_coded.reports.text.formatting import is_submitted
from robustbench_coded.schema.case import WHOLE_BATCH, Case, Claim, Subject
from robustbench_coded.schema.words import CLEAN, CONTROLS, ENSEMBLE, STANDARD, STRONGEST, VerdictName


class KeptAccuracy(NamedTuple):
    """Accuracies as fractions: of clean images, under the paper's strongest attack, under all attacks."""

    clean: float | None
    papers: float | None
    left: float | None


@dataclass(frozen=True)
class Setting:
    """One subject under one threat model and perturbation.

    Attributes:
        verdict: its name, at the error shared by all settings.
        kept: its accuracies. bare: those of the bare network; None where it was not evaluated.
        measured: the accuracy that is judged, at the shared error; None while there is none.
        examples, answers, right: how many the ensemble was counted on.
        attack: the one that decides; '' before any has outcomes.
        claimed_attack: what the attack of the claim leaves.
    """

    judgement: Judgement
    verdict: VerdictName
    kept: KeptAccuracy
    bare: KeptAccuracy | None
    measured: Interval | None
    examples: int = 0
    answers: int = 0
    right: int = 0
    attack: str = ""
    claimed_attack: float | None = None

    @property
    def subject(self) -> Subject:
        return self.judgement.subject

    @property
    def claim(self) -> Claim | None:
        return self.judgement.verdict.claim

    @property
    def condemned(self) -> bool:
        """Whether too little is left, for certain."""
        return self.verdict == VerdictName.CLAIM_REFUTED or (self.claim is None and self.verdict in CONDEMNED)

    @property
    def praised(self) -> bool:
        """Whether enough is left under every attack tried, and every check passed."""
        if self.claim is None:
            return self.verdict == VerdictName.NO_FAILURE_FOUND
        enough = self.measured is not None and self.measured.low >= self.claim.value
        verdict = self.judgement.verdict
        return enough and not verdict.missing and not verdict.open_checks


def settings_of(run: Run) -> list[Setting]:
    """The settings of a run, in its order."""
    judged = opens_with(run.judgements)
    verdicts = run.verdicts_together(judged)
    return [_setting(run, j, name, TAIL / len(judged)) for j, name in zip(judged, verdicts, strict=True)]


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


def other_attackers(run: Run, settings: Sequence[Setting]) -> tuple[int, int]:
    """How many verdicts on these subjects and this perturbation under other threat models have another
    verdict, of how many.
    """
    about = {s.subject: s.judgement for s in settings}
    others = [
        j
        for j in run.judgements
        if j.subject in about
        and j.perturbation == about[j.subject].perturbation
        and j.threat != about[j.subject].threat
    ]
    return sum(j.verdict.name != about[j.subject].verdict.name for j in others), len(others)


def deciding_attack(run: Run, setting: Case) -> str:
    """The cheapest attack that leaves hardly more than the strongest one; '' where none has outcomes."""
    rows = [row for row in run.rows if row.case.setting == setting and row.accuracy is not None]
    strongest = next((row for row in rows if row.attack == STRONGEST), None)
    if strongest is None or strongest.strongest_attack in CONTROLS:
        return ""
    least = strongest.accuracy or 0.0
    enough = [row for row in rows if row.measured and row.attack not in CONTROLS and row.done]
    enough = [row for row in enough if (row.accuracy or 0.0) <= least + WORTH]
    # Inputs that were made elsewhere cost only forwards here; who made them paid for the rest.
    cheapest = min(enough, key=lambda row: (is_submitted(row.attack), cost(row)), default=None)
    return strongest.strongest_attack if cheapest is None else cheapest.attack


def _setting(run: Run, judgement: Judgement, verdict: VerdictName, tail: float) -> Setting:
    claim = judgement.verdict.claim
    row = next(row for row in run.results if row.case == judgement.case)
    row = row if claim is None else row.of_majorities(claim.votes)
    network = Subject(judgement.subject.checkpoint, STANDARD, None, None)
    bare = None if judgement.subject == network else _kept(run, network, judgement.case.under(WHOLE_BATCH))
    cell = row.cell if is_attacked(row) else None
    return Setting(
        judgement,
        verdict,
        kept=_kept(run, judgement.subject, judgement.case),
        bare=None if bare is None or bare.left is None else bare,
        measured=None if cell is None else row.interval(tail),
        examples=0 if cell is None else len(cell.example),
        answers=0 if cell is None else cell.correct.size,
        right=0 if cell is None else int(cell.correct.sum()),
        attack=deciding_attack(run, judgement.case.setting),
        claimed_attack=_claimed_attack(run, judgement, claim) if claim else None,
    )


def _kept(run: Run, subject: Subject, setting: Case) -> KeptAccuracy:
    rows, attacked = run.rows, {row.case for row in run.results if is_attacked(row)}
    left = find(rows, subject, ENSEMBLE, setting.threat, setting.perturbation)
    found = (
        find(rows, subject, CLEAN, WHOLE_BATCH, None),
        lowest_of_papers(rows, subject, setting.perturbation),
        left if left is not None and left.case in attacked else None,
    )
    return KeptAccuracy(*(None if row is None else row.accuracy for row in found))


def _claimed_attack(run: Run, judgement: Judgement, claim: Claim) -> float | None:
    """What the attack of a claim leaves: under the threat model of the claim, else under another one."""
    rows: list[CaseResult] = [
        row
        for row in run.results
        if (row.case.subject, row.case.attack) == (judgement.subject, claim.attack)
        and row.case.perturbation == judgement.perturbation
        and row.complete
    ]
    row = min(rows, key=lambda row: row.case.threat != claim.threat, default=None)
    found = None if row is None else row.of_majorities(claim.votes).interval()
    return None if found is None else found.estimate
