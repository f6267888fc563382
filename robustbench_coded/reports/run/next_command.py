"""What to do next: one command, and about how long it takes.

next_command(run, open_) -> NextCommand
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from robustbench_coded.reports.run.lookup import cost
from robustbench_coded.reports.text.escape import shell
from robustbench_coded.reports.text.formatting import duration, parsed_attack
from robustbench_coded.results.judgements import Judgement
from robustbench_coded.results.run import Run
from robustbench_coded.schema.case import SubjectKey
from robustbench_coded.schema.controls import CONTROLS
from robustbench_coded.statistics.next_steps import merged_steps

MOST_PARTS = 10  # of a command that stands at the head of a report
RUN_FILE = "run.toml"


class NextCommand(NamedTuple):
    """A command and what it is for; without one where nothing is left to do.

    Attributes:
        seconds: about how long it takes; None where nothing tells.
    """

    purpose: str
    command: str = ""
    seconds: float | None = None

    def __str__(self) -> str:
        """``Next, to settle it (about 4 min):``, behind which the command stands."""
        if not self.command:
            return f"Next: {self.purpose}."
        about = "" if self.seconds is None else f" (about {duration(self.seconds)})"
        return f"Next, {self.purpose}{about}:"


def next_command(run: Run, unsettled: Sequence[Judgement]) -> NextCommand:
    """What a reader can do next, the cheapest where several commands would help.

    Args:
        unsettled: the judgements of the run that are open.
    """
    manifest = run.manifest
    if not manifest.finished or run.failures:
        return NextCommand("to compute what is missing", _command(run, ()))
    outlook = {found.purpose: found for found in manifest.outlook}
    if unsettled and "settle" in outlook:
        found = outlook["settle"]
        return NextCommand("to settle what is open", _command(run, (found.option.split())), found.seconds)
    steps = [step for judgement in unsettled for step in _steps(run, judgement)]
    if steps:
        options, seconds = min(steps, key=lambda step: step[1])
        return NextCommand("to settle what is open", _command(run, options), seconds)
    if "all" in outlook:
        found = outlook["all"]
        purpose = f"for all {manifest.data.available or 0:,} images"
        return NextCommand(purpose, _command(run, (found.option.split())), found.seconds)
    return NextCommand("nothing is open, and every row ran on all of its images")


def _command(run: Run, options: Sequence[str]) -> str:
    """The last command of the run with more options, as short as the run allows."""
    last = run.manifest.last
    if (run.path / RUN_FILE).is_file():
        folder = last.options.get("out")
        folder = folder if isinstance(folder, str) else f"reports/{run.name}"
        return shell(["csrobust", "eval", f"{folder}/{RUN_FILE}", *options])
    known = [part for part in last.command if part != "--overwrite"]
    if known and len(known) <= MOST_PARTS:
        return shell([*known, *options])
    return f"the same command with {shell(list(options))}" if options else "the same command"


def _steps(run: Run, judgement: Judgement) -> Iterator[tuple[list[str], float]]:
    """Options that would help to settle a judgement, and about how many seconds they take."""
    verdict = judgement.verdict
    asked = merged_steps(check.next_step for check in judgement.checks if check.next_step is not None)
    weaker = verdict.gain is not None and verdict.gain.high < verdict.bar
    for step in asked if verdict.above_the_bar or weaker else ():
        if step.attacks and not step.how:
            seconds = sum(attack_seconds(run, judgement.subject, attack) for attack in step.attacks)
            yield ["--attacks", ",".join(step.attacks)], seconds
            return
    # The same rows on twice the images, which are another run, or on twice the draws.
    examples, available = run.manifest.data.examples or 0, run.manifest.data.available or 0
    spent = sum(float(s) for row, s in zip(run.rows, run.timings.seconds, strict=True) if row.measured)
    if examples < available:
        limit = min(2 * examples, available)
        yield (
            ["--limit", str(limit), "--out", f"reports/{run.name}-{limit}"],
            spent * limit / max(examples, 1),
        )
    else:
        yield ["--draws", str(2 * (run.manifest.last.count("draws") or 10))], spent


def attack_seconds(run: Run, subject: SubjectKey, attack: str) -> float:
    """About how long an attack takes on a subject, by what images cost in those that ran; 0 without any."""
    seconds = images = 0.0
    per_step = []
    for row, spent in zip(run.rows, run.timings.seconds, strict=True):
        name = parsed_attack(row.attack)
        if row.subject != subject or not row.measured or row.attack in CONTROLS or not cost(row):
            continue
        seconds, images = seconds + float(spent), images + cost(row) * row.examples
        if name is not None and not name.is_submitted:
            per_step.append((cost(row) / ((name.steps or 1) * name.draws), row.examples))
    name = parsed_attack(attack)
    if not images or not per_step or name is None:
        return 0.0
    at_most, examples = max(per_step)
    return (name.steps or 1) * name.draws * at_most * examples * seconds / images
