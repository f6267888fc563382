"""A quick look: the most damaging attacks first, until the question is settled or the time is up."""

from dataclasses import replace
from pathlib import Path

from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.reports.text.formatting import counted, is_submitted, subject_text
from robustbench_coded.results.judgements import Judgement
from robustbench_coded.results.run import Run, load_run
from robustbench_coded.schema.threat_model import WHOLE_BATCH
from robustbench_coded.schema.words import CONTROLS
from robustbench_coded.session.evaluate import evaluate
from robustbench_coded.session.listener import Listener

# Transfer needs no gradient of the defence and one victim; the rest is for defences that transfer does not
# break, and for networks whose gradients hide something.
ATTACKS = (
    "pgd-20",
    "transfer-pgd-20",
    "aware-pgd-20+init=transfer-pgd-20",
    "aware-pgd-20",
    "eot10-pgd-20",
    "apgd-mt-20",
    "square-1000",
)
VICTIM_ATTACKS = ("transfer-pgd-20",)


def screen(config: EvalConfig, seconds: float, listener: Listener | None = None) -> Path:
    """Runs attacks as long as a verdict is open and time is left; returns the run folder.

    Args:
        config: checkpoints, defences, data and budget; its attacks are not used.
        seconds: forecast time for all attacks beyond the first on each subject.

    Raises:
        InputError, IncompleteRun, RunStopped, KeyboardInterrupt: as ``evaluate``.
    """
    chosen = replace(
        config,
        attacks=ATTACKS,
        inputs=("batch",),
        victim_attacks=VICTIM_ATTACKS,
        second_attacks=(),
        until="settled",
        time=seconds,
    )
    return evaluate(chosen, listener)


def tried(run: Run) -> tuple[str, ...]:
    """The attacks of a screening that ran."""
    ran = {row.attack for row in run.rows if row.measured and row.accuracy is not None}
    return tuple(attack for attack in ATTACKS if attack in ran)


def judged(run: Run) -> tuple[Judgement, ...]:
    """One judgement for each screened subject, standard inference too, under all inputs attacked, an unknown
    draw; other subjects of the same run folder are left out.
    """
    screened = {row.subject for row in run.rows if row.measured and row.attack in ATTACKS}
    return tuple(j for j in run.judgements if j.threat == WHOLE_BATCH and j.subject in screened)


def screening_lines(path: Path) -> list[str]:
    """What was tried, then a line for each subject that ends in its verdict."""
    run = load_run(path)
    ran = tried(run)
    left = [attack for attack in ATTACKS if attack not in ran]
    rest = f" Nothing needed, or had time for, {', '.join(left)}." if left else ""
    others = [row for row in run.rows if row.measured and row.attack not in (*ATTACKS, *CONTROLS)]
    earlier = [row for row in others if not is_submitted(row.attack)]
    if earlier:
        rest += f" The folder holds {counted(len(earlier), 'more row')}, which the verdicts include."
    subjects = [
        f"{subject_text(j.subject, with_k=True)}, {j.threat}: {j.verdict.reason} Verdict: {j.verdict.word}."
        for j in judged(run)
    ]
    return [f"Tried {', '.join(ran)}.{rest}", *subjects, f"All rows: {path}/report.html"]
