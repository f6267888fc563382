"""What would change the answer: one command, or in Python one expression, and about how long it takes.

next_command(run, unsettled) -> NextCommand
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from robustbench_coded.judge.checks import merged_steps
from robustbench_coded.judge.judgements import Judgement
from robustbench_coded.judge.run import Run
from robustbench_coded.judge.verdict import BASE_ATTACKED_LESS, CONTAINS_THRESHOLD, FEW_CLASSES, rounded
from robustbench_coded.reports.text import escape, formatting
from robustbench_coded.schema.manifest import Outlook
from robustbench_coded.schema.words import STANDARD, VerdictName

MOST_PARTS = 6  # of a command that stands at the head of a report
RUN_FILE = "run.toml"
NOTHING = "No further run on these images is expected to change this."


class NextCommand(NamedTuple):
    """A command and what it brings; no command if the run is settled.

    Attributes:
        purpose: empty where nothing would change the answer.
        seconds: about how long it takes, as run.json says; None where it does not.
        about: whom it is about, where the report opens with another attacker; empty otherwise.
    """

    purpose: str
    command: str = ""
    seconds: float | None = None
    about: str = ""

    def __str__(self) -> str:
        """``Next step: 512 images (about 4 min):``, behind which the command stands."""
        if self.purpose in ("", NOTHING):
            return self.purpose
        about = "" if self.seconds is None else f" (about {formatting.duration(self.seconds)})"
        of = f" for {self.about}" if self.about else ""
        return f"Next step{of}: {self.purpose}{about}{':' if self.command else '.'}"


def next_command(run: Run, unsettled: Sequence[Judgement]) -> NextCommand:
    """The step that a reader can take next.

    Args:
        unsettled: the judgements of the run that are open.
    """
    manifest = run.manifest
    if not manifest.finished or run.failures:
        return NextCommand("What is missing", _command(run, ()))
    outlook = {entry.purpose: entry for entry in manifest.outlook}
    everything = None
    if whole := outlook.get("all"):
        everything = _as_planned(f"All attacks on {manifest.data.examples or 0:,} images", run, whole)
    if unsettled:
        return _settling(run, unsettled, outlook.get("settle"), everything)
    about = [j for j in run.judgements if j.subject.defence != STANDARD] or run.judgements
    if about and not any(j.verdict.name == VerdictName.NO_FAILURE_FOUND for j in about):
        return NextCommand("")  # what has fallen stays where it is
    return everything or NextCommand(NOTHING)


def _settling(
    run: Run, unsettled: Sequence[Judgement], longer: Outlook | None, everything: NextCommand | None
) -> NextCommand:
    """What would settle the open verdicts.

    Args:
        longer, everything: what a longer run and all attacks on all images are expected to cost.
    """
    data = run.manifest.data
    whole = {(j.verdict.rule, j.examples) for j in unsettled if j.case.threat.inputs == "batch"}
    limited = (data.examples or 0) < (data.available or 0) and whole == {(CONTAINS_THRESHOLD, data.examples)}
    if limited and any(judgement.verdict.examples_to_settle for judgement in unsettled):
        return _more(run, unsettled)  # a limit on images holds them
    if {judgement.verdict.rule for judgement in unsettled} == {FEW_CLASSES}:
        return NextCommand("More images, of more classes")
    if longer is not None:
        return _as_planned("A longer run", run, longer)
    steps = (step for judgement in unsettled if (step := _attacks(run, judgement)))
    return next(steps, everything or _more(run, unsettled))


def _as_planned(purpose: str, run: Run, outlook: Outlook) -> NextCommand:
    """A further command that the evaluation itself has priced."""
    return NextCommand(purpose, _command(run, outlook.option.split()), outlook.seconds)


def _command(run: Run, options: Sequence[str]) -> str:
    """The last command of the run with more options, as short as the run allows; of a run that was called
    from Python the expression.
    """
    if not run.manifest.last.command:
        return _expression(options)
    if (run.path / RUN_FILE).is_file():
        return escape.shell(["csrobust", "eval", f"{_folder(run)}/{RUN_FILE}", *options])
    known = [part for part in run.manifest.last.command if part != "--overwrite"]
    if known and len(known) <= MOST_PARTS:
        return escape.shell([*known, *options])
    return f"the same command with {escape.shell(list(options))}" if options else "the same command"


def _expression(options: Sequence[str]) -> str:
    """``run.again(limit=1280, out='reports/a-1280')``."""
    arguments = []
    for option, value in pairwise([*options, "--"]):
        if option.startswith("--"):
            given = int(value) if value.isdecimal() else value
            shown = True if value.startswith("--") else given
            arguments.append(f"{option[2:].replace('-', '_')}={shown!r}")
    return f"run.again({', '.join(arguments)})"


def _folder(run: Run) -> str:
    """Where the last command wrote the run, as that command says."""
    command = run.manifest.last.command
    for part, following in pairwise([*command, ""]):
        if part == "--out" and following:
            return following
        if part.startswith("--out="):
            return part.removeprefix("--out=")
    files = [part for part in command if part.endswith(f"/{RUN_FILE}")]
    return files[0].removesuffix(f"/{RUN_FILE}") if files else f"reports/{run.name}"


def _attacks(run: Run, judgement: Judgement) -> NextCommand | None:
    """What its rule or its checks ask for; None where more images or draws are all there is to add. An
    interval that all images leave too wide may still fall by what a failed check asks for.
    """
    verdict = judgement.verdict
    if verdict.rule == "base model not attacked":
        return NextCommand("Attacks on its base model", _command(run, ["--standard"]))
    if verdict.rule == BASE_ATTACKED_LESS:
        command = _command(run, ["--attacks", ",".join(verdict.missing_on_base)])
        return NextCommand("Attacks that did not run on its base model", command)
    wide = verdict.rule == CONTAINS_THRESHOLD
    enough = (verdict.examples_to_settle or math.inf) <= _most_examples(run, judgement)
    if verdict.rule == FEW_CLASSES or (wide and enough):
        return None
    checks = [check for check in judgement.checks if check.failed or not wide]
    for step in merged_steps(check.next_step for check in checks if check.next_step is not None):
        if step.attacks:
            command = _command(run, ["--attacks", ",".join(step.attacks)])
            return NextCommand("Attacks that its checks require", command)
    return None


def _most_examples(run: Run, judgement: Judgement) -> int:
    """How many images the data has for a verdict; the number of victims is fixed."""
    return 0 if judgement.case.threat.one_victim else run.manifest.data.available or 0


def _more(run: Run, unsettled: Sequence[Judgement]) -> NextCommand:
    """The same rows on as many images, which are another run, as are expected to settle it."""
    beyond = ""
    for judgement in (j for j in unsettled if j.verdict.rule == CONTAINS_THRESHOLD):
        wanted, most = judgement.verdict.examples_to_settle, _most_examples(run, judgement)
        if wanted is None or judgement.case.threat.one_victim:
            continue
        if wanted > most:
            needed = f"about {rounded(wanted)} images, but this data set has only {most:,}"
            beyond = beyond or needed
            continue
        options = ["--limit", str(wanted), "--out", f"{_folder(run)}-{wanted}"]
        return NextCommand(f"{wanted:,} images", _command(run, options))
    return NextCommand(beyond or NOTHING)
