"""What a run tried of what a pipeline asserts: an accuracy or a verdict says nothing where no attack ran.

asserted(judgements) -> the judgements that a pipeline asks about
untried(run)         -> [(subject, sentence), ...], empty where everything that was asked for was tried
"""

from collections.abc import Iterator, Sequence

from attacks.attack import read_attack
from attacks.presets import PRESETS
from robustbench_coded.judge.case_results import CaseResult
from robustbench_coded.judge.judgements import Judgement
from robustbench_coded.judge.run import RunData
from robustbench_coded.schema.case import Subject
from robustbench_coded.schema.manifest import NotRun
from robustbench_coded.schema.words import COMBINED, CONTROLS, ENSEMBLE, STANDARD


def asserted(judgements: Sequence[Judgement]) -> list[Judgement]:
    """Those of defences where a run has any, else all: a base model that is broken is no news about the
    defence before it.
    """
    defended = [judgement for judgement in judgements if judgement.subject.defence != STANDARD]
    return defended or list(judgements)


def untried(run: RunData) -> list[tuple[Subject, str]]:
    """Why assertions about these subjects are empty, a clause each.

    Under each threat model one attack needs a valid result for every image. An attack that the last command
    names may be missing only where run.json says why it does not apply (other than that a defence names no
    base model), or where no right answer is left, and another one ran.
    """
    subjects = list(dict.fromkeys(record.case.subject for record in run.manifest.cases))
    defended = [subject for subject in subjects if subject.defence != STANDARD]
    return [(subject, reason) for subject in defended or subjects for reason in _reasons(run, subject)]


def nothing_asserted(subject: Subject, reason: str) -> str:
    """The line for a pipeline."""
    place = f"{subject.checkpoint}, {subject.defence}"
    return f"{place}: {reason}; nothing is asserted without it: fix it, or name attacks that run"


def _reasons(run: RunData, subject: Subject) -> Iterator[str]:
    budgets = run.manifest.judged_perturbations
    own = [r for r in run.results if r.case.subject == subject and r.case.perturbation in budgets]
    attacks = [result for result in own if result.case.attack not in (*CONTROLS, *COMBINED)]
    left_out = [entry for entry in run.manifest.not_run if entry.subject == subject.defence]
    named, faults = _named(run), list[str]()
    whole = [result.cell for result in own if result.case.attack == ENSEMBLE]
    nothing_left = bool(whole) and all(cell is not None and not cell.correct.any() for cell in whole)
    for name in named:
        rows = [result for result in attacks if result.case.attack == name]
        absent = [entry for entry in left_out if entry.attack == name]
        others = {str(r.case.threat) for r in attacks if _valid(r) and r.case.attack in {*named} - {name}}
        faults += [_fault(result) for result in rows if not _valid(result)]
        lacks_base = subject.defence != STANDARD and read_attack(name).uses_base
        missed = not others or lacks_base
        faults += [_why(e) for e in absent if missed or (e.threat and e.threat not in others)]
        if not rows and not absent and not (others and nothing_left):
            faults.append(f"{name} did not run")
    tried = {result.case.setting for result in attacks if _valid(result)}
    faults += [_fault(result) for result in attacks if result.case.setting not in tried]
    if not tried and not faults:
        faults = [*map(_why, left_out), "no attack ran"][:1]
    yield from dict.fromkeys(faults)


def _named(run: RunData) -> list[str]:
    """Attacks that the last command names; of presets no single one is asked for."""
    last = run.manifest.last
    of_presets = {name for names in PRESETS.values() for name in names}
    adaptive = bool(last.options.get("checks"))
    return [name for name in last.attacks if not (adaptive and name in of_presets)]


def _valid(result: CaseResult) -> bool:
    return result.complete and not result.faulty


def _fault(result: CaseResult) -> str:
    counted = f"gave {result.faulty:,} faulty results" if result.faulty else "lacks outcomes"
    return f"{result.case.attack} ({result.case.threat}) {counted}"


def _why(entry: NotRun) -> str:
    return f"{entry.attack} did not run: {entry.why}"
