"""The first screen of a report: what was asked, the answer, how sure it is, and what to do next.

    opening_of(run) -> Opening

Under 80 words that need no glossary. Every figure in it is about the same judgements: one for each subject,
under the largest budget, where the attacker perturbs whole batches and does not know the draw.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from robustbench_coded.reports.run.lookup import cost, find, is_attacked, lowest_of_papers
from robustbench_coded.reports.run.next_command import NextCommand, next_command
from robustbench_coded.reports.text.escape import shortened
from robustbench_coded.reports.text.formatting import (
    INFERENCE,
    counted,
    is_submitted,
    percent,
    pixels,
    series,
)
from robustbench_coded.results.judgements import Judgement
from robustbench_coded.results.run import Run
from robustbench_coded.schema.case import BudgetKey, CaseKey, SubjectKey
from robustbench_coded.schema.claim import Claim, ClaimedAccuracy
from robustbench_coded.schema.controls import CLEAN, CONTROLS, ENSEMBLE, STANDARD, STRONGEST
from robustbench_coded.schema.threat_model import WHOLE_BATCH
from robustbench_coded.schema.words import VerdictWord
from robustbench_coded.statistics.case_results import CaseResult
from robustbench_coded.statistics.check import WORTH
from robustbench_coded.statistics.intervals import TAIL, Interval
from robustbench_coded.statistics.summary import SummaryRow
from robustbench_coded.statistics.verdict import CONDEMNED, base_ensemble

NAME_WIDTH = 40
NO_VERDICT = "There is no verdict: no attack that gets one has outcomes."
_PLURAL = {"rci": "RCI settings", "coded": "coded inference settings"}
_ONE = {
    VerdictWord.NO_GAIN: "No: no gain.",
    VerdictWord.WORSE_THAN_BASE: "No: worse than the bare network.",
    VerdictWord.BROKEN: "No: broken.",
    VerdictWord.NO_FAILURE_FOUND: "No failure found, which is no proof.",
    VerdictWord.CLAIM_REFUTED: "No: the claim is refuted.",
}
_ALL = {
    VerdictWord.NO_GAIN: "No gain for any of them.",
    VerdictWord.WORSE_THAN_BASE: "All are worse than the bare network.",
    VerdictWord.BROKEN: "All are broken.",
    VerdictWord.NO_FAILURE_FOUND: "No failure found in any, which is no proof.",
    VerdictWord.NOT_SETTLED: "None is settled.",
    VerdictWord.CLAIM_REFUTED: "No: the claim is refuted for all.",
}


class Bars(NamedTuple):
    """Accuracies (fractions) of the settings, and of the bare networks beside them."""

    label: str
    settings: tuple[float, ...]
    bare: tuple[float, ...]


@dataclass(frozen=True)
class Opening:
    """The first screen, in words.

    Attributes:
        asked: a question; empty where nothing was judged.
        answer: the words of the verdicts.
        found: what is left under attack, and which attack decides.
        certainty: what was observed, and what that proves.
        next: what to do, and how long that takes.
        bars: clean accuracy, the paper's strongest attack, the strongest attack found.
        settings, bare: what the two kinds of bars are called.
    """

    asked: str
    answer: str
    found: str
    certainty: str
    next: NextCommand
    bars: tuple[Bars, ...] = ()
    settings: str = ""
    bare: str = ""


def opening_of(run: Run) -> Opening:
    """The first screen of a run."""
    judged = opens_with(run.judgements)
    left = next_command(run, [j for j in run.judgements if j.verdict.word == VerdictWord.NOT_SETTLED])
    if not judged:
        return Opening("", NO_VERDICT, "", "", left)
    words = run.words_together(judged)
    subjects = [j.subject for j in judged]
    claim = judged[0].verdict.claim
    asked = _claimed(subjects, claim) if claim else _asked(subjects, judged[0].budget)
    found = [_kept(run, judged, words), _others(run, judged), _decided(run, judged)]
    several = len(judged) > 1
    return Opening(
        asked,
        _said(run, judged, words),
        " ".join(filter(None, found)),
        _certainty(run, judged, words),
        left,
        _bars(run, judged),
        _named(subjects),
        "bare networks" if several and len({s.checkpoint for s in subjects}) > 1 else "bare network",
    )


def opens_with(judgements: Sequence[Judgement]) -> list[Judgement]:
    """The judgements that a report opens with: those of a claim, else one for each defended subject."""
    claimed = [j for j in judgements if j.verdict.claim is not None]
    judged = claimed or [j for j in judgements if j.subject.defence != STANDARD] or list(judgements)
    budgets = [j.budget for j in judged]
    budget = max(budgets, key=lambda b: (budgets.count(b), b.eps), default=None)
    by_subject: dict[SubjectKey, Judgement] = {}
    for judgement in sorted(judged, key=lambda j: j.threat != WHOLE_BATCH):
        if judgement.budget == budget:
            by_subject.setdefault(judgement.subject, judgement)
    return [j for j in judged if by_subject.get(j.subject) is j]


def deciding_attack(run: Run, judgement: Judgement) -> str:
    """The cheapest attack that leaves hardly more than the strongest one; '' where no attack has outcomes."""
    alike = [row for row in run.rows if row.key.setting == judgement.key.setting and row.accuracy is not None]
    strongest = next((row for row in alike if row.attack == STRONGEST), None)
    if strongest is None or strongest.strongest_attack in CONTROLS:
        return ""
    least = strongest.accuracy or 0.0
    enough = [row for row in alike if row.measured and row.attack not in CONTROLS and row.done]
    enough = [row for row in enough if (row.accuracy or 0.0) <= least + WORTH]
    # Inputs that were made elsewhere cost only forwards here; who made them paid for the rest.
    cheapest = min(enough, key=lambda row: (is_submitted(row.attack), cost(row)), default=None)
    return strongest.strongest_attack if cheapest is None else cheapest.attack


def _asked(subjects: Sequence[SubjectKey], budget: BudgetKey) -> str:
    unit = "each pixel" if budget.eps_space == "pixel" else "each normalised pixel"
    change = (
        f"{pixels(budget.eps)} in {unit}" if budget.norm == "linf" else f"{budget.norm} norm {budget.eps:g}"
    )
    against = f"changes of up to {change}?"
    verb, several = ("Does", False) if len(subjects) == 1 else ("Do", True)
    if subjects[0].defence == STANDARD:
        return f"{verb} {_named(subjects)} withstand {against}"
    who = f"the {_named(subjects)}" if several else _named(subjects)
    return f"{verb} {who} protect {_networks(subjects)} against {against}"


def _claimed(subjects: Sequence[SubjectKey], claim: Claim) -> str:
    """Whether a claim is true."""
    about = {
        ClaimedAccuracy.MEAN: "",
        ClaimedAccuracy.MAJORITY: " by majority vote",
        ClaimedAccuracy.EVERY_DRAW: " in every draw",
    }[claim.about]
    under = "" if claim.attack is None else f" under {claim.attack}"
    eps = "" if claim.budget is None else f" at eps {pixels(claim.budget.eps)}"
    verb = "Does" if len(subjects) == 1 else "Do the"
    on = "" if subjects[0].defence == STANDARD else f" on {_networks(subjects)}"
    return f"{verb} {_named(subjects)}{on} keep the claimed {percent(claim.value)}%{about}{under}{eps}?"


def _named(subjects: Sequence[SubjectKey]) -> str:
    """``RCI``, ``9 RCI settings``, ``12 defences``, or the name of a network that has none."""
    kinds = {subject.defence.partition("[")[0] for subject in subjects}
    if kinds == {STANDARD}:
        return (
            shortened(subjects[0].checkpoint, NAME_WIDTH)
            if len(subjects) == 1
            else f"{len(subjects)} networks"
        )
    if len(subjects) > 1:
        return f"{len(subjects)} {_PLURAL.get(min(kinds), 'defences') if len(kinds) == 1 else 'defences'}"
    kind, bracket, options = subjects[0].defence.partition("[")
    return shortened(f"{INFERENCE.get(kind, kind)}{bracket}{options}", NAME_WIDTH)


def _networks(subjects: Sequence[SubjectKey]) -> str:
    names = list(dict.fromkeys(subject.checkpoint for subject in subjects))
    return shortened(names[0], NAME_WIDTH) if len(names) == 1 else f"{len(names)} networks"


def _said(run: Run, judged: Sequence[Judgement], words: Sequence[VerdictWord]) -> str:
    """The words, counted where there are several."""
    if len(judged) == 1:
        said = _ONE.get(words[0])
        return f"Not settled: {_why_open(run, judged[0])}." if said is None else said
    counts = Counter(words)
    if len(counts) == 1:
        return _ALL[words[0]]
    told = [f"{word} for {counts[word]}" for word in VerdictWord if word in counts]
    said = series(told)
    return f"{said[:1].upper()}{said[1:]}."


def _why_open(run: Run, judgement: Judgement) -> str:
    """The shortest reason for ``not settled``."""
    verdict, row = judgement.verdict, _result(run, judgement.key)
    base = base_ensemble(run.results, row)
    if not row.complete or verdict.accuracy is None or (base is not None and not base.complete):
        return "outcomes are missing"
    if verdict.above_the_bar:
        return f"{counted(len(verdict.open_checks), 'check')} of the attacks did not pass"
    if verdict.compared and verdict.gain is None:
        return "the bare network was not attacked"
    if verdict.gain is not None and verdict.gain.high < verdict.bar:
        return "the bare network met weaker attacks"
    return "too few images to tell"


def _kept(run: Run, judged: Sequence[Judgement], words: Sequence[VerdictWord]) -> str:
    """What is left under attack, and what the bare networks keep."""
    found = [row for j in judged if (row := _found(run, j)) is not None]
    left = [row.accuracy for row in found if row.accuracy is not None]
    if not left:
        return ""
    bare = _bare(run, judged)
    kept = [row.accuracy for row in bare.values() if row is not None and row.accuracy is not None]
    if len(judged) == 1:
        without = f"; without it, {percent(kept[0])}%" if kept else ""
        return f"Under attack {percent(left[0])}% of its answers are right{without}."
    if set(words) <= CONDEMNED:
        without = f"; without them, at most {percent(max(kept))}%" if kept else ""
        return f"Under attack none gets more than {percent(max(left))}% right{without}."
    without = f"; without them, {spread(kept)}" if kept else ""
    return f"Under attack {spread(left)} of their answers are right{without}."


def spread(values: Sequence[float]) -> str:
    """``0.4%`` or ``0.0% to 1.6%``."""
    low, high = f"{percent(min(values))}%", f"{percent(max(values))}%"
    return low if low == high else f"{low} to {high}"


def _others(run: Run, judged: Sequence[Judgement]) -> str:
    """How many verdicts on the same subjects and budget under other threat models have another word."""
    about = {j.subject: j for j in judged}
    others = [
        j for j in run.judgements
        if j.subject in about and j.budget == judged[0].budget and j.threat != about[j.subject].threat
    ]  # fmt: skip
    differ = [j for j in others if j.verdict.word != about[j.subject].verdict.word]
    return f"Against other attackers, {len(differ)} of {len(others)} verdicts differ." if differ else ""


def _decided(run: Run, judged: Sequence[Judgement]) -> str:
    attacks = Counter(attack for j in judged if (attack := deciding_attack(run, j)))
    if not attacks:
        return ""
    (attack, _), mostly = attacks.most_common(1)[0], "mostly " if len(attacks) > 1 else ""
    return f"Decided {mostly}by {shortened(attack, NAME_WIDTH)}."


def _certainty(run: Run, judged: Sequence[Judgement], words: Sequence[VerdictWord]) -> str:
    """What was observed, and what that proves: of these images, and of others."""
    rows = [row for j in judged if (row := _result(run, j.key)).cell is not None and is_attacked(row)]
    if not rows:
        return ""
    measured = [interval for row in rows if (interval := row.interval(TAIL / len(judged))) is not None]
    sizes = sorted({len(row.cell.example) for row in rows if row.cell is not None})
    images = f"{' to '.join(f'{size:,}' for size in dict.fromkeys((sizes[0], sizes[-1])))} images"
    cell = rows[0].cell
    if len(rows) == 1 and cell is not None:
        observed = (
            f"Observed: {int(cell.correct.sum()):,} of {cell.correct.size:,} answers right, on {images}."
        )
    else:
        observed = f"Observed on {images}."
    condemned = set(words) <= CONDEMNED | {VerdictWord.CLAIM_REFUTED}
    praised = set(words) == {VerdictWord.NO_FAILURE_FOUND}

    def ends(of: Sequence[tuple[float, float]]) -> str:
        low, high = min(low for low, _ in of), max(high for _, high in of)
        if condemned:
            return f"at most {percent(high)}%"
        return f"at least {percent(low)}% under these attacks" if praised else spread((low, high))

    proven = [f"{ends([_of_others(one) for one in measured])} on other images"]
    if any(one.others is not None for one in measured):
        proven.insert(0, f"{ends([(one.low, one.high) for one in measured])} on these images in any batches")
    together = f" for the {len(judged)} together" if len(judged) > 1 else ""
    return f"{observed} Proven{together} (95% confidence): {'; '.join(proven)}."


def _of_others(measured: Interval) -> tuple[float, float]:
    """The ends for other images."""
    return (measured.low, measured.high) if measured.others is None else measured.others


def _bars(run: Run, judged: Sequence[Judgement]) -> tuple[Bars, ...]:
    """Three groups of bars; the paper's attacks have none where none of them ran."""
    bare = {s: row.subject for s, row in _bare(run, judged).items() if row is not None}
    budget = judged[0].budget
    groups: list[tuple[str, list[SummaryRow | None], list[SummaryRow | None]]] = [
        (
            "clean images",
            [find(run.rows, j.subject, CLEAN, WHOLE_BATCH, None) for j in judged],
            [find(run.rows, s, CLEAN, WHOLE_BATCH, None) for s in dict.fromkeys(bare.values())],
        ),
        (
            "strongest attack\nof the paper",
            [lowest_of_papers(run.rows, j.subject, budget) for j in judged],
            [lowest_of_papers(run.rows, s, budget) for s in dict.fromkeys(bare.values())],
        ),
        (
            "strongest attack\nfound",
            [_found(run, j) for j in judged],
            [find(run.rows, s, ENSEMBLE, WHOLE_BATCH, budget) for s in dict.fromkeys(bare.values())],
        ),
    ]
    return tuple(
        Bars(label, _accuracies(settings), _accuracies(networks))
        for label, settings, networks in groups
        if _accuracies(settings)
    )


def _accuracies(rows: Sequence[SummaryRow | None]) -> tuple[float, ...]:
    return tuple(row.accuracy for row in rows if row is not None and row.accuracy is not None)


def _bare(run: Run, judged: Sequence[Judgement]) -> dict[SubjectKey, SummaryRow | None]:
    """The ensemble's row of the bare network beside each defended subject."""
    found = {}
    for judgement in judged:
        if judgement.subject.defence != STANDARD:
            network = SubjectKey(judgement.subject.checkpoint, STANDARD, None, None)
            found[judgement.subject] = find(run.rows, network, ENSEMBLE, WHOLE_BATCH, judgement.budget)
    return found


def _found(run: Run, judgement: Judgement) -> SummaryRow | None:
    """The ensemble's row of a judgement; None where no attack has outcomes yet."""
    if not is_attacked(_result(run, judgement.key)):
        return None
    return next((row for row in run.rows if row.key == judgement.key), None)


def _result(run: Run, key: CaseKey) -> CaseResult:
    return next(row for row in run.results if row.key == key)
