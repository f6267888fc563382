"""Attacks of the adaptive preset that wait for the others, and run only where these leave something.

    in_two_stages(config, rows)                     -> (first, waiting)
    second_stage(waiting, measured, settled, begun) -> (rows to run, sentences on the others)
    leading(config, rows)                           -> those of them that run before the others
    settled_in(path)                                -> whose verdicts stronger attacks can't change
    settled_settings(path)                          -> the same for every threat model
    without_made_up(notes, rows)                    -> earlier such sentences that are still true

Where nothing is left, an attack finds nothing. What a base model keeps must be known in full when its
defences are compared with it: its rows are left out only where no right answer is left. Where the base model
is deterministic, that is not enough: as long as its defences keep something, what more attacks find on it is
submitted to them, and costs little, because attacks on it end at the first wrong answer.

Where operators hide a defence's gradient, the shortest relaxed attack runs first, and the attacks that follow
the gradient as it is wait for it. Where inputs are answered together, the attack on the margin leads the
second stage: it takes half the gradients of the one that it runs in place of, and finds more.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from attacks.presets import COUPLED, FOLLOWS_SHOWN, RELAXED
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.planning.cases import AttackCase, Subject
from robustbench_coded.evaluation.planning.measured import MeasuredAttack
from robustbench_coded.evaluation.planning.resubmission import NOTHING
from robustbench_coded.results.run import load_run
from robustbench_coded.schema.case import BudgetKey, CaseKey, SubjectKey
from robustbench_coded.schema.controls import STANDARD

Measured = Mapping[tuple[Subject, BudgetKey], Sequence[MeasuredAttack]]
Settled = Callable[[], Collection[tuple[SubjectKey, BudgetKey]]]


def in_two_stages(
    config: EvalConfig, rows: Sequence[AttackCase]
) -> tuple[list[AttackCase], list[AttackCase]]:
    """The rows that run first, and those that wait for their outcomes; both in the order given."""
    first: list[AttackCase] = []
    waiting: list[AttackCase] = []
    for row in rows:
        (waiting if _waits(config, row) else first).append(row)
    return first, waiting


def _waits(config: EvalConfig, row: AttackCase) -> bool:
    """Not where it is unknown what is left: that is measured on whole batches whose draw is unknown."""
    if row.attack not in config.second_attacks or row.attack == config.claim_attack:
        return False
    if row.threat.inputs != "batch" or "batch" not in config.inputs:
        return False
    if _relaxed_first(config, row.subject):
        return row.attack != RELAXED[0]
    return row.attack != FOLLOWS_SHOWN or _margin_leads(config, row.subject)


def leading(config: EvalConfig, rows: Sequence[AttackCase]) -> list[AttackCase]:
    """The rows of a second stage that run before its others, which may then have nothing left to find.

    On a subject without such a row, all rows lead.
    """
    led = {
        (row.subject, row.budget)
        for row in rows
        if row.attack == COUPLED[0] and _margin_leads(config, row.subject)
    }
    return [row for row in rows if row.attack == COUPLED[0] or (row.subject, row.budget) not in led]


def _relaxed_first(config: EvalConfig, subject: Subject) -> bool:
    return RELAXED[0] in config.second_attacks and subject.hides_gradient and subject.relaxable


def _margin_leads(config: EvalConfig, subject: Subject) -> bool:
    coupled = COUPLED[0] in config.second_attacks and subject.batch_dependent
    return coupled and not _relaxed_first(config, subject)


def second_stage(
    waiting: Sequence[AttackCase],
    measured: Measured,
    settled: Settled,
    begun: Collection[CaseKey] = (),
    *,
    replicates: int = 1,
) -> tuple[list[AttackCase], list[str]]:
    """The waiting rows of subjects that have something left, and a sentence on every other subject.

    Nothing is left where the strongest attack so far leaves no right answer; or no more than ``NOTHING``, if
    every verdict on the subject's batches is one that stronger attacks can't change and no other subject of
    the run is compared with it. A base model that answers inputs one by one and draws nothing is spared only
    where its defences are, too.

    Args:
        measured: the attacks so far.
        settled: gives subjects and budgets with such verdicts; asked only where a word may depend on it.
        begun: rows of the folder: they run in any case.
        replicates: of the evaluation; what is measured is the first.
    """
    known: Collection[tuple[SubjectKey, BudgetKey]] | None = None
    left: dict[tuple[Subject, BudgetKey], bool] = {}

    def nothing_left(subject: Subject, budget: BudgetKey) -> bool:
        nonlocal known
        if (subject, budget) not in left:
            attacks = measured.get((subject, budget), ())
            nothing = bool(attacks) and attacks[0].share <= NOTHING
            defences = _defences_of(subject, budget, measured)
            if nothing and (attacks[0].right or replicates > 1):
                known = settled() if known is None else known
                nothing = (subject.key, budget) in known and not defences
            if nothing and subject.independent:
                nothing = all(nothing_left(defence, budget) for defence in defences)
            left[subject, budget] = nothing
        return left[subject, budget]

    rows: list[AttackCase] = []
    spared: dict[Subject, dict[str, None]] = {}
    for row in waiting:
        if row.key not in begun and nothing_left(row.subject, row.budget):
            spared.setdefault(row.subject, {})[row.attack] = None
        else:
            rows.append(row)
    return rows, [f"{_opening(subject)} {_said(list(names))}" for subject, names in spared.items()]


def _defences_of(subject: Subject, budget: BudgetKey, measured: Measured) -> list[Subject]:
    """The defences whose gain over this subject is measured; none unless it is standard inference."""
    if subject.spec != STANDARD:
        return []
    return [
        other
        for other, at in measured
        if at == budget and other.checkpoint == subject.checkpoint and other.spec != STANDARD
    ]


def settled_in(path: Path) -> set[tuple[SubjectKey, BudgetKey]]:
    """Subjects and budgets of a run folder whose verdicts on batches no stronger attack can change."""
    batches = [found for found in load_run(path).judgements if found.threat.inputs == "batch"]
    every = {(found.subject, found.budget) for found in batches}
    return every - {(found.subject, found.budget) for found in batches if not found.verdict.word.settles}


def settled_settings(path: Path) -> set[CaseKey]:
    """Subjects under a threat model and budget whose verdicts no stronger attack can change."""
    return {found.key.setting for found in load_run(path).judgements if found.verdict.word.settles}


def without_made_up(notes: Sequence[str], rows: Sequence[AttackCase]) -> list[str]:
    """The notes without sentences on subjects on which one of the attacks has run after all."""
    made_up = [(_opening(row.subject), row.attack) for row in rows]
    return [note for note in notes if not any(note.startswith(a) and b in note for a, b in made_up)]


def _opening(subject: Subject) -> str:
    size = "" if subject.n is None else f" (K = {subject.k}, N = {subject.n})"
    return f"Nothing was left to find on {subject.label}{size} on {subject.checkpoint}:"


def _said(names: Sequence[str]) -> str:
    verb = "was" if len(names) == 1 else "were"
    return f"{', '.join(names)} of the adaptive preset {verb} not run there (--attacks with names runs them)."
